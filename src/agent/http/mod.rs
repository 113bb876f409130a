//! The HTTP endpoint of agents: metrics, liveness, readiness. It limits what any client can use, whatever it sends.

pub(super) mod connections;
pub(super) mod gzip;
pub(super) mod server;
pub(super) mod shared;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderValue;
use prometheus::Registry;
use prometheus::TextEncoder;
use tokio::net::TcpListener;

use self::server::Limits;
use self::shared::Shared;
use super::page::Page;
use crate::control::decap;
use crate::instance::Instance;
use crate::instance::repair::LostPins;
use crate::observe::readiness::Unready;
use crate::observe::readiness::readiness;
use crate::report::metrics::Collector;

const LIMITS: Limits = Limits {
    name: "metrics",
    connections: 256,
    time_to_ask: Duration::from_secs(5),
    time_to_answer: Duration::from_secs(15),
};

const INDEX: &str = "l4lb: /metrics for Prometheus, /healthz for liveness, /readyz for readiness\n";

/// The query that makes `/readyz` check the file too: `/readyz?strict`.
const STRICT: &str = "strict";

const TEXT: &str = "text/plain; charset=utf-8";

/// What the endpoint answers. Clones answer from the same reading.
#[derive(Clone)]
pub(super) struct Answers {
    metrics: Shared<Result<Bytes, String>>,
    readiness: Shared<Result<LostPins, Unready>>,
    /// What answers `/` and the API, where there is a balancer.
    page: Option<Page>,
    /// What `/readyz` adds.
    note: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Answers {
    /// Answers about a balancer, with metrics of this process beside those of the instance.
    pub(super) fn of_balancer(
        instance: &Instance,
        own: impl IntoIterator<Item = Box<dyn prometheus::core::Collector>>,
    ) -> Self {
        Self::new(instance, Collector::new(instance.clone()), own, readiness)
    }

    /// Answers about an instance that decapsulates, with or without a balancer.
    pub(super) fn of_decap(instance: &Instance) -> Self {
        Self::new(instance, Collector::of_decap(instance.clone()), [], decap::readiness)
    }

    fn new(
        instance: &Instance,
        collector: Collector,
        own: impl IntoIterator<Item = Box<dyn prometheus::core::Collector>>,
        readiness: fn(&Instance) -> Result<LostPins, Unready>,
    ) -> Self {
        let registry = Registry::new();
        let instances: Box<dyn prometheus::core::Collector> = Box::new(collector);
        for collector in own.into_iter().chain([instances]) {
            if let Err(error) = registry.register(collector) {
                tracing::warn!("metrics: {error}");
            }
        }
        let text = move || {
            let text = TextEncoder::new().encode_to_string(&registry.gather());
            text.map(Bytes::from).map_err(|error| error.to_string())
        };
        let instance = instance.clone();
        Self {
            metrics: Shared::new(text),
            readiness: Shared::new(move || readiness(&instance)),
            page: None,
            note: Arc::new(|| None),
        }
    }

    /// The same, with a note that `/readyz` adds to its answer. `note` must not take long.
    pub(super) fn with_note(
        self,
        note: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { note: Arc::new(note), ..self }
    }

    /// The same, with a status page.
    pub(super) fn with_page(self, page: Page) -> Self {
        Self { page: Some(page), ..self }
    }

    /// Ready for traffic. Notes make a difference only to `?strict`.
    fn ready(&self, lost: &LostPins, strict: bool) -> (StatusCode, String) {
        let lost = (!lost.is_empty()).then(|| lost.to_string());
        let notes: Vec<_> = lost.into_iter().chain((self.note)()).collect();
        let notes = notes.join("\n");
        match notes.as_str() {
            "" => (StatusCode::OK, "ready\n".to_owned()),
            notes if strict => (StatusCode::SERVICE_UNAVAILABLE, format!("{notes}\n")),
            notes => (StatusCode::OK, format!("ready\n{notes}\n")),
        }
    }
}

/// Answers requests until the task is aborted.
pub(super) async fn serve(listener: TcpListener, answers: Answers) {
    let answer = move |request, ()| answer(request, answers.clone());
    server::serve(listener, LIMITS, answer).await;
}

async fn answer(request: Request<Incoming>, answers: Answers) -> Response<Full<Bytes>> {
    if let Some(page) = answers.page.as_ref().filter(|page| page.has(request.uri().path())) {
        return page.answer(request).await;
    }
    let text = |status, body: &'static str| (status, TEXT, Bytes::from(body));
    let failed = |status, why: String| (status, TEXT, Bytes::from(why + "\n"));
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match answers.metrics.get().await {
            Ok(Ok(body)) => (StatusCode::OK, prometheus::TEXT_FORMAT, body),
            Ok(Err(error)) | Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
        (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => match answers.readiness.get().await {
            Ok(Ok(lost)) => {
                let (status, body) = answers.ready(&lost, request.uri().query() == Some(STRICT));
                (status, TEXT, Bytes::from(body))
            }
            Ok(Err(unready)) => failed(StatusCode::SERVICE_UNAVAILABLE, unready.to_string()),
            Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
        (&Method::GET | &Method::HEAD, "/") => text(StatusCode::OK, INDEX),
        (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, "not found\n"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
