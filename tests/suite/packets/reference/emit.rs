//! The frames that leave.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use l4lb::SourceV4;
use l4lb::SourceV6;

use super::parse::Packet;
use super::parse::Upper;

const TTL: u8 = 64;

/// The ones' complement sum of 16-bit words (RFC 1071): 0xffff over anything with a right checksum.
pub(crate) fn internet_sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from));
    let sum: u64 = words.sum();
    // Carries added back: the sum modulo 0xffff, where only a sum of nothing is 0.
    match sum % 0xffff {
        0 if sum > 0 => 0xffff,
        rest => u16::try_from(rest).unwrap_or_default(),
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    (!internet_sum(parts)).to_be_bytes()
}

/// The outer source of a flow to an IPv4 real: the client's last bytes, mixed with its port, behind the
/// prefix.
pub(crate) fn source4(prefix: SourceV4, client: IpAddr, port: u16) -> Ipv4Addr {
    let mut tail = match client {
        IpAddr::V4(v4) => v4.octets(),
        // All of an IPv6 address: clients of one network differ at its end, networks do not.
        IpAddr::V6(v6) => v6.octets().chunks(4).fold([0; 4], |sum, word| {
            [sum[0] ^ word[0], sum[1] ^ word[1], sum[2] ^ word[2], sum[3] ^ word[3]]
        }),
    };
    let [high, low] = port.to_be_bytes();
    tail[2] ^= low;
    tail[3] ^= high;
    let spread =
        u32::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0) & u32::from_be_bytes(tail);
    Ipv4Addr::from(u32::from(prefix.address()) | spread)
}

/// The outer source of a flow to an IPv6 real.
pub(crate) fn source6(prefix: SourceV6, client: IpAddr, port: u16) -> Ipv6Addr {
    let tail: [u8; 4] = match client {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => *v6.octets().last_chunk().unwrap_or(&[0; 4]),
    };
    let [high, low] = port.to_be_bytes();
    let tail = u32::from_be_bytes([tail[0] ^ high, tail[1] ^ low, tail[2], tail[3]]);
    let spread = u128::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0) & u128::from(tail);
    Ipv6Addr::from(u128::from(prefix.address()) | spread)
}

/// Ethernet header and tags, from us to `destination`.
fn link(packet: &Packet<'_>, destination: &[u8], v6: bool) -> Vec<u8> {
    let ether_type = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let tags = &packet.link[12..packet.link.len() - 2];
    [destination, &packet.link[..6], tags, &ether_type].concat()
}

fn header4(
    class: u8,
    length: usize,
    df: bool,
    protocol: u8,
    source: Ipv4Addr,
    to: Ipv4Addr,
) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[1] = class;
    header[2..4].copy_from_slice(&word(length));
    header[6] = if df { 0x40 } else { 0 };
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&to.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    header
}

fn header6(class: u8, payload: usize, next: u8, source: Ipv6Addr, to: Ipv6Addr) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60 | class >> 4;
    header[1] = class << 4;
    header[4..6].copy_from_slice(&word(payload));
    header[6] = next;
    header[7] = TTL;
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&to.octets());
    header
}

fn word(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("packets are shorter").to_be_bytes()
}

/// The protocol number of what is inside.
fn inner(packet: &Packet<'_>) -> u8 {
    if packet.is_v6() { 41 } else { 4 }
}

pub(crate) fn in_ipv4(
    packet: &Packet<'_>,
    gateway: [u8; 6],
    df: bool,
    source: Ipv4Addr,
    real: Ipv4Addr,
) -> Vec<u8> {
    let outer = header4(packet.class, 20 + packet.length, df, inner(packet), source, real);
    [&link(packet, &gateway, false), outer.as_slice(), packet.ip].concat()
}

pub(crate) fn in_ipv6(
    packet: &Packet<'_>,
    gateway: [u8; 6],
    source: Ipv6Addr,
    real: Ipv6Addr,
) -> Vec<u8> {
    let outer = header6(packet.class, packet.length, inner(packet), source, real);
    [&link(packet, &gateway, true), outer.as_slice(), packet.ip].concat()
}

/// What GUE needs besides the addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gue {
    pub(crate) variant: u8,
    pub(crate) port: u16,
    /// ICMP errors of IPv4 to IPv4 reals, by variant 1.
    pub(crate) icmp_as_katran: bool,
}

/// What is inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried<'a> {
    pub(crate) packet: &'a Packet<'a>,
    /// It is an ICMP error.
    pub(crate) is_error: bool,
}

/// The UDP source port: the client's port as it was sent, mixed with bytes of its address.
pub(crate) fn gue_source_port(client: IpAddr, port: u16, real: IpAddr) -> u16 {
    let [high, low] = port.to_be_bytes();
    let [a, b] = match client {
        IpAddr::V4(v4) => [v4.octets()[2], v4.octets()[3]],
        IpAddr::V6(v6) => [v6.octets()[12], v6.octets()[13]],
    };
    let mixed = match (client, real) {
        (IpAddr::V4(_), IpAddr::V4(_)) => [low ^ a, high ^ b],
        _ => [high ^ a, low ^ b],
    };
    u16::from_be_bytes(mixed)
}

