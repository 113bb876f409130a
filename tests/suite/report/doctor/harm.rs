//! The causes of findings do harm traffic: tests that show it in a network of namespaces.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use etherparse::NetSlice;
use etherparse::SlicedPacket;
use etherparse::TcpOptionElement;
use etherparse::TransportSlice;

use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Frame;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config_in_mode;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:8081";

/// Bytes of an upload: some hundred segments.
const UPLOAD: usize = 1 << 20;

/// Uploads to a VIP, whatever becomes of it.
fn upload(rig: &Rig) {
    let listener = rig.topology.reals[0].ns.bind(|| TcpListener::bind("0.0.0.0:8081"));
    let listener = listener.expect("listen");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(Duration::from_secs(3))).expect("set a timeout");
            let mut buffer = vec![0; 1 << 16];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        });
        let to = server(VIP);
        let stream = rig.client().open(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
        let mut stream = stream.expect("connect");
        stream.set_write_timeout(Some(Duration::from_secs(3))).expect("set a timeout");
        let _ = stream.write_all(&vec![0; UPLOAD]);
    });
}

/// No finding is about GRO: where generic XDP runs, the kernel merges nothing.
#[test]
fn generic_mode_goes_without_gro() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config_in_mode("generic", &vip(VIP, &["10.0.0.1"])));
    rig.topology.balancer.ns.shell(&format!("ethtool -K {UPLINK} gro on"));
    upload(&rig);
    assert!(rig.reason("connection_table") > 100, "the upload came by");
    for too_long in ["too_big", "too_big_reply", "too_big_limited"] {
        assert_eq!(rig.reason(too_long), 0, "{too_long}");
    }
}

/// Two hosts on a wire: a router at 172.31.0.254, and a real at 172.31.0.2 with a VIP on its loopback.
fn router_and_real() -> (NetNs, NetNs) {
    let (router, real) = (NetNs::new(), NetNs::new());
    router.shell(&format!(
        "ip link add wire mtu 1600 type veth peer name {UPLINK} mtu 1600 netns {}
         ip addr add 172.31.0.254/24 dev wire; ip addr add 192.0.2.7/32 dev lo
         ip link set wire up",
        real.path().display()
    ));
    real.shell(&format!(
        "ip addr add 172.31.0.2/24 dev {UPLINK}; ip addr add 10.200.1.1/32 dev lo
         ip link set {UPLINK} up
         ip route add default via 172.31.0.254"
    ));
    (router, real)
}

/// Whether the real answers when a neighbour asks for the VIP's MAC.
fn answers_arp(router: &NetNs) -> bool {
    router.shell("ip neigh flush all; ip route replace 10.200.1.1 dev wire");
    let known = || {
        send(router, "192.0.2.7", "10.200.1.1");
        router.shell("ip neigh show 10.200.1.1").contains("lladdr")
    };
    wait_until(Duration::from_millis(500), known)
}

/// Sends a datagram, whatever becomes of it.
fn send(ns: &NetNs, from: &str, to: &str) {
    let socket = ns.open(|| UdpSocket::bind((from, 0))).expect("open a socket");
    socket.send_to(b"?", (to, 9)).expect("send");
}

#[test]
fn arp() {
    let (router, real) = router_and_real();
    let set = |key: &str, value: u32| {
        real.shell(&format!("sysctl -qw net.ipv4.conf.all.{key}={value}"));
    };
    // The link is new: until it is up on both sides, nobody answers.
    assert!(wait_until(Duration::from_secs(10), || answers_arp(&router)));
    for (value, answers) in [(0, true), (1, false), (2, false), (3, true), (4, true), (8, false)] {
        set("arp_ignore", value);
        assert_eq!(answers_arp(&router), answers, "arp_ignore={value}");
    }
    set("arp_ignore", 1);
    // An address of the interface is answered for all the same, IPv6 or not.
    real.shell(&format!(
        "ip addr del 10.200.1.1/32 dev lo; ip addr add 10.200.1.1/32 dev {UPLINK}"
    ));
    assert!(answers_arp(&router), "vip-on-wire");
    real.shell(&format!(
        "ip addr del 10.200.1.1/32 dev {UPLINK}; ip addr add 10.200.1.1/32 dev lo"
    ));

    // Whom the real asks as: a neighbour learns that address.
    for (value, as_vip) in [(0, true), (1, false), (2, false)] {
        set("arp_announce", value);
        real.shell("ip neigh flush all");
        let mut capture = Capture::start(&router, "wire");
        send(&real, "10.200.1.1", "172.31.0.254");
        let asks = |frame: &Frame| {
            frame.direction == Direction::In
                && frame.bytes.get(12..14) == Some(&[8, 6])
                && frame.bytes.get(38..42) == Some(&[172, 31, 0, 254])
        };
        let request = capture.wait_for(asks);
        assert_eq!(request.bytes[28..32] == [10, 200, 1, 1], as_vip, "arp_announce={value}");
    }
}

