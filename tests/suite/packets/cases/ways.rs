//! Other ways to a real than IP in IP: GUE, L2, and the balancer's own host.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::PORT;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::fixtures::frame::ways::Gue;
use crate::packets::case::Case;
use crate::packets::case::Draft;
use crate::packets::case::File;
use crate::packets::case::GATEWAY;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::on_lo;
use crate::packets::reference::internet_sum;

const SOURCE4: &str = "192.0.2.1";
const SOURCE6: &str = "2001:db8:5::7";

/// The UDP source ports of the clients' flows, from port 31337, 0x7a69: mixed with 1.1 of 192.168.1.1, the bytes
/// exchanged for IPv4 reals; and with two zeros of `fc00:2::1`.
const C4_TO_4_PORT: u16 = 0x687b;
const C4_TO_6_PORT: u16 = 0x7b68;
const C6_PORT: u16 = 0x7a69;

/// The place of the UDP checksum in outer IPv4, and of the inner packet behind it.
const CHECK4: usize = 14 + 20 + 6;
const INNER4: usize = 14 + 20 + 8;
/// The same of outer IPv6.
const INNER6: usize = 14 + 40 + 8;

fn gue() -> ConfigText {
    on_lo()
        .set("packets.encapsulation", "gue")
        .set("packets.encap_source_v4", SOURCE4)
        .set("packets.encap_source_v6", SOURCE6)
}

fn udp_each_to_each(config: ConfigText) -> ConfigText {
    config
        .vip("udp://10.200.1.1:4", ONE4)
        .vip("udp://10.200.1.1:6", ONE6)
        .vip("udp://[fc00:1::1]:4", ONE4)
        .vip("udp://[fc00:1::1]:6", ONE6)
}

pub(crate) fn files() -> Vec<File> {
    let flows = udp_each_to_each(gue().each_to_each())
        .vip("tcp://10.200.1.2:4", ONE4)
        .set("hash", "no-source-port")
        .vip("tcp://10.200.1.3:4", ONE4)
        .set("hash", "destination-port")
        .vip("tcp://[fc00:1::2]:4", ONE4)
        .set("hash", "no-source-port")
        .vip("tcp://10.200.1.4:*", ONE6)
        .vip("tcp://10.200.1.4:9", &[]);
    let variant_0 = gue().set("packets.gue_variant", 0).each_to_each();
    let port = gue()
        .set("packets.gue_port", 9886)
        .set("packets.gue_icmp_as_katran", false)
        .set("packets.outer_df", true)
        .each_to_each();
    vec![
        File { name: "gue", config: flows, cases: gue_cases() },
        File {
            name: "gue_checksums",
            config: udp_each_to_each(gue().each_to_each()),
            cases: checksums(),
        },
        File { name: "gue_variant_0", config: variant_0, cases: variant_0_cases() },
        File { name: "gue_port", config: port, cases: port_cases() },
        File { name: "gue_refused", config: gue().each_to_each(), cases: refused_cases() },
        // Beside `headroom`, because kernels before 6.8 cannot have so much metadata (tests/vm/round).
        File {
            name: "headroom_gue",
            config: gue().each_to_each(),
            cases: vec![
                case("no headroom").send(v4(4)).behind_metadata(192).dropped("no_headroom"),
            ],
        },
        File { name: "l2", config: l2_config(), cases: l2_cases() },
        File {
            name: "headroom_l2",
            config: l2_config(),
            cases: vec![
                case("without headroom")
                    .send(v4(4))
                    .behind_metadata(216)
                    .sent_as("ring", |frame| frame.by_l2(MAC)),
            ],
        },
        File { name: "local", config: local_config(), cases: local_cases() },
        File { name: "nearest", config: nearest_config(), cases: nearest_cases() },
    ]
}

fn v4(port: u16) -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, port)
}

fn v6(port: u16) -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, port)
}

fn udp4(port: u16) -> Frame {
    eth().ip4(C4, "10.200.1.1").udp(PORT, port).data(b"query")
}

