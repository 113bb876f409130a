//! Tunnels that end at the balancer: what is taken out, what then becomes of it, and what is dropped.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::BALANCER;
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
use crate::packets::config::on_lo;

/// Other sites.
const SITE4: &str = "10.9.0.1";
const SITE6: &str = "fc00:9::1";
/// What is taken out is balanced.
const END4: &str = "10.8.0.1";
const END6: &str = "fc00:8::1";
/// It goes back to the router.
const BACK4: &str = "10.8.0.2";
const BACK6: &str = "fc00:8::2";
/// Only [`SITE4`] and [`SITE6`] may send.
const CHOOSY4: &str = "10.8.0.3";
const CHOOSY6: &str = "fc00:8::3";
const GUE: u16 = 6080;

fn with_ends(config: ConfigText) -> ConfigText {
    config
        .vip("tcp://10.200.1.1:80", ONE4)
        .vip("tcp://[fc00:1::1]:80", ONE6)
        .decapsulate(END4, "")
        .decapsulate(END6, "")
        .decapsulate(BACK4, "then = \"router\"")
        .decapsulate(BACK6, "then = \"router\"")
        .decapsulate(CHOOSY4, "from = [\"10.9.0.0/24\", \"192.0.2.7\"]")
        .decapsulate(CHOOSY6, "from = [\"fc00:9::/64\", \"2001:db8::7\"]")
}

pub(crate) fn files() -> Vec<File> {
    let file = |name, cases| File { name, config: with_ends(on_lo()), cases };
    vec![
        file("decapsulate_ipip", ipip()),
        file("decapsulate_gue", gue()),
        file("decapsulate_inside", inside()),
        file("decapsulate_dropped", dropped()),
        file("decapsulate_passed", passed()),
        file("decapsulate_router", router()),
        file("decapsulate_sources", sources()),
        File {
            name: "decapsulate_local",
            config: on_lo()
                .vip("tcp://10.200.1.1:80", &["10.0.0.1, local = true"])
                .vip("tcp://[fc00:1::1]:80", &["fc00::1, local = true"])
                .decapsulate(END4, ""),
            cases: local(),
        },
        File {
            name: "decapsulate_unserved",
            config: with_ends(interfaces("")),
            cases: vec![
                case("IP in IP").send(in_ip4(END4, &v4())).passed("other_protocol"),
                case("GUE").send(in_gue4(END4, &v4())).passed("not_vip"),
            ],
        },
    ]
}

/// A client's packets.
fn v4() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 80)
}

fn v6() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 80)
}

/// IP in IP, from another site.
fn in_ip4(end: &str, inner: &Frame) -> Frame {
    eth().ip4(SITE4, end).raw(if inner.is_v6() { 41 } else { 4 }).carrying(inner)
}

fn in_ip6(end: &str, inner: &Frame) -> Frame {
    eth().ip6(SITE6, end).raw(if inner.is_v6() { 41 } else { 4 }).carrying(inner)
}

/// GUE of variant 1, from another site.
fn in_gue4(end: &str, inner: &Frame) -> Frame {
    eth().ip4(SITE4, end).udp(5555, GUE).carrying(inner)
}

fn in_gue6(end: &str, inner: &Frame) -> Frame {
    eth().ip6(SITE6, end).udp(5555, GUE).carrying(inner)
}

/// GUE of variant 0: this header, private data included, and the inner packet.
fn in_gue0(frame: Frame, header: &[u8], inner: &Frame) -> Frame {
    frame.udp(5555, GUE).data(&[header, &inner.packet()].concat())
}

/// The packet one hop further.
fn aged(inner: &Frame) -> Frame {
    inner.clone().ttl(56)
}

