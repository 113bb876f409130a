//! Who is answered: nobody whose address is not one host's, and nothing that was damaged on its way.

use super::C4;
use super::C6;
use super::PORT;
use crate::fixtures::frame::BALANCER;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::Draft;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:80", ONE4)
        .vip("udp://10.200.1.2:53", &[])
        .vip("tcp://[fc00:1::1]:80", ONE6)
        .vip("udp://[fc00:1::2]:53", &[])
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "answers_sources", config: config(), cases: sources() },
        File { name: "answers_checksums", config: config(), cases: checksums() },
    ]
}

const VIP4: &str = "10.200.1.1";
const VIP6: &str = "fc00:1::1";

fn ping4(source: &str) -> Frame {
    eth().ip4(source, VIP4).ping(7, 1)
}

fn ping6(source: &str) -> Frame {
    eth().ip6(source, VIP6).ping(7, 1)
}

fn long4(source: &str) -> Frame {
    eth().ip4(source, VIP4).tcp(PORT, 80).filled_to(1515)
}

fn long6(source: &str) -> Frame {
    eth().ip6(source, VIP6).tcp(PORT, 80).filled_to(1515)
}

fn sources() -> Vec<Case> {
    let never4 = [
        ("unspecified", "0.0.0.0"),
        ("of this network", "0.1.2.3"),
        ("loopback", "127.0.0.1"),
        ("the last of loopback", "127.255.255.255"),
        ("multicast", "224.0.0.1"),
        ("the last of multicast", "239.255.255.255"),
        ("class E", "240.0.0.1"),
        ("broadcast", "255.255.255.255"),
        ("the VIP itself", VIP4),
        ("another VIP", "10.200.1.2"),
    ];
    let never6 = [
        ("IPv6: unspecified", "::"),
        ("IPv6: loopback", "::1"),
        ("IPv6: multicast", "ff02::1"),
        ("IPv6: the last of multicast", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("IPv6: the VIP itself", VIP6),
        ("IPv6: another VIP", "fc00:1::2"),
    ];
    let beside4 = [
        ("beside loopback", "126.255.255.255"),
        ("beside this network", "1.0.0.0"),
        ("below multicast", "223.255.255.255"),
        ("beside a VIP", "10.200.1.3"),
    ];
    let beside6 = [
        ("IPv6: beside loopback", "::2"),
        ("IPv6: that a VIP has the end of", "fc00:2::2"),
        ("IPv6: link-local", "fe80::1"),
        ("IPv6: below multicast", "feff::1"),
    ];
    let mut cases = Vec::new();
    for (name, source) in never4 {
        cases.push(case(name).send(ping4(source)).dropped("unanswerable"));
        cases.push(case(name).send(long4(source)).dropped("unanswerable"));
    }
    for (name, source) in never6 {
        cases.push(case(name).send(ping6(source)).dropped("unanswerable"));
        cases.push(case(name).send(long6(source)).dropped("unanswerable"));
    }
    // The answer would go to all of them.
    for frame in [ping4("192.0.2.77"), long4("192.0.2.77"), ping6("2001:db8::77")] {
        let frame = frame.macs([0xff; 6], BALANCER);
        cases.push(case("in a frame from broadcast").send(frame).dropped("unanswerable"));
    }
    let group = ping4("192.0.2.77").macs([1, 0, 0x5e, 0, 0, 1], BALANCER);
    cases.push(case("in a frame from a group").send(group).answered());
    for (name, source) in beside4 {
        cases.push(case(name).send(ping4(source)).answered());
        cases.push(case(name).send(long4(source)).told(1500));
    }
    for (name, source) in beside6 {
        cases.push(case(name).send(ping6(source)).answered());
        cases.push(case(name).send(long6(source)).told(1500));
    }
    cases
}

/// A frame, and the same with a bit of it turned.
fn damaged(name: &'static str, frame: &Frame, at: usize) -> Draft {
    let bytes = frame.packet();
    case(name).send(frame.clone().patch_ip(at, &[bytes[at] ^ 0x20]))
}

fn checksums() -> Vec<Case> {
    let plain4 = ping4(C4).data(b"abcdefgh");
    let plain6 = ping6(C6).data(b"abcdefgh");
    let mut cases = vec![
        damaged("the checksum of the request", &plain4, 22).dropped("bad_checksum"),
        damaged("its data", &plain4, 30).dropped("bad_checksum"),
        damaged("the checksum of the IPv4 header", &plain4, 10).dropped("bad_checksum"),
        damaged("its source", &plain4, 14).dropped("bad_checksum"),
        damaged("the TTL", &plain4, 8).dropped("bad_checksum"),
        damaged("IPv6: the checksum of the request", &plain6, 42).dropped("bad_checksum"),
        damaged("IPv6: its data", &plain6, 50).dropped("bad_checksum"),
        damaged("IPv6: its source, which the checksum covers", &plain6, 10).dropped("bad_checksum"),
        case("IPv6: no checksum")
            .send(plain6.clone().patch_ip(42, &[0, 0]))
            .dropped("bad_checksum"),
        damaged("the IPv4 header of a long packet", &long4(C4), 10).dropped("bad_checksum"),
        case("what a long packet carries is not looked at")
            .send(long4(C4).patch_ip(700, &[1, 2, 3]))
            .told(1500),
        damaged("tagged", &plain4.clone().vlan(7).tag(0x8100, 8), 30).dropped("bad_checksum"),
    ];
    // Every part by which a sum is made of a length, with its last byte damaged and not.
    let lengths = [
        0, 1, 2, 3, 4, 5, 8, 15, 16, 31, 33, 63, 65, 127, 129, 255, 257, 503, 504, 505, 511, 513,
        1015, 1016, 1017, 1471, 2000, 3047, 3399,
    ];
    for len in lengths {
        let data: Vec<u8> = (0..=255).cycle().skip(len).take(len).collect();
        for frame in [ping4(C4).data(&data), ping6(C6).data(&data).vlan(5)] {
            let last = frame.packet().len() - 1;
            cases.push(case("by length").send(frame.clone()).answered());
            cases.push(damaged("by length", &frame, last).dropped("bad_checksum"));
        }
    }
    // Sums that carry all the way: of ones, and such that the checksum is 0 or all ones.
    for byte in [0x00, 0xff] {
        for sequence in [0, 0xf7ff, 0xffff] {
            let data = [byte; 1201];
            let frame = eth().ip4(C4, VIP4).ping(0xffff, sequence).data(&data);
            let frame6 = eth().ip6(C6, VIP6).ping(0xffff, sequence).data(&data);
            // All ones, where 0 is as good: it is right also where nothing but zeros is summed.
            let mut reply = frame.echo_reply();
            if reply.packet()[22..24] == [0, 0] {
                reply = reply.patch_ip(22, &[0xff, 0xff]);
            }
            cases.push(case("sums that carry").send(frame).answered_with(&reply));
            cases.push(case("IPv6: sums that carry").send(frame6).answered());
        }
    }
    cases
}
