//! Packets that cannot be balanced: fragments, IPv4 options, runts, wrong lengths. The host's own pass.

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
use crate::packets::config::on_lo;

/// TCP has a VIP at the first address and of every port at the second, UDP at the third.
fn config() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:80", ONE4)
        .vip("tcp://10.200.1.2:*", ONE4)
        .vip("udp://10.200.1.3:53", ONE4)
        .vip("tcp://[fc00:1::1]:80", ONE6)
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "fragments", config: config(), cases: fragments() },
        File { name: "options", config: config(), cases: options() },
        File { name: "runts", config: config(), cases: runts() },
        File { name: "lengths", config: config(), cases: lengths() },
    ]
}

const HOST: &str = "10.200.1.9";

/// To a VIP.
fn tcp() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 80)
}

fn tcp6() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 80)
}

/// To an address of VIPs, but not to a VIP: the host's own.
fn ssh() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 22)
}

fn ssh6() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 22)
}

fn udp() -> Frame {
    eth().ip4(C4, "10.200.1.3").udp(PORT, 53)
}

fn fragments() -> Vec<Case> {
    let later = |frame: Frame, protocol| frame.fragment(185, false).raw(protocol).data(&[0x50; 24]);
    let to = |address| eth().ip4(C4, address);
    let to6 = |address| eth().ip6(C6, address);
    vec![
        case("first of a VIP's").send(tcp().fragment(0, true)).dropped("fragment"),
        case("first of UDP").send(udp().fragment(0, true)).dropped("fragment"),
        case("first of every port's")
            .send(to("10.200.1.2").fragment(0, true).tcp(PORT, 9))
            .dropped("fragment"),
        case("later, at an address with VIPs").send(later(to("10.200.1.1"), 6)).dropped("fragment"),
        case("later, at an address with a VIP of every port")
            .send(later(to("10.200.1.2"), 6))
            .dropped("fragment"),
        case("in the middle")
            .send(to("10.200.1.1").fragment(1, true).raw(6).data(&[0; 24]))
            .dropped("fragment"),
        case("later, where only the other protocol has VIPs")
            .send(later(to("10.200.1.1"), 17))
            .passed("not_vip"),
        case("later, to the host").send(later(to(HOST), 6)).passed("not_vip"),
        case("first, to the host").send(to(HOST).fragment(0, true).tcp(PORT, 80)).passed("not_vip"),
        case("first, of the host's own connection to a VIP address")
            .send(ssh().fragment(0, true))
            .passed("not_vip"),
        case("of another protocol").send(later(to("10.200.1.1"), 47)).passed("other_protocol"),
        case("with options: the fragment counts")
            .send(tcp().options(&[1; 4]).fragment(0, true))
            .dropped("fragment"),
        case("cut off: the fragment counts")
            .send(tcp().fragment(0, true).cut(14 + 20 + 12))
            .dropped("fragment"),
        case("IPv6: first").send(tcp6().fragment(0, true)).dropped("fragment"),
        case("IPv6: later").send(later(to6("fc00:1::1"), 6)).dropped("fragment"),
        case("IPv6: later, of a packet with further headers")
            .send(later(to6("fc00:1::1"), DESTINATION_OPTIONS))
            .dropped("fragment"),
        case("IPv6: behind another header")
            .send(
                to6("fc00:1::1").extension(DESTINATION_OPTIONS, 8).fragment(0, true).tcp(PORT, 80),
            )
            .dropped("fragment"),
        case("IPv6: later, where only the other protocol has VIPs")
            .send(later(to6("fc00:1::1"), 17))
            .passed("not_vip"),
        case("IPv6: first, of the host's own connection to a VIP address")
            .send(ssh6().fragment(0, true))
            .passed("not_vip"),
        case("IPv6: to the host").send(later(to6("fc00:1::9"), 6)).passed("not_vip"),
        case("IPv6: to the host, with further headers")
            .send(later(to6("fc00:1::9"), DESTINATION_OPTIONS))
            .passed("not_vip"),
    ]
}

fn options() -> Vec<Case> {
    vec![
        case("one word").send(tcp().options(&[1; 4])).dropped("ip_options"),
        case("as many as there can be").send(tcp().options(&[1; 40])).dropped("ip_options"),
        case("UDP").send(udp().options(&[1; 4])).dropped("ip_options"),
        case("cut off within them")
            .send(tcp().options(&[1; 40]).cut(14 + 20 + 10))
            .dropped("ip_options"),
        case("cut off within TCP")
            .send(tcp().options(&[1; 4]).cut(14 + 24 + 10))
            .dropped("ip_options"),
        case("of the host's own connection to a VIP address")
            .send(ssh().options(&[1; 4]))
            .passed("not_vip"),
        case("to the host")
            .send(eth().ip4(C4, HOST).options(&[1; 4]).tcp(PORT, 80))
            .passed("not_vip"),
        case("of another protocol: IGMP")
            .send(eth().ip4(C4, "10.200.1.1").options(&[148, 4, 0, 0]).raw(2).data(&[0x16; 8]))
            .passed("other_protocol"),
    ]
}