fn udp6(port: u16) -> Frame {
    eth().ip6(C6, "fc00:1::1").udp(PORT, port).data(b"query")
}

/// An ICMP error about a packet of the flow from the VIP to its client.
fn error4(port: u16) -> Frame {
    let quoted = eth().ip4("10.200.1.1", C4).tcp(port, PORT);
    eth().ip4("192.0.2.99", "10.200.1.1").icmp(3, 4, [0, 0, 5, 0]).carrying(&quoted)
}

fn error6(port: u16) -> Frame {
    let quoted = eth().ip6("fc00:1::1", C6).tcp(port, PORT);
    eth().ip6("2001:db8::99", "fc00:1::1").icmp(2, 0, [0, 0, 5, 0]).carrying(&quoted)
}

/// How GUE goes to a real of each version.
#[derive(Clone, Copy)]
struct By {
    variant: u8,
    port: u16,
}

const BY_DEFAULT: By = By { variant: 1, port: 6080 };

impl By {
    fn frame(self, frame: &Frame, real: &str, source_port: u16) -> Vec<u8> {
        let source = if real.contains(':') { SOURCE6 } else { SOURCE4 };
        let gue = Gue { variant: self.variant, source_port, port: self.port };
        let address = |text: &str| text.parse().expect("an address");
        frame.by_gue(address(source), address(real), gue, GATEWAY)
    }

    fn sent(self, draft: Draft, reason: &'static str, real: &str, source_port: u16) -> Case {
        draft.sent_as(reason, |frame| self.frame(frame, real, source_port))
    }
}

/// Sends a frame by GUE, which leaves with this checksum, to 10.0.0.1.
fn sent_with_check(draft: Draft, reason: &'static str, port: u16, check: [u8; 2]) -> Case {
    draft.sent_as(reason, |frame| {
        let mut sent = BY_DEFAULT.frame(frame, "10.0.0.1", port);
        sent[CHECK4..CHECK4 + 2].copy_from_slice(&check);
        sent
    })
}

/// Nobody computed one.
const NONE: [u8; 2] = [0, 0];

fn gue_cases() -> Vec<Case> {
    let by = BY_DEFAULT;
    let four = |draft, reason| by.sent(draft, reason, "10.0.0.1", C4_TO_4_PORT);
    let to = |vip: &str| eth().ip4(C4, vip).tcp(PORT, 4);
    let full = |frame: Frame| frame.filled_to(1514);
    vec![
        four(case("IPv4 in IPv4").send(v4(4)), "ring"),
        by.sent(case("IPv4 in IPv6").send(v4(6)), "ring", "fc00::1", C4_TO_6_PORT),
        by.sent(case("IPv6 in IPv4").send(v6(4)), "ring", "10.0.0.1", C6_PORT),
        by.sent(case("IPv6 in IPv6").send(v6(6)), "ring", "fc00::1", C6_PORT),
        four(case("IPv4 in IPv4, known").send(v4(4)), "connection_table"),
        four(
            case("IPv4 in IPv4, a class and DF").send(v4(4).class(0xb9).dont_fragment()),
            "connection_table",
        ),
        by.sent(
            case("IPv6 in IPv6, a class and a flow label")
                .send(v6(6).class(0xb9).flow_label(0xf_1234)),
            "connection_table",
            "fc00::1",
            C6_PORT,
        ),
        by.sent(
            case("IPv6 in IPv4, a flow label").send(v6(4).flow_label(0xf_ffff)),
            "connection_table",
            "10.0.0.1",
            C6_PORT,
        ),
        four(case("a tag").send(v4(4).vlan(7)), "connection_table"),
        by.sent(
            case("two tags: IPv6 in IPv6").send(v6(6).tag(0x88a8, 5).vlan(7)),
            "connection_table",
            "fc00::1",
            C6_PORT,
        ),
        four(case("padding").send(v4(4).pad(60)), "connection_table"),
        four(case("an odd number of bytes").send(v4(4).data(&[0x55; 7])), "connection_table"),
        four(case("a source port that the hash leaves out").send(to("10.200.1.2")), "ring"),
        by.sent(
            case("the same of IPv6").send(eth().ip6(C6, "fc00:1::2").tcp(PORT, 4)),
            "ring",
            "10.0.0.1",
            C6_PORT,
        ),
        // The address counts as 0.
        by.sent(
            case("only the destination port counts").send(to("10.200.1.3")),
            "ring",
            "10.0.0.1",
            0x697a,
        ),
        by.sent(case("any port").send(to("10.200.1.4")), "ring", "fc00::1", C4_TO_6_PORT),
        case("no reals").send(eth().ip4(C4, "10.200.1.4").tcp(PORT, 9)).dropped("no_real"),
        four(case("the longest").send(full(v4(4))), "connection_table"),
        case("a byte too long").send(v4(4).filled_to(1515)).told(1500),
        case("and for no real")
            .send(eth().ip4(C4, "10.200.1.4").tcp(PORT, 9).filled_to(1515))
            .told(1500),
        case("options").send(v4(4).options(&[1; 4])).dropped("ip_options"),
    ]
}

