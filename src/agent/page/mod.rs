//! The status page of `lbctl serve`, at `/` of the metrics endpoint: one HTML file that needs nothing else, and the part of
//! the API that it reads.
//!
//! The port has no password, and a browser opens it from inside a network that its user's other pages come from outside
//! of. So there is nothing to change, a strict content security policy, no answer to scripts of other sites, and no answer
//! under names that are not this host's: such a name can be made to lead here (DNS rebinding).

mod guard;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use ring::digest::SHA256;
use ring::digest::digest;

use super::api::Api;
use super::api::Network;
use super::api::socket_of;
use super::http::gzip;
use crate::instance::Instance;
use crate::model::config::Config;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page as it is sent, and the policy that lets its own script and style run and nothing else.
struct Built {
    html: Bytes,
    policy: String,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let html = HTML.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let mut policy =
            "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
            frame-ancestors 'none'"
                .to_owned();
        let _ = write!(policy, "; script-src 'sha256-{}'", hash(SCRIPT));
        let _ = write!(policy, "; style-src 'sha256-{}'", hash(STYLE));
        Built { html: html.into(), policy }
    })
}

/// What a reload may change.
#[derive(Debug)]
struct Settings {
    on: bool,
    /// Names under which the page may be asked for, beside addresses and the names of this host.
    hosts: Vec<String>,
    /// Where the control API is.
    socket: Option<PathBuf>,
}

impl Settings {
    fn of(instance: &Instance, config: &Config) -> Self {
        Self {
            on: config.metrics.page,
            hosts: config.metrics.hosts.clone(),
            socket: socket_of(instance, &config.control),
        }
    }
}

/// What answers `/` and `/v1`. Clones have the same settings.
#[derive(Clone)]
pub(super) struct Page {
    instance: Instance,
    network: Network,
    settings: Arc<RwLock<Settings>>,
}

impl Page {
    pub(super) fn new(instance: &Instance, api: &Api, config: &Config) -> Self {
        Self {
            instance: instance.clone(),
            network: Network::new(api),
            settings: Arc::new(RwLock::new(Settings::of(instance, config))),
        }
    }

    /// Goes by another configuration from now on.
    pub(super) fn set(&self, config: &Config) {
        let settings = Settings::of(&self.instance, config);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Whether the page answers this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let on = self.settings.read().unwrap_or_else(PoisonError::into_inner).on;
        on && (path == "/" || path == "/v1" || path.starts_with("/v1/"))
    }

    /// Answers a request for `/` or the API.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let (refused, socket) = {
            let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
            (guard::refuse(headers, uri.path(), &settings.hosts), settings.socket.clone())
        };
        let mut response = match refused {
            Some(why) => text(StatusCode::FORBIDDEN, why),
            None if uri.path() == "/" => html(method),
            None => {
                let query = uri.query().unwrap_or_default();
                self.network.answer(method, uri.path(), query, socket.as_deref()).await
            }
        };
        protect(response.headers_mut());
        gzip::compressed(response, headers).await
    }
}

fn html(method: &Method) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Full::new(built().html.clone()));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Headers that tell browsers what nobody may do with an answer.
fn protect(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&built().policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy forbids, and what would leave the machine, must not be in the file at all.
    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let Built { html, policy } = built();
        let html = std::str::from_utf8(html).expect("UTF-8");
        assert!(!html.contains("{{"), "a placeholder is left");
        for word in
            ["http://", "https://", "src=", "@import", "url(", "style=", "onclick", "onload"]
        {
            assert!(!html.replace("http://www.w3.org/2000/svg", "").contains(word), "{word}");
        }
        // Texts of servers must only become text.
        let sinks = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ];
        for sink in sinks {
            assert!(!SCRIPT.contains(sink), "{sink}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        assert_eq!(html.matches("<script>").count(), 1);
        assert_eq!(html.matches("<style>").count(), 1);
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(html.len() < 100_000, "{} bytes", html.len());
    }
}