fn ipip() -> Vec<Case> {
    let tagged = |frame: Frame| frame.vlan(7);
    vec![
        case("IPv4 in IPv4").send(in_ip4(END4, &v4())).taken_out(
            &aged(&v4()),
            "ring",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv4").send(in_ip4(END4, &v6())).taken_out(
            &aged(&v6()),
            "ring",
            C6_TO_6,
            "fc00::1",
        ),
        case("IPv4 in IPv6, the flow is known").send(in_ip6(END6, &v4())).taken_out(
            &aged(&v4()),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv6").send(in_ip6(END6, &v6())).taken_out(
            &aged(&v6()),
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("the same flow without an outer header").send(v4()).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("with a tag").send(tagged(in_ip4(END4, &v6()))).taken_out(
            &aged(&v6()).vlan(7),
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("with two tags").send(tagged(in_ip6(END6, &v4()).tag(0x88a8, 9))).taken_out(
            &aged(&v4()).tag(0x88a8, 9).vlan(7),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("in an atomic fragment").send(in_ip6(END6, &v4()).fragment(0, false)).taken_out(
            &aged(&v4()),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("padding stays behind").send(in_ip4(END4, &v4()).pad(80)).taken_out(
            &aged(&v4()).pad(60),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("two hops left").send(in_ip4(END4, &v4().ttl(2))).taken_out(
            &v4().ttl(1),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("most hops left").send(in_ip6(END6, &v6().ttl(255))).taken_out(
            &v6().ttl(254),
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
    ]
}

fn gue() -> Vec<Case> {
    let zero = |at: usize| move |frame: Frame| frame.patch_ip(at, &[0, 0]);
    let hops4 = [2, 4, 0, 0, 0, 0, 0, 1, 10, 0, 0, 9];
    vec![
        case("IPv4 in IPv4").send(in_gue4(END4, &v4())).taken_out(
            &aged(&v4()),
            "ring",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv4").send(in_gue4(END4, &v6())).taken_out(
            &aged(&v6()),
            "ring",
            C6_TO_6,
            "fc00::1",
        ),
        case("IPv4 in IPv6").send(in_gue6(END6, &v4())).taken_out(
            &aged(&v4()),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv6").send(in_gue6(END6, &v6())).taken_out(
            &aged(&v6()),
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("variant 0, IPv4")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0, 4, 0, 0], &v4()))
            .taken_out(&aged(&v4()), "connection_table", C4_TO_4, "10.0.0.1"),
        case("variant 0, IPv6")
            .send(in_gue0(eth().ip6(SITE6, END6), &[0, 41, 0, 0], &v6()))
            .taken_out(&aged(&v6()), "connection_table", C6_TO_6, "fc00::1"),
        case("variant 0 with a further hop")
            .send(in_gue0(eth().ip6(SITE6, END6), &hops4, &v4()))
            .taken_out(&aged(&v4()), "connection_table", C4_TO_4, "10.0.0.1"),
        case("no checksum over IPv4").send(zero(26)(in_gue4(END4, &v4()))).taken_out(
            &aged(&v4()),
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("no checksum over IPv6")
            .send(zero(46)(in_gue6(END6, &v4())))
            .dropped("decap_checksum"),
        case("a wrong checksum over IPv4")
            .send(in_gue4(END4, &v4()).patch_ip(26, &[0x12, 0x34]))
            .dropped("decap_checksum"),
        case("a wrong checksum over IPv6")
            .send(in_gue6(END6, &v4()).patch_ip(46, &[0x12, 0x34]))
            .dropped("decap_checksum"),
        case("a changed byte inside")
            .send(in_gue4(END4, &v4().data(b"hello")).patch_ip(72, b"H"))
            .dropped("decap_checksum"),
        case("a long packet of an odd length")
            .send(in_gue4(END4, &v4().data(&[7; 1401])))
            .taken_out(&aged(&v4()).data(&[7; 1401]), "connection_table", C4_TO_4, "10.0.0.1"),
        case("a control message")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0x20, 4, 0, 0], &v4()))
            .dropped("decap_malformed"),
        case("flags")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0, 4, 0, 1], &v4()))
            .dropped("decap_malformed"),
        case("another protocol")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0, 47, 0, 0], &v4()))
            .dropped("decap_malformed"),
        case("variant 2")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0x80, 4, 0, 0], &v4()))
            .dropped("decap_malformed"),
        case("IP version 5")
            .send(eth().ip4(SITE4, END4).udp(5555, GUE).data(&[0x50; 40]))
            .dropped("decap_malformed"),
        case("private data beyond the packet")
            .send(in_gue0(eth().ip4(SITE4, END4), &[0x1f, 4, 0, 0], &v4()))
            .dropped("decap_malformed"),
        case("nothing behind the UDP header")
            .send(eth().ip4(SITE4, END4).udp(5555, GUE))
            .dropped("decap_malformed"),
        case("the UDP length is too small")
            .send(in_gue4(END4, &v4()).patch_ip(24, &[0, 20]))
            .dropped("decap_malformed"),
        case("the UDP length is too large")
            .send(in_gue4(END4, &v4()).patch_ip(24, &[1, 0]))
            .dropped("decap_malformed"),
    ]
}

