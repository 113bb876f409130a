//! Checks through the tunnel: sockets of the balancer's host, marked with a real, connect to the VIP's address.

mod ways;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use l4lb::Balancer;
use l4lb::HealthConfig;
use l4lb::Instance;
use l4lb::TunnelPath;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::connect;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt;
use nix::sys::time::TimeVal;

use crate::fixtures::Bpffs;
use crate::fixtures::NetNs;

/// The marks of these tests.
const FIRST_MARK: u32 = HealthConfig::FIRST_MARK;

/// How long a connection may take that is to be established.
const PATIENCE: i64 = 5;

/// The instance of the balancer.
fn instance(bpffs: &Bpffs) -> Instance {
    Instance::new(bpffs.path(), "default").expect("a name")
}

/// Prepares the host for checks of these VIP addresses.
#[track_caller]
pub(crate) fn ensure(bpffs: &Bpffs, ns: &NetNs, vips: &[IpAddr]) -> TunnelPath {
    let vips: BTreeSet<_> = vips.iter().copied().collect();
    let instance = instance(bpffs);
    let path = ns.run(|| Balancer::ensure_tunnel(&instance, &vips, FIRST_MARK));
    path.unwrap_or_else(|error| panic!("{error}"))
}

/// The mark of each real.
#[track_caller]
fn marks(bpffs: &Bpffs) -> BTreeMap<IpAddr, u32> {
    let balancer = Balancer::open(&instance(bpffs)).expect("it runs");
    balancer.tunnel_marks(FIRST_MARK).expect("the marks can be read")
}

/// Connects a socket with a mark, within so many seconds.
fn connect_marked(ns: &NetNs, mark: u32, to: SocketAddr, seconds: i64) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let open = || -> io::Result<OwnedFd> {
        let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&made, sockopt::Mark, &mark)?;
        setsockopt(&made, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
        setsockopt(&made, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
        Ok(made)
    };
    let made = ns.open(open)?;
    connect(made.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(made.into())
}

/// Who answers an HTTP request by a marked socket, as the whole answer.
fn ask(ns: &NetNs, mark: u32, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect_marked(ns, mark, to, PATIENCE)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