/// The packet in UDP.
pub(crate) fn in_gue(
    inside: Carried<'_>,
    gateway: [u8; 6],
    df: bool,
    (source, real): (IpAddr, IpAddr),
    source_port: u16,
    gue: Gue,
) -> Vec<u8> {
    let packet = inside.packet;
    let carried = &packet.ip[..packet.length];
    let private = match gue.variant {
        1 => vec![],
        // Version 0, one more word; the protocol; no flags. Then the type of a list of no hops.
        _ => vec![1, inner(packet), 0, 0, 0, u8::from(real.is_ipv6()), 0, 0],
    };
    let length = 8 + private.len() + packet.length;
    let [udp_source, udp_port] = [source_port, gue.port].map(u16::to_be_bytes);
    let mut udp = [udp_source, udp_port, word(length), [0, 0]].concat();
    let (outer, pseudo) = match (source, real) {
        (IpAddr::V4(source), IpAddr::V4(real)) => {
            let outer = header4(packet.class, 20 + length, df, 17, source, real).to_vec();
            (outer.clone(), outer[12..].to_vec())
        }
        (IpAddr::V6(source), IpAddr::V6(real)) => {
            let outer = header6(packet.class, length, 17, source, real).to_vec();
            (outer.clone(), outer[8..].to_vec())
        }
        _ => unreachable!("the source is of the real's family"),
    };
    let all = internet_sum(&[&pseudo, &[0, 17], &word(length), &udp, &private, carried]);
    // Whoever does not sum the packet takes its own checksums for right. If they are not, the outer one is wrong by
    // as much.
    let as_katran = gue.icmp_as_katran && gue.variant == 1 && real.is_ipv4();
    let check = match inner_error(inside, as_katran) {
        Some(error) => Some((u32::from(all) + 0xffff - error) % 0xffff),
        None if real.is_ipv6() => Some(u32::from(all) % 0xffff),
        None => None,
    };
    if let Some(sum) = check {
        // 0 would say that there is none.
        let check = if sum == 0 { 0xffff } else { !u16::try_from(sum).expect("folded") };
        udp[6..].copy_from_slice(&check.to_be_bytes());
    }
    [&link(packet, &gateway, real.is_ipv6()), outer.as_slice(), &udp, &private, packet.ip].concat()
}

/// What the sums over the IPv4 header, and over TCP, UDP or ICMP, are beyond all ones. `None`: no sum tells.
fn inner_error(inside: Carried<'_>, as_katran: bool) -> Option<u32> {
    let Carried { packet, is_error } = inside;
    let Upper::Protocol { number, body } = packet.upper else { return None };
    let covers_all = || body[6..8] != [0, 0] && body[4..6] == word(body.len());
    if packet.has_extensions || (number == 17 && !is_error && !covers_all()) {
        return None;
    }
    let header = if packet.is_v6() { 0xffff } else { internet_sum(&[&packet.ip[..20]]) };
    let mut error = u32::from(header) + u32::from(packet.upper_sum(number)?);
    // Katran sums ICMP with a pseudo-header, too.
    if number == 1 && as_katran {
        error += u32::from(internet_sum(&[&packet.ip[12..20], &[0, 1], &word(body.len())]));
    }
    Some(error % 0xffff)
}

/// The packet as it is, in a frame to a real on this network. As behind a router, its TTL is one less.
pub(crate) fn by_l2(packet: &Packet<'_>, real: [u8; 6]) -> Option<Vec<u8>> {
    let mut ip = packet.ip.to_vec();
    let ttl = if packet.is_v6() { 7 } else { 8 };
    if ip[ttl] <= 1 {
        return None;
    }
    if !packet.is_v6() {
        // RFC 1624, equation 3, of the word with TTL and protocol.
        let old = [!ip[10], !ip[11], !ip[8], !ip[9]];
        let sum = checksum(&[&old, &[ip[8] - 1, ip[9]]]);
        ip[10..12].copy_from_slice(&sum);
    }
    ip[ttl] -= 1;
    Some([&real, &packet.link[..6], &packet.link[12..], &ip].concat())
}

/// The packet without the header of an atomic fragment.
fn whole(packet: &Packet<'_>, protocol: u8) -> Vec<u8> {
    let mut ip = packet.ip.to_vec();
    if packet.atomic {
        ip.drain(40..48);
        ip[4..6].copy_from_slice(&word(packet.length - 48));
        ip[6] = protocol;
    }
    ip
}

