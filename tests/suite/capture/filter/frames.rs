//! Frames of all kinds, and frames that are changed until they take another branch of a program.

use std::net::IpAddr;

use fastrand::Rng;
use l4lb::capture::filter::ClassicInsn;
use l4lb::capture::filter::FilterScope;

use super::reference;
use crate::fixtures::frame::AUTHENTICATION;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::HOP_BY_HOP;
use crate::fixtures::frame::ROUTING;
use crate::fixtures::frame::eth;

/// The most that `BPF_PROG_TEST_RUN` takes of a frame, and a little less.
const LONGEST: usize = 3500;
/// And the least: an Ethernet header.
const SHORTEST: usize = 14;

/// What the expressions ask for, and what they do not.
const ADDRESSES4: [&str; 8] = [
    "192.0.2.1",
    "198.51.100.7",
    "192.0.2.200",
    "10.1.2.3",
    "172.16.5.6",
    "224.0.0.5",
    "255.255.255.255",
    "198.51.0.17",
];
const ADDRESSES6: [&str; 6] =
    ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::7", "ff02::1", "::", "fe80::1"];
const PORTS: [u16; 9] = [443, 80, 22, 53, 5060, 0, 65535, 1003, 50000];
const ETHER_TYPES: [u16; 18] = [
    0x0806, 0x8035, 0x8847, 0x8848, 0x8863, 0x8864, 0x809b, 0x80f3, 0x6003, 0x6004, 0x6002, 0x6001,
    0x8137, 0x88cc, 0x8100, 0x88a8, 0x9100, 0x0800,
];
/// Service access points of 802.2.
const SAPS: [u8; 5] = [0xaa, 0xe0, 0xfe, 0x42, 0xf0];
const PROTOCOLS: [u8; 14] = [1, 2, 4, 6, 9, 17, 41, 47, 50, 51, 58, 103, 112, 132];

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn one_in(rng: &mut Rng, n: usize) -> bool {
    rng.usize(..n) == 0
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    // Many of them small, as many fields are.
    let bits = rng.u32(1..=8);
    (0..len).map(|_| rng.u8(..) >> (8 - bits)).collect()
}

/// A frame: whole or damaged; for packets inside of others, mostly one that has such.
pub(crate) fn frame(rng: &mut Rng, scope: FilterScope) -> Vec<u8> {
    let inside = if scope == FilterScope::Inner { 8 } else { 2 };
    let mut frame = match rng.usize(..12) {
        0 => garbage(rng),
        1 => llc(rng),
        2 | 3 => other(rng),
        _ => {
            let depth = usize::from(rng.usize(..10) < inside);
            let link = link(rng);
            ip(rng, link, depth).bytes()
        }
    };
    if one_in(rng, 6) {
        let len = frame.len();
        let at = rng.usize(..len);
        frame[at] = rng.u8(..);
    }
    // The low half: how long an IPv4 header says it is.
    if one_in(rng, 10) && frame.len() > 14 {
        frame[14] = frame[14] & 0xf0 | rng.u8(..16);
    }
    if one_in(rng, 6) {
        frame.truncate(rng.usize(SHORTEST..=frame.len()));
    }
    if one_in(rng, 6) {
        frame.resize(frame.len().max(60), 0);
    }
    frame
}

fn garbage(rng: &mut Rng) -> Vec<u8> {
    let len = if one_in(rng, 8) { rng.usize(SHORTEST..1515) } else { rng.usize(SHORTEST..128) };
    bytes(rng, len)
}

/// IEEE 802.3 with 802.2 behind it.
fn llc(rng: &mut Rng) -> Vec<u8> {
    let len = rng.usize(3..80);
    let mut frame = eth().ether_type(u16::try_from(len).expect("short")).bytes();
    let sap = pick(rng, &SAPS);
    frame.extend([sap, sap]);
    frame.extend(bytes(rng, len));
    frame
}

