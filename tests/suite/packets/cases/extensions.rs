//! IPv6 extension headers are walked, up to six. Atomic fragments are whole packets.

use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::AUTHENTICATION;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::HOP_BY_HOP;
use crate::fixtures::frame::ROUTING;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE6;
use crate::packets::config::THREE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo().vip("tcp://[fc00:1::1]:80", THREE6).vip("udp://[fc00:1::1]:443", ONE6)
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "extensions", config: config(), cases: cases() },
        File { name: "atomic_fragments", config: config(), cases: atomic_fragments() },
    ]
}

fn to(address: &str) -> Frame {
    eth().ip6(C6, address)
}

fn several(frame: Frame, count: usize) -> Frame {
    (0..count).fold(frame, |frame, _| frame.extension(DESTINATION_OPTIONS, 8))
}

fn cases() -> Vec<Case> {
    const VIP: &str = "fc00:1::1";
    const HOST: &str = "fc00:1::9";
    let tcp = |frame: Frame| frame.tcp(PORT, 80);
    vec![
        case("hop-by-hop options")
            .send(tcp(to(VIP).extension(HOP_BY_HOP, 8)).syn())
            .sent("ring", C6_TO_6, "fc00::3"),
        case("the flow is the same without").send(tcp(to(VIP))).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("destination options").send(tcp(to(VIP).extension(DESTINATION_OPTIONS, 24))).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("routing").send(tcp(to(VIP).extension(ROUTING, 24))).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("authentication, whose length counts otherwise")
            .send(tcp(to(VIP).extension(AUTHENTICATION, 28)))
            .sent("connection_table", C6_TO_6, "fc00::3"),
        case("one of each")
            .send(tcp(to(VIP)
                .extension(HOP_BY_HOP, 8)
                .extension(DESTINATION_OPTIONS, 8)
                .extension(ROUTING, 8)
                .extension(AUTHENTICATION, 12)))
            .sent("connection_table", C6_TO_6, "fc00::3"),
        case("six").send(tcp(several(to(VIP), 6))).sent("connection_table", C6_TO_6, "fc00::3"),
        case("UDP behind one")
            .send(to(VIP).extension(HOP_BY_HOP, 8).udp(PORT, 443))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("a SYN behind one is a SYN")
            .send(tcp(to(VIP).extension(HOP_BY_HOP, 8)).syn())
            .sent("ring", C6_TO_6, "fc00::3"),
        case("a class").send(tcp(to(VIP).class(0xff).extension(HOP_BY_HOP, 8))).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("seven").send(tcp(several(to(VIP), 7))).dropped("extension_headers"),
        case("seven, of which the frame has six")
            .send(tcp(several(to(VIP), 7)).cut(14 + 40 + 48))
            .dropped("extension_headers"),
        case("seven, to the host").send(tcp(several(to(HOST), 7))).passed("not_vip"),
        case("a transport header too far away")
            .send(tcp(to(VIP).extension(DESTINATION_OPTIONS, 464)))
            .dropped("extension_headers"),
        case("just not too far away").send(tcp(to(VIP).extension(DESTINATION_OPTIONS, 456))).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("a transport header too far away, to the host")
            .send(tcp(to(HOST).extension(DESTINATION_OPTIONS, 464)))
            .passed("not_vip"),
        case("no VIP has this port")
            .send(to(VIP).extension(HOP_BY_HOP, 8).tcp(PORT, 22))
            .passed("not_vip"),
        case("to the host").send(tcp(to(HOST).extension(HOP_BY_HOP, 8))).passed("not_vip"),
        case("a frame that ends behind the first")
            .send(tcp(several(to(VIP), 2)).cut(14 + 40 + 8))
            .dropped("runt"),
        case("a packet that ends behind the first, padded")
            .send(tcp(several(to(VIP), 2)).ip_length(8).pad(200))
            .dropped("runt"),
        case("a frame that ends before TCP")
            .send(tcp(several(to(VIP), 1)).cut(14 + 40 + 8))
            .dropped("runt"),
        case("a header that reaches beyond the frame")
            .send(tcp(several(to(VIP), 1)).patch_ip(41, &[20]))
            .dropped("runt"),
        case("a frame that ends behind the first, to the host")
            .send(tcp(several(to(HOST), 2)).cut(14 + 40 + 8))
            .passed("not_vip"),
        case("ESP hides what is in it")
            .send(to(VIP).extension(HOP_BY_HOP, 8).raw(50).data(&[0; 32]))
            .passed("other_protocol"),
        case("no next header").send(several(to(VIP), 1).raw(59)).passed("other_protocol"),
        case("mobility")
            .send(to(VIP).raw(135).data(&[59, 0, 0, 0, 0, 0, 0, 0]))
            .passed("other_protocol"),
        case("IPv4's authentication header is not walked")
            .send(eth().ip4("192.168.1.1", "10.200.1.1").raw(51).data(&[0; 40]))
            .passed("other_protocol"),
    ]
}

