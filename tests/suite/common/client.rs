//! Clients of the web servers.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::bind;
use nix::sys::socket::connect;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt;
use nix::sys::time::TimeVal;

use super::Cleanup;
use super::NetNs;
use super::message::CHUNK;
use super::message::Head;
use super::message::REAL_HEADER;
use super::message::check_content;
use super::message::content;
use super::wait_until;

/// How long the server may be silent before a client gives up, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same of a download, which goes on beside all that a test does to the machine.
const SILENCE: Duration = Duration::from_secs(60);

/// A web server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status: 200.
    pub(crate) status: u16,
    /// The name of the real that answered.
    pub(crate) real: String,
    /// The content.
    pub(crate) body: String,
}

/// A connection to a web server.
#[derive(Debug)]
pub(crate) struct HttpClient {
    reader: BufReader<TcpStream>,
}

/// Asks for one page on a connection of its own.
pub(crate) fn http_get(ns: &NetNs, server: SocketAddr, path: &str) -> io::Result<Response> {
    http_get_from(ns, 0, server, path)
}

/// Like [`http_get`], from a chosen source port; 0: any.
pub(crate) fn http_get_from(
    ns: &NetNs,
    source_port: u16,
    server: SocketAddr,
    path: &str,
) -> io::Result<Response> {
    let mut client = HttpClient::connect_from(ns, source_port, server)?;
    client.request("GET", path, "Connection: close\r\n")?;
    let response = client.response()?;
    // The server closes first: so the port is free again at once on this side.
    match client.reader.read(&mut [0])? {
        0 => Ok(response),
        _ => Err(io::Error::other("the server sent more than it said")),
    }
}

impl HttpClient {
    /// Connects from inside `ns`.
    pub(crate) fn connect(ns: &NetNs, server: SocketAddr) -> io::Result<Self> {
        Self::connect_from(ns, 0, server)
    }

    /// Connects from a chosen source port; 0: any.
    pub(crate) fn connect_from(
        ns: &NetNs,
        source_port: u16,
        server: SocketAddr,
    ) -> io::Result<Self> {
        let stream = ns.open(|| tcp_connect(source_port, server))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::with_capacity(CHUNK, stream) })
    }

    /// The client's address and port.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream().local_addr()
    }

    /// Asks for a page and keeps the connection.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Response> {
        self.request("GET", path, "")?;
        self.response()
    }

    /// Uploads `length` bytes, so that the way to the server carries frames of full size.
    pub(crate) fn put(&mut self, length: usize) -> io::Result<Response> {
        self.request("PUT", "/", &format!("Content-Length: {length}\r\n"))?;
        let mut sent = 0;
        while sent < length {
            let bytes = content(sent, CHUNK.min(length - sent));
            self.stream().write_all(bytes)?;
            sent += bytes.len();
        }
        self.response()
    }

    /// Starts to download `length` bytes, at `rate` bytes a second or as fast as it goes.
    pub(crate) fn download(mut self, length: usize, rate: Option<u32>) -> io::Result<Download> {
        let rate = rate.map(|rate| format!("/{rate}")).unwrap_or_default();
        self.request("GET", &format!("/big/{length}{rate}"), "")?;
        let start = self.start()?;
        if start.length != length {
            return Err(io::Error::other(format!(
                "{length} bytes asked for, {} promised",
                start.length
            )));
        }
        let stream = self.stream().try_clone()?;
        stream.set_read_timeout(Some(SILENCE))?;
        let progress = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&progress);
        let thread = thread::spawn(move || self.receive(length, &counter));
        Ok(Download { length, real: start.real, progress, stream, thread: Some(thread) })
    }

    fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    fn request(&mut self, method: &str, path: &str, headers: &str) -> io::Result<()> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: vip\r\n{headers}\r\n");
        self.stream().write_all(request.as_bytes())
    }

    fn start(&mut self) -> io::Result<Start> {
        let head = Head::read(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length = head.header("Content-Length").and_then(|length| length.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::other(format!("bad response: {head:?}")));
        };
        let real = head.header(REAL_HEADER).unwrap_or_default().to_owned();
        Ok(Start { status, real, length })
    }

    fn response(&mut self) -> io::Result<Response> {
        let Start { status, real, length } = self.start()?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(Response { status, real, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn receive(mut self, length: usize, progress: &AtomicUsize) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut received = 0;
        while received < length {
            let wanted = CHUNK.min(length - received);
            let bytes = self.reader.read(&mut buffer[..wanted])?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            check_content(received, &buffer[..bytes])?;
            received += bytes;
            progress.store(received, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// The start of a response.
struct Start {
    status: u16,
    real: String,
    length: usize,
}

/// A download that goes on while the test does something else.
#[derive(Debug)]
pub(crate) struct Download {
    length: usize,
    real: String,
    progress: Arc<AtomicUsize>,
    stream: TcpStream,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Download {
    /// The name of the real that it comes from.
    pub(crate) fn real(&self) -> &str {
        &self.real
    }

    /// How many bytes have come.
    pub(crate) fn progress(&self) -> usize {
        self.progress.load(Ordering::SeqCst)
    }

    /// Waits for the end: all bytes, and the right ones, or what went wrong. A minute without a byte
    /// is wrong.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        let thread = self.thread.take().expect("only this takes it");
        thread.join().expect("the download's thread does not panic")
    }

    /// Waits for the end and fails the test unless all is well.
    #[track_caller]
    pub(crate) fn finish(self) {
        let Self { length, ref real, ref progress, .. } = self;
        let (real, progress) = (real.clone(), Arc::clone(progress));
        if let Err(error) = self.wait() {
            let progress = progress.load(Ordering::SeqCst);
            panic!("download from {real} broke at byte {progress} of {length}: {error}");
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // It has failed if the connection is gone already, and then the thread ends by itself.
        let _: io::Result<()> = self.stream.shutdown(Shutdown::Both);
        let mut cleanup = Cleanup::of(format!("a download from {}", self.real));
        cleanup.thread("its thread", thread.join());
        cleanup.finish();
    }
}

/// Connects, and waits for the source port if an earlier connection to the same server is still
/// about to end.
fn tcp_connect(source_port: u16, server: SocketAddr) -> io::Result<TcpStream> {
    let mut result = try_connect(source_port, server);
    let _: bool = wait_until(PATIENCE, || match result {
        Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) => {
            result = try_connect(source_port, server);
            false
        }
        _ => true,
    });
    match result {
        Ok(socket) => Ok(socket.into()),
        // What a blocking connect says when the time is over.
        Err(Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// Connects within [`PATIENCE`]. The standard library cannot choose the source port.
fn try_connect(source_port: u16, server: SocketAddr) -> nix::Result<OwnedFd> {
    let (family, any) = match server {
        SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    if source_port != 0 {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let source = SocketAddr::new(any, source_port);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    connect(socket.as_raw_fd(), &SockaddrStorage::from(server))?;
    Ok(socket)
}