/// The checksum of an ICMP error of IPv4 in UDP as Katran has it: as if ICMP had a pseudo-header.
fn as_katran(frame: &Frame) -> [u8; 2] {
    let right = BY_DEFAULT.frame(frame, "10.0.0.1", C4_TO_4_PORT);
    let inner = &right[INNER4..];
    let length = u16::try_from(inner.len() - 20).expect("short").to_be_bytes();
    internet_sum(&[&right[CHECK4..CHECK4 + 2], &inner[12..20], &[0, 1], &length]).to_be_bytes()
}

fn checksums() -> Vec<Case> {
    let by = BY_DEFAULT;
    let four = |draft, reason| by.sent(draft, reason, "10.0.0.1", C4_TO_4_PORT);
    let six = |draft, reason| by.sent(draft, reason, "fc00::1", C6_PORT);
    let four_in_six = |draft, reason| by.sent(draft, reason, "fc00::1", C4_TO_6_PORT);
    // UDP: the checksum is at byte 26 of IPv4, 46 of IPv6; the length in front of it.
    let no_checksum = |port| udp4(port).patch_ip(26, &[0, 0]);
    let behind = |port| udp4(port).patch_ip(24, &[0, 10]);
    let options = |port| v6(port).extension(DESTINATION_OPTIONS, 16);
    let wrong = [0xbe, 0xef];
    vec![
        four(case("UDP: IPv4 in IPv4").send(udp4(4)), "ring"),
        four_in_six(case("UDP: IPv4 in IPv6").send(udp4(6)), "ring"),
        by.sent(case("UDP: IPv6 in IPv4").send(udp6(4)), "ring", "10.0.0.1", C6_PORT),
        six(case("UDP: IPv6 in IPv6").send(udp6(6)), "ring"),
        sent_with_check(
            case("UDP without a checksum in IPv4: none").send(no_checksum(4)),
            "connection_table",
            C4_TO_4_PORT,
            NONE,
        ),
        four_in_six(
            case("UDP without a checksum in IPv6: summed").send(no_checksum(6)),
            "connection_table",
        ),
        four_in_six(
            case("the same, long and tagged").send(no_checksum(6).vlan(7).filled_to(1502)),
            "connection_table",
        ),
        sent_with_check(
            case("bytes behind the datagram in IPv4: none").send(behind(4)),
            "connection_table",
            C4_TO_4_PORT,
            NONE,
        ),
        four_in_six(
            case("bytes behind the datagram in IPv6: summed").send(behind(6)),
            "connection_table",
        ),
        sent_with_check(
            case("an extension header in IPv4: none").send(options(4)),
            "ring",
            C6_PORT,
            NONE,
        ),
        six(case("an extension header in IPv6: summed").send(options(6)), "ring"),
        six(
            case("an atomic fragment in IPv6: summed").send(v6(6).fragment(0, false)),
            "connection_table",
        ),
        sent_with_check(
            case("an ICMP error in IPv4, as Katran").send(error4(4)),
            "icmp_error",
            C4_TO_4_PORT,
            as_katran(&error4(4)),
        ),
        four_in_six(case("an ICMP error in IPv6").send(error4(6)), "icmp_error"),
        by.sent(case("an ICMPv6 error in IPv4").send(error6(4)), "icmp_error", "10.0.0.1", C6_PORT),
        six(case("an ICMPv6 error in IPv6").send(error6(6)), "icmp_error"),
        // Whoever checks the one finds what is wrong with the other.
        case("a wrong checksum inside stays one outside").send(v4(4).patch_ip(36, &wrong)).sent_as(
            "ring",
            |_| {
                let mut sent = by.frame(&v4(4), "10.0.0.1", C4_TO_4_PORT);
                sent[INNER4 + 36..INNER4 + 38].copy_from_slice(&wrong);
                sent
            },
        ),
        case("in IPv6, too").send(v6(6).patch_ip(56, &wrong)).sent_as("connection_table", |_| {
            let mut sent = by.frame(&v6(6), "fc00::1", C6_PORT);
            sent[INNER6 + 56..INNER6 + 58].copy_from_slice(&wrong);
            sent
        }),
    ]
}

