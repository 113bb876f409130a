//! Sockets of checks: marked, and connected without a thread.
//!
//! An error of `connect(2)` itself is about this host: it has no route, no address, no permission. What comes later
//! was sent by somebody. Tokio's own `connect` does not tell the two apart.

use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use nix::errno::Errno;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::failure::Failure;
use super::session::Session;

/// What did not come, if the real's own address answers meanwhile.
const ONLY_DIRECTLY: &str = "no answer to SYN in the tunnel, only directly (decap? VIP?)";

/// Connects to the target. However the run ends, a RST ends the connection, for three reasons:
///
/// - It leaves no state in the kernel here. Connections of all reals of a VIP go to one address and port, and there are
///   only some 28,000 source ports, each occupied for a minute by `TIME_WAIT`.
/// - A real that hangs or was cut off gets its connection freed at once, or as soon as it answers.
/// - It has the socket's mark, and goes to the real under test. After a FIN, a real that hangs would still be sending
///   when the kernel has forgotten the socket.
pub(super) async fn tcp(session: &mut Session) -> Result<TcpStream, Failure> {
    let target = session.target;
    let here = |error: io::Error| Failure::of_this_host(&error, target);
    let there = |error: io::Error| Failure::of_peer(&error, target);
    let socket = socket(target, session.mark, Type::STREAM, Protocol::TCP).map_err(here)?;
    // Requests are one write; Nagle's algorithm would hold back its last segment.
    socket.set_tcp_nodelay(true).map_err(here)?;
    socket.set_linger(Some(Duration::ZERO)).map_err(here)?;
    if session.mark.is_some() {
        socket.set_tcp_mss(client_mss(target)).map_err(here)?;
    }
    session.wait_for("no answer to SYN");
    begin(&socket, target).map_err(|error| Failure::of_sending(&error, target))?;
    route_steps(session, &socket);
    let stream = TcpStream::from_std(socket.into()).map_err(here)?;
    let directly = session.mark.map(|_| SocketAddr::new(session.real, target.port()));
    let connected = {
        let mut established = pin!(established(&stream));
        tokio::select! {
            biased;
            connected = &mut established => connected,
            Some(real) = second_look(directly, session.timeout / 2) => {
                session.step("directly", || format!("{real} answers, but not through the tunnel"));
                session.wait_for(ONLY_DIRECTLY);
                established.await
            }
        }
    };
    connected.map_err(there)?;
    session.step("connected", || format!("to {target} over TCP"));
    Ok(stream)
}

/// Sends the SYN.
fn begin(socket: &Socket, target: SocketAddr) -> io::Result<()> {
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
        result => result,
    }
}

/// Waits for the answer to the SYN.
async fn established(stream: &TcpStream) -> io::Result<()> {
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(()), Err)
}

/// A real's own address, if that answers after a while, be it by a refusal. It says where to look if nothing comes
/// through the tunnel: the real is alive and reachable.
async fn second_look(real: Option<SocketAddr>, after: Duration) -> Option<SocketAddr> {
    let real = real?;
    sleep(after).await;
    let connect = async || {
        let socket = socket(real, None, Type::STREAM, Protocol::TCP)?;
        socket.set_linger(Some(Duration::ZERO))?;
        begin(&socket, real)?;
        established(&TcpStream::from_std(socket.into())?).await
    };
    match connect().await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => None,
        _ => Some(real),
    }
}

/// The longest segment of a client whose MTU is 1500 bytes. The network of the balancer often takes longer packets, to
/// have room for outer headers. Checks must not fail for packets that no client sends.
pub(super) fn client_mss(target: SocketAddr) -> u32 {
    if target.is_ipv4() { 1460 } else { 1440 }
}

/// A socket that exchanges datagrams with the target only. ICMP errors are errors of its calls.
pub(super) fn udp(session: &mut Session) -> Result<UdpSocket, Failure> {
    let target = session.target;
    let here = |error: io::Error| Failure::of_this_host(&error, target);
    let socket = socket(target, session.mark, Type::DGRAM, Protocol::UDP).map_err(here)?;
    socket.connect(&target.into()).map_err(here)?;
    route_steps(session, &socket);
    UdpSocket::from_std(socket.into()).map_err(here)
}

fn socket(
    target: SocketAddr,
    mark: Option<u32>,
    kind: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let kind = kind.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target), kind, Some(protocol))?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    Ok(socket)
}

/// Which way the kernel chose.
fn route_steps(session: &mut Session, socket: &Socket) {
    if !session.explains() {
        return;
    }
    let unknown = match session.target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let source = socket.local_addr().ok().and_then(|address| address.as_socket());
    let source = source.unwrap_or(unknown);
    session.step("source", || source.to_string());
    if let Some(mark) = session.mark {
        let (vip, real) = (session.vip.address, session.real);
        session.step("mark", || format!("{mark:#x}: to {vip}, by real {real}"));
    }
}
