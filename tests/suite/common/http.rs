//! A small HTTP/1.1 server that says who it is.

use std::fmt;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use nix::sys::socket;

use super::Cleanup;
use super::NetNs;
use super::message::CHUNK;
use super::message::Head;
use super::message::REAL_HEADER;
use super::message::check_content;
use super::message::content;

/// A web server inside a namespace, on every address of both families.
///
/// | request | answer |
/// | --- | --- |
/// | `GET /` | the server's name |
/// | `GET /big/BYTES` | as many bytes |
/// | `GET /big/BYTES/RATE` | the same, RATE bytes a second |
/// | `PUT /` | the server's name, if the content is right |
///
/// Connections are kept alive. Dropping the server ends them.
#[derive(Debug)]
pub(crate) struct HttpServer {
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the server's threads share.
#[derive(Debug)]
struct Shared {
    name: String,
    stopping: AtomicBool,
    requests: AtomicUsize,
    connections: Mutex<Vec<Connection>>,
}

/// A client that is being served.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Starts one that calls itself `name`; it listens when this returns.
    #[track_caller]
    pub(crate) fn start(ns: &NetNs, name: &str, port: u16) -> Self {
        let listener = ns.open(|| TcpListener::bind(("::", port)));
        let listener = Arc::new(listener.unwrap_or_else(|e| panic!("{name}: port {port}: {e}")));
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stopping: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let accepting = {
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { listener, shared, accepting: Some(accepting) }
    }

    /// The name it answers with.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many requests it has had.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let mut cleanup = Cleanup::of(format!("the HTTP server of {}", self.name()));
        self.shared.stopping.store(true, Ordering::SeqCst);
        // It wakes the thread out of accept.
        let woken = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        cleanup.step("shut the listener", woken);
        if let Some(accepting) = self.accepting.take() {
            cleanup.thread("listener", accepting.join());
        }
        for connection in self.shared.take_connections(|_| true) {
            // It has failed if the client is gone already, and then nothing is to be shut.
            let _: io::Result<()> = connection.stream.shutdown(Shutdown::Both);
            cleanup.thread("connection", connection.thread.join());
        }
        cleanup.finish();
    }
}

impl Shared {
    /// Takes the connections out that `which` picks.
    fn take_connections(&self, which: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.extract_if(.., |connection| which(connection)).collect()
    }
}

/// Serves every client on a thread of its own, until the listener is shut.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.stopping.load(Ordering::SeqCst) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => panic!("{}: accept: {error}", shared.name),
        };
        for ended in shared.take_connections(|connection| connection.thread.is_finished()) {
            ended.thread.join().expect("a connection's thread does not panic");
        }
        let serving = Arc::clone(shared);
        let theirs = stream.try_clone().expect("duplicate a socket");
        let thread = thread::spawn(move || {
            // A client that leaves in the middle is its own affair.
            let _: io::Result<()> = serve(&serving, &theirs);
            let _: io::Result<()> = theirs.shutdown(Shutdown::Both);
        });
        let mut all = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Connection { stream, thread });
    }
}

/// Answers one request after the other.
fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    while let Some(request) = Request::read(&mut reader)? {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let path: Vec<&str> = request.path.split('/').skip(1).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", [""]) => answer(shared, stream, 200, &shared.name)?,
            ("GET", ["big", bytes]) => send_content(shared, stream, bytes, None)?,
            ("GET", ["big", bytes, rate]) => send_content(shared, stream, bytes, Some(rate))?,
            ("PUT", [""]) => match receive_content(&mut reader, request.length) {
                Ok(()) => answer(shared, stream, 200, &shared.name)?,
                Err(error) => return answer(shared, stream, 400, &error),
            },
            _ => answer(shared, stream, 404, "no such path")?,
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

/// Sends a short answer.
fn answer(
    shared: &Shared,
    mut stream: &TcpStream,
    status: u16,
    body: impl fmt::Display,
) -> io::Result<()> {
    let body = body.to_string();
    let head = head(shared, status, body.len());
    stream.write_all(format!("{head}{body}").as_bytes())
}

/// The start of an answer.
fn head(shared: &Shared, status: u16, length: usize) -> String {
    let name = &shared.name;
    format!("HTTP/1.1 {status} -\r\n{REAL_HEADER}: {name}\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends a long answer, as quickly as `rate` allows.
fn send_content(
    shared: &Shared,
    mut stream: &TcpStream,
    length: &str,
    rate: Option<&str>,
) -> io::Result<()> {
    let (Ok(length), Ok(rate)) = (length.parse(), rate.map(str::parse::<u32>).transpose()) else {
        return answer(shared, stream, 404, "not a number");
    };
    stream.write_all(head(shared, 200, length).as_bytes())?;
    let started = Instant::now();
    // At a low rate in small pieces, a hundred a second.
    let piece = rate.map_or(CHUNK, |rate| (rate as usize / 100).clamp(1, CHUNK));
    let mut sent = 0;
    while sent < length {
        let bytes = content(sent, piece.min(length - sent));
        stream.write_all(bytes)?;
        sent += bytes.len();
        if let Some(rate) = rate {
            let due = Duration::from_secs(sent as u64) / rate.max(1);
            thread::sleep(due.saturating_sub(started.elapsed()));
            if shared.stopping.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    Ok(())
}

/// Reads and checks what a client uploads.
fn receive_content(reader: &mut impl Read, length: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    while received < length {
        let wanted = CHUNK.min(length - received);
        let bytes = reader.read(&mut buffer[..wanted])?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        check_content(received, &buffer[..bytes])?;
        received += bytes;
    }
    Ok(())
}

/// The head of a request.
struct Request {
    method: String,
    path: String,
    length: usize,
    close: bool,
}

impl Request {
    /// Reads one; `None`: the client has closed the connection.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(head) = Head::read(reader)? else {
            return Ok(None);
        };
        let mut words = head.first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("bad request: {}", head.first)));
        };
        let length = head.header("Content-Length").and_then(|text| text.parse().ok());
        let length = length.unwrap_or(0);
        let close = head.header("Connection") == Some("close");
        Ok(Some(Self { method, path, length, close }))
    }
}
