//! VIPs on an interface that the instance does not serve: nothing is done to their packets.

use super::C4;
use super::C6;
use super::PORT;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::interfaces;

fn config() -> ConfigText {
    interfaces("").vip("tcp://10.200.1.1:80", ONE4).vip("udp://[fc00:1::1]:443", ONE6)
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "unserved", config: config(), cases: cases() }]
}

fn cases() -> Vec<Case> {
    let tcp = || -> Frame { eth().ip4(C4, "10.200.1.1").tcp(PORT, 80) };
    let seven =
        (0..7).fold(eth().ip6(C6, "fc00:1::1"), |frame, _| frame.extension(DESTINATION_OPTIONS, 8));
    vec![
        case("TCP").send(tcp().syn()).passed("other_interface"),
        case("UDP").send(eth().ip6(C6, "fc00:1::1").udp(PORT, 443)).passed("other_interface"),
        case("echo request").send(eth().ip4(C4, "10.200.1.1").ping(1, 1)).passed("other_interface"),
        case("IPv6 echo request")
            .send(eth().ip6(C6, "fc00:1::1").ping(1, 1))
            .passed("other_interface"),
        case("ICMP error")
            .send(
                eth()
                    .ip4("198.51.100.1", "10.200.1.1")
                    .too_big(1400)
                    .carrying(&eth().ip4("10.200.1.1", C4).tcp(80, PORT)),
            )
            .passed("other_interface"),
        case("too long").send(tcp().filled_to(1515)).passed("other_interface"),
        case("fragment").send(tcp().fragment(0, true)).passed("other_interface"),
        case("IPv6 fragment of a packet with further headers")
            .send(
                eth()
                    .ip6(C6, "fc00:1::1")
                    .fragment(9, false)
                    .raw(DESTINATION_OPTIONS)
                    .data(&[0; 16]),
            )
            .passed("other_interface"),
        case("options").send(tcp().options(&[1; 4])).passed("other_interface"),
        case("runt").send(tcp().cut(14 + 20 + 2)).passed("other_interface"),
        case("runt of ICMP").send(eth().ip4(C4, "10.200.1.1").raw(1)).passed("other_interface"),
        case("wrong length").send(tcp().ip_length(1000)).passed("other_interface"),
        case("too many extension headers").send(seven.udp(PORT, 443)).passed("other_interface"),
        case("not for a VIP").send(eth().ip4(C4, "10.200.1.9").tcp(PORT, 80)).passed("not_vip"),
        case("ARP").send(eth().ether_type(0x0806).data(&[0; 28])).passed("not_ip"),
    ]
}
