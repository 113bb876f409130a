//! The metrics endpoint of `lbctl serve`.

use std::convert::Infallible;
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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use prometheus::Encoder as _;
use prometheus::Registry;
use prometheus::TextEncoder;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at once; further ones wait in the listen queue.
const CONNECTIONS: usize = 64;

/// A connection that has not asked, or has not read its answer, after this long is closed.
const PATIENCE: Duration = Duration::from_secs(10);

const INDEX: &str = "l4lb: metrics are at /metrics, liveness is at /healthz\n";

/// Answers requests until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, registry: Registry) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as too many open files: it passes.
                tracing::warn!("metrics: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, registry.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Broken clients are no news.
            let _ = tokio::time::timeout(PATIENCE, connection).await;
            drop(slot);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    registry: Registry,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |status, body: String| (status, "text/plain; charset=utf-8", body.into_bytes());
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => metrics(registry).await,
        (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/") => text(StatusCode::OK, INDEX.to_owned()),
        (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

async fn metrics(registry: Registry) -> (StatusCode, &'static str, Vec<u8>) {
    // Reading thousands of counters takes milliseconds; other connections need not wait for it.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).map(|()| text)
    });
    match text.await {
        Ok(Ok(text)) => (StatusCode::OK, prometheus::TEXT_FORMAT, text),
        Ok(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into_bytes())
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into_bytes())
        }
    }
}
