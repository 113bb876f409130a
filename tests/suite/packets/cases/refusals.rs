//! Ports that no VIP has, VIPs without a usable real, and addresses that answer no echo requests.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::PORT;
use crate::fixtures::frame::BALANCER;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::ROUTER;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        // Refuses, whichever of its VIPs says so.
        .vip("tcp://10.200.1.1:80", ONE4)
        .set("other_ports", "reject")
        .vip("udp://10.200.1.1:53", &[])
        .set("no_real", "reject")
        // Drops, and has no VIP of UDP.
        .vip("tcp://10.200.1.2:80", ONE4)
        .set("other_ports", "drop")
        .set("echo", "never")
        // Usable by one of its VIPs.
        .vip("tcp://10.200.1.3:80", &[r#"10.0.0.1, state = "drain""#, "10.0.0.2, weight = 0"])
        .set("no_real", "reject")
        .set("echo", "when-usable")
        .vip("tcp://10.200.1.3:81", ONE4)
        // Not usable.
        .vip("tcp://10.200.1.4:*", &[r#"10.0.0.1, state = "drain""#])
        .set("other_ports", "reject")
        .set("echo", "when-usable")
        // As by default, in so many words.
        .vip("tcp://10.200.1.5:80", &[])
        .set("other_ports", "pass")
        .set("no_real", "drop")
        .set("echo", "always")
        .vip("tcp://[fc00:1::1]:80", ONE6)
        .set("other_ports", "reject")
        .vip("udp://[fc00:1::1]:53", &[])
        .set("no_real", "reject")
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "refusals_tcp", config: config(), cases: tcp() },
        File { name: "refusals_udp", config: config(), cases: udp() },
        File { name: "refusals_rules", config: config(), cases: rules() },
        File { name: "refusals_limit", config: config(), cases: limit() },
    ]
}

fn v4() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 22)
}

fn v6() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 22)
}

fn u4() -> Frame {
    eth().ip4(C4, "10.200.1.1").udp(PORT, 123)
}

fn u6() -> Frame {
    eth().ip6(C6, "fc00:1::1").udp(PORT, 123)
}

/// The builder's sequence number is 1000.
fn tcp() -> Vec<Case> {
    let acknowledging =
        |number| move |frame: Frame| frame.with_tcp(|tcp| tcp.acknowledgment_number = number);
    let at = |number| move |frame: Frame| frame.with_tcp(|tcp| tcp.sequence_number = number);
    let mut cases = vec![
        case("a SYN").send(v4().syn()).reset(0, Some(1001)),
        case("a SYN, padded").send(v4().syn().pad(60)).reset(0, Some(1001)),
        case("a SYN with data").send(v4().syn().data(b"abc")).reset(0, Some(1004)),
        case("a SYN with FIN and data").send(v4().syn().fin().data(b"abc")).reset(0, Some(1005)),
        case("the last sequence number").send(at(u32::MAX)(v4().syn())).reset(0, Some(0)),
        case("with ACK").send(acknowledging(77)(v4())).reset(77, None),
        case("with ACK and data")
            .send(acknowledging(u32::MAX)(v4()).data(&[1; 100]))
            .reset(u32::MAX, None),
        case("SYN with ACK").send(acknowledging(5)(v4().syn().ack())).reset(5, None),
        case("with TCP options")
            .send(v4().syn().with_tcp(|tcp| tcp.set_options_raw(&[2, 4, 5, 180]).expect("options")))
            .reset(0, Some(1001)),
        case("tagged").send(v4().vlan(7).syn().pad(64)).reset(0, Some(1001)),
        case("tagged twice").send(v4().tag(0x88a8, 7).vlan(8).syn().pad(68)).reset(0, Some(1001)),
        case("IPv6: a SYN").send(v6().syn()).reset(0, Some(1001)),
        case("IPv6: with ACK and data").send(acknowledging(9)(v6()).data(b"abc")).reset(9, None),
        case("IPv6: tagged").send(v6().vlan(7).syn()).reset(0, Some(1001)),
        case("other class, id, TTL: none of it comes back")
            .send(v4().class(0xb8).id(7).ttl(1).dont_fragment().syn())
            .reset(0, Some(1001)),
        case("a reset is never answered").send(v4().rst()).dropped("other_port"),
        case("nor one with SYN").send(v4().syn().rst()).dropped("other_port"),
        case("IPv6: a reset").send(v6().rst()).dropped("other_port"),
        case("a header longer than the packet")
            .send(v4().syn().patch_ip(32, &[0xf0]))
            .dropped("other_port"),
        case("a header shorter than TCP's")
            .send(v4().syn().patch_ip(32, &[0x40]))
            .dropped("other_port"),
        case("a fragment").send(v4().syn().fragment(0, true)).dropped("other_port"),
        case("a later fragment, of a protocol that has VIPs")
            .send(v4().fragment(9, false))
            .dropped("fragment"),
        case("with IPv4 options").send(v4().syn().options(&[1; 4])).dropped("other_port"),
        case("IPv6: with an extension header")
            .send(v6().syn().extension(DESTINATION_OPTIONS, 8))
            .dropped("other_port"),
        case("within the header").send(v4().syn().cut(14 + 20 + 10)).dropped("other_port"),
        case("longer than its frame").send(v4().syn().ip_length(50)).dropped("other_port"),
        case("a wrong checksum").send(v4().syn().patch_ip(36, &[1, 2])).dropped("bad_checksum"),
        case("a wrong IPv4 header").send(v4().syn().patch_ip(10, &[1, 2])).dropped("bad_checksum"),
        case("from loopback")
            .send(eth().ip4("127.0.0.1", "10.200.1.1").tcp(PORT, 22).syn())
            .dropped("unanswerable"),
        case("in a frame from broadcast")
            .send(v4().syn().macs([0xff; 6], BALANCER))
            .dropped("unanswerable"),
        case("from broadcast")
            .send(eth().ip4("255.255.255.255", "10.200.1.1").tcp(PORT, 22).syn())
            .dropped("unanswerable"),
        case("from a VIP")
            .send(eth().ip4("10.200.1.2", "10.200.1.1").tcp(PORT, 22).syn())
            .dropped("unanswerable"),
        case("IPv6: from multicast")
            .send(eth().ip6("ff02::1", "fc00:1::1").tcp(PORT, 22).syn())
            .dropped("unanswerable"),
    ];
    // What the checksum of a segment is made of: by length, even and odd.
    for len in [1, 2, 7, 511, 512, 1199, 1460] {
        let data = vec![0xa5; len];
        cases.push(case("by length").send(acknowledging(1)(v4()).data(&data)).reset(1, None));
        cases.push(case("by length").send(acknowledging(1)(v6()).data(&data)).reset(1, None));
    }
    cases
}