/// Another protocol than IP, or IP inside of one.
fn other(rng: &mut Rng) -> Vec<u8> {
    let kind = pick(rng, &ETHER_TYPES);
    let len = rng.usize(..70);
    let data = bytes(rng, len);
    let link = link(rng).ether_type(kind);
    if rng.bool() {
        return link.data(&data).bytes();
    }
    let inner = ip(rng, eth(), 0).packet();
    let between = pick(rng, &[4, 6, 8]);
    link.data(&[bytes(rng, between), inner].concat()).bytes()
}

fn link(rng: &mut Rng) -> Frame {
    let mut frame = eth();
    if one_in(rng, 4) {
        frame = frame.turned_round();
    }
    if one_in(rng, 12) {
        frame = frame.macs([2, 0, 0, 0, 0, 1], pick(rng, &[[0xff; 6], [1, 0, 0x5e, 0, 0, 5]]));
    }
    for _ in 0..pick(rng, &[0, 0, 0, 0, 1, 1, 2, 3]) {
        let tpid = pick(rng, &[0x8100, 0x8100, 0x88a8, 0x9100]);
        let id = pick(rng, &[7, 9, 0x2007, 100]);
        frame = frame.tag(tpid, id);
    }
    frame
}

fn address(rng: &mut Rng, v6: bool) -> IpAddr {
    pick(rng, if v6 { &ADDRESSES6 } else { ADDRESSES4.as_slice() }).parse().expect("an address")
}

/// IP with something in it; `depth`: how many IP packets, one in the other.
fn ip(rng: &mut Rng, link: Frame, depth: usize) -> Frame {
    let v6 = rng.bool();
    let mut frame = link.ip(address(rng, v6), address(rng, v6)).ttl(rng.u8(..)).id(rng.u16(..));
    if v6 {
        for _ in 0..pick(rng, &[0, 0, 0, 1, 2, 4, 30]) {
            frame = match rng.usize(..4) {
                0 => frame.extension(HOP_BY_HOP, 8 * rng.usize(1..4)),
                1 => frame.extension(ROUTING, 24),
                2 => frame.extension(AUTHENTICATION, 4 * rng.usize(2..12)),
                _ => frame.extension(DESTINATION_OPTIONS, 8 * rng.usize(1..10)),
            };
        }
    } else if one_in(rng, 5) {
        let len = 4 * rng.usize(1..=10);
        frame = frame.options(&bytes(rng, len));
    }
    if one_in(rng, 8) {
        let offset = if rng.bool() { 0 } else { rng.u16(..1 << 13) };
        frame = frame.fragment(offset, rng.bool());
    }
    if depth > 0 {
        let inner = ip(rng, eth(), depth - 1);
        let protocol = if inner.is_v6() { 41 } else { 4 };
        if rng.bool() {
            return gue(rng, frame, protocol, &inner);
        }
        return frame.raw(protocol).carrying(&inner);
    }
    let (source, destination) = (pick(rng, &PORTS), pick(rng, &PORTS));
    let len = if one_in(rng, 10) { rng.usize(..1400) } else { rng.usize(..40) };
    let data = bytes(rng, len);
    let frame = match rng.usize(..8) {
        0 | 1 => frame.tcp(source, destination),
        2 => frame.tcp(source, destination).syn(),
        3 | 4 => frame.udp(source, destination),
        5 => return frame.udp(source, 6081).data(&geneve(rng)),
        6 => frame.icmp(pick(rng, &[0, 3, 8, 128, 133, 135]), rng.u8(..8), [0; 4]),
        _ => frame.raw(pick(rng, &PROTOCOLS)),
    };
    frame.data(&data)
}

/// GUE of either variant, mostly to a port of its own, and mostly a packet.
fn gue(rng: &mut Rng, frame: Frame, protocol: u8, inner: &Frame) -> Frame {
    let port = pick(rng, &[6080, 19523, 6080, 19523, 6081]);
    let frame = frame.udp(50000, port);
    let mut data = Vec::new();
    if rng.bool() {
        let first = if one_in(rng, 6) { rng.u8(..) } else { rng.u8(..4) };
        let protocol = if one_in(rng, 8) { pick(rng, &PROTOCOLS) } else { protocol };
        data.extend([first, protocol, 0, 0]);
        let words = usize::from(first & 0x1f);
        let more = bytes(rng, 4 * words);
        data.extend(more);
    }
    data.extend(inner.packet());
    frame.data(&data)
}