fn variant_0_cases() -> Vec<Case> {
    let by = By { variant: 0, port: 19523 };
    vec![
        by.sent(case("IPv4 in IPv4").send(v4(4)), "ring", "10.0.0.1", C4_TO_4_PORT),
        by.sent(case("IPv4 in IPv6").send(v4(6)), "ring", "fc00::1", C4_TO_6_PORT),
        by.sent(case("IPv6 in IPv4").send(v6(4)), "ring", "10.0.0.1", C6_PORT),
        by.sent(case("IPv6 in IPv6").send(v6(6)), "ring", "fc00::1", C6_PORT),
        by.sent(
            case("an extension header in IPv6: summed")
                .send(v6(6).extension(DESTINATION_OPTIONS, 8)),
            "connection_table",
            "fc00::1",
            C6_PORT,
        ),
        by.sent(
            case("an ICMP error, right").send(error4(4)),
            "icmp_error",
            "10.0.0.1",
            C4_TO_4_PORT,
        ),
        by.sent(case("a tag").send(v6(4).vlan(9)), "connection_table", "10.0.0.1", C6_PORT),
    ]
}

fn port_cases() -> Vec<Case> {
    let by = By { variant: 1, port: 9886 };
    let whole = |frame: &Frame| {
        let mut sent = by.frame(frame, "10.0.0.1", C4_TO_4_PORT);
        // DF, and the checksum of the header, which is 0x4000 less.
        sent[20] = 0x40;
        let sum = internet_sum(&[&sent[14..24], &sent[26..34]]);
        sent[24..26].copy_from_slice(&(!sum).to_be_bytes());
        sent
    };
    vec![
        case("another port, and DF").send(v4(4)).sent_as("ring", whole),
        by.sent(case("IPv4 in IPv6").send(v4(6)), "ring", "fc00::1", C4_TO_6_PORT),
        case("an ICMP error, right").send(error4(4)).sent_as("icmp_error", whole),
    ]
}

const MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const MAC6: [u8; 6] = [2, 0, 0, 0, 1, 6];

fn l2_config() -> ConfigText {
    on_lo()
        .neighbour("10.0.0.1", MAC)
        .neighbour("fc00::1", MAC6)
        .set("packets.encapsulation", "l2")
        .each_to_each()
        .vip("tcp://10.200.1.1:7", &["10.0.0.7"])
        .vip("tcp://10.200.1.1:9", &[])
}

