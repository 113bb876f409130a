//! Checks through the tunnel: sockets of the balancer's host, marked with a real, connect to the VIP's address.

mod bytes;
mod late;
pub(super) mod lives;
mod obstacles;
mod others;
mod places;
mod ways;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::HealthConfig;
use l4lb::Instance;
use l4lb::TunnelPath;
use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::ProgramHandle;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::query::ProgInfoQueryOptions;
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
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const V4: &str = "10.200.1.1";
const V6: &str = "fc00:1::1";

/// A rig whose balancer has a VIP of each family, with reals of both.
fn rig() -> Rig {
    rig_by("")
}

/// The same, with further keys of the configuration.
fn rig_by(more: &str) -> Rig {
    let rig = Rig::new(2);
    let reals = ["10.0.0.1", "10.0.0.2", "fc00::1", "fc00::2"];
    let vips = [vip(&format!("tcp://{V4}:80"), &reals), vip(&format!("tcp://[{V6}]:80"), &reals)];
    rig.lbctl().apply(&config(&format!("{more}\n{}", vips.concat())));
    rig
}

fn addresses() -> [IpAddr; 2] {
    [V4, V6].map(|address| address.parse().expect("an address"))
}

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

/// The program that an instance has attached.
fn program(bpffs: &Bpffs) -> Option<OwnedFd> {
    let reals = bpffs.path().join("l4lb/default/map/reals");
    let reals = MapHandle::from_pinned_path(reals).ok()?.info().expect("ask about a map").info.id;
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let found = ProgInfoIter::with_query_opts(options)
        .find(|program| program.name == "healthcheck" && program.map_ids.contains(&reals))?;
    let program = ProgramHandle::from_prog_id(found.id).ok()?;
    Some(program.as_fd().try_clone_to_owned().expect("duplicate a descriptor"))
}

/// Whether the program is gone. The kernel frees it some time after it was detached.
fn is_gone(bpffs: &Bpffs) -> bool {
    wait_until(Duration::from_secs(10), || program(bpffs).is_none())
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

/// `check` of a VIP, for the end of its configuration.
const CHECKED: &str = "check = { type = \"tcp\" }\n";
