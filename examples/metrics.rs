//! Serves the metrics of an instance and a metric of the example's own over HTTP.
//!
//! ```text
//! metrics LISTEN [BPFFS [INSTANCE]]
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use l4lb::Instance;
use l4lb::metrics::Collector;
use prometheus::IntCounter;
use prometheus::Registry;
use prometheus::TEXT_FORMAT;
use prometheus::TextEncoder;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("usage: metrics LISTEN [BPFFS [INSTANCE]]")?;
    let listen: SocketAddr = listen.parse()?;
    let bpffs = arguments.next().unwrap_or_else(|| l4lb::DEFAULT_BPFFS.to_owned());
    let name = arguments.next().unwrap_or_else(|| l4lb::DEFAULT_INSTANCE.to_owned());

    // The instance need not run, nor belong to this process.
    let registry = Registry::new();
    registry.register(Box::new(Collector::new(Instance::new(bpffs, &name)?)))?;
    let scrapes = IntCounter::new("example_scrapes_total", "How often this was asked for.")?;
    registry.register(Box::new(scrapes.clone()))?;

    let listener = TcpListener::bind(listen).await?;
    println!("metrics at http://{}/", listener.local_addr()?);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A client has gone, or there are too many open files: the service goes on.
            Err(error) => {
                eprintln!("{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, scrapes) = (registry.clone(), scrapes.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            scrapes.inc();
            scrape(registry.clone())
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}

async fn scrape(registry: Registry) -> Result<Response<Full<Bytes>>, Infallible> {
    // Reading thousands of counters takes milliseconds. On a blocking thread, it does not hold up other clients.
    let read = tokio::task::spawn_blocking(move || {
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        text.map_err(|error| error.to_string())
    });
    let text = read.await.unwrap_or_else(|error| Err(error.to_string()));
    let response = match text {
        Ok(text) => Response::builder().header(CONTENT_TYPE, TEXT_FORMAT).body(text.into()),
        Err(error) => Response::builder().status(500).body(error.into()),
    };
    Ok(response.unwrap_or_default())
}