fn l2_cases() -> Vec<Case> {
    let to4 = |draft: Draft, reason| draft.sent_as(reason, |frame| frame.by_l2(MAC));
    let to6 = |draft: Draft, reason| draft.sent_as(reason, |frame| frame.by_l2(MAC6));
    vec![
        to4(case("IPv4").send(v4(4)), "ring"),
        to6(case("IPv4 to a real that is known by IPv6").send(v4(6)), "ring"),
        to4(case("IPv6 to a real that is known by IPv4").send(v6(4)), "ring"),
        to6(case("IPv6").send(v6(6)), "ring"),
        to4(case("known").send(v4(4).data(b"more")), "connection_table"),
        to4(case("two tags").send(v4(4).tag(0x88a8, 5).vlan(7)), "connection_table"),
        to6(
            case("an extension header").send(v6(6).extension(DESTINATION_OPTIONS, 8)),
            "connection_table",
        ),
        to4(case("padding").send(v4(4).pad(60)), "connection_table"),
        to4(case("the last but one hop").send(v4(4).ttl(2)), "connection_table"),
        case("the last hop").send(v4(4).ttl(1)).dropped("l2_ttl"),
        case("the last hop: IPv6").send(v6(6).ttl(1)).dropped("l2_ttl"),
        case("beyond the last hop").send(v4(4).ttl(0)).dropped("l2_ttl"),
        to4(case("a TTL whose checksum carries").send(v4(4).id(carry())), "connection_table"),
        to4(case("longer than others may be").send(v4(4).filled_to(2000)), "connection_table"),
        to4(case("an ICMP error").send(error4(4)), "icmp_error"),
        to6(case("an ICMPv6 error").send(error6(6)), "icmp_error"),
        case("no MAC").send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 7)).dropped("no_neighbour"),
        case("no reals")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 9).filled_to(2000))
            .dropped("no_real"),
    ]
}

/// The id with which the header's checksum is 0xfeff: one less in the TTL makes that 0.
fn carry() -> u16 {
    let header = v4(4).id(0).packet();
    let sum = internet_sum(&[&header[..10], &header[12..20]]);
    // Then the sum is 0x0100.
    let id = (0x100 + 0xffff - u32::from(sum)) % 0xffff;
    u16::try_from(id).expect("folded")
}

fn local_config() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:4", &["10.0.0.1, local = true"])
        .vip("udp://[fc00:1::1]:6", &["fc00::1, local = true"])
        .vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2", "10.0.0.3"])
}

fn local_cases() -> Vec<Case> {
    let local = |draft: Draft| draft.passed("local");
    vec![
        local(case("TCP").send(v4(4).syn())),
        local(case("known").send(v4(4))),
        local(case("UDP").send(udp6(6))),
        local(case("a tag").send(v4(4).vlan(7))),
        local(case("longer than others may be").send(v4(4).filled_to(2000))),
        local(case("an ICMP error").send(error4(4))),
        local(case("the last hop").send(v4(4).ttl(1))),
        case("a fragment").send(v4(4).fragment(0, true)).dropped("fragment"),
        case("to another real of a VIP")
            .send(eth().ip4(C4, "10.200.1.1").tcp(PORT, 80))
            .sent("ring", C4_TO_4, "10.0.0.3"),
    ]
}

