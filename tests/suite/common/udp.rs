//! UDP echo servers that say who they are, and their client.

use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Cleanup;
use super::NetNs;

/// How long a client waits for the echo.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a server looks whether it is to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// A server inside a namespace that answers `NAME:` and what it was sent, from the address that it
/// was sent to.
#[derive(Debug)]
pub(crate) struct UdpEcho {
    name: String,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts one that calls itself `name`, with a socket on each of `addresses`: from a socket on
    /// every address, the kernel would choose where answers come from.
    #[track_caller]
    pub(crate) fn start(ns: &NetNs, name: &str, addresses: &[SocketAddr]) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let bind = |address: &SocketAddr| {
            let socket = ns.open(|| UdpSocket::bind(address));
            socket.unwrap_or_else(|error| panic!("{name}: {address}: {error}"))
        };
        let serve = |socket: UdpSocket| {
            let (name, stopping) = (name.to_owned(), Arc::clone(&stopping));
            thread::spawn(move || echo(&socket, &name, &stopping))
        };
        // All sockets before the first thread: a failure leaves none behind.
        let sockets: Vec<UdpSocket> = addresses.iter().map(bind).collect();
        let threads = sockets.into_iter().map(serve).collect();
        Self { name: name.to_owned(), stopping, threads }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        let mut cleanup = Cleanup::of(format!("the UDP server of {}", self.name));
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            cleanup.thread("socket", thread.join());
        }
        cleanup.finish();
    }
}

/// Answers until told to stop.
fn echo(socket: &UdpSocket, name: &str, stopping: &AtomicBool) {
    socket.set_read_timeout(Some(PAUSE)).expect("set a timeout");
    let mut buffer = vec![0; 1 << 16];
    while !stopping.load(Ordering::SeqCst) {
        // An error is the timeout, or ICMP about an earlier answer.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
        let _: io::Result<usize> = socket.send_to(&answer, client);
    }
}

/// Sends `payload` to `server` from inside `ns` and returns the answer.
pub(crate) fn udp_ask(ns: &NetNs, server: SocketAddr, payload: &str) -> io::Result<String> {
    udp_ask_from(ns, 0, server, payload)
}

/// Like [`udp_ask`], from a chosen source port; 0: any.
pub(crate) fn udp_ask_from(
    ns: &NetNs,
    source_port: u16,
    server: SocketAddr,
    payload: &str,
) -> io::Result<String> {
    let any = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = ns.open(|| UdpSocket::bind(SocketAddr::new(any, source_port)))?;
    // Connected, it hears nobody but the server.
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(payload.as_bytes())?;
    let mut buffer = vec![0; 1 << 16];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
