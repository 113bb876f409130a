//! The real answers when the checker has given up: what the host then sends has no socket, and goes to the real all the
//! same. Nothing of it is a packet of the VIP.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::connect;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt;
use serde_json::Value;

use super::addresses;
use super::connect_marked;
use super::ensure;
use super::marks;
use super::rig;
use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::frame::eth;
use crate::fixtures::json;
use crate::fixtures::send_frame;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// More than the time after which a real sends a SYN-ACK for the fourth time, on a busy machine. It goes on for 63
/// seconds if no RST comes.
const PATIENCE: Duration = Duration::from_secs(40);

/// The host's addresses.
const HOST: [&str; 2] = ["172.31.0.2", "fc00:31::2"];

/// A check's socket that does not wait.
fn marked(ns: &NetNs, kind: SockType, mark: u32, to: SocketAddr) -> OwnedFd {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = ns.open(|| socket(family, kind, flags, None)).expect("a socket");
    setsockopt(&made, sockopt::Mark, &mark).expect("mark a socket");
    match connect(made.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => made,
        Err(error) => panic!("{to}: {error}"),
    }
}

fn stats(rig: &Rig) -> Value {
    json(&rig.lbctl().ok(&["stats", "--json"]))
}

/// Packets of checks that were sent to reals.
fn sent(stats: &Value) -> u64 {
    let of = |result| stats["healthcheck"][result]["packets"].as_u64().expect("a number");
    ["ipv4_in_ipv4", "ipv6_in_ipv4", "ipv4_in_ipv6", "ipv6_in_ipv6"].map(of).iter().sum()
}

/// Fails the test if the balancer has counted anything for a VIP or a real, or has a flow.
#[track_caller]
fn assert_no_client(rig: &Rig, before: &Value, when: &str) {
    let stats = stats(rig);
    let all = stats["reasons"].as_array().expect("stats has reasons");
    let counted = all.iter().filter(|reason| reason["packets"] != 0 && reason["verdict"] != "pass");
    let counted: Vec<_> = counted.collect();
    assert!(counted.is_empty() && !all.is_empty(), "{when}: {counted:?}");
    for part in ["vips", "reals", "table"] {
        assert!(before[part].is_object(), "{before}");
        assert_eq!(before[part], stats[part], "{when}");
    }
}

/// Lets no packet through from the reals to the balancer's host.
fn cut(rig: &Rig, command: &str) {
    rig.topology.router.shell(&format!(
        "ip route {command} blackhole {}/32; ip -6 route {command} blackhole {}/128",
        HOST[0], HOST[1]
    ));
}

/// Connections of the reals whose SYN-ACK nobody has answered.
fn half_open(rig: &Rig) -> usize {
    let of =
        |real: &crate::fixtures::Node| real.ns.shell("ss -Htan state syn-recv").lines().count();
    rig.topology.reals.iter().map(of).sum()
}

#[test]
fn a_syn_ack_after_the_end_of_the_check_is_answered_to_the_real() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    ensure(&rig.bpffs, balancer, &addresses());
    let marks = marks(&rig.bpffs);
    let unused = stats(&rig);
    cut(&rig, "add");
    let mut open = Vec::new();
    for address in addresses() {
        for mark in marks.values() {
            let to = SocketAddr::new(address, 80);
            open.push(marked(balancer, SockType::Stream, *mark, to));
        }
    }
    assert!(wait_until(PATIENCE, || half_open(&rig) == open.len()), "{}", half_open(&rig));
    let before = sent(&stats(&rig));
    let all = open.len() as u64;
    drop(open);
    cut(&rig, "del");
    // The RST ends them. Sent to the VIP, half of them would meet the other real, and all would be counted.
    assert!(wait_until(PATIENCE, || half_open(&rig) == 0), "{} are left", half_open(&rig));
    assert_no_client(&rig, &unused, "RST");
    let after = sent(&stats(&rig));
    assert!(after >= before + all, "{after} packets of checks, and {before} before");
}

#[test]
fn a_datagram_after_the_end_of_the_check_is_refused_to_the_real() {
    const PORT: u16 = 5353;
    let rig = Rig::new(1);
    let balancer = &rig.topology.balancer.ns;
    let reals = ["10.0.0.1", "fc00::1"];
    let vips = addresses().map(|to| vip(&format!("udp://{}", SocketAddr::new(to, PORT)), &reals));
    rig.lbctl().apply(&config(&vips.concat()));
    ensure(&rig.bpffs, balancer, &addresses());
    let unused = stats(&rig);
    for address in addresses() {
        for (real, mark) in marks(&rig.bpffs) {
            let to = SocketAddr::new(address, PORT);
            let server = rig.topology.reals[0].ns.bind(|| UdpSocket::bind(to)).expect("a port");
            server.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
            let check = UdpSocket::from(marked(balancer, SockType::Datagram, mark, to));
            check.send(b"anybody?").expect("send a datagram");
            let mut buffer = [0; 64];
            let (_, from) = server.recv_from(&mut buffer).expect("the check arrives");
            server.connect(from).expect("connect a socket");
            drop(check);
            // Linux limits ICMP errors, also those of all hosts of a machine together.
            server.set_read_timeout(Some(PATIENCE / 8)).expect("set a timeout");
            let refused = (0..8).any(|_| {
                // The send hears of an error that came late.
                let answer = server.send(b"yes").and_then(|_| server.recv(&mut buffer));
                answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            });
            assert!(refused, "{address} at {real}: no ICMP error came");
        }
    }
    assert_no_client(&rig, &unused, "ICMP error");
}

/// What is left of a connection without its socket keeps the mark: `TIME_WAIT`, and `FIN_WAIT2` of a peer that does not
/// close.
#[test]
fn what_is_left_of_a_closed_connection_has_the_mark() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    ensure(&rig.bpffs, balancer, &addresses());
    let unused = stats(&rig);
    let marks = marks(&rig.bpffs);
    let mark = *marks.values().next().expect("a real");
    for (address, host) in addresses().into_iter().zip(HOST) {
        let to = SocketAddr::new(address, 80);
        let stream = connect_marked(balancer, mark, to, 5).expect("a connection");
        let port = stream.local_addr().expect("it has an address").port();
        let state = |state: &str| {
            let sockets = format!("ss -Htan state {state} sport = :{port}");
            !balancer.shell(&sockets).trim().is_empty()
        };
        // The server keeps its end until it has read that there is no more.
        drop(stream);
        assert!(wait_until(PATIENCE, || state("time-wait")), "{address}: no TIME_WAIT");
        let before = sent(&stats(&rig));
        // An old segment once more.
        let mut seen = Capture::start(balancer, UPLINK);
        let host: IpAddr = host.parse().expect("an address");
        let node = &rig.topology.balancer;
        let frame = eth().macs(node.gateway_mac, node.mac).ip(address, host).tcp(80, port).ack();
        send_frame(&rig.topology.router, &node.router_interface, &frame.data(b"x").bytes());
        let sent_one = || sent(&stats(&rig)) > before;
        assert!(wait_until(PATIENCE, sent_one), "{address}: no answer with a mark");
        let out = seen.frames().iter().filter(|frame| frame.direction == Direction::Out).count();
        assert!(out > 0, "{address}");
    }
    assert_no_client(&rig, &unused, "TIME_WAIT");
}
