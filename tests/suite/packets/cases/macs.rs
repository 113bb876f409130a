//! Frames to this host, to others, and to all.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::ROUTER;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::interfaces;
use crate::packets::config::on_lo;

const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_HOSTS: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 0x01];
const NOBODY: [u8; 6] = [0; 6];
/// The first and the last of the list.
const FIRST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const LAST: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x0a];

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "macs_any", config: on_lo().one_of_each(), cases: any() },
        File {
            name: "macs",
            config: interfaces(
                r#"{ name = "lo", gateway_mac = "02:00:00:00:00:fe", macs = [
                  "02:00:00:00:00:02", "00:00:5e:00:01:02", "00:00:5e:00:01:03", "00:00:5e:00:01:04",
                  "00:00:5e:00:01:05", "00:00:5e:00:01:06", "00:00:5e:00:01:07", "00:00:5e:00:01:08",
                  "00:00:5e:00:01:09", "00:00:5e:00:01:0a" ] }"#,
            )
            .one_of_each(),
            cases: listed(),
        },
    ]
}

fn to(mac: [u8; 6]) -> Frame {
    eth().macs(ROUTER, mac)
}

fn tcp4(mac: [u8; 6]) -> Frame {
    to(mac).ip4(C4, "10.200.1.1").tcp(PORT, 80)
}

fn tcp6(mac: [u8; 6]) -> Frame {
    to(mac).ip6(C6, "fc00:1::1").tcp(PORT, 80)
}

/// What else is for a VIP or its address, and would be sent or dropped.
fn others(mac: [u8; 6]) -> Vec<Case> {
    let quoted = eth().ip4("10.200.1.1", C4).tcp(80, PORT);
    let v4 = || to(mac).ip4(C4, "10.200.1.1");
    let v6 = || to(mac).ip6(C6, "fc00:1::1");
    vec![
        case("a SYN").send(tcp4(mac).syn()).passed("other_mac"),
        case("within a connection").send(tcp4(mac)).passed("other_mac"),
        case("IPv6").send(tcp6(mac)).passed("other_mac"),
        case("with a tag")
            .send(to(mac).vlan(7).ip4(C4, "10.200.1.1").tcp(PORT, 80))
            .passed("other_mac"),
        case("with two tags, IPv6")
            .send(to(mac).vlan(7).vlan(8).ip6(C6, "fc00:1::1").tcp(PORT, 80))
            .passed("other_mac"),
        case("with options").send(v4().options(&[1; 4]).tcp(PORT, 80)).passed("other_mac"),
        case("a fragment").send(v4().fragment(0, true).tcp(PORT, 80)).passed("other_mac"),
        case("a fragment without ports")
            .send(v4().fragment(9, false).tcp(PORT, 80))
            .passed("other_mac"),
        case("too long").send(tcp4(mac).filled_to(1600)).passed("other_mac"),
        case("a ping").send(v4().ping(1, 1)).passed("other_mac"),
        case("a ping, IPv6").send(v6().ping(1, 1)).passed("other_mac"),
        case("an ICMP error")
            .send(to(mac).ip4("192.0.2.99", "10.200.1.1").icmp(3, 1, [0; 4]).carrying(&quoted))
            .passed("other_mac"),
        case("for no VIP").send(to(mac).ip4(C4, "10.200.1.1").tcp(PORT, 81)).passed("not_vip"),
        case("a ping to no VIP").send(to(mac).ip4(C4, "10.200.1.9").ping(1, 1)).passed("not_vip"),
    ]
}

/// Without a list, every station's MAC counts as the interface's.
fn any() -> Vec<Case> {
    let mut cases = others(BROADCAST);
    cases.extend([
        case("to a multicast MAC").send(tcp4(ALL_HOSTS)).passed("other_mac"),
        case("to a multicast MAC of IPv6").send(tcp6(ALL_NODES)).passed("other_mac"),
        case("to some host")
            .send(tcp4([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("to some host, IPv6")
            .send(tcp6([0x08, 1, 2, 3, 4, 5]))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("to nobody, as on a loopback").send(tcp4(NOBODY)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
    ]);
    cases
}

/// With one, those of it, and no others.
fn listed() -> Vec<Case> {
    let mut cases = others([0x00, 0x00, 0x5e, 0x00, 0x01, 0x0b]);
    cases.extend([
        case("to the first").send(tcp4(FIRST)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("to the last").send(tcp4(LAST)).sent("connection_table", C4_TO_4, "10.0.0.1"),
        case("to the last, IPv6").send(tcp6(LAST)).sent("ring", C6_TO_6, "fc00::1"),
        case("to the last, with a tag")
            .send(to(LAST).vlan(7).ip4(C4, "10.200.1.1").tcp(PORT, 80))
            .sent("connection_table", C4_TO_4, "10.0.0.1"),
        case("to the last, a ping").send(to(LAST).ip4(C4, "10.200.1.1").ping(1, 1)).answered(),
        case("to everybody").send(tcp4(BROADCAST)).passed("other_mac"),
        case("to nobody").send(tcp4(NOBODY)).passed("other_mac"),
    ]);
    cases
}
