//! Which real a flow has, and what changes it, while reals come and go: packets are handed to the programs one
//! by one.

use std::net::IpAddr;

use serde_json::Value;

use crate::common::Host;
use crate::common::json;
use crate::common::vip;
use crate::flows::inject::Injector;
use crate::packets::frame::Frame;
use crate::packets::frame::eth;

const KINDS: [&str; 2] = ["set-associative", "lru"];

const CLIENTS: u8 = 40;

/// An address as clients have it: of the VIP's family, by number.
fn client(vip: IpAddr, number: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, number]),
        IpAddr::V6(_) => format!("2001:db8::{number:x}").parse().expect("an address"),
    }
}

fn tcp(vip: IpAddr, number: u8, port: u16, vip_port: u16) -> Frame {
    eth().ip(client(vip, number), vip).tcp(port, vip_port)
}

fn address(uri: &str) -> IpAddr {
    uri.parse::<l4lb::Vip>().expect("a VIP").address
}

fn real(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Events at the connection tables so far.
#[track_caller]
fn events(host: &Host) -> Value {
    json(&host.lbctl().ok(&["stats", "--json"]))["table"].clone()
}

/// Where a connection has its own entry, its SYN goes by the ring, and the packets behind it follow.
#[test]
fn a_syn_of_its_own_goes_by_the_ring() {
    for kind in KINDS {
        let uri = "tcp://10.200.1.1:80";
        let host = Host::new();
        let vip_of = vip(uri, &["10.0.0.1", "10.0.0.2"]);
        host.lbctl().apply(&Host::config(&format!("kind = \"{kind}\"\ncpus = [0]\n{vip_of}")));
        let injector = Injector::new(&host);
        let send = |frame: Frame| injector.send(0, &frame.bytes());
        let drained = real("10.0.0.1");
        let flow = |number| tcp(address(uri), number, 1000, 80);
        let on_drained: Vec<_> =
            (1..=CLIENTS).filter(|number| send(flow(*number).syn()) == Some(drained)).collect();
        assert!(on_drained.len() > 2, "{on_drained:?}");
        host.lbctl().ok(&["real", "drain", uri, "10.0.0.1"]);
        for number in on_drained {
            assert_eq!(send(flow(number)), Some(drained), "{kind}: the connection is known");
            // Nobody opens a connection so; what looks like it must not move one.
            let other = real("10.0.0.2");
            assert_eq!(send(flow(number).syn().rst()), Some(other), "{kind}: by the ring");
            assert_eq!(send(flow(number)), Some(drained), "{kind}: the connection stays");
            assert_eq!(send(flow(number).syn()), Some(other), "{kind}: a new one");
            assert_eq!(send(flow(number)), Some(other), "{kind}: which is known now");
        }
    }
}

/// How long is too long depends on the real: what would fit the one's outer header does not fit the other's.
#[test]
fn what_is_too_long_is_not_remembered() {
    // Bytes of IP packet: 1480 go behind 20 bytes of outer header, 1460 behind 40.
    const BETWEEN: usize = 14 + 1470;
    for kind in KINDS {
        let host = Host::new();
        host.ns.shell("ip link set uplink mtu 1500");
        let (short, long) = (("tcp://10.200.1.1:4", "10.0.0.1"), ("tcp://10.200.1.1:6", "fc00::1"));
        let vips = [vip(short.0, &[short.1]), vip(long.0, &[long.1])].concat();
        host.lbctl().apply(&Host::config(&format!("kind = \"{kind}\"\ncpus = [0]\n{vips}")));
        let injector = Injector::new(&host);
        let send = |frame: Frame| injector.send(0, &frame.bytes());
        let vip = address(short.0);
        let remembered = || host.lbctl().ok(&["flows", "list", "--json"]).stdout.lines().count();
        let told = Some(client(vip, 1));

        for frame in [tcp(vip, 1, 1000, 6), tcp(vip, 1, 1001, 6).syn()] {
            assert_eq!(send(frame.filled_to(BETWEEN)), told, "{kind}: its sender");
        }
        assert_eq!(remembered(), 0, "{kind}");
        let before = events(&host);
        assert_eq!(before["inserted"], 0, "{kind}: {before}");
        for frame in [tcp(vip, 1, 1000, 4), tcp(vip, 1, 1001, 4).syn()] {
            assert_eq!(send(frame.filled_to(BETWEEN)), Some(real(short.1)), "{kind}");
        }
        assert_eq!(remembered(), 2, "{kind}");
        // A flow that is known stays known.
        assert_eq!(send(tcp(vip, 1, 1000, 6)), Some(real(long.1)), "{kind}");
        assert_eq!(send(tcp(vip, 1, 1000, 6).filled_to(BETWEEN)), told, "{kind}");
        assert_eq!(remembered(), 3, "{kind}");
    }
}
