//! ICMP errors go to the real of the flow that they quote, and only those about VIPs.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::DESTINATION_OPTIONS;
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
        .vip("tcp://10.200.1.1:80", THREE4)
        .vip("udp://10.200.1.1:443", THREE4)
        .set("routing", vec!["quic-connection-id"])
        .vip("tcp://10.200.1.2:*", THREE4)
        .vip("tcp://10.200.1.3:80", &[])
        .vip("tcp://[fc00:1::1]:80", THREE6)
        .server_id(1, "10.0.0.9")
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "icmp_errors", config: config(), cases: cases() }]
}

const VIP4: &str = "10.200.1.1";
const VIP6: &str = "fc00:1::1";

/// From a router on the way to the client.
fn router4() -> Frame {
    eth().ip4("198.51.100.1", VIP4)
}

fn router6() -> Frame {
    eth().ip6("2001:db8::1", VIP6)
}

/// What a real sent to the client in the VIP's name.
fn sent4(vip: &str) -> Frame {
    eth().ip4(vip, C4).tcp(80, PORT).data(b"HTTP/1.1 200 OK\r\n")
}

fn sent6() -> Frame {
    eth().ip6(VIP6, C6).tcp(80, PORT).data(b"HTTP/1.1 200 OK\r\n")
}

fn udp() -> Frame {
    eth().ip4(VIP4, C4).udp(443, PORT).data(&[0; 40])
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let unreachable = || router4().icmp(3, 1, [0; 4]);
    let first_bytes = |len| unreachable().data(&sent4(VIP4).packet()[..len]);
    vec![
        case("about an unknown flow: the ring")
            .send(router4().too_big(1400).carrying(&sent4(VIP4)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("and it is not remembered")
            .send(eth().ip4(C4, VIP4).tcp(PORT, 80))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("about a known flow: fragmentation needed")
            .send(router4().too_big(1400).carrying(&sent4(VIP4)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("host unreachable").send(unreachable().carrying(&sent4(VIP4))).sent(
            "icmp_error",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("time exceeded").send(router4().icmp(11, 0, [0; 4]).carrying(&sent4(VIP4))).sent(
            "icmp_error",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("the client's port unreachable, about UDP")
            .send(eth().ip4(C4, VIP4).icmp(3, 3, [0; 4]).carrying(&udp()))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("the error's own TOS is copied")
            .send(router4().class(0xc0).icmp(3, 1, [0; 4]).carrying(&sent4(VIP4)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("the first 8 bytes of transport header are enough").send(first_bytes(28)).sent(
            "icmp_error",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("7 are not").send(first_bytes(27)).passed("other_icmp"),
        case("nor is half of an IP header").send(first_bytes(10)).passed("other_icmp"),
        case("nothing quoted").send(unreachable()).passed("other_icmp"),
        case("padding is no quote").send(first_bytes(20).pad(80)).passed("other_icmp"),
        case("the quoted length does not matter")
            .send(unreachable().data(&sent4(VIP4).ip_length(0).packet()))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("a quote with options")
            .send(unreachable().carrying(&sent4(VIP4).options(&[1; 8])))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("a quoted first fragment")
            .send(unreachable().carrying(&sent4(VIP4).fragment(0, true)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("a quoted later fragment has no ports")
            .send(unreachable().carrying(&sent4(VIP4).fragment(1, true)))
            .passed("other_icmp"),
        case("any port: about a flow of the VIP")
            .send(
                eth()
                    .ip4("198.51.100.1", "10.200.1.2")
                    .too_big(1400)
                    .carrying(&sent4("10.200.1.2")),
            )
            .sent("icmp_error", C4_TO_4, "10.0.0.2"),
        case("a VIP without reals")
            .send(
                eth()
                    .ip4("198.51.100.1", "10.200.1.3")
                    .too_big(1400)
                    .carrying(&sent4("10.200.1.3")),
            )
            .dropped("no_real"),
        case("what is quoted is no connection id")
            // As one, its TOS and length would name server 1.
            .send(unreachable().carrying(&udp().class(0x40)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("about the host's own connection")
            .send(unreachable().carrying(&eth().ip4(VIP4, C4).tcp(22, PORT)))
            .passed("other_icmp"),
        case("to another address than the quoted sender's")
            .send(eth().ip4("198.51.100.1", "10.200.1.2").icmp(3, 1, [0; 4]).carrying(&sent4(VIP4)))
            .passed("other_icmp"),
        case("to the host, about its own packet")
            .send(
                eth()
                    .ip4("198.51.100.1", "10.200.1.9")
                    .icmp(3, 1, [0; 4])
                    .carrying(&eth().ip4("10.200.1.9", C4).tcp(80, PORT)),
            )
            .passed("other_icmp"),
        case("about a packet to the VIP, not from it")
            .send(unreachable().carrying(&eth().ip4(C4, VIP4).tcp(PORT, 80)))
            .passed("other_icmp"),
        case("about an echo reply")
            .send(unreachable().carrying(&eth().ip4(VIP4, C4).pong(1, 1)))
            .passed("other_icmp"),
        case("parameter problem: an octet")
            .send(router4().icmp(12, 0, [20, 0, 0, 0]).carrying(&sent4(VIP4)))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("parameter problem: a required option, about UDP")
            .send(router4().icmp(12, 1, [0; 4]).carrying(&udp()))
            .sent("icmp_error", C4_TO_4, "10.0.0.3"),
        case("parameter problem about the host's own connection")
            .send(router4().icmp(12, 0, [20, 0, 0, 0]).carrying(&eth().ip4(VIP4, C4).tcp(22, PORT)))
            .passed("other_icmp"),
        case("source quench")
            .send(router4().icmp(4, 0, [0; 4]).carrying(&sent4(VIP4)))
            .passed("other_icmp"),
        case("with IPv4 options")
            .send(unreachable().options(&[1; 4]).carrying(&sent4(VIP4)))
            .dropped("ip_options"),
        case("with IPv4 options, about the host's own connection")
            .send(unreachable().options(&[1; 4]).carrying(&eth().ip4(VIP4, C4).tcp(22, PORT)))
            .passed("other_icmp"),
        case("a fragment of one")
            .send(unreachable().fragment(0, true).carrying(&sent4(VIP4)))
            .dropped("fragment"),
        case("a fragment of one about the host's own connection")
            .send(unreachable().fragment(0, true).carrying(&eth().ip4(VIP4, C4).tcp(22, PORT)))
            .passed("other_icmp"),
        case("that claims to be longer than its frame")
            .send(unreachable().carrying(&sent4(VIP4)).ip_length(1000))
            .dropped("bad_length"),
        case("too long, and never answered")
            .send(unreachable().carrying(&sent4(VIP4)).filled_to(1515))
            .dropped("too_big"),
        case("IPv6 packet too big, about an unknown flow")
            .send(router6().too_big(1400).carrying(&sent6()))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("IPv6 unreachable").send(router6().icmp(1, 4, [0; 4]).carrying(&sent6())).sent(
            "icmp_error",
            C6_TO_6,
            "fc00::3",
        ),
        case("IPv6 time exceeded").send(router6().icmp(3, 0, [0; 4]).carrying(&sent6())).sent(
            "icmp_error",
            C6_TO_6,
            "fc00::3",
        ),
        case("IPv6 parameter problem: a field")
            .send(router6().icmp(4, 0, [0, 0, 0, 6]).carrying(&sent6()))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("IPv6 parameter problem: an option that the client does not know")
            .send(
                eth()
                    .ip6(C6, VIP6)
                    .icmp(4, 2, [0, 0, 0, 42])
                    .carrying(&sent6().extension(DESTINATION_OPTIONS, 8)),
            )
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("IPv6 parameter problem about the host's own connection")
            .send(router6().icmp(4, 1, [0, 0, 0, 6]).carrying(&eth().ip6(VIP6, C6).tcp(22, PORT)))
            .passed("other_icmp"),
        case("an IPv6 error that is not known as one: private experimentation")
            .send(router6().icmp(100, 0, [0; 4]).carrying(&sent6()))
            .passed("other_icmp"),
        case("IPv6 with a parameter problem's number in IPv4 is something else")
            .send(router6().icmp(12, 0, [0; 4]).carrying(&sent6()))
            .passed("other_icmp"),
        case("IPv6 with an extension header")
            .send(router6().extension(DESTINATION_OPTIONS, 8).too_big(1400).carrying(&sent6()))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("IPv6 quote with an extension header")
            .send(router6().too_big(1400).carrying(&sent6().extension(DESTINATION_OPTIONS, 16)))
            .sent("icmp_error", C6_TO_6, "fc00::3"),
        case("IPv6 quote that ends within its extension headers")
            .send(
                router6()
                    .too_big(1400)
                    .data(&sent6().extension(DESTINATION_OPTIONS, 16).packet()[..42]),
            )
            .passed("other_icmp"),
        case("IPv6 about the host's own connection")
            .send(router6().too_big(1400).carrying(&eth().ip6(VIP6, C6).tcp(22, PORT)))
            .passed("other_icmp"),
    ]
}
