//! Which real a flow has, and what changes it, while reals come and go. The tests hand packets to the programs one
//! by one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::fixtures::json;
use crate::fixtures::vip;

const KINDS: [&str; 2] = ["set-associative", "lru"];

const CLIENTS: u8 = 40;

/// VIPs where several connections of a client share an entry, and the ports of two of these.
const SHARED: [(&str, &str, [u16; 2]); 4] = [
    ("tcp://10.200.1.1:80", "no-source-port", [80, 80]),
    ("tcp://10.200.1.2:*", "5-tuple", [80, 443]),
    ("tcp://[fc00:1::1]:80", "no-source-port", [80, 80]),
    ("tcp://[fc00:1::2]:*", "5-tuple", [80, 443]),
];

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

/// A client that opens another connection goes where its others are, while their real may take them; and its
/// others stay where they are.
#[test]
fn connections_that_share_an_entry_stay_together() {
    for kind in KINDS {
        for (uri, hash, [port, other_port]) in SHARED {
            let what = format!("{kind} {uri} {hash}");
            let host = Host::new();
            let vip_of = vip(uri, &["10.0.0.1", "10.0.0.2", "fc00::3"]);
            // One table: that of the CPU which the packets are handed to.
            host.lbctl().apply(&Host::config(&format!(
                "kind = \"{kind}\"\ncpus = [0]\n{vip_of}hash = \"{hash}\"\n"
            )));
            let vip = address(uri);
            let injector = Injector::new(&host);
            let send = |frame: Frame| injector.send(0, &frame.bytes());
            // What shares an entry has the same source port where the hash leaves out the other.
            let again = |number| if hash == "5-tuple" { 1000 } else { 2000 + u16::from(number) };
            let opens = |number| send(tcp(vip, number, again(number), other_port).syn());
            let goes_on = |number| send(tcp(vip, number, 1000, port));

            let first: BTreeMap<_, _> = (1..=CLIENTS)
                .map(|number| (number, send(tcp(vip, number, 1000, port).syn()).expect("a real")))
                .collect();
            let drained = real("10.0.0.1");
            assert!(first.values().any(|real| *real == drained), "{what}: {first:?}");
            let before = events(&host);
            for (number, real) in &first {
                assert_eq!(opens(*number), Some(*real), "{what}: client {number}");
            }
            let after = events(&host);
            let grown = |name: &str| {
                let count = |events: &Value| events[name].as_u64().expect("an event");
                count(&after) - count(&before)
            };
            assert_eq!(grown("hit"), u64::from(CLIENTS), "{what}: {after}");
            assert_eq!(grown("miss_syn") + grown("miss_tcp"), 0, "{what}: {after}");
            assert_eq!(after["miss_tcp"], 0, "{what}: a SYN that finds nothing is a SYN");

            for change in [
                ["real", "weight", uri, "10.0.0.2", "7"].as_slice(),
                &["real", "drain", uri, "10.0.0.1"],
            ] {
                host.lbctl().ok(change);
                for (number, real) in &first {
                    assert_eq!(opens(*number), Some(*real), "{what}: {change:?}");
                    assert_eq!(goes_on(*number), Some(*real), "{what}: {change:?}");
                }
            }
            // Who comes anew does not get a real that is drained.
            for number in CLIENTS + 1..=2 * CLIENTS {
                assert_ne!(opens(number), Some(drained), "{what}: client {number}");
            }
            // A real that is down has no connections to share: all go, and to the same one.
            host.lbctl().ok(&["real", "down", uri, "10.0.0.1"]);
            for (number, real) in &first {
                let moved = opens(*number);
                assert!(moved.is_some() && moved != Some(drained), "{what}: {moved:?}");
                if *real != drained {
                    assert_eq!(moved, Some(*real), "{what}: client {number}");
                }
                assert_eq!(goes_on(*number), moved, "{what}: client {number}");
            }
        }
    }
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
