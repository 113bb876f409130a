//! IPv4 and IPv6, and the headers between them and the transport.

use std::fmt;
use std::fmt::Write as _;

use etherparse::IpAuthHeaderSlice;
use etherparse::IpNumber;
use etherparse::Ipv4HeaderSlice;
use etherparse::Ipv6FragmentHeaderSlice;
use etherparse::Ipv6HeaderSlice;
use etherparse::Ipv6RawExtHeaderSlice;

use super::NESTING;
use super::Part;
use super::Telling;
use super::ends::Ends;
use super::gue::Inside;
use super::icmp;
use super::tcp;
use super::udp;
use super::verbose;

const IPV4_HEADER: usize = 20;
const IPV4_LONGEST_HEADER: usize = 60;
const IPV6_HEADER: usize = 40;

/// A packet of the IP version that its first byte names.
pub(super) fn either(line: &mut String, packet: Part<'_>, telling: Telling) -> fmt::Result {
    match packet.captured.first().map(|byte| byte >> 4) {
        Some(4) => ipv4(line, packet, telling),
        Some(6) => ipv6(line, packet, telling),
        Some(version) => write!(line, "IP{version} (invalid)"),
        None => line.write_str("[|ip]"),
    }
}

pub(super) fn ipv4(line: &mut String, packet: Part<'_>, telling: Telling) -> fmt::Result {
    if let Some(version) = packet.captured.first().map(|byte| byte >> 4)
        && version != 4
    {
        return write!(line, "IP{version} (invalid)");
    }
    if !telling.style.link {
        line.write_str("IP ")?;
    }
    // Options that were not captured must not hide the addresses.
    let mut room = [0; IPV4_LONGEST_HEADER];
    let known = packet.captured.len().min(IPV4_LONGEST_HEADER);
    if known < IPV4_HEADER {
        return line.write_str("[|ip]");
    }
    room[..known].copy_from_slice(&packet.captured[..known]);
    let header_length = usize::from(room[0] & 0x0f) * 4;
    let Ok(header) = Ipv4HeaderSlice::from_slice(&room) else {
        return write!(line, "bad-hlen {header_length}");
    };
    let length = usize::from(header.total_len());
    if length < header_length {
        return write!(line, "bad-len {length}");
    }
    if !telling.quoted && length > packet.length {
        write!(line, "truncated-ip - {} bytes missing! ", length - packet.length)?;
    }
    let verbose = telling.style.verbose > 0 && !telling.quoted;
    if verbose {
        verbose::ipv4(line, &header, &room)?;
    }
    if header_length > IPV4_HEADER {
        let known = packet.captured.get(IPV4_HEADER..header_length.min(known)).unwrap_or_default();
        line.write_str(if verbose { ", " } else { "" })?;
        ipv4_options(line, known, header_length - IPV4_HEADER)?;
        line.write_str(if verbose { "" } else { " " })?;
    }
    if verbose {
        verbose::ipv4_end(line, packet.captured, header_length)?;
    }
    let mut ends = Ends::new(header.source_addr(), header.destination_addr());
    ends.fragment = header.more_fragments();
    let payload = packet.limit(length).skip(header_length);
    let offset = usize::from(header.fragments_offset().value()) * 8;
    if offset == 0 {
        transport(line, header.protocol(), payload, ends, telling)?;
    } else {
        ends.write(line)?;
        write!(line, "ip-proto-{}", header.protocol().0)?;
    }
    if header.is_fragmenting_payload() && !verbose {
        let more = if header.more_fragments() { "+" } else { "" };
        write!(
            line,
            " (frag id {}, {}@{offset}{more})",
            header.identification(),
            length - header_length
        )?;
    }
    Ok(())
}