/// A reset, back to the sender of a TCP packet of no connection (RFC 9293, 3.10.7.1).
pub(crate) fn reset(packet: &Packet<'_>, tcp: &[u8]) -> Vec<u8> {
    let flags = tcp[13];
    let mut reset = [&tcp[2..4], &tcp[..2], &[0; 8], &[0x50, 0x04], &[0; 6]].concat();
    if flags & 0x10 == 0 {
        let number = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let data = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        let (syn, fin) = (u32::from(flags >> 1 & 1), u32::from(flags & 1));
        let data = u32::try_from(data).expect("packets are shorter");
        let next = number.wrapping_add(data).wrapping_add(syn).wrapping_add(fin);
        reset[8..12].copy_from_slice(&next.to_be_bytes());
        reset[13] |= 0x10;
    } else {
        reset[4..8].copy_from_slice(&tcp[8..12]);
    }
    let frame = back(packet, 6, &mut reset, 16);
    // As long as Ethernet has frames, with what was there before.
    let before = [packet.link, &whole(packet, 6)].concat();
    let padding = before.get(frame.len()..before.len().min(60)).unwrap_or_default();
    [frame.as_slice(), padding].concat()
}

/// "Port unreachable", back to the sender of a UDP packet.
pub(crate) fn port_unreachable(packet: &Packet<'_>) -> Vec<u8> {
    let (kind, code, protocol, quoted) =
        if packet.is_v6() { (1, 4, 58, 48) } else { (3, 3, 1, 28) };
    let quote = &whole(packet, 17)[..quoted];
    let mut icmp = [&[kind, code, 0, 0, 0, 0, 0, 0], quote].concat();
    back(packet, protocol, &mut icmp, 2)
}

/// A packet to the sender of another, its checksum set.
fn back(packet: &Packet<'_>, protocol: u8, body: &mut [u8], checksum_at: usize) -> Vec<u8> {
    let sender = &packet.link[6..12];
    let length = word(body.len());
    let (ip, pseudo) = match (packet.destination, packet.source) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let ip = header4(0, 20 + body.len(), false, protocol, vip, client).to_vec();
            let pseudo = if protocol == 1 { Vec::new() } else { ip[12..20].to_vec() };
            (ip, pseudo)
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let ip = header6(0, body.len(), protocol, vip, client).to_vec();
            let pseudo = ip[8..40].to_vec();
            (ip, pseudo)
        }
        _ => unreachable!("a packet has one version"),
    };
    let rest = if pseudo.is_empty() { [0; 4] } else { [length[0], length[1], 0, protocol] };
    let sum = checksum(&[&pseudo, &rest, body]);
    body[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    [&link(packet, sender, packet.is_v6()), ip.as_slice(), body].concat()
}

/// The frame, back to its sender as an answer of type `reply`, without the header of an atomic fragment.
pub(crate) fn echo_reply(packet: &Packet<'_>, reply: u8) -> Vec<u8> {
    let mut ip = whole(packet, 58);
    let icmp = if packet.is_v6() {
        ip[7] = TTL;
        ip[8..24].copy_from_slice(&packet.ip[24..40]);
        ip[24..40].copy_from_slice(&packet.ip[8..24]);
        40
    } else {
        ip[8] = TTL;
        ip[12..16].copy_from_slice(&packet.ip[16..20]);
        ip[16..20].copy_from_slice(&packet.ip[12..16]);
        ip[10..12].fill(0);
        let sum = checksum(&[&ip[..20]]);
        ip[10..12].copy_from_slice(&sum);
        20
    };
    // The checksum grows by what the type shrinks by, modulo 0xffff.
    let check = |ip: &[u8]| u32::from(ip[icmp + 2]) << 8 | u32::from(ip[icmp + 3]);
    let shrunk = (u32::from(ip[icmp]) << 8) + 0xffff - (u32::from(reply) << 8);
    let sum = match (check(&ip) + shrunk) % 0xffff {
        0 => 0xffff,
        sum => sum,
    };
    ip[icmp] = reply;
    ip[icmp + 2..icmp + 4].copy_from_slice(&word(sum as usize));
    [&packet.link[6..12], &packet.link[..6], &packet.link[12..], &ip].concat()
}

/// "Fragmentation needed" or "packet too big", back to the sender.
pub(crate) fn too_big_reply(packet: &Packet<'_>, mtu: u16) -> Vec<u8> {
    let sender = &packet.link[6..12];
    let [high, low] = mtu.to_be_bytes();
    match (packet.destination, packet.source) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let quote = &packet.ip[..84];
            let mut icmp = [3, 4, 0, 0, 0, 0, high, low];
            let sum = checksum(&[&icmp, quote]);
            icmp[2..4].copy_from_slice(&sum);
            let ip = header4(0, 20 + icmp.len() + quote.len(), false, 1, vip, client);
            [&link(packet, sender, false), ip.as_slice(), &icmp, quote].concat()
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let quote = &packet.ip[..248];
            let mut icmp = [2, 0, 0, 0, 0, 0, high, low];
            let ip = header6(0, icmp.len() + quote.len(), 58, vip, client);
            let pseudo = [&ip[8..40], &[0, 0, ip[4], ip[5], 0, 0, 0, 58]].concat();
            let sum = checksum(&[&pseudo, &icmp, quote]);
            icmp[2..4].copy_from_slice(&sum);
            [&link(packet, sender, true), ip.as_slice(), &icmp, quote].concat()
        }
        _ => unreachable!("a packet has one version"),
    }
}
