//! VLAN tags stay on.

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
use crate::packets::config::on_lo;

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "vlan", config: on_lo().each_to_each(), cases: cases() }]
}

fn v4(link: Frame, port: u16) -> Frame {
    link.ip4(C4, "10.200.1.1").tcp(PORT, port).syn()
}

fn v6(link: Frame, port: u16) -> Frame {
    link.ip6(C6, "fc00:1::1").tcp(PORT, port).syn()
}

fn cases() -> Vec<Case> {
    let one = || eth().vlan(7);
    let two = || eth().tag(0x88a8, 100).vlan(7);
    vec![
        case("one tag: IPv4 in IPv4").send(v4(one(), 4)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("one tag: IPv4 in IPv6").send(v4(one(), 6)).sent("ring", C4_TO_6, "fc00::1"),
        case("one tag: IPv6 in IPv4").send(v6(one(), 4)).sent("ring", C6_TO_4, "10.0.0.1"),
        case("one tag: IPv6 in IPv6").send(v6(one(), 6)).sent("ring", C6_TO_6, "fc00::1"),
        case("two tags: IPv4 in IPv4").send(v4(two(), 4)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("two tags: IPv4 in IPv6").send(v4(two(), 6)).sent("ring", C4_TO_6, "fc00::1"),
        case("two tags: IPv6 in IPv4").send(v6(two(), 4)).sent("ring", C6_TO_4, "10.0.0.1"),
        case("two tags: IPv6 in IPv6").send(v6(two(), 6)).sent("ring", C6_TO_6, "fc00::1"),
        case("two tags of the same type")
            .send(v4(eth().vlan(1).vlan(2), 4))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("priority and drop eligibility stay")
            .send(v4(eth().vlan(0xf007), 4))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("a flow is the same with and without tags")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 4))
            .sent("connection_table", C4_TO_4, "10.0.0.1"),
        case("three tags are too many").send(v4(two().vlan(9), 4)).passed("not_ip"),
        case("an unknown kind of tag").send(v4(eth().tag(0x9100, 7), 4)).passed("not_ip"),
        case("a frame that ends within its tag").send(v4(one(), 4).cut(17)).passed("not_ip"),
        case("a frame that ends within its second tag").send(v4(two(), 4).cut(20)).passed("not_ip"),
        case("a frame that ends behind its tag").send(v4(one(), 4).cut(18)).passed("bad_ip_header"),
        case("a frame that ends within a tagged IP header")
            .send(v4(two(), 4).cut(41))
            .passed("bad_ip_header"),
        case("tagged ARP").send(one().ether_type(0x0806).data(&[0; 28])).passed("not_ip"),
        case("tagged, not for a VIP").send(v4(one(), 80)).passed("not_vip"),
        case("tagged fragment").send(v4(one(), 4).fragment(0, true)).dropped("fragment"),
        case("tagged echo request").send(one().ip4(C4, "10.200.1.1").ping(1, 1)).answered(),
        case("echo request with two tags").send(two().ip6(C6, "fc00:1::1").ping(1, 1)).answered(),
        case("tags do not count: the longest frame")
            .send(v4(two(), 4).filled_to(1514 + 8))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("one tag: a byte too long").send(v4(one(), 4).filled_to(1514 + 5)).told(1500),
        case("two tags: a byte too long").send(v6(two(), 6).filled_to(1514 + 9)).told(1500),
        case("one tag: an ICMP error")
            .send(
                one()
                    .ip4("198.51.100.1", "10.200.1.1")
                    .icmp(3, 1, [0; 4])
                    .carrying(&eth().ip4("10.200.1.1", C4).tcp(4, PORT)),
            )
            .sent("icmp_error", C4_TO_4, "10.0.0.1"),
    ]
}
