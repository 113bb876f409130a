//! `tls`: a handshake is completed. `https` sends its request over that.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::http;
use super::http::Http;
use super::report::Class;
use super::session::Session;
use super::wire::Wire;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::Via;
use crate::model::error::CheckError;
use crate::model::text::quote;

/// The largest file of certificates: a hundred times what systems trust.
const MAX_FILE: u64 = 32 << 20;

/// What a check needs for handshakes.
#[derive(Debug)]
pub(super) struct Tls {
    client: Arc<ClientConfig>,
    /// Without it, the address that is checked, which is not sent.
    name: Option<ServerName<'static>>,
    /// Whether the first message fills a packet.
    full_size: bool,
}

impl Tls {
    pub(super) fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let provider = Arc::new(ring::default_provider());
        let trusted = match (config.verify, &config.ca_file) {
            (false, _) => None,
            (true, Some(file)) => Some(authorities(file)?),
            (true, None) => Some(authorities_of_system()?),
        };
        let trusted = trusted.map(|roots| {
            let provider = Arc::clone(&provider);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| CheckError::wrong("verify", error.to_string()))
        });
        // The request of an HTTPS check fills a packet; other checks have only the handshake for that.
        let full_size = config.kind == CheckKind::Tls && config.via() == Via::Tunnel;
        let judge = Judge::new(trusted.transpose()?, &provider, full_size);
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| CheckError::Host(format!("TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_no_client_auth();
        // A resumed session would show no certificate, and needs memory for each server.
        client.resumption = Resumption::disabled();
        if config.kind == CheckKind::Https {
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self { client: Arc::new(client), name: name(config)?, full_size })
    }
}

/// The server's name: what the check says, or the host of its request.
fn name(config: &CheckConfig) -> Result<Option<ServerName<'static>>, CheckError> {
    let (key, text) = match (&config.server_name, &config.host) {
        (Some(name), _) => ("server_name", name.as_str()),
        (None, Some(host)) => ("host", without_port(host)),
        (None, None) => return Ok(None),
    };
    ServerName::try_from(text.to_owned()).map(Some).map_err(|_| {
        let why = format!("'{}' is no name that a certificate can have", quote(text));
        CheckError::wrong(key, why)
    })
}

/// The host of `host:port`, or of `[address]:port`.
fn without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or(bracketed);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Reads a file of certificates, which is no pipe or device that never ends.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let facts = fs::metadata(file)?;
    if facts.is_dir() {
        return Err(io::Error::other("it is a folder: name a file in it"));
    }
    if !facts.is_file() || facts.len() > MAX_FILE {
        return Err(io::Error::other(format!("it is no file of up to {} MiB", MAX_FILE >> 20)));
    }
    fs::read(file)
}

/// The certificates of a file.
fn authorities(file: &Path) -> Result<RootCertStore, CheckError> {
    let error = |why: String| CheckError::file("ca_file", file, why);
    let bytes = read(file).map_err(|cause| {
        error(match cause.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file: put the certificates to trust there (PEM), or leave ca_file out for the system's"
                    .to_owned()
            }
            io::ErrorKind::PermissionDenied => format!("{cause}: lbctl serve must be able to read it"),
            _ => cause.to_string(),
        })
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|cause| error(format!("not PEM: {cause}")))?;
        roots.add(certificate).map_err(|cause| error(cause.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("it has no certificate (PEM, -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(roots)
}

/// The certificates that the system trusts.
fn authorities_of_system() -> Result<RootCertStore, CheckError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why =
            "this host has no trusted certificates; install ca-certificates, or give a ca_file";
        return Err(CheckError::wrong("verify", why));
    }
    Ok(roots)
}

/// Judges certificates, if the check wants that.
#[derive(Debug)]
struct Judge {
    trusted: Option<Arc<WebPkiServerVerifier>>,
    schemes: Vec<SignatureScheme>,
}

impl Judge {
    fn new(
        trusted: Option<Arc<WebPkiServerVerifier>>,
        provider: &CryptoProvider,
        full_size: bool,
    ) -> Self {
        let mut schemes = provider.signature_verification_algorithms.supported_schemes();
        if full_size {
            // What the client offers to verify is the only list of the first message that may have any length. The
            // numbers for private use (RFC 8446, section 11) mean nothing to servers, which skip what they don't know.
            let private = (0xfe00..=0xffff).cycle().map(SignatureScheme::Unknown);
            schemes.extend(private.take(FILL / 2));
        }
        Self { trusted, schemes }
    }
}