fn udp() -> Vec<Case> {
    vec![
        case("without data").send(u4()).unreachable(),
        case("without data, padded").send(u4().pad(60)).unreachable(),
        case("with data").send(u4().data(&[7; 100])).unreachable(),
        case("tagged").send(u4().vlan(7).data(b"odd")).unreachable(),
        case("tagged twice").send(u4().tag(0x88a8, 7).vlan(8).data(b"even")).unreachable(),
        case("without a checksum").send(u4().data(b"abc").patch_ip(26, &[0, 0])).unreachable(),
        case("longer than could be encapsulated").send(u4().filled_to(2000)).unreachable(),
        case("IPv6: without data").send(u6()).unreachable(),
        case("IPv6: with data").send(u6().data(&[7; 101])).unreachable(),
        case("IPv6: tagged").send(u6().vlan(7)).unreachable(),
        case("IPv6: without a checksum, which it must have")
            .send(u6().patch_ip(46, &[0, 0]))
            .dropped("bad_checksum"),
        case("a wrong checksum").send(u4().patch_ip(26, &[1, 2])).dropped("bad_checksum"),
        case("within the header").send(u4().cut(14 + 20 + 7)).dropped("other_port"),
        case("a later fragment, of a protocol that has VIPs")
            .send(u4().fragment(9, false))
            .dropped("fragment"),
        case("a first fragment").send(u4().fragment(0, true)).dropped("other_port"),
        case("from this network")
            .send(eth().ip4("0.1.2.3", "10.200.1.1").udp(PORT, 123))
            .dropped("unanswerable"),
        case("of another protocol it passes")
            .send(eth().ip4(C4, "10.200.1.1").raw(132).data(&[0; 12]))
            .passed("other_protocol"),
    ]
}

