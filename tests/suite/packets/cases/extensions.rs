//! IPv6 extension headers are walked, up to six.

use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::frame::AUTHENTICATION;
use crate::packets::frame::DESTINATION_OPTIONS;
use crate::packets::frame::Frame;
use crate::packets::frame::HOP_BY_HOP;
use crate::packets::frame::ROUTING;
use crate::packets::frame::eth;

const CONFIG: &str = r#"
interfaces = [ { name = "lo", gateway_mac = "02:00:00:00:00:fe" } ]

[[vips]]
address = "fc00:1::1"
port = 80
protocol = "tcp"
reals = [ { address = "fc00::1" }, { address = "fc00::2" }, { address = "fc00::3" } ]

[[vips]]
address = "fc00:1::1"
port = 443
protocol = "udp"
reals = [ { address = "fc00::1" } ]
"#;

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "extensions", config: CONFIG, cases: cases() }]
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