/// Bytes that make the first message longer than one packet of 1500 bytes.
const FILL: usize = 1320;

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trusted {
            None => Ok(ServerCertVerified::assertion()),
            Some(trusted) => trusted.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.trusted {
            None => Ok(HandshakeSignatureValid::assertion()),
            Some(trusted) => trusted.verify_tls12_signature(message, certificate, signed),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.trusted {
            None => Ok(HandshakeSignatureValid::assertion()),
            Some(trusted) => trusted.verify_tls13_signature(message, certificate, signed),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

pub(super) async fn run(session: &mut Session, tls: &Tls) -> Result<Success, Failure> {
    let stream = Arc::new(connect::tcp(session).await?);
    let mut secured = handshake(session, tls, &stream).await?;
    let (_, connection) = secured.get_ref();
    let version = connection.protocol_version().and_then(|version| version.as_str());
    let success = Success::new(version.unwrap_or("TLS").replace('_', "."));
    // The server learns that this is the end. Whether it hears of it is not the check's question.
    let _ = secured.shutdown().await;
    Ok(success)
}

/// `https`.
pub(super) async fn run_http(
    session: &mut Session,
    tls: &Tls,
    http: &Http,
) -> Result<Success, Failure> {
    let stream = Arc::new(connect::tcp(session).await?);
    let secured = handshake(session, tls, &stream).await?;
    http::exchange(session, http, &stream, secured).await
}

async fn handshake(
    session: &mut Session,
    tls: &Tls,
    stream: &Arc<TcpStream>,
) -> Result<TlsStream<Wire>, Failure> {
    let wire = Wire::new(Arc::clone(stream), http::MAX_WIRE);
    let address = |ip: IpAddr| ServerName::IpAddress(ip.into());
    let name = tls.name.clone().unwrap_or_else(|| address(session.target.ip()));
    session.wait_for("no end of the TLS handshake");
    if tls.full_size {
        session.full_size = Some(Arc::clone(stream));
    }
    let connector = TlsConnector::from(Arc::clone(&tls.client));
    let secured = match connector.connect(name, wire).await {
        Ok(secured) => secured,
        Err(error) => return Err(refused(session, &error)),
    };
    session.full_size = None;
    let (_, connection) = secured.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    session.certificate_expires = chain.first().and_then(expires);
    let expires = session.certificate_expires;
    session.step("handshake", || {
        let version = connection.protocol_version().and_then(|version| version.as_str());
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        format!(
            "{} {}",
            version.unwrap_or("TLS").replace('_', "."),
            suite.and_then(|suite| suite.as_str()).unwrap_or("unknown cipher suite")
        )
    });
    session.step("certificate", || match expires {
        Some(at) => format!("expires {}, {}", day(at), in_days(at)),
        None => "without an expiry that can be read".to_owned(),
    });
    Ok(secured)
}

/// When a certificate expires.
fn expires(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (_, certificate) = parser.parse(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let seconds = u64::try_from(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The day of a time: `2026-11-01`.
fn day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let day = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    day.map_or_else(|| "in far future".to_owned(), |day| day.strftime("%Y-%m-%d").to_string())
}

fn in_days(at: SystemTime) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match at.duration_since(SystemTime::now()) {
        Ok(left) => format!("in {} days", left.as_secs() / DAY),
        Err(past) => format!("{} days ago", past.duration().as_secs() / DAY),
    }
}

/// Why a handshake failed.
fn refused(session: &mut Session, error: &io::Error) -> Failure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Failure::new(Class::Tls, "handshake: the server closed the connection")
            }
            _ => http::of_io(error, session.target),
        };
    };
    let at =
        |time: UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let reason = match tls {
        Error::InvalidCertificate(why) => match why {
            CertificateError::ExpiredContext { not_after, .. } => {
                session.certificate_expires = at(*not_after);
                let day = session.certificate_expires.map(day).unwrap_or_default();
                format!("certificate expired {day}")
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let day = at(*not_before).map(day).unwrap_or_default();
                format!("certificate not valid before {day}")
            }
            CertificateError::UnknownIssuer => "certificate of an unknown issuer".to_owned(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate for another name".to_owned()
            }
            CertificateError::BadEncoding => "certificate that cannot be read".to_owned(),
            why => format!("certificate: {why}"),
        },
        Error::AlertReceived(alert) => format!("the server sent alert {alert:?}"),
        Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        error => error.to_string(),
    };
    Failure::new(Class::Tls, format!("handshake: {reason}"))
}