/// A Geneve header with options, and an Ethernet frame.
fn geneve(rng: &mut Rng) -> Vec<u8> {
    let words = pick(rng, &[0_u8, 0, 1, 2, 5]);
    let mut data = vec![words, 0, 0x65, 0x58, 0, 0, rng.u8(4..6), 0];
    data.extend(bytes(rng, 4 * usize::from(words)));
    let link = link(rng);
    data.extend(ip(rng, link, 0).bytes());
    data
}

/// Changes a frame so that it takes another way through a program: `packet` is where the program's packet
/// begins in it.
pub(crate) fn bend(rng: &mut Rng, program: &[ClassicInsn], frame: &mut Vec<u8>, packet: usize) {
    // What decides may be far from the bytes that it is computed from.
    if one_in(rng, 6) {
        let at = rng.usize(packet.min(frame.len() - 1)..frame.len().min(packet + 64));
        frame[at] = rng.u8(..);
    }
    if one_in(rng, 10) {
        let len = rng.usize(SHORTEST..160).max(packet);
        frame.resize(len, 0);
    }
    let run = reference::run(program, &frame[packet..]);
    if let Some(end) = run.short
        && (run.branches.is_empty() || !one_in(rng, 4))
    {
        let missing = (packet + end).saturating_sub(frame.len());
        if packet + end <= LONGEST {
            let spare = rng.usize(..4);
            let more = bytes(rng, missing + spare);
            frame.extend(more);
        }
        return;
    }
    if run.branches.is_empty() {
        return;
    }
    // Mostly the last one: it is closest to a match, or to the end of one.
    let last = run.branches.len() - 1;
    let branch = &run.branches[if one_in(rng, 3) { rng.usize(..=last) } else { last }];
    let range = packet + branch.bytes.start..packet + branch.bytes.end;
    let now = frame[range.clone()].iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
    // Comparisons turn at the value itself.
    let value = match rng.usize(..6) {
        0 => branch.value.wrapping_add(1),
        1 => branch.value.wrapping_sub(1),
        2 => rng.u32(..),
        _ => branch.value,
    };
    let value = now & !branch.mask | value & branch.mask;
    let len = range.len();
    frame[range].copy_from_slice(&value.to_be_bytes()[4 - len..]);
}

/// Where the packet inside of a frame begins, if there is one.
pub(crate) fn inner(frame: &[u8]) -> Option<usize> {
    let half = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let mut at = 12;
    for _ in 0..2 {
        if [0x8100, 0x88a8].contains(&half(at)?) {
            at += 4;
        }
    }
    let kind = half(at)?;
    at += 2;
    let (protocol, len) = match kind {
        0x0800 => {
            let header = frame.get(at..at + 20)?;
            let len = usize::from(header[0] & 0xf) * 4;
            if len < 20 || half(at + 6)? & 0x1fff != 0 {
                return None;
            }
            (header[9], len)
        }
        0x86dd => (frame.get(at..at + 40)?[6], 40),
        _ => return None,
    };
    let at = at + len;
    match protocol {
        4 | 41 if at <= frame.len() => Some(at),
        17 if [6080, 19523].contains(&half(at + 2)?) => inside_gue(frame, at + 8),
        _ => None,
    }
}

fn inside_gue(frame: &[u8], at: usize) -> Option<usize> {
    let first = *frame.get(at)?;
    if [4, 6].contains(&(first >> 4)) {
        return Some(at);
    }
    let end = at + 4 + 4 * usize::from(first & 0x1f);
    let is_packet = first & 0xe0 == 0 && matches!(frame.get(at + 1), Some(4 | 41));
    (is_packet && at + 4 <= frame.len() && end <= frame.len()).then_some(end)
}