/// The names of `length` bytes of IPv4 options. `known` has the bytes that were captured.
fn ipv4_options(line: &mut String, mut known: &[u8], length: usize) -> fmt::Result {
    let cut = known.len() < length;
    line.write_str("options (")?;
    let mut comma = "";
    while let [kind, rest @ ..] = known {
        line.write_str(comma)?;
        comma = ",";
        let name = match kind {
            0 => "EOL",
            1 => "NOP",
            7 => "RR",
            68 => "timestamp",
            130 => "security",
            131 => "LSRR",
            137 => "SSRR",
            148 => "RA",
            _ => "",
        };
        if name.is_empty() {
            write!(line, "unknown {kind}")?;
        } else {
            line.write_str(name)?;
        }
        known = match (kind, rest) {
            (0, _) => return line.write_str(")"),
            (1, _) => rest,
            (_, [length, ..]) if *length >= 2 && usize::from(*length) <= known.len() => {
                &known[usize::from(*length)..]
            }
            _ => {
                line.write_str(if cut { " [|ip]" } else { " [bad opt]" })?;
                return line.write_str(")");
            }
        };
    }
    line.write_str(if cut { " [|ip])" } else { ")" })
}

pub(super) fn ipv6(line: &mut String, packet: Part<'_>, telling: Telling) -> fmt::Result {
    if packet.captured.len() < IPV6_HEADER {
        return line.write_str("[|ip6]");
    }
    if !telling.style.link {
        line.write_str("IP6 ")?;
    }
    let Ok(header) = Ipv6HeaderSlice::from_slice(packet.captured) else {
        return write!(line, "version error: {} != 6", packet.captured[0] >> 4);
    };
    let length = IPV6_HEADER + usize::from(header.payload_length());
    if !telling.quoted && length > packet.length {
        write!(line, "truncated-ip6 - {} bytes missing! ", length - packet.length)?;
    }
    if telling.style.verbose > 0 && !telling.quoted {
        verbose::ipv6(line, &header)?;
    }
    let ends = Ends::new(header.source_addr(), header.destination_addr());
    let payload = packet.limit(length).skip(IPV6_HEADER);
    transport(line, header.next_header(), payload, ends, telling)
}

/// Writes what follows an IP header of either version, through extension headers.
fn transport(
    line: &mut String,
    mut protocol: IpNumber,
    mut payload: Part<'_>,
    mut ends: Ends,
    telling: Telling,
) -> fmt::Result {
    for _ in 0..NESTING {
        if is_extension(protocol, ends.source.is_ipv6()) {
            ends.write(line)?;
            match extension(line, protocol, payload, &mut ends)? {
                Some(next) => (protocol, payload) = next,
                None => return Ok(()),
            }
            continue;
        }
        return match protocol {
            IpNumber::TCP => tcp::tcp(line, payload, ends, telling),
            IpNumber::UDP => match udp::udp(line, payload, ends, telling)? {
                Some(Inside::Packet(packet)) => match telling.inside() {
                    Some(telling) => either(line, packet, telling),
                    None => line.write_str("[more packets inside]"),
                },
                Some(Inside::Protocol(protocol, payload)) => {
                    without_ports(line, protocol, payload, telling)
                }
                None => Ok(()),
            },
            _ => {
                ends.write(line)?;
                without_ports(line, protocol, payload, telling)
            }
        };
    }
    line.write_str("[more extension headers]")
}

/// Writes what has no ports, or is not to show them.
fn without_ports(
    line: &mut String,
    protocol: IpNumber,
    payload: Part<'_>,
    telling: Telling,
) -> fmt::Result {
    match protocol {
        IpNumber::IPV4 | IpNumber::IPV6 => match telling.inside() {
            Some(_) if payload.captured.is_empty() => {
                line.write_str(if protocol == IpNumber::IPV4 { "[|ip]" } else { "[|ip6]" })
            }
            Some(telling) if protocol == IpNumber::IPV4 => ipv4(line, payload, telling),
            Some(telling) => ipv6(line, payload, telling),
            None => line.write_str("[more packets inside]"),
        },
        IpNumber::ICMP if telling.quoted => line.write_str("icmp"),
        IpNumber::IPV6_ICMP if telling.quoted => line.write_str("icmp6"),
        IpNumber::ICMP => {
            let quoted = icmp::icmp(line, payload)?;
            quote(line, quoted, telling)
        }
        IpNumber::IPV6_ICMP => {
            let quoted = icmp::icmp6(line, payload)?;
            quote(line, quoted, telling)
        }
        IpNumber::IPV6_NO_NEXT_HEADER => line.write_str("no next header"),
        IpNumber::ENCAPSULATING_SECURITY_PAYLOAD => match (payload.u32(0), payload.u32(4)) {
            (Some(spi), Some(sequence)) => {
                write!(line, "ESP(spi={spi:#010x},seq={sequence:#x}), length {}", payload.length)
            }
            _ => line.write_str("[|esp]"),
        },
        other => match other.keyword_str() {
            Some(name) => write!(line, "{name}, length {}", payload.length),
            None => write!(line, "ip-proto-{} {}", other.0, payload.length),
        },
    }
}

