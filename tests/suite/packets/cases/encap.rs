//! Outer sources: prefixes to spread flows over, and single addresses. Outer headers that forbid fragments.

use super::C4;
use super::C4_TO_4;
use super::C4_TO_6;
use super::C6;
use super::C6_TO_4;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::on_lo;

/// With these sources of the outer headers.
fn config(v4: &str, v6: &str) -> ConfigText {
    on_lo().set("packets.encap_source_v4", v4).set("packets.encap_source_v6", v6).each_to_each()
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File {
            name: "encap_address",
            config: config("192.0.2.1", "2001:db8:5::7"),
            cases: cases(["192.0.2.1", "2001:db8:5::7", "192.0.2.1", "2001:db8:5::7"]),
        },
        File {
            name: "encap_wide",
            config: config("10.0.0.0/8", "fd00::/8"),
            // Of IPv6, no more than the last four bytes vary.
            cases: cases(["10.168.104.123", "fd00::bac1:101", "10.0.105.121", "fd00::7a69:1"]),
        },
        File {
            name: "encap_narrow",
            config: config("192.0.2.128/25", "2001:db8:5::/112"),
            cases: cases(["192.0.2.251", "2001:db8:5::101", "192.0.2.249", "2001:db8:5::1"]),
        },
        File {
            name: "encap_df",
            config: on_lo().set("packets.outer_df", true).each_to_each(),
            cases: whole_cases(),
        },
    ]
}

/// With the outer sources of IPv4 in IPv4, IPv4 in IPv6, IPv6 in IPv4 and IPv6 in IPv6.
fn cases([four, four_in_six, six_in_four, six]: [&str; 4]) -> Vec<Case> {
    let v4 = |port| eth().ip4(C4, "10.200.1.1").tcp(PORT, port);
    let v6 = |port| eth().ip6(C6, "fc00:1::1").tcp(PORT, port);
    vec![
        case("IPv4 in IPv4").send(v4(4)).sent("ring", four, "10.0.0.1"),
        case("IPv4 in IPv6").send(v4(6)).sent("ring", four_in_six, "fc00::1"),
        case("IPv6 in IPv4").send(v6(4)).sent("ring", six_in_four, "10.0.0.1"),
        case("IPv6 in IPv6").send(v6(6)).sent("ring", six, "fc00::1"),
        case("IPv4 in IPv4, known").send(v4(4)).sent("connection_table", four, "10.0.0.1"),
        case("IPv6 in IPv4, with a class").send(v6(4).class(0xfc)).sent(
            "connection_table",
            six_in_four,
            "10.0.0.1",
        ),
    ]
}

/// Whatever the inner packet says; outer IPv6 knows no such bit.
fn whole_cases() -> Vec<Case> {
    let v4 = |port| eth().ip4(C4, "10.200.1.1").tcp(PORT, port);
    let v6 = |port| eth().ip6(C6, "fc00:1::1").tcp(PORT, port);
    let quoted = eth().ip4("10.200.1.1", C4).tcp(4, PORT);
    vec![
        case("IPv4 in IPv4").send(v4(4)).sent_whole("ring", C4_TO_4, "10.0.0.1"),
        case("IPv4 in IPv4, with a class and DF")
            .send(v4(4).dont_fragment().class(0xff))
            .sent_whole("connection_table", C4_TO_4, "10.0.0.1"),
        case("IPv6 in IPv4").send(v6(4)).sent_whole("ring", C6_TO_4, "10.0.0.1"),
        case("IPv6 in IPv4, with a class").send(v6(4).class(0xfc)).sent_whole(
            "connection_table",
            C6_TO_4,
            "10.0.0.1",
        ),
        case("IPv4 in IPv6").send(v4(6)).sent("ring", C4_TO_6, "fc00::1"),
        case("IPv6 in IPv6").send(v6(6)).sent("ring", C6_TO_6, "fc00::1"),
        case("an ICMP error in IPv4")
            .send(eth().ip4("192.0.2.99", "10.200.1.1").icmp(3, 1, [0; 4]).carrying(&quoted))
            .sent_whole("icmp_error", C4_TO_4, "10.0.0.1"),
        case("a ping is answered without").send(eth().ip4(C4, "10.200.1.1").ping(1, 1)).answered(),
    ]
}
