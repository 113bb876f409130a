//! An HTTP server with bounds on what all clients together can use, whatever they send. The metrics endpoint and the
//! control API run it.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use nix::errno::Errno;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::time::sleep;
use tokio::time::timeout;

use super::connections::Connection;
use super::connections::Connections;
use crate::agent::trusted::is_trusted;

/// Most bytes of a request's first line and headers.
const MAX_HEAD: usize = 16 * 1024;

/// What clients of a server can use.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Limits {
    /// The server's name in the log.
    pub(in crate::agent) name: &'static str,
    /// Most connections at a time.
    pub(in crate::agent) connections: usize,
    /// How long a client may take to send the first line and the headers.
    pub(in crate::agent) time_to_ask: Duration,
    /// How long everything after that may take: reading a body, making the answer and sending it.
    pub(in crate::agent) time_to_answer: Duration,
}

/// Accepts clients.
pub(in crate::agent) trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at the other end.
    type Peer: Clone + Send + 'static;

    /// Waits for the next client.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;

    /// Whether others must not be able to push this client out.
    fn is_trusted(_: &Self::Peer) -> bool {
        false
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = ();

    async fn accept(&self) -> io::Result<(TcpStream, ())> {
        TcpListener::accept(self).await.map(|(stream, _)| (stream, ()))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    /// User and process, as they were when the client connected.
    type Peer = UCred;

    async fn accept(&self) -> io::Result<(UnixStream, UCred)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = stream.peer_cred()?;
        Ok((stream, peer))
    }

    fn is_trusted(peer: &UCred) -> bool {
        is_trusted(peer.uid())
    }
}

/// Answers requests until the task is aborted. Answers in progress are finished then.
pub(in crate::agent) async fn serve<L, A, F, B>(listener: L, limits: Limits, answer: A)
where
    L: Listener,
    A: Fn(Request<Incoming>, L::Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut connections = Connections::new(limits.connections);
    let name = limits.name;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (answer, trusted) = (answer.clone(), L::is_trusted(&peer));
                let answer = move |request| answer(request, peer.clone());
                connections.start(trusted, |connection| talk(stream, limits, answer, connection));
            }
            Err(error) if is_shortage(&error) => {
                tracing::warn!("{name}: cannot accept a connection: {error}");
                sleep(Duration::from_secs(1)).await;
            }
            // The client has gone already.
            Err(error) => tracing::debug!("{name}: {error}"),
        }
    }
}

/// Whether a resource is short that takes a while to be available again.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|error| shortages.contains(&Errno::from_raw(error)))
}

/// One request, one answer.
async fn talk<S, A, F, B>(stream: S, limits: Limits, answer: A, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.body().is_end_stream() {
            connection.asked();
        } else {
            // Whoever reads the body records that it is there.
            request.extensions_mut().insert(connection.clone());
        }
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.time_to_ask)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A broken client is not worth a log line.
    let _ = timeout(limits.time_to_ask + limits.time_to_answer, pin!(http)).await;
}
