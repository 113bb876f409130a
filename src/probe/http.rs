//! `http`: a request of HTTP/1.1 is answered as expected.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Poll;

use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::MAX_READ;
use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use super::wire::Wire;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::StatusRange;
use crate::model::config::Via;
use crate::model::error::CheckError;
use crate::model::text::quote;

/// The header that makes a request as long as a packet can be.
const FILL: HeaderName = HeaderName::from_static("x-fill");

/// What one line of filling has. Servers also bound single headers.
const FILL_LINE: &str = match str::from_utf8(&[b'x'; 1024]) {
    Ok(line) => line,
    Err(_) => "",
};

/// The most bytes of an answer on the wire: head and body of [`MAX_READ`] each, and what surrounds them.
pub(super) const MAX_WIRE: usize = 4 * MAX_READ;

/// An HTTP check.
#[derive(Debug)]
pub(super) struct Http {
    method: Method,
    path: Uri,
    /// Without `Host` if the check leaves it to the address.
    headers: HeaderMap,
    status: Vec<StatusRange>,
    text: Option<String>,
    default_port: u16,
    /// Whether the request fills a packet.
    full_size: bool,
}

impl Http {
    pub(super) fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let method = Method::from_str(config.method()).map_err(|_| {
            let why = format!("'{}' is no method; write GET or HEAD", quote(config.method()));
            CheckError::wrong("method", why)
        })?;
        let path = config.path();
        let path = Some(path)
            .filter(|path| path.starts_with('/') || *path == "*")
            .and_then(|path| Uri::from_str(path).ok())
            .ok_or_else(|| {
                let why = format!(
                    "'{}' is no path; write it like /health?full=1",
                    quote(path.split('?').next().unwrap_or_default())
                );
                CheckError::wrong("path", why)
            })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // The server need not keep the connection.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(host) = &config.host {
            headers.insert(header::HOST, value("host", host)?);
        }
        for (name, text) in &config.headers {
            let name = HeaderName::from_str(name).map_err(|_| {
                let why = format!("'{}' is no name of a header", quote(name));
                CheckError::wrong("headers", why)
            })?;
            headers.insert(name, value("headers", text)?);
        }
        Ok(Self {
            method,
            path,
            headers,
            status: config.status().to_vec(),
            text: config.text.clone().filter(|text| !text.is_empty()),
            default_port: if config.kind == CheckKind::Https { 443 } else { 80 },
            full_size: config.via() == Via::Tunnel,
        })
    }

    fn request(&self, target: SocketAddr, fill: usize) -> Request<Empty<Bytes>> {
        let mut headers = self.headers.clone();
        if let header::Entry::Vacant(host) = headers.entry(header::HOST) {
            let name = match target {
                SocketAddr::V4(v4) if v4.port() == self.default_port => v4.ip().to_string(),
                SocketAddr::V6(v6) if v6.port() == self.default_port => format!("[{}]", v6.ip()),
                _ => target.to_string(),
            };
            if let Ok(name) = HeaderValue::try_from(name) {
                host.insert(name);
            }
        }
        let mut left = fill;
        while left != 0 {
            let line = left.min(FILL_LINE.len());
            headers.append(FILL, HeaderValue::from_static(&FILL_LINE[..line]));
            left -= line;
        }
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request
    }
}

const AGENT: &str = concat!("l4lb/", env!("CARGO_PKG_VERSION"), " (health check)");

fn value(key: &'static str, text: &str) -> Result<HeaderValue, CheckError> {
    HeaderValue::from_str(text).map_err(|_| {
        // The value may be secret.
        CheckError::wrong(key, "it has characters that no header can have".to_owned())
    })
}

pub(super) async fn run(session: &mut Session, http: &Http) -> Result<Success, Failure> {
    let stream = Arc::new(connect::tcp(session).await?);
    let wire = Wire::new(Arc::clone(&stream), MAX_WIRE);
    exchange(session, http, &stream, wire).await
}

/// Sends the request and judges the answer.
pub(super) async fn exchange(
    session: &mut Session,
    http: &Http,
    stream: &Arc<TcpStream>,
    wire: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Success, Failure> {
    let target = session.target;
    let failure = |error: hyper::Error| of_hyper(&error, target);
    let mut fill = 0;
    if http.full_size {
        // A little more than a segment: a first one that is full, and a short one.
        let most = connect::client_mss(target);
        let segment = SockRef::from(&**stream).tcp_mss().map_or(most, |segment| segment.min(most));
        fill = usize::try_from(segment).unwrap_or(0);
        session.full_size = Some(Arc::clone(stream));
        session.step("filled", || format!("{fill} bytes, so that the request fills a packet"));
    }
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_READ)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(failure)?;
    let request = http.request(target, fill);
    session.step("request", || format!("{} {}", request.method(), request.uri()));
    session.wait_for("no answer to the request");
    let judged = async {
        let response = sender.send_request(request).await.map_err(failure)?;
        let (head, mut body) = response.into_parts();
        session.full_size = None;
        session.step("status", || format!("{:?} {}", head.version, head.status));
        if !http.status.iter().any(|range| range.contains(head.status.as_u16())) {
            return Err(Failure::new(Class::Status, status(head.status)));
        }
        session.wait_for("no end of the answer");
        let (mut length, mut kept) = (0, Vec::new());
        while length < MAX_READ {
            let Some(frame) = body.frame().await else { break };
            let Ok(data) = frame.map_err(failure)?.into_data() else { continue };
            length += data.len();
            if http.text.is_some() {
                kept.extend_from_slice(&data[..data.len().min(MAX_READ - kept.len())]);
            }
        }
        session.step("body", || format!("{length} bytes"));
        match &http.text {
            Some(text) if !contains(&kept, text.as_bytes()) => {
                Err(Failure::new(Class::Content, "the expected text is not in the answer"))
            }
            _ => Ok(Success::new(status(head.status))),
        }
    };
    let (mut connection, mut judged) = (pin!(connection), pin!(judged));
    let mut ended = false;
    std::future::poll_fn(|context| {
        // What ends the connection with an error reaches the other future, too.
        ended = ended || connection.as_mut().poll(context).is_ready();
        match judged.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn status(status: StatusCode) -> String {
    format!("HTTP {}", status.as_u16())
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// What an error of the HTTP client says.
fn of_hyper(error: &hyper::Error, target: SocketAddr) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return of_io(error, target);
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        Failure::new(Class::Protocol, "the head of the answer is too long")
    } else if error.is_parse() {
        Failure::new(Class::Protocol, "the answer is not HTTP/1.1")
    } else if error.is_incomplete_message() {
        Failure::new(Class::Closed, "connection closed before the end of the answer")
    } else if error.is_closed() || error.is_canceled() {
        Failure::new(Class::Closed, "connection closed before the answer")
    } else {
        Failure::new(Class::Protocol, format!("HTTP: {error}"))
    }
}

/// What an error of a connection, or of TLS over it, says.
pub(super) fn of_io(error: &io::Error, target: SocketAddr) -> Failure {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Failure::new(Class::Protocol, "the answer is too long"),
        _ => Failure::of_peer(error, target),
    }
}
