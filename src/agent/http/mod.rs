//! The HTTP endpoint of agents: metrics, liveness, readiness. It limits what any client can use, whatever it sends.

pub(super) mod connections;
pub(super) mod gzip;
pub(super) mod packed;
pub(super) mod server;
pub(super) mod shared;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http_body_util::Either;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderValue;
use prometheus::Registry;
use tokio::net::TcpListener;

use self::packed::Packed;
use self::packed::Unzipped;
use self::server::Limits;
use self::shared::Shared;
use super::page::Page;
use crate::control::decap;
use crate::instance::Instance;
use crate::instance::repair::LostPins;
use crate::observe::readiness::Unready;
use crate::observe::readiness::readiness;
use crate::report::metrics::Collector;
use crate::report::metrics::openmetrics;
use crate::report::metrics::text::Format;

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
    metrics: Shared<Result<Packed, String>>,
    /// The same as `OpenMetrics`.
    open_metrics: Shared<Result<Packed, String>>,
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
        per_real: Arc<AtomicBool>,
    ) -> Self {
        let collector = Collector::new(instance.clone()).with_per_real(per_real);
        Self::new(instance, collector, own, readiness)
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
        for collector in own {
            if let Err(error) = registry.register(collector) {
                tracing::warn!("metrics: {error}");
            }
        }
        let collector = Arc::new(collector);
        let scrape = |format| {
            let (registry, collector) = (registry.clone(), Arc::clone(&collector));
            Shared::new(move || {
                Packed::scrape(&registry, &collector, format).map_err(|error| error.to_string())
            })
        };
        let instance = instance.clone();
        Self {
            metrics: scrape(Format::Prometheus),
            open_metrics: scrape(Format::OpenMetrics),
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

/// An answer: a scrape that is decompressed while it is sent, or any other.
type Content = Either<Unzipped, Full<Bytes>>;

async fn answer(request: Request<Incoming>, answers: Answers) -> Response<Content> {
    if let Some(page) = answers.page.as_ref().filter(|page| page.has(request.uri().path())) {
        return page.answer(request).await.map(Either::Right);
    }
    let text = |status, body: &'static str| (status, Bytes::from(body));
    let failed = |status, why: String| (status, Bytes::from(why + "\n"));
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            match metrics(request.headers(), &answers).await {
                Ok(response) => return response,
                Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
            }
        }
        (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => match answers.readiness.get().await {
            Ok(Ok(lost)) => {
                let (status, body) = answers.ready(&lost, request.uri().query() == Some(STRICT));
                (status, Bytes::from(body))
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
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    gzip::compressed(response, request.headers()).await.map(Either::Right)
}

/// All metrics, in the format and the coding that the client takes.
async fn metrics(asked: &HeaderMap, answers: &Answers) -> Result<Response<Content>, String> {
    let (kind, scrape) = if wants_open_metrics(asked) {
        (openmetrics::CONTENT_TYPE, &answers.open_metrics)
    } else {
        (prometheus::TEXT_FORMAT, &answers.metrics)
    };
    let scrape = scrape.get().await??;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    let content = if gzip::is_accepted(asked) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Either::Right(Full::new(scrape.into_gzip()))
    } else {
        Either::Left(scrape.into_text())
    };
    let mut response = Response::new(content);
    *response.headers_mut() = headers;
    Ok(response)
}

/// Whether a client asks for `OpenMetrics` before the text format. Prometheus does.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let quality = |kind: &str| {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let accepted = accepted.filter_map(|value| value.to_str().ok());
        let ranges = accepted.flat_map(|text| text.split(','));
        let of_kind = ranges.filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let same = parts.next()?.eq_ignore_ascii_case(kind);
            let given = parts.find_map(|part| part.strip_prefix("q="));
            same.then(|| given.map_or(Some(1.0_f32), |text| text.parse().ok()).unwrap_or(0.0))
        });
        of_kind.fold(0.0, f32::max)
    };
    let open = quality("application/openmetrics-text");
    open > 0.0 && open >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::ACCEPT;

    #[test]
    fn clients_choose_the_format() {
        let open = "application/openmetrics-text";
        for (accept, taken) in [
            (
                format!(
                    "{open};version=1.0.0,{open};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                true,
            ),
            (open.to_owned(), true),
            (format!("text/plain, {open};q=0.5"), false),
            (format!("{open};q=0"), false),
            ("text/plain".to_owned(), false),
            ("*/*".to_owned(), false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().expect("a value"))]);
            assert_eq!(super::wants_open_metrics(&headers), taken, "{accept}");
        }
        assert!(!super::wants_open_metrics(&HeaderMap::new()));
    }
}
