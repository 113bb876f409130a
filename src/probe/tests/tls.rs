//! `tls` and `https`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::check;
use super::fails;
use super::run;
use super::server;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::probe::Class;
use crate::probe::Outcome;
use crate::probe::Prepared;

/// An authority in a file, and a server with a certificate of it that expires at the end of a year.
async fn secured(year: i32) -> (NamedTempFile, SocketAddr) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("it is right");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&authority_key).expect("a certificate");
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), signed.pem()).expect("it can be written");
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["www.example".to_owned()]).expect("it is right");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = vec![0; 1000];
            if matches!(stream.read(&mut request).await, Ok(1..)) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
                let _ = stream.write_all(answer).await;
            }
        }
    })
    .await;
    (file, address)
}

fn verified(kind: CheckKind, authority: &NamedTempFile) -> CheckConfig {
    let mut check = check(kind);
    check.verify = true;
    check.ca_file = Some(authority.path().to_owned());
    check.server_name = Some("www.example".to_owned());
    check
}

#[tokio::test]
async fn a_handshake_is_enough() {
    let (_, server) = secured(2030).await;
    let report = run(&check(CheckKind::Tls), server).await;
    assert_eq!((report.outcome, report.reason.as_str()), (Outcome::HEALTHY, "TLSv1.3"));
    let expires = report.certificate_expires.expect("it has a certificate");
    let seconds = expires.duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs();
    assert_eq!(seconds, 1_924_905_600, "2030-12-31");
    assert!(report.steps.iter().any(|step| step.text.contains("2030-12-31")), "{report:?}");
}

#[tokio::test]
async fn a_request_goes_over_tls() {
    let (authority, server) = secured(2030).await;
    let mut https = verified(CheckKind::Https, &authority);
    https.text = Some("well".to_owned());
    let report = run(&https, server).await;
    assert_eq!((report.outcome, report.reason.as_str()), (Outcome::HEALTHY, "HTTP 200"));
    assert!(report.certificate_expires.is_some());
    https.text = Some("ill".to_owned());
    assert_eq!(fails(&https, server).await.0, Class::Content);
}

#[tokio::test]
async fn certificates_are_judged_if_asked_for() {
    let (authority, server) = secured(2021).await;
    // Without verification, only the expiry is told.
    let report = run(&check(CheckKind::Tls), server).await;
    assert!(report.outcome.is_healthy());
    assert!(report.certificate_expires.expect("it has a certificate") < SystemTime::now());
    let (class, reason) = fails(&verified(CheckKind::Tls, &authority), server).await;
    assert_eq!((class, reason.as_str()), (Class::Tls, "handshake: certificate expired 2021-12-31"));

    let (authority, server) = secured(2090).await;
    let mut check = verified(CheckKind::Tls, &authority);
    assert!(run(&check, server).await.outcome.is_healthy());
    check.server_name = Some("other.example".to_owned());
    let (class, reason) = fails(&check, server).await;
    assert_eq!((class, reason.as_str()), (Class::Tls, "handshake: certificate for another name"));
    // Without a name, the address is what the certificate must be for.
    check.server_name = None;
    assert_eq!(fails(&check, server).await.1, "handshake: certificate for another name");
    let (other, _) = secured(2090).await;
    let (class, reason) = fails(&verified(CheckKind::Tls, &other), server).await;
    assert_eq!(class, Class::Tls);
    assert!(reason.starts_with("handshake: certificate"), "{reason}");
}

#[tokio::test]
async fn what_is_no_tls_is_found() {
    let tls = check(CheckKind::Tls);
    let http = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let (class, reason) = fails(&tls, http).await;
    assert_eq!((class, reason.as_str()), (Class::Tls, "handshake: the answer is not TLS"));
    let closes = server(|mut stream| async move { drop(stream.read(&mut [0; 2000]).await) }).await;
    let (class, reason) = fails(&tls, closes).await;
    assert_eq!(
        (class, reason.as_str()),
        (Class::Tls, "handshake: the server closed the connection")
    );
    let mut short = tls.clone();
    short.timeout = Some(Duration::from_millis(300));
    let drips = server(|mut stream| async move {
        // A handshake message of 64 KiB, byte by byte.
        let _ = stream.write_all(&[0x16, 3, 3, 0x40, 0, 2, 0, 0xff, 0xff]).await;
        while stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (class, reason) = fails(&short, drips).await;
    assert_eq!((class, reason.as_str()), (Class::Timeout, "no end of the TLS handshake in 300ms"));
    let endless = server(|mut stream| async move {
        // Change cipher spec, for ever.
        while stream.write_all(&[0x14, 3, 3, 0, 1, 1].repeat(500)).await.is_ok() {}
    })
    .await;
    assert_ne!(fails(&tls, endless).await.0, Class::Timeout);
}

#[test]
fn files_and_names_are_checked() {
    let mut tls = check(CheckKind::Tls);
    tls.verify = true;
    tls.ca_file = Some("/nonexistent/ca.pem".into());
    let error = Prepared::new(&tls).expect_err("no file").to_string();
    assert!(error.starts_with("ca_file: /nonexistent/ca.pem: there is no such file"), "{error}");
    tls.ca_file = Some("/etc/passwd".into());
    let error = Prepared::new(&tls).expect_err("no certificate").to_string();
    assert!(error.contains("it has no certificate"), "{error}");
    tls.verify = false;
    tls.server_name = Some("a b".to_owned());
    let error = Prepared::new(&tls).expect_err("no name").to_string();
    assert!(error.starts_with("server_name: 'a b'"), "{error}");
    tls.server_name = None;
    for host in ["www.example", "www.example:8443", "[2001:db8::1]:443", "10.0.0.1:443"] {
        tls.host = Some(host.to_owned());
        assert!(Prepared::new(&tls).is_ok(), "{host}");
    }
}
