//! UDP, and VIPs without a connection table.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::THREE4;
use crate::packets::config::THREE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        .vip("udp://10.200.1.1:80", THREE4)
        .vip("tcp://10.200.1.1:80", &["10.0.0.9"])
        .vip("udp://10.200.1.2:*", THREE4)
        .vip("udp://[fc00:1::1]:80", THREE6)
}

fn stateless_config() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:80", THREE4)
        .set("connection_table", false)
        .vip("udp://[fc00:1::1]:80", THREE6)
        .set("connection_table", false)
}

fn to_80() -> Frame {
    eth().ip4(C4, "10.200.1.1").udp(PORT, 80)
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "udp", config: config(), cases: udp() },
        File { name: "stateless", config: stateless_config(), cases: stateless() },
    ]
}

fn udp() -> Vec<Case> {
    let v6 = || eth().ip6(C6, "fc00:1::1").udp(PORT, 80);
    vec![
        case("the first packet takes the ring")
            .send(to_80().data(b"hello"))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("the second finds the flow").send(to_80().data(b"hello")).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("no data").send(to_80()).sent("connection_table", C4_TO_4, "10.0.0.3"),
        case("no checksum").send(to_80().patch(14 + 20 + 6, &[0, 0])).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("a wrong UDP length is the real's business")
            .send(to_80().patch(14 + 20 + 4, &[0xff, 0xff]))
            .sent("connection_table", C4_TO_4, "10.0.0.3"),
        case("padded").send(to_80().data(b"x").pad(60)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("TCP of the same address and port is another VIP")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 80))
            .sent("ring", C4_TO_4, "10.0.0.9"),
        case("any port: the destination port does not count")
            .send(eth().ip4(C4, "10.200.1.2").udp(PORT, 53))
            .sent("ring", C4_TO_4, "10.0.0.2"),
        case("any port: the flow neither").send(eth().ip4(C4, "10.200.1.2").udp(PORT, 443)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("TCP where only UDP has VIPs")
            .send(eth().ip4(C4, "10.200.1.2").tcp(PORT, 53))
            .passed("not_vip"),
        case("no VIP has this port")
            .send(eth().ip4(C4, "10.200.1.1").udp(PORT, 53))
            .passed("not_vip"),
        case("IPv6: the first packet takes the ring")
            .send(v6().data(b"hello"))
            .sent("ring", C6_TO_6, "fc00::3"),
        case("IPv6: the second finds the flow").send(v6().data(b"hello")).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("IPv6: no VIP has this port")
            .send(eth().ip6(C6, "fc00:1::1").udp(PORT, 53))
            .passed("not_vip"),
    ]
}

fn stateless() -> Vec<Case> {
    let tcp = || eth().ip4(C4, "10.200.1.1").tcp(PORT, 80);
    let udp = || eth().ip6(C6, "fc00:1::1").udp(PORT, 80);
    vec![
        case("TCP: a SYN takes the ring").send(tcp().syn()).sent("ring", C4_TO_4, "10.0.0.3"),
        case("TCP: so does the ACK").send(tcp()).sent("ring", C4_TO_4, "10.0.0.3"),
        case("TCP: and the RST").send(tcp().rst()).sent("ring", C4_TO_4, "10.0.0.3"),
        case("UDP: a packet takes the ring").send(udp()).sent("ring", C6_TO_6, "fc00::3"),
        case("UDP: so does the next").send(udp()).sent("ring", C6_TO_6, "fc00::3"),
        case("an ICMP error finds the real by the ring")
            .send(
                eth()
                    .ip4("198.51.100.1", "10.200.1.1")
                    .too_big(1400)
                    .carrying(&eth().ip4("10.200.1.1", C4).tcp(80, PORT)),
            )
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
    ]
}
