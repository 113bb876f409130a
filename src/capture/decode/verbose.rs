//! What `-v` says besides: the fields of IP headers, and whether checksums are right. As tcpdump says it.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use etherparse::IpNumber;
use etherparse::Ipv4HeaderSlice;
use etherparse::Ipv6HeaderSlice;

use super::Part;

/// The fields of an IPv4 header. `header` is what was captured of it.
pub(super) fn ipv4(line: &mut String, fields: &Ipv4HeaderSlice<'_>, header: &[u8]) -> fmt::Result {
    const RESERVED: u8 = 0x80;
    let tos = header.get(1).copied().unwrap_or_default();
    let congestion = match tos & 3 {
        1 => ",ECT(1)",
        2 => ",ECT(0)",
        3 => ",CE",
        _ => "",
    };
    write!(line, "(tos {tos:#x}{congestion}")?;
    if fields.ttl() > 0 {
        write!(line, ", ttl {}", fields.ttl())?;
    }
    let reserved = header.get(6).is_some_and(|byte| byte & RESERVED != 0);
    let flags =
        [(fields.more_fragments(), "+"), (fields.dont_fragment(), "DF"), (reserved, "rsvd")];
    let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let flags = if flags.is_empty() { "none".to_owned() } else { flags.join(", ") };
    let offset = u32::from(fields.fragments_offset().value()) * 8;
    write!(
        line,
        ", id {}, offset {offset}, flags [{flags}], proto {} ({}), length {}",
        fields.identification(),
        protocol_name(fields.protocol()),
        fields.protocol().0,
        fields.total_len()
    )
}

/// The end of what [`ipv4`] began.
pub(super) fn ipv4_end(line: &mut String, header: &[u8], length: usize) -> fmt::Result {
    if let Some(header) = header.get(..length) {
        let sum = checksum(&[header]);
        if sum != 0 {
            let given = u16::from_be_bytes([header[10], header[11]]);
            // What the field would have to be.
            let mut right = header.to_vec();
            right[10..12].fill(0);
            write!(line, ", bad cksum {given:x} (->{:x})!", checksum(&[&right]))?;
        }
    }
    line.write_str(")\n    ")
}

/// The fields of an IPv6 header.
pub(super) fn ipv6(line: &mut String, header: &Ipv6HeaderSlice<'_>) -> fmt::Result {
    line.write_str("(")?;
    if header.traffic_class() != 0 {
        write!(line, "class {:#04x}, ", header.traffic_class())?;
    }
    if header.flow_label().value() != 0 {
        write!(line, "flowlabel {:#07x}, ", header.flow_label().value())?;
    }
    write!(
        line,
        "hlim {}, next-header {} ({}) payload length: {}) ",
        header.hop_limit(),
        protocol_name(header.next_header()),
        header.next_header().0,
        header.payload_length()
    )
}

/// tcpdump's names of protocols.
fn protocol_name(protocol: IpNumber) -> &'static str {
    match protocol.0 {
        0 => "Options",
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPIP",
        6 => "TCP",
        17 => "UDP",
        33 => "DCCP",
        41 => "IPv6",
        43 => "Routing",
        44 => "Fragment",
        46 => "RSVP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        59 => "no next header",
        89 => "OSPF",
        103 => "PIM",
        108 => "Compressed IP",
        112 => "VRRP",
        132 => "SCTP",
        135 => "Mobility",
        _ => "unknown",
    }
}

/// The checksum that TCP or UDP should have, with `at` as the place of the field; `None`: not all of the packet was
/// captured.
pub(super) fn transport_checksum(
    (source, destination): (IpAddr, IpAddr),
    protocol: IpNumber,
    whole: Part<'_>,
    at: usize,
) -> Option<(u16, u16)> {
    let given = whole.u16(at)?;
    let bytes = whole.captured.get(..whole.length)?;
    let mut addresses = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => addresses.extend(address.octets()),
            IpAddr::V6(address) => addresses.extend(address.octets()),
        }
    }
    let length = u32::try_from(whole.length).ok()?.to_be_bytes();
    let pseudo = [length[0], length[1], length[2], length[3], 0, 0, 0, protocol.0];
    let mut zeroed = bytes.to_vec();
    zeroed.get_mut(at..at + 2)?.fill(0);
    Some((given, checksum(&[&addresses, &pseudo, &zeroed])))
}

/// The Internet checksum (RFC 1071) of parts, of which only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