/// What hosts answer to packets that this balancer sent by GUE.
fn refused_cases() -> Vec<Case> {
    let sent4 = |port| eth().ip4(SOURCE4, "10.0.0.1").udp(C4_TO_4_PORT, port).data(&[0x45; 60]);
    let sent6 = |port| eth().ip6(SOURCE6, "fc00::1").udp(C6_PORT, port).data(&[0x60; 60]);
    let answer4 = |kind, code| eth().ip4("10.0.0.1", SOURCE4).icmp(kind, code, [0; 4]);
    let answer6 = |kind, code| eth().ip6("fc00::1", SOURCE6).icmp(kind, code, [0; 4]);
    vec![
        case("port unreachable").send(answer4(3, 3).carrying(&sent4(6080))).passed("gue_refused"),
        case("its first bytes")
            .send(answer4(3, 3).data(&sent4(6080).packet()[..28]))
            .passed("gue_refused"),
        case("a byte less")
            .send(answer4(3, 3).data(&sent4(6080).packet()[..27]))
            .passed("other_icmp"),
        case("IPv6").send(answer6(1, 4).carrying(&sent6(6080))).passed("gue_refused"),
        case("from a filter on the way")
            .send(eth().ip4("198.51.100.1", SOURCE4).icmp(3, 3, [0; 4]).carrying(&sent4(6080)))
            .passed("gue_refused"),
        case("another port").send(answer4(3, 3).carrying(&sent4(6081))).passed("other_icmp"),
        case("another port, IPv6").send(answer6(1, 4).carrying(&sent6(6081))).passed("other_icmp"),
        case("host unreachable").send(answer4(3, 1).carrying(&sent4(6080))).passed("other_icmp"),
        case("host unreachable, IPv6")
            .send(answer6(1, 3).carrying(&sent6(6080)))
            .passed("other_icmp"),
        case("too big").send(answer4(3, 4).carrying(&sent4(6080))).passed("other_icmp"),
        case("the numbers of the other family")
            .send(answer6(3, 3).carrying(&sent6(6080)))
            .passed("other_icmp"),
        case("about TCP")
            .send(answer4(3, 3).carrying(&eth().ip4(SOURCE4, "10.0.0.1").tcp(C4_TO_4_PORT, 6080)))
            .passed("other_icmp"),
        case("about a packet of another host")
            .send(
                eth()
                    .ip4("10.0.0.1", "192.0.2.2")
                    .icmp(3, 3, [0; 4])
                    .carrying(&eth().ip4("192.0.2.2", "10.0.0.1").udp(1, 6080)),
            )
            .passed("other_icmp"),
        case("about a VIP's own flow from that port")
            .send(
                eth()
                    .ip4(C4, "10.200.1.1")
                    .icmp(3, 3, [0; 4])
                    .carrying(&eth().ip4("10.200.1.1", C4).udp(4, 6080)),
            )
            .passed("other_icmp"),
    ]
}

/// What `[packets]`, a VIP and a real say: the nearest wins.
fn nearest_config() -> ConfigText {
    gue()
        .neighbour("10.0.0.5", MAC)
        .neighbour("10.0.0.7", MAC6)
        .vip("tcp://10.200.1.1:4", ONE4)
        .vip("tcp://10.200.1.1:5", &["10.0.0.1"])
        .set("encapsulation", "ipip")
        .vip("tcp://10.200.1.1:6", &[r#"10.0.0.5, encapsulation = "l2""#])
        .vip("tcp://10.200.1.1:7", &["10.0.0.7"])
        .set("encapsulation", "l2")
        .vip("tcp://10.200.1.1:8", &[r#"10.0.0.8, encapsulation = "ipip""#])
        .vip("tcp://10.200.1.1:9", &["10.0.0.9, local = true"])
        .set("encapsulation", "l2")
        // What it says itself holds in all its VIPs.
        .vip("tcp://10.200.1.1:10", &["10.0.0.8"])
        .set("encapsulation", "l2")
}

fn nearest_cases() -> Vec<Case> {
    let by = BY_DEFAULT;
    vec![
        by.sent(case("[packets]: GUE").send(v4(4)), "ring", "10.0.0.1", C4_TO_4_PORT),
        case("the VIP: IP in IP").send(v4(5)).sent("ring", SOURCE4, "10.0.0.1"),
        case("the real: L2").send(v4(6)).sent_as("ring", |frame| frame.by_l2(MAC)),
        case("the VIP: L2").send(v4(7)).sent_as("ring", |frame| frame.by_l2(MAC6)),
        case("the real: IP in IP").send(v4(8)).sent("ring", SOURCE4, "10.0.0.8"),
        case("the real: local").send(v4(9)).passed("local"),
        case("the real, in another VIP").send(v4(10)).sent("ring", SOURCE4, "10.0.0.8"),
        case("too long for one").send(v4(8).filled_to(1515)).told(1500),
    ]
}