/// With offset 0, and no more to come (RFC 6946).
fn atomic_fragments() -> Vec<Case> {
    const VIP: &str = "fc00:1::1";
    const HOST: &str = "fc00:1::9";
    const ROUTER: &str = "2001:db8::1";
    /// Where the first fragment header begins, from the IP header on.
    const HEADER: usize = 40;
    let atomic = |frame: Frame| frame.fragment(0, false);
    let tcp = |frame: Frame| frame.tcp(PORT, 80);
    let known = "connection_table";
    let sent = || eth().ip6(VIP, C6).tcp(80, PORT).data(b"HTTP/1.1 200 OK\r\n");
    let unreachable = |frame: Frame| frame.icmp(1, 4, [0; 4]);
    let answer = || eth().turned_round().ip6(VIP, C6).ttl(64).pong(7, 1).data(b"abcdefgh");
    let request = |frame: Frame| frame.ping(7, 1).data(b"abcdefgh");
    vec![
        case("a SYN").send(tcp(atomic(to(VIP))).syn()).sent("ring", C6_TO_6, "fc00::3"),
        case("the flow is the same without").send(tcp(to(VIP))).sent(known, C6_TO_6, "fc00::3"),
        case("and with").send(tcp(atomic(to(VIP)))).sent(known, C6_TO_6, "fc00::3"),
        case("UDP")
            .send(atomic(to(VIP)).udp(PORT, 443).data(b"query"))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("reserved bits do not matter")
            .send(tcp(atomic(to(VIP))).patch_ip(HEADER + 1, &[0xff, 0, 0x06]))
            .sent(known, C6_TO_6, "fc00::3"),
        case("reserved bits make no last fragment of a first")
            .send(tcp(to(VIP).fragment(0, true)).patch_ip(HEADER + 1, &[0xff, 0, 0x07]))
            .dropped("fragment"),
        case("an offset of one unit")
            .send(to(VIP).fragment(1, false).raw(6).data(&[0; 24]))
            .dropped("fragment"),
        case("behind other headers")
            .send(tcp(atomic(to(VIP).extension(HOP_BY_HOP, 8).extension(ROUTING, 24))))
            .sent(known, C6_TO_6, "fc00::3"),
        case("in front of another header")
            .send(tcp(atomic(to(VIP)).extension(DESTINATION_OPTIONS, 16)))
            .sent(known, C6_TO_6, "fc00::3"),
        case("two").send(tcp(atomic(atomic(to(VIP))))).sent(known, C6_TO_6, "fc00::3"),
        case("in front of a first fragment")
            .send(tcp(atomic(to(VIP)).fragment(0, true)))
            .dropped("fragment"),
        case("behind a first fragment")
            .send(tcp(atomic(to(VIP).fragment(0, true))))
            .dropped("fragment"),
        case("in front of a later fragment")
            .send(atomic(to(VIP)).fragment(9, false).raw(6).data(&[0; 24]))
            .dropped("fragment"),
        case("a packet that ends behind it, padded")
            .send(tcp(atomic(to(VIP))).ip_length(8).pad(100))
            .dropped("runt"),
        case("a frame that ends within it")
            .send(tcp(atomic(to(VIP))).cut(14 + HEADER + 2))
            .dropped("runt"),
        case("no VIP has this port").send(atomic(to(VIP)).tcp(PORT, 22)).passed("not_vip"),
        case("to the host").send(tcp(atomic(to(HOST)))).passed("not_vip"),
        case("of another protocol")
            .send(atomic(to(VIP)).raw(50).data(&[0; 32]))
            .passed("other_protocol"),
        case("an echo request, answered as others are")
            .send(request(atomic(to(VIP))))
            .answered_with(&answer()),
        case("with class and flow label")
            .send(request(atomic(to(VIP).class(0xb8).flow_label(0x12345))))
            .answered_with(&answer().class(0xb8).flow_label(0x12345)),
        case("tagged").send(request(atomic(to(VIP))).vlan(7)).answered_with(&answer().vlan(7)),
        case("tagged twice")
            .send(request(atomic(to(VIP))).tag(0x88a8, 7).vlan(8))
            .answered_with(&answer().tag(0x88a8, 7).vlan(8)),
        case("padded").send(request(atomic(to(VIP))).pad(90)).answered_with(&answer().pad(82)),
        case("with another header, as without the first")
            .send(request(atomic(to(VIP)).extension(DESTINATION_OPTIONS, 8)))
            .dropped("extension_headers"),
        case("in two of them").send(request(atomic(atomic(to(VIP))))).dropped("extension_headers"),
        case("an echo request to the host").send(request(atomic(to(HOST)))).passed("not_vip"),
        case("a neighbour's question")
            .send(atomic(to(VIP)).ttl(255).icmp(135, 0, [0; 4]).data(&[0; 16]))
            .passed("other_icmp"),
        case("an ICMP error follows its flow")
            .send(unreachable(atomic(eth().ip6(ROUTER, VIP))).carrying(&sent()))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("an ICMP error quotes one")
            .send(unreachable(eth().ip6(ROUTER, VIP)).carrying(&atomic(sent())))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("an ICMP error that quotes one, with reserved bits")
            .send(
                unreachable(eth().ip6(ROUTER, VIP))
                    .carrying(&atomic(sent()).patch_ip(HEADER + 1, &[0xff, 0, 0x06])),
            )
            .sent("icmp_error", C6_TO_6, "fc00::3"),
    ]
}
