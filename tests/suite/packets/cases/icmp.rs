//! ICMP but errors: echo requests are answered for VIP addresses, everything else passes.

use super::C4;
use super::C6;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo().vip("tcp://10.200.1.1:80", ONE4).vip("udp://[fc00:1::1]:53", &[])
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "icmp", config: config(), cases: cases() }]
}

fn v4() -> Frame {
    eth().ip4(C4, "10.200.1.1")
}

fn v6() -> Frame {
    eth().ip6(C6, "fc00:1::1")
}

fn cases() -> Vec<Case> {
    // The checksum is the only word that is not 0: it cannot be 0 too, or a receiver would find it wrong.
    let zeros =
        eth().turned_round().ip4("10.200.1.1", C4).ttl(64).pong(0, 0).patch_ip(22, &[0xff, 0xff]);
    vec![
        case("echo request").send(v4().ping(0x1234, 1).data(b"abcdefgh")).answered(),
        case("without data").send(v4().ping(0x1234, 2)).answered(),
        case("with an odd number of bytes").send(v4().ping(0x1234, 3).data(b"odd")).answered(),
        case("padded").send(v4().ping(0x1234, 4).pad(60)).answered(),
        case("of TTL 1").send(v4().ttl(1).ping(0x1234, 5)).answered(),
        case("with TOS, id and DF, which stay")
            .send(v4().class(0xb8).id(0xbeef).dont_fragment().ping(1, 1))
            .answered(),
        case("with data whose checksum carries")
            .send(v4().ping(0xf7ff, 0).data(&[0xff; 9]))
            .answered(),
        case("of nothing but zeros").send(v4().ping(0, 0)).answered_with(&zeros),
        case("as long as a frame may be").send(v4().ping(1, 1).filled_to(1514)).answered(),
        case("longer than can be encapsulated").send(v4().ping(1, 1).filled_to(2000)).answered(),
        case("IPv6 echo request, also where there is no real")
            .send(v6().ping(0x1234, 1).data(b"abcdefgh"))
            .answered(),
        case("IPv6 without data").send(v6().ping(0, 0)).answered(),
        case("IPv6 with an odd number of bytes").send(v6().ping(0x1234, 3).data(b"odd")).answered(),
        case("IPv6 with class, flow label and hop limit")
            .send(v6().class(0xb8).flow_label(0x12345).ttl(255).ping(1, 1))
            .answered(),
        case("IPv6 longer than can be encapsulated")
            .send(v6().ping(1, 1).filled_to(2000))
            .answered(),
        case("echo request to the host")
            .send(eth().ip4(C4, "10.200.1.9").ping(1, 1))
            .passed("not_vip"),
        case("IPv6 echo request to the host")
            .send(eth().ip6(C6, "fc00:1::9").ping(1, 1))
            .passed("not_vip"),
        case("echo reply").send(v4().pong(1, 1)).passed("other_icmp"),
        case("IPv6 echo reply").send(v6().pong(1, 1)).passed("other_icmp"),
        case("timestamp request")
            .send(v4().icmp(13, 0, [0; 4]).data(&[0; 12]))
            .passed("other_icmp"),
        case("redirect").send(v4().icmp(5, 1, [10, 0, 0, 1]).data(&[0; 28])).passed("other_icmp"),
        case("neighbour solicitation")
            .send(v6().ttl(255).icmp(135, 0, [0; 4]).data(&[0; 16]))
            .passed("other_icmp"),
        case("ICMPv6 in IPv4")
            .send(v4().raw(58).data(&[128, 0, 0, 0, 0, 1, 0, 1]))
            .passed("other_protocol"),
        case("ICMP in IPv6")
            .send(v6().raw(1).data(&[8, 0, 0, 0, 0, 1, 0, 1]))
            .passed("other_protocol"),
        case("echo request with IPv4 options")
            .send(v4().options(&[1; 4]).ping(1, 1))
            .dropped("ip_options"),
        case("with IPv4 options, to the host")
            .send(eth().ip4(C4, "10.200.1.9").options(&[1; 4]).ping(1, 1))
            .passed("not_vip"),
        case("first fragment of an echo request")
            .send(v4().fragment(0, true).ping(1, 1))
            .dropped("fragment"),
        case("later fragment of ICMP")
            .send(v4().fragment(10, false).raw(1).data(&[0; 20]))
            .dropped("fragment"),
        case("later fragment of ICMP to the host")
            .send(eth().ip4(C4, "10.200.1.9").fragment(10, false).raw(1).data(&[0; 20]))
            .passed("not_vip"),
        case("first fragment of an IPv6 echo request")
            .send(v6().fragment(0, true).ping(1, 1))
            .dropped("fragment"),
        case("a frame that ends within the ICMP header")
            .send(v4().ping(1, 1).cut(14 + 20 + 7))
            .dropped("runt"),
        case("a packet that does, padded")
            .send(v4().raw(1).data(&[8, 0, 0]).pad(60))
            .dropped("runt"),
        case("an IPv6 packet that does, padded")
            .send(v6().raw(58).data(&[128]).pad(60))
            .dropped("runt"),
        case("a frame without ICMP, to the host")
            .send(eth().ip4(C4, "10.200.1.9").raw(1))
            .passed("not_vip"),
        case("an echo request that claims to be longer than its frame")
            .send(v4().ping(1, 1).ip_length(29))
            .dropped("bad_length"),
        case("IPv6 echo request that claims to be longer than its frame")
            .send(v6().ping(1, 1).ip_length(9))
            .dropped("bad_length"),
        case("IPv6 echo request with an extension header")
            .send(v6().extension(DESTINATION_OPTIONS, 8).ping(1, 1))
            .dropped("extension_headers"),
    ]
}