fn runts() -> Vec<Case> {
    // Bytes of transport header that a packet has, its length being right.
    let tcp_of = |len| {
        let header = tcp().packet().split_off(20);
        eth().ip4(C4, "10.200.1.1").raw(6).data(&header[..len])
    };
    let ssh_of = |len| {
        let header = ssh().packet().split_off(20);
        eth().ip4(C4, "10.200.1.1").raw(6).data(&header[..len])
    };
    let udp_of = |len| {
        let header = udp().packet().split_off(20);
        eth().ip4(C4, "10.200.1.3").raw(17).data(&header[..len])
    };
    vec![
        case("a frame that ends within TCP").send(tcp().cut(14 + 20 + 19)).dropped("runt"),
        case("a frame that ends within the ports").send(tcp().cut(14 + 20 + 3)).dropped("runt"),
        case("a frame that ends before TCP").send(tcp().cut(14 + 20)).dropped("runt"),
        case("a packet that ends within TCP").send(tcp_of(19)).dropped("runt"),
        case("the same, padded").send(tcp_of(19).pad(60)).dropped("runt"),
        case("a packet that ends within the ports, padded").send(tcp_of(3).pad(60)).dropped("runt"),
        case("a packet that ends before TCP, padded").send(tcp_of(0).pad(60)).dropped("runt"),
        case("what follows the packet is no header").send(tcp_of(20).ip_length(20)).dropped("runt"),
        case("nor are its ports").send(ssh_of(20).ip_length(20)).dropped("runt"),
        case("all of TCP, padded").send(tcp_of(20).pad(60)).sent(
            "ring",
            super::C4_TO_4,
            "10.0.0.1",
        ),
        case("shorter than its own IP header").send(tcp().ip_length(10)).dropped("runt"),
        case("of no length").send(tcp().ip_length(0)).dropped("runt"),
        case("at a VIP of every port")
            .send(eth().ip4(C4, "10.200.1.2").tcp(PORT, 9).cut(14 + 20 + 1))
            .dropped("runt"),
        case("a frame that ends within UDP").send(udp().cut(14 + 20 + 7)).dropped("runt"),
        case("a packet that ends within UDP, padded").send(udp_of(7).pad(60)).dropped("runt"),
        case("all of UDP, padded").send(udp_of(8).pad(60)).sent("ring", super::C4_TO_4, "10.0.0.1"),
        case("no ports, where only the other protocol has VIPs")
            .send(eth().ip4(C4, "10.200.1.1").raw(17))
            .passed("not_vip"),
        case("ports that no VIP has").send(ssh().cut(14 + 20 + 4)).passed("not_vip"),
        case("ports that no VIP has, padded").send(ssh_of(10).pad(60)).passed("not_vip"),
        case("to the host").send(eth().ip4(C4, HOST).raw(6).data(&[0; 3])).passed("not_vip"),
        case("IPv6: a frame that ends within TCP").send(tcp6().cut(14 + 40 + 19)).dropped("runt"),
        case("IPv6: a frame that ends within the ports")
            .send(tcp6().cut(14 + 40 + 2))
            .dropped("runt"),
        case("IPv6: a packet without payload, padded")
            .send(eth().ip6(C6, "fc00:1::1").raw(6).pad(60))
            .dropped("runt"),
        case("IPv6: ports that no VIP has").send(ssh6().cut(14 + 40 + 4)).passed("not_vip"),
        case("IPv6: to the host").send(eth().ip6(C6, "fc00:1::9").raw(6)).passed("not_vip"),
    ]
}

fn lengths() -> Vec<Case> {
    let data = b"0123456789";
    vec![
        case("a byte longer than the frame")
            .send(tcp().data(data).ip_length(51))
            .dropped("bad_length"),
        case("as long as can be said")
            .send(tcp().data(data).ip_length(65535))
            .dropped("bad_length"),
        case("UDP").send(udp().ip_length(29)).dropped("bad_length"),
        case("a frame that lost its end")
            .send(tcp().data(data).cut(14 + 40 + 9))
            .dropped("bad_length"),
        case("of the host's own connection to a VIP address")
            .send(ssh().ip_length(65535))
            .passed("not_vip"),
        case("to the host")
            .send(eth().ip4(C4, HOST).tcp(PORT, 80).ip_length(65535))
            .passed("not_vip"),
        case("shorter than the frame is what padding looks like")
            .send(tcp().data(data).ip_length(45))
            .sent("ring", super::C4_TO_4, "10.0.0.1"),
        case("IPv6: a byte longer than the frame")
            .send(tcp6().data(data).ip_length(31))
            .dropped("bad_length"),
        case("IPv6: of the host's own connection to a VIP address")
            .send(ssh6().ip_length(65535))
            .passed("not_vip"),
        case("version 5").send(tcp().patch_ip(0, &[0x55])).passed("bad_ip_header"),
        case("version 6 in a frame of IPv4")
            .send(tcp().patch_ip(0, &[0x65]))
            .passed("bad_ip_header"),
        case("an IP header of 16 bytes").send(tcp().patch_ip(0, &[0x44])).passed("bad_ip_header"),
        case("an IP header of none").send(tcp().patch_ip(0, &[0x40])).passed("bad_ip_header"),
        case("a frame that ends within the IP header")
            .send(tcp().cut(14 + 19))
            .passed("bad_ip_header"),
        case("a frame that ends before it").send(tcp().cut(14)).passed("bad_ip_header"),
        case("IPv6: a frame that ends within the IP header")
            .send(tcp6().cut(14 + 39))
            .passed("bad_ip_header"),
    ]
}