/// What the inner packet says.
fn inside() -> Vec<Case> {
    let marked = |class: u8| aged(&v4()).class(class);
    let nested = in_ip4(END4, &v4()).ttl(57);
    let error = || {
        let quoted = eth().ip4("10.200.1.1", C4).tcp(80, PORT);
        eth().ip4("192.0.2.99", "10.200.1.1").icmp(3, 1, [0; 4]).carrying(&quoted)
    };
    let ping = || eth().ip4(C4, "10.200.1.1").ping(1, 1);
    vec![
        case("congestion on the way").send(in_ip4(END4, &v4().class(1)).class(3)).taken_out(
            &marked(3),
            "ring",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("congestion, and its ends don't use ECN")
            .send(in_ip4(END4, &v4()).class(3))
            .taken_out(&marked(0), "connection_table", C4_TO_4, "10.0.0.1"),
        case("congestion, IPv6").send(in_gue6(END6, &v6().class(0xb2)).class(3)).taken_out(
            &aged(&v6()).class(0xb3),
            "ring",
            C6_TO_6,
            "fc00::1",
        ),
        case("the outer class is not the inner one")
            .send(in_ip4(END4, &v4()).class(0xb8))
            .taken_out(&marked(0), "connection_table", C4_TO_4, "10.0.0.1"),
        case("one hop left").send(in_ip4(END4, &v4().ttl(1))).dropped("decap_ttl"),
        case("no hop left").send(in_gue4(END4, &v4().ttl(0))).dropped("decap_ttl"),
        case("one hop left, IPv6").send(in_ip6(END6, &v6().ttl(1))).dropped("decap_ttl"),
        case("a ping").send(in_ip4(END4, &ping())).answered_with(&ping().echo_reply()),
        case("an ICMP error").send(in_ip4(END4, &error())).taken_out(
            &error().ttl(56),
            "icmp_error",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("another port")
            .send(in_ip4(END4, &eth().ip4(C4, "10.200.1.1").tcp(PORT, 81)))
            .dropped("decap_not_vip"),
        case("another host")
            .send(in_gue4(END4, &eth().ip4(C4, "10.200.1.9").tcp(PORT, 80)))
            .dropped("decap_not_vip"),
        case("this host")
            .send(in_gue4(END4, &eth().ip4(C4, END4).tcp(PORT, 22)))
            .dropped("decap_not_vip"),
        case("another protocol")
            .send(in_ip4(END4, &eth().ip4(C4, "10.200.1.1").raw(47)))
            .dropped("decap_not_vip"),
        case("another outer header inside").send(in_ip4(END4, &nested)).dropped("decap_not_vip"),
        case("from a loopback address")
            .send(in_ip4(END4, &eth().ip4("127.0.0.1", "10.200.1.1").tcp(PORT, 80)))
            .dropped("decap_inner_address"),
        case("from a link-local address of IPv6")
            .send(in_gue4(END4, &eth().ip6("fe80::1", "fc00:1::1").tcp(PORT, 80)))
            .dropped("decap_inner_address"),
        case("from the VIP itself")
            .send(in_gue4(END4, &eth().ip6("fc00:1::1", "fc00:1::1").tcp(80, 80)))
            .dropped("decap_inner_address"),
        case("from the VIP itself, IPv4")
            .send(in_ip4(END4, &eth().ip4("10.200.1.1", "10.200.1.1").udp(80, 53)))
            .dropped("decap_inner_address"),
        case("a fragment for the VIP")
            .send(in_ip4(END4, &v4().fragment(0, true)))
            .dropped("fragment"),
        case("a runt for the VIP").send(in_ip4(END4, &v4().ip_length(30).cut(44))).dropped("runt"),
        case("options for the VIP")
            .send(in_ip4(END4, &v4().options(&[1; 4])))
            .dropped("ip_options"),
    ]
}

fn dropped() -> Vec<Case> {
    let malformed = "decap_malformed";
    vec![
        case("a first fragment")
            .send(in_ip4(END4, &v4()).fragment(0, true))
            .dropped("decap_fragment"),
        case("a later fragment")
            .send(in_ip4(END4, &v4()).fragment(7, false))
            .dropped("decap_fragment"),
        case("a fragment of IPv6")
            .send(in_ip6(END6, &v4()).fragment(7, true))
            .dropped("decap_fragment"),
        case("the first fragment of GUE")
            .send(in_gue4(END4, &v4()).fragment(0, true))
            .dropped("decap_fragment"),
        case("a wrong outer checksum")
            .send(in_ip4(END4, &v4()).patch_ip(10, &[1, 2]))
            .dropped("decap_checksum"),
        case("options in the outer header")
            .send(in_ip4(END4, &v4()).options(&[1; 4]))
            .dropped(malformed),
        case("longer than the frame").send(in_ip4(END4, &v4()).cut(70)).dropped(malformed),
        case("longer than the frame, IPv6").send(in_ip6(END6, &v4()).cut(90)).dropped(malformed),
        case("the inner packet is longer than the outer one")
            .send(in_ip4(END4, &v4().ip_length(41)))
            .dropped(malformed),
        case("the inner packet is shorter than its header")
            .send(in_ip4(END4, &v4().ip_length(19)))
            .dropped(malformed),
        case("IPv6 that claims to be IPv4")
            .send(eth().ip4(SITE4, END4).raw(4).carrying(&v6()))
            .dropped(malformed),
        case("an IPv4-mapped address")
            .send(in_ip4(END4, &eth().ip6("::ffff:192.168.1.1", "fc00:1::1").tcp(PORT, 80)))
            .dropped(malformed),
        case("nothing inside").send(eth().ip4(SITE4, END4).raw(4)).dropped(malformed),
        case("half a header inside")
            .send(eth().ip4(SITE4, END4).raw(41).data(&[0x60; 20]))
            .dropped(malformed),
    ]
}

/// The address without a tunnel's packet, and tunnels of others.
fn passed() -> Vec<Case> {
    let other_mac = [2, 0, 0, 0, 0, 0x77];
    let seven =
        (0..7).fold(eth().ip6(SITE6, END6), |frame, _| frame.extension(DESTINATION_OPTIONS, 8));
    vec![
        case("a ping").send(eth().ip4(C4, END4).ping(1, 1)).passed("not_vip"),
        case("TCP").send(eth().ip4(C4, END4).tcp(PORT, 22)).passed("not_vip"),
        case("UDP to another port").send(eth().ip4(C4, END4).udp(PORT, 53)).passed("not_vip"),
        case("a later fragment of UDP")
            .send(eth().ip4(C4, END4).udp(PORT, GUE).data(&[0; 16]).fragment(5, false))
            .passed("not_vip"),
        case("a later fragment of UDP over IPv6")
            .send(eth().ip6(C6, END6).udp(PORT, GUE).data(&[0; 16]).fragment(5, false))
            .passed("not_vip"),
        case("UDP that ends before its port")
            .send(eth().ip4(C4, END4).udp(PORT, GUE).ip_length(23).cut(37))
            .passed("not_vip"),
        case("another protocol").send(eth().ip4(C4, END4).raw(47)).passed("other_protocol"),
        case("extension headers").send(seven.raw(4).carrying(&v4())).passed("not_vip"),
        case("one extension header")
            .send(eth().ip6(SITE6, END6).extension(DESTINATION_OPTIONS, 8).raw(4).carrying(&v4()))
            .passed("other_protocol"),
        case("IP in IP to another address")
            .send(in_ip4("10.8.0.9", &v4()))
            .passed("other_protocol"),
        case("GUE to another address").send(in_gue4("10.8.0.9", &v4())).passed("not_vip"),
        case("in a frame to all")
            .send(in_ip4(END4, &v4()).macs([2, 0, 0, 0, 0, 1], [0xff; 6]))
            .passed("other_protocol"),
        case("in a frame of a group")
            .send(in_gue4(END4, &v4()).macs(other_mac, [1, 0, 0x5e, 0, 0, 1]))
            .passed("not_vip"),
    ]
}

fn router() -> Vec<Case> {
    let out4 = || eth().ip4("10.200.1.1", C4).tcp(80, PORT).data(b"answer");
    let out6 = || eth().ip6("fc00:1::1", C6).udp(443, PORT).data(b"answer");
    let inner = "decap_inner_address";
    let from_to = |from: &str, to: &str| eth().ip4(from, to).udp(1, 2);
    let from_to6 = |from: &str, to: &str| eth().ip6(from, to).udp(1, 2);
    vec![
        case("IPv4 in IPv4").send(in_ip4(BACK4, &out4())).sent_back(&aged(&out4())),
        case("IPv6 in IPv4").send(in_ip4(BACK4, &out6())).sent_back(&aged(&out6())),
        case("IPv4 in IPv6").send(in_ip6(BACK6, &out4())).sent_back(&aged(&out4())),
        case("IPv6 in IPv6").send(in_ip6(BACK6, &out6())).sent_back(&aged(&out6())),
        case("GUE, IPv4 in IPv6").send(in_gue6(BACK6, &out4())).sent_back(&aged(&out4())),
        case("GUE, IPv6 in IPv4").send(in_gue4(BACK4, &out6())).sent_back(&aged(&out6())),
        case("with a tag").send(in_ip4(BACK4, &out4()).vlan(7)).sent_back(&aged(&out4()).vlan(7)),
        case("a packet for a VIP").send(in_ip4(BACK4, &v4())).sent_back(&aged(&v4())),
        case("a fragment inside")
            .send(in_ip4(BACK4, &out4().fragment(9, true)))
            .sent_back(&aged(&out4()).fragment(9, true)),
        case("congestion on the way")
            .send(in_gue4(BACK4, &out4().class(2)).class(3))
            .sent_back(&aged(&out4()).class(3)),
        case("one hop left").send(in_ip4(BACK4, &out4().ttl(1))).dropped("decap_ttl"),
        case("in a frame from broadcast, IPv4")
            .send(in_ip4(BACK4, &out4()).macs([0xff; 6], BALANCER))
            .dropped("decap_malformed"),
        case("in a frame from broadcast")
            .send(in_gue6(BACK6, &out6()).macs([0xff; 6], BALANCER))
            .dropped("decap_malformed"),
        case("to a loopback address").send(in_ip4(BACK4, &from_to(C4, "127.0.0.1"))).dropped(inner),
        case("from a loopback address")
            .send(in_ip4(BACK4, &from_to("127.0.0.1", C4)))
            .dropped(inner),
        case("to a group").send(in_ip4(BACK4, &from_to(C4, "224.0.0.1"))).dropped(inner),
        case("to all").send(in_ip4(BACK4, &from_to(C4, "255.255.255.255"))).dropped(inner),
        case("to a link-local address")
            .send(in_ip4(BACK4, &from_to(C4, "169.254.1.1")))
            .dropped(inner),
        case("from the link-local address of a router")
            .send(in_ip4(BACK4, &from_to("169.254.1.1", C4)))
            .sent_back(&from_to("169.254.1.1", C4).ttl(56)),
        case("to a group, IPv6").send(in_ip4(BACK4, &from_to6(C6, "ff02::1"))).dropped(inner),
        case("from a link-local address, IPv6")
            .send(in_ip4(BACK4, &from_to6("fe80::1", C6)))
            .dropped(inner),
        case("once more in an outer header")
            .send(in_ip4(BACK4, &in_ip4(BACK4, &out4())))
            .dropped(inner),
        case("in an outer header for the other address")
            .send(in_gue4(BACK4, &in_ip6(END6, &v4())))
            .dropped(inner),
        case("a fragment outside")
            .send(in_ip4(BACK4, &out4()).fragment(0, true))
            .dropped("decap_fragment"),
    ]
}

/// The reals are this host itself: its kernel gets what clients sent.
fn local() -> Vec<Case> {
    let inner = "decap_inner_address";
    let from4 = |from: &str| eth().ip4(from, "10.200.1.1").tcp(PORT, 80);
    let from6 = |from: &str| eth().ip6(from, "fc00:1::1").tcp(PORT, 80);
    vec![
        case("IPv4").send(in_ip4(END4, &v4())).left_inside(&aged(&v4())),
        case("IPv6").send(in_gue4(END4, &v6())).left_inside(&aged(&v6())),
        case("from the host's own address").send(in_ip4(END4, &from4("10.0.0.1"))).dropped(inner),
        case("from the host's own address, IPv6")
            .send(in_gue4(END4, &from6("fc00::1")))
            .dropped(inner),
        case("from another VIP").send(in_ip4(END4, &from6("fc00:1::1"))).dropped(inner),
        case("without an outer header, the network's filters have seen it")
            .send(from6("fc00:1::1"))
            .passed("local"),
    ]
}

fn sources() -> Vec<Case> {
    let from4 = |from: &str| eth().ip4(from, CHOOSY4).raw(4).carrying(&v4());
    let from6 = |from: &str| eth().ip6(from, CHOOSY6).udp(1, GUE).carrying(&v6());
    let four = |name, from: &str, why| {
        case(name).send(from4(from)).taken_out(&aged(&v4()), why, C4_TO_4, "10.0.0.1")
    };
    let six = |name, from: &str, why| {
        case(name).send(from6(from)).taken_out(&aged(&v6()), why, C6_TO_6, "fc00::1")
    };
    vec![
        four("of the prefix", SITE4, "ring"),
        four("the last of the prefix", "10.9.0.255", "connection_table"),
        four("the single one", "192.0.2.7", "connection_table"),
        case("behind the prefix").send(from4("10.9.1.0")).dropped("decap_source"),
        case("beside the single one").send(from4("192.0.2.6")).dropped("decap_source"),
        six("of the prefix, IPv6", SITE6, "ring"),
        six("the single one, IPv6", "2001:db8::7", "connection_table"),
        case("behind the prefix, IPv6").send(from6("fc00:9:0:1::1")).dropped("decap_source"),
        case("the source counts before all else")
            .send(from4("10.9.1.0").patch_ip(10, &[1, 2]))
            .dropped("decap_source"),
        case("another address has none")
            .send(eth().ip4("10.9.1.0", END4).raw(4).carrying(&v4()))
            .taken_out(&aged(&v4()), "connection_table", C4_TO_4, "10.0.0.1"),
        case("a ping from anybody")
            .send(eth().ip4("10.9.1.0", CHOOSY4).ping(1, 1))
            .passed("not_vip"),
    ]
}
