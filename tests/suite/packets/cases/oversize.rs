//! Packets that are too long to be encapsulated.

use super::C4;
use super::C4_TO_4;
use super::C4_TO_6;
use super::C6;
use super::C6_TO_4;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::on_lo;

/// With VIPs of each version that have reals of each.
fn with_vips(config: ConfigText) -> ConfigText {
    config
        .vip("tcp://10.200.1.1:4", ONE4)
        .vip("udp://10.200.1.1:6", ONE6)
        .vip("tcp://10.200.1.1:8", ONE4)
        .set("hash", "destination-port")
        .vip("tcp://10.200.1.1:9", &[])
        .vip("tcp://[fc00:1::1]:4", ONE4)
        .vip("udp://[fc00:1::1]:6", ONE6)
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "oversize_icmp", config: with_vips(on_lo()), cases: icmp() },
        File {
            name: "oversize_drop",
            config: with_vips(on_lo().set("packets.oversize", "drop")),
            cases: dropped(),
        },
        File {
            name: "max_frame_least",
            config: with_vips(on_lo().set("packets.max_frame", 1294)),
            cases: least(),
        },
        File {
            name: "max_frame_most",
            config: with_vips(on_lo().set("packets.max_frame", 3514)),
            cases: most(),
        },
    ]
}

fn v4_to_4() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 4)
}

fn v4_to_6() -> Frame {
    eth().ip4(C4, "10.200.1.1").udp(PORT, 6)
}

fn v6_to_4() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 4)
}

fn v6_to_6() -> Frame {
    eth().ip6(C6, "fc00:1::1").udp(PORT, 6)
}

/// A flow of another port than the others'.
fn later() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(2000, 4)
}

fn later_v6() -> Frame {
    eth().ip6(C6, "fc00:1::1").udp(2000, 6)
}

const LATER: &str = "172.16.209.6";
const LATER_V6: &str = "100::7d0:1";

fn icmp() -> Vec<Case> {
    vec![
        case("the longest: IPv4 in IPv4")
            .send(v4_to_4().filled_to(1514))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("the longest: IPv4 in IPv6")
            .send(v4_to_6().filled_to(1514))
            .sent("ring", C4_TO_6, "fc00::1"),
        case("the longest: IPv6 in IPv4")
            .send(v6_to_4().filled_to(1514))
            .sent("ring", C6_TO_4, "10.0.0.1"),
        case("the longest: IPv6 in IPv6")
            .send(v6_to_6().filled_to(1514))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("a byte too long: IPv4 in IPv4").send(v4_to_4().filled_to(1515)).told(1500),
        case("a byte too long: IPv4 in IPv6").send(v4_to_6().filled_to(1515)).told(1500),
        case("a byte too long: IPv6 in IPv4").send(v6_to_4().filled_to(1515)).told(1500),
        case("a byte too long: IPv6 in IPv6").send(v6_to_6().filled_to(1515)).told(1500),
        case("many bytes too long").send(v4_to_4().filled_to(3500)).told(1500),
        case("with DF").send(v4_to_4().dont_fragment().filled_to(1515)).told(1500),
        case("with a class, which the answer has not")
            .send(v4_to_4().class(0xb8).filled_to(1515))
            .told(1500),
        case("a SYN").send(v4_to_4().syn().filled_to(1515)).told(1500),
        case("padding that makes the frame too long").send(v4_to_4().pad(1515)).told(1500),
        case("where the client's address does not enter the hash")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 8).filled_to(1515))
            .told(1500),
        case("a VIP without reals: its sender learns the size first")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 9).filled_to(1515))
            .told(1500),
        case("a VIP without reals, just not too long")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 9).filled_to(1514))
            .dropped("no_real"),
        case("a fragment").send(v4_to_4().fragment(0, true).filled_to(1515)).dropped("fragment"),
        case("to the host")
            .send(eth().ip4(C4, "10.200.1.9").tcp(PORT, 4).filled_to(3000))
            .passed("not_vip"),
        case("the connection goes on").send(v4_to_4()).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("a flow that begins with a packet that is too long")
            .send(later().filled_to(1515))
            .told(1500),
        case("and with a SYN that is").send(later().syn().filled_to(1515)).told(1500),
        case("is not remembered").send(later()).sent("ring", LATER, "10.0.0.1"),
        case("until one of its packets fits").send(later()).sent(
            "connection_table",
            LATER,
            "10.0.0.1",
        ),
        case("IPv6: a flow that begins with a packet that is too long")
            .send(later_v6().filled_to(1515))
            .told(1500),
        case("IPv6: is not remembered").send(later_v6()).sent("ring", LATER_V6, "fc00::1"),
        case("IPv6: until one of its packets fits").send(later_v6()).sent(
            "connection_table",
            LATER_V6,
            "fc00::1",
        ),
    ]
}

fn dropped() -> Vec<Case> {
    vec![
        case("the longest").send(v4_to_4().filled_to(1514)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("a byte too long: IPv4").send(v4_to_4().filled_to(1515)).dropped("too_big"),
        case("a byte too long: IPv6").send(v6_to_6().filled_to(1515)).dropped("too_big"),
        case("many bytes too long").send(v6_to_6().filled_to(3500)).dropped("too_big"),
        case("a flow that begins with a packet that is too long")
            .send(later().filled_to(1515))
            .dropped("too_big"),
        case("is not remembered").send(later()).sent("ring", LATER, "10.0.0.1"),
        case("a VIP without reals: the size comes first")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 9).filled_to(1515))
            .dropped("too_big"),
        case("a VIP without reals, just not too long")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 9).filled_to(1514))
            .dropped("no_real"),
        case("echo request of any length")
            .send(eth().ip4(C4, "10.200.1.1").ping(1, 1).filled_to(1515))
            .answered(),
        case("to the host")
            .send(eth().ip4(C4, "10.200.1.9").tcp(PORT, 4).filled_to(1515))
            .passed("not_vip"),
    ]
}

fn least() -> Vec<Case> {
    vec![
        case("the longest: IPv4").send(v4_to_4().filled_to(1294)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("the longest: IPv6").send(v6_to_6().filled_to(1294)).sent("ring", C6_TO_6, "fc00::1"),
        case("a byte too long: IPv4").send(v4_to_4().filled_to(1295)).told(1280),
        case("a byte too long: IPv6").send(v6_to_6().filled_to(1295)).told(1280),
    ]
}

fn most() -> Vec<Case> {
    vec![
        case("the longest: IPv4").send(v4_to_6().filled_to(3514)).sent("ring", C4_TO_6, "fc00::1"),
        case("the longest: IPv6").send(v6_to_4().filled_to(3514)).sent("ring", C6_TO_4, "10.0.0.1"),
        case("a byte too long: IPv4").send(v4_to_6().filled_to(3515)).told(3500),
        case("a byte too long: IPv6").send(v6_to_4().filled_to(3515)).told(3500),
    ]
}