/// Writes the packet that an ICMP error quotes.
fn quote(line: &mut String, quoted: Option<Part<'_>>, telling: Telling) -> fmt::Result {
    let (Some(quoted), Some(telling)) = (quoted, telling.inside()) else { return Ok(()) };
    line.write_str(", quoting ")?;
    either(line, quoted, Telling { quoted: true, ..telling })
}

/// Whether this is an extension header, which another header follows. AH is one in IPv4 too.
fn is_extension(protocol: IpNumber, v6: bool) -> bool {
    protocol == IpNumber::AUTHENTICATION_HEADER
        || v6
            && matches!(
                protocol,
                IpNumber::IPV6_HEADER_HOP_BY_HOP
                    | IpNumber::IPV6_DESTINATION_OPTIONS
                    | IpNumber::IPV6_ROUTE_HEADER
                    | IpNumber::IPV6_FRAGMENTATION_HEADER
                    | IpNumber::MOBILITY_HEADER
            )
}

/// Writes an extension header. Returns what follows it, unless that cannot be known.
fn extension<'a>(
    line: &mut String,
    protocol: IpNumber,
    payload: Part<'a>,
    ends: &mut Ends,
) -> Result<Option<(IpNumber, Part<'a>)>, fmt::Error> {
    let captured = payload.captured;
    match protocol {
        IpNumber::AUTHENTICATION_HEADER => {
            let Ok(header) = IpAuthHeaderSlice::from_slice(captured) else {
                line.write_str("[|ah]")?;
                return Ok(None);
            };
            write!(line, "AH(spi={:#010x},seq={:#x}): ", header.spi(), header.sequence_number())?;
            Ok(Some((header.next_header(), payload.skip(header.slice().len()))))
        }
        IpNumber::IPV6_FRAGMENTATION_HEADER => {
            let Ok(header) = Ipv6FragmentHeaderSlice::from_slice(captured) else {
                line.write_str("[|frag]")?;
                return Ok(None);
            };
            let rest = payload.skip(header.slice().len());
            let offset = usize::from(header.fragment_offset().value()) * 8;
            write!(line, "frag ({offset}|{})", rest.length)?;
            ends.fragment = header.more_fragments();
            if offset != 0 {
                return Ok(None);
            }
            line.push(' ');
            Ok(Some((header.next_header(), rest)))
        }
        _ => {
            let (name, cut) = match protocol {
                IpNumber::IPV6_HEADER_HOP_BY_HOP => ("HBH ", "[|hbhopt]"),
                IpNumber::IPV6_DESTINATION_OPTIONS => ("DSTOPT ", "[|dstopt]"),
                IpNumber::IPV6_ROUTE_HEADER => ("RT6 ", "[|srcrt]"),
                _ => ("mobility ", "[|mobility]"),
            };
            let Ok(header) = Ipv6RawExtHeaderSlice::from_slice(captured) else {
                line.write_str(cut)?;
                return Ok(None);
            };
            line.write_str(name)?;
            if let (IpNumber::IPV6_ROUTE_HEADER, [routing, left, ..]) = (protocol, header.payload())
            {
                write!(line, "(type={routing}, segleft={left}) ")?;
            }
            Ok(Some((header.next_header(), payload.skip(header.slice().len()))))
        }
    }
}