/// Sends datagrams from a client behind the router to the VIP; whether the real gets one before long. The links
/// may be so new that the first are lost.
fn gets_through(router: &NetNs, real: &NetNs, patience: Duration) -> bool {
    let receiver = real.bind(|| UdpSocket::bind("10.200.1.1:53")).expect("listen");
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("set a timeout");
    let sender = router.open(|| UdpSocket::bind("192.0.2.7:0")).expect("open a socket");
    router.shell("ip route replace 10.200.1.1 via 172.31.0.2");
    wait_until(patience, || {
        sender.send_to(b"?", "10.200.1.1:53").expect("send");
        receiver.recv(&mut [0; 16]).is_ok()
    })
}

#[test]
fn reverse_path() {
    let (router, real) = router_and_real();
    let passes = |patience| gets_through(&router, &real, Duration::from_millis(patience));
    let strict = |value: u32| {
        real.shell(&format!("sysctl -qw net.ipv4.conf.all.rp_filter={value}"));
    };
    strict(1);
    assert!(passes(10_000), "answers leave where requests come in");
    real.shell(
        "ip link add second type veth peer name beyond
         ip addr add 172.32.0.2/24 dev second; ip link set second up; ip link set beyond up
         ip route replace default via 172.32.0.254",
    );
    assert!(!passes(500), "they do not");
    strict(2);
    assert!(passes(10_000), "loose");
    // The larger one counts, and a route there must be, loose or not.
    real.shell(&format!("sysctl -qw net.ipv4.conf.{UPLINK}.rp_filter=1"));
    assert!(passes(10_000), "2 and 1");
    real.shell("ip route del default");
    assert!(!passes(500), "no way back");
    strict(0);
    assert!(!passes(500), "0 and 1");
}

/// The segment size that the real asks a client for.
fn advertised(router: &NetNs, real: &NetNs) -> u16 {
    let mut capture = Capture::start(router, "wire");
    let _listener = real.bind(|| TcpListener::bind("10.200.1.1:80")).expect("listen");
    let to: SocketAddr = "10.200.1.1:80".parse().expect("an address");
    let _client =
        router.open(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).expect("connect");
    let mss = |frame: &Frame| {
        let packet = SlicedPacket::from_ethernet(&frame.bytes).ok()?;
        let (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Tcp(tcp))) =
            (packet.net, packet.transport)
        else {
            return None;
        };
        let option = tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
            _ => None,
        });
        option.filter(|_| tcp.syn() && tcp.ack())
    };
    let frame = capture.wait_for(|frame| mss(frame).is_some());
    mss(&frame).expect("it has one")
}

/// What doctor computes from a route is what goes over the wire.
#[test]
fn segment_sizes() {
    let (router, real) = router_and_real();
    for (metrics, size) in
        [("", 1560), ("mtu 1500", 1460), ("advmss 1440", 1440), ("mtu 1500 advmss 1400", 1400)]
    {
        real.shell(&format!("ip route replace default via 172.31.0.254 {metrics}"));
        // Of its own network it does not ask for less: a client is farther away.
        router.shell("ip route replace 10.200.1.1 via 172.31.0.2 src 192.0.2.7");
        assert_eq!(advertised(&router, &real), size, "{metrics}");
    }
}