fn rules() -> Vec<Case> {
    let to = |vip: &str| eth().ip4(C4, vip);
    let error = |vip: &str| {
        let quoted = to(vip).turned_round().ip4(vip, C4).tcp(80, PORT).data(&[0; 8]);
        to(vip).icmp(3, 1, [0; 4]).carrying(&quoted)
    };
    vec![
        case("a VIP's own port")
            .send(to("10.200.1.1").tcp(PORT, 80))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("port 0").send(to("10.200.1.1").tcp(PORT, 0).syn()).reset(0, Some(1001)),
        case("an address that is no VIP")
            .send(to("10.200.1.9").tcp(PORT, 22).syn())
            .passed("not_vip"),
        case("IPv6: an address that is no VIP")
            .send(eth().ip6(C6, "fc00:1::9").udp(PORT, 22))
            .passed("not_vip"),
        case("dropped: TCP").send(to("10.200.1.2").tcp(PORT, 22).syn()).dropped("other_port"),
        case("dropped: a protocol without VIPs")
            .send(to("10.200.1.2").udp(PORT, 80))
            .dropped("other_port"),
        case("dropped: a fragment of it")
            .send(to("10.200.1.2").udp(PORT, 80).fragment(5, false))
            .dropped("other_port"),
        case("dropped: tagged").send(to("10.200.1.2").vlan(3).udp(PORT, 80)).dropped("other_port"),
        case("dropped: not a frame for others")
            .send(to("10.200.1.2").macs(ROUTER, [0xff; 6]).tcp(PORT, 22).syn())
            .passed("not_vip"),
        case("refused: not a frame for others")
            .send(
                to("10.200.1.1").macs(ROUTER, [0x01, 0, 0x5e, 0, 0, 1]).vlan(2).tcp(PORT, 22).syn(),
            )
            .passed("not_vip"),
        case("never an ICMP error about another port")
            .send(
                to("10.200.1.1")
                    .icmp(3, 1, [0; 4])
                    .carrying(&eth().ip4("10.200.1.1", C4).tcp(22, PORT).data(&[0; 8])),
            )
            .passed("other_icmp"),
        case("passed, as it says").send(to("10.200.1.5").tcp(PORT, 22).syn()).passed("not_vip"),
        case("passed, as nothing is said")
            .send(to("10.200.1.3").tcp(PORT, 22).syn())
            .passed("not_vip"),
        case("every port has a VIP").send(to("10.200.1.4").tcp(PORT, 22).syn()).dropped("no_real"),
        case("of TCP; of UDP none").send(to("10.200.1.4").udp(PORT, 22)).unreachable(),
        case("no real: TCP").send(to("10.200.1.3").tcp(PORT, 80).syn()).reset(0, Some(1001)),
        case("no real: the same of another tag")
            .send(to("10.200.1.3").vlan(9).tcp(PORT, 80).syn().pad(64))
            .reset(0, Some(1001)),
        case("no real: a reset").send(to("10.200.1.3").tcp(PORT, 80).rst()).dropped("no_real"),
        case("no real: an ICMP error").send(error("10.200.1.3")).dropped("no_real"),
        case("no real: a fragment")
            .send(to("10.200.1.3").tcp(PORT, 80).fragment(0, true))
            .dropped("fragment"),
        case("no real: UDP").send(to("10.200.1.1").udp(PORT, 53).data(b"query")).unreachable(),
        case("no real: IPv6 and UDP")
            .send(eth().ip6(C6, "fc00:1::1").udp(PORT, 53).data(b"query"))
            .unreachable(),
        case("no real: dropped, as it says")
            .send(to("10.200.1.5").tcp(PORT, 80).syn())
            .dropped("no_real"),
        case("echo: never").send(to("10.200.1.2").ping(1, 1)).dropped("no_echo"),
        case("echo: never, and a wrong checksum")
            .send(to("10.200.1.2").ping(1, 1).patch_ip(22, &[1, 2]))
            .dropped("no_echo"),
        case("echo: usable by one of the address").send(to("10.200.1.3").ping(1, 1)).answered(),
        case("echo: not usable").send(to("10.200.1.4").ping(1, 1)).dropped("no_echo"),
        case("echo: always").send(to("10.200.1.5").ping(1, 1)).answered(),
        case("echo: as nothing is said").send(to("10.200.1.1").ping(1, 1)).answered(),
    ]
}

fn limit() -> Vec<Case> {
    // Sources that no two share a limit of.
    let hosts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 33, 14, 15, 16, 17, 18, 19, 20];
    let from = |host: u8| eth().ip4(&format!("203.0.113.{host}"), "10.200.1.1").udp(PORT, 123);
    let fifty =
        hosts.map(|host| case("fifty to one source").send(from(host)).times(50).unreachable());
    let mut cases = fifty.to_vec();
    cases.extend([
        case("one more to it").send(from(1)).dropped("source_limited"),
        case("the thousand of all is over").send(v4().syn()).dropped("refusal_limited"),
        case("IPv6 has the same limit").send(u6()).dropped("refusal_limited"),
        case("packets that are too long have another")
            .send(v4().tcp(PORT, 80).filled_to(1515))
            .told(1500),
        case("also echo requests").send(eth().ip4(C4, "10.200.1.1").ping(1, 1)).answered(),
    ]);
    cases
}
