//! TCP: flags, the connection table, VIPs with and without a port, what the outer header takes over.

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

fn config_v4() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:80", THREE4)
        .vip("tcp://10.200.1.2:*", THREE4)
        .vip("tcp://10.200.1.2:443", &["10.0.0.9"])
}

fn config_v6() -> ConfigText {
    on_lo().vip("tcp://[fc00:1::1]:80", THREE6).vip("tcp://[fc00:1::2]:*", THREE6)
}

/// To a VIP with a port.
fn to_80(client: &str) -> Frame {
    eth().ip4(client, "10.200.1.1").tcp(PORT, 80)
}

/// To a VIP that takes every port.
fn to_any(port: u16) -> Frame {
    eth().ip4(C4, "10.200.1.2").tcp(PORT, port)
}

fn to_80_v6(client: &str) -> Frame {
    eth().ip6(client, "fc00:1::1").tcp(PORT, 80)
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "tcp4", config: config_v4(), cases: v4() },
        File { name: "tcp6", config: config_v6(), cases: v6() },
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn v4() -> Vec<Case> {
    vec![
        case("a SYN takes the ring").send(to_80(C4).syn()).sent("ring", C4_TO_4, "10.0.0.3"),
        case("the ACK behind it finds the connection").send(to_80(C4)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("data").send(to_80(C4).data(b"GET / HTTP/1.1\r\n\r\n")).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("a SYN never asks the table").send(to_80(C4).syn()).sent("ring", C4_TO_4, "10.0.0.3"),
        case("neither does a SYN with ACK")
            .send(to_80(C4).syn().ack())
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("a FIN belongs to its connection").send(to_80(C4).fin()).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("so does a RST").send(to_80(C4).rst()).sent("connection_table", C4_TO_4, "10.0.0.3"),
        case("and what follows the RST").send(to_80(C4)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("an ACK of an unknown connection takes the ring").send(to_80("192.168.1.2")).sent(
            "ring",
            "172.16.104.120",
            "10.0.0.2",
        ),
        case("and is remembered").send(to_80("192.168.1.2")).sent(
            "connection_table",
            "172.16.104.120",
            "10.0.0.2",
        ),
        case("a RST of an unknown connection takes the ring")
            .send(to_80("192.168.1.3").rst())
            .sent("ring", "172.16.104.121", "10.0.0.2"),
        case("and is not remembered").send(to_80("192.168.1.3")).sent(
            "ring",
            "172.16.104.121",
            "10.0.0.2",
        ),
        case("a SYN with RST takes the ring").send(to_80("192.168.1.4").syn().rst()).sent(
            "ring",
            "172.16.104.126",
            "10.0.0.1",
        ),
        case("and is not remembered either").send(to_80("192.168.1.4")).sent(
            "ring",
            "172.16.104.126",
            "10.0.0.1",
        ),
        case("another source port is another connection")
            .send(eth().ip4(C4, "10.200.1.1").tcp(31338, 80))
            .sent("ring", "172.16.107.123", "10.0.0.3"),
        case("any port: the destination port does not enter the hash")
            .send(to_any(80))
            .sent("ring", C4_TO_4, "10.0.0.2"),
        case("any port: nor the connection").send(to_any(8080)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("any port: a SYN goes where the client's connections are")
            .send(to_any(8081).syn())
            .sent("connection_table", C4_TO_4, "10.0.0.2"),
        case("any port: not even port 0").send(to_any(0)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("any port: but a port with a VIP of its own")
            .send(to_any(443))
            .sent("ring", C4_TO_4, "10.0.0.9"),
        case("no VIP has this port")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 81))
            .passed("not_vip"),
        case("port 0 is a port like others, and no VIP's")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 0))
            .passed("not_vip"),
        case("no VIP has this address")
            .send(eth().ip4(C4, "10.200.1.3").tcp(PORT, 80))
            .passed("not_vip"),
        case("an IPv6 address that is the VIP's four bytes and zeros")
            .send(eth().ip6(C6, "ac8:101::").tcp(PORT, 80))
            .passed("not_vip"),
        case("no VIP has this protocol")
            .send(eth().ip4(C4, "10.200.1.1").udp(PORT, 80))
            .passed("not_vip"),
        case("what a VIP sends is not for it")
            .send(eth().ip4("10.200.1.1", C4).tcp(80, PORT))
            .passed("not_vip"),
        case("the TOS is copied").send(to_80(C4).class(0xb8)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("with its congestion bits").send(to_80(C4).class(0x03)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("id and DF are not").send(to_80(C4).id(0xbeef).dont_fragment()).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("nor the TTL, and 1 is enough").send(to_80(C4).ttl(1)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("the outer source takes all bits of the port")
            .send(eth().ip4(C4, "10.200.1.1").tcp(65535, 80).syn())
            .sent("ring", "172.16.254.254", "10.0.0.2"),
        case("and of the address")
            .send(eth().ip4("203.0.113.255", "10.200.1.1").tcp(1, 80).syn())
            .sent("ring", "172.16.112.255", "10.0.0.1"),
        case("source port 0").send(eth().ip4(C4, "10.200.1.1").tcp(0, 80).syn()).sent(
            "ring",
            "172.16.1.1",
            "10.0.0.3",
        ),
        case("padding stays behind the packet").send(to_80(C4).pad(60)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("data offset 0 is the real's business")
            .send(to_80(C4).patch(14 + 20 + 12, &[0x00]))
            .sent("connection_table", C4_TO_4, "10.0.0.3"),
        case("so is a wrong checksum").send(to_80(C4).patch(14 + 20 + 16, &[0xde, 0xad])).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("frames leave with the MAC address they came to")
            .send(to_80(C4).macs([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 7]))
            .sent("connection_table", C4_TO_4, "10.0.0.3"),
        case("protocols that have no VIPs")
            .send(eth().ip4(C4, "10.200.1.1").raw(47))
            .passed("other_protocol"),
        case("what a balancer sent")
            .send(eth().ip4("172.16.104.123", "10.200.1.1").raw(4).carrying(&to_80(C4)))
            .passed("other_protocol"),
        case("ARP").send(eth().ether_type(0x0806).data(&[0; 28])).passed("not_ip"),
        case("a frame with a length instead of a type")
            .send(eth().ether_type(46).data(&[0x42; 46]))
            .passed("not_ip"),
        case("no data behind the Ethernet header")
            .send(eth().ether_type(0x0800))
            .passed("bad_ip_header"),
    ]
}

fn v6() -> Vec<Case> {
    vec![
        case("a SYN takes the ring").send(to_80_v6(C6).syn()).sent("ring", C6_TO_6, "fc00::3"),
        case("the ACK behind it finds the connection").send(to_80_v6(C6)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("a RST of an unknown connection takes the ring")
            .send(to_80_v6("fc00:2::2").rst())
            .sent("ring", "100::7a69:2", "fc00::2"),
        case("and is not remembered").send(to_80_v6("fc00:2::2")).sent(
            "ring",
            "100::7a69:2",
            "fc00::2",
        ),
        case("clients that differ in the first bytes alone are two")
            .send(to_80_v6("2001:db8::1"))
            .sent("ring", C6_TO_6, "fc00::2"),
        case("any port: the destination port does not enter the hash")
            .send(eth().ip6(C6, "fc00:1::2").tcp(PORT, 80))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("any port: nor the connection").send(eth().ip6(C6, "fc00:1::2").tcp(PORT, 443)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("the class is copied").send(to_80_v6(C6).class(0xb9)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("the flow label is not").send(to_80_v6(C6).flow_label(0xf_ffff)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("nor the hop limit, and 1 is enough").send(to_80_v6(C6).ttl(1)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("all of the client's last four bytes")
            .send(eth().ip6("fc00:2::ffff:abcd", "fc00:1::1").tcp(0x1234, 80).syn())
            .sent("ring", "100::edcb:abcd", "fc00::1"),
        case("padding stays behind the packet").send(to_80_v6(C6).pad(80)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::3",
        ),
        case("no VIP has this port")
            .send(eth().ip6(C6, "fc00:1::1").tcp(PORT, 81))
            .passed("not_vip"),
        case("no VIP has this address")
            .send(eth().ip6(C6, "fc00:1::3").tcp(PORT, 80))
            .passed("not_vip"),
        case("no VIP has this protocol")
            .send(eth().ip6(C6, "fc00:1::1").udp(PORT, 80))
            .passed("not_vip"),
        case("an IPv4-mapped client is none")
            .send(to_80_v6("::ffff:192.168.1.1"))
            .passed("bad_ip_header"),
        case("an IPv4-mapped destination is none")
            .send(eth().ip6(C6, "::ffff:10.200.1.1").tcp(PORT, 80))
            .passed("bad_ip_header"),
        case("what a balancer sent")
            .send(eth().ip6("100::7a69:1", "fc00:1::1").raw(41).carrying(&to_80_v6(C6)))
            .passed("other_protocol"),
        case("no next header").send(eth().ip6(C6, "fc00:1::1").raw(59)).passed("other_protocol"),
        case("no complete header").send(to_80_v6(C6).cut(14 + 39)).passed("bad_ip_header"),
        case("version 4 in a frame of IPv6")
            .send(to_80_v6(C6).patch_ip(0, &[0x45]))
            .passed("bad_ip_header"),
    ]
}
