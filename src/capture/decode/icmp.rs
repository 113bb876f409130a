//! ICMP and `ICMPv6`: errors with the flow that they quote, echo, and neighbour discovery.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use etherparse::IpNumber;
use etherparse::Ipv4HeaderSlice;
use etherparse::Ipv6HeaderSlice;

use super::Part;

const HEADER: usize = 8;

/// Where the second half of the header is: an identifier, an MTU, a pointer, a gateway.
const REST_OF_HEADER: usize = 4;

/// Writes an ICMP message. Returns the quoted packet, if it is an error that quotes one.
pub(super) fn icmp<'a>(
    line: &mut String,
    message: Part<'a>,
) -> Result<Option<Part<'a>>, fmt::Error> {
    let (Some([kind, code]), Some(identifier), Some(sequence)) =
        (message.bytes(0), message.u16(REST_OF_HEADER), message.u16(REST_OF_HEADER + 2))
    else {
        return line.write_str("[|icmp]").map(|()| None);
    };
    let quoted = message.skip(HEADER);
    line.write_str("ICMP ")?;
    match (kind, code) {
        (0, _) => write!(line, "echo reply, id {identifier}, seq {sequence}")?,
        (8, _) => write!(line, "echo request, id {identifier}, seq {sequence}")?,
        (3, _) => {
            let Some(quoted) = QuotedTarget::ipv4(quoted) else {
                return line.write_str("[|icmp]").map(|()| None);
            };
            unreachable(line, code, &quoted, sequence)?;
        }
        (4, _) => line.write_str("source quench")?,
        (5, 0..=3) => {
            let Some(quoted) = QuotedTarget::ipv4(quoted) else {
                return line.write_str("[|icmp]").map(|()| None);
            };
            let tos = if code < 2 { "" } else { "-tos" };
            let what = if code % 2 == 0 { "net" } else { "host" };
            let gateway =
                message.bytes::<4>(REST_OF_HEADER).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
            write!(line, "redirect{tos} {} to {what} {gateway}", quoted.address)?;
        }
        (9, _) => line.write_str("router advertisement")?,
        (10, _) => line.write_str("router solicitation")?,
        (11, 0) => line.write_str("time exceeded in-transit")?,
        (11, 1) => line.write_str("ip reassembly time exceeded")?,
        (11, _) => write!(line, "time exceeded-#{code}")?,
        (12, 0) => write!(line, "parameter problem - octet {}", identifier >> 8)?,
        (12, _) => write!(line, "parameter problem - code {code}")?,
        (13, _) => write!(line, "time stamp query id {identifier} seq {sequence}")?,
        (14, _) => write!(line, "time stamp reply id {identifier} seq {sequence}")?,
        _ => write!(line, "type-#{kind}")?,
    }
    write!(line, ", length {}", message.length)?;
    match kind {
        3 | 4 | 5 | 11 | 12 => Ok(present(quoted)),
        _ => Ok(None),
    }
}

fn unreachable(line: &mut String, code: u8, quoted: &QuotedTarget, mtu: u16) -> fmt::Result {
    let target = quoted.address;
    match code {
        0 => write!(line, "net {target} unreachable"),
        1 => write!(line, "host {target} unreachable"),
        2 => write!(line, "{target} protocol {} unreachable", quoted.protocol.0),
        3 => {
            let Some(port) = quoted.port else { return line.write_str("port unreachable [|icmp]") };
            match quoted.protocol {
                IpNumber::TCP => write!(line, "{target} tcp port {port} unreachable"),
                IpNumber::UDP => write!(line, "{target} udp port {port} unreachable"),
                IpNumber(other) => {
                    write!(line, "{target} protocol {other} port {port} unreachable")
                }
            }
        }
        4 if mtu != 0 => write!(line, "{target} unreachable - need to frag (mtu {mtu})"),
        4 => write!(line, "{target} unreachable - need to frag"),
        5 => write!(line, "{target} unreachable - source route failed"),
        6 => write!(line, "net {target} unreachable - unknown"),
        7 => write!(line, "host {target} unreachable - unknown"),
        8 => write!(line, "{target} unreachable - source host isolated"),
        9 => write!(line, "net {target} unreachable - admin prohibited"),
        10 => write!(line, "host {target} unreachable - admin prohibited"),
        11 => write!(line, "net {target} unreachable - tos prohibited"),
        12 => write!(line, "host {target} unreachable - tos prohibited"),
        13 => write!(line, "host {target} unreachable - admin prohibited filter"),
        14 => write!(line, "host {target} unreachable - host precedence violation"),
        15 => write!(line, "host {target} unreachable - precedence cutoff"),
        _ => write!(line, "{target} unreachable - #{code}"),
    }
}

/// Writes an `ICMPv6` message. Returns the quoted packet, if it is an error that quotes one.
pub(super) fn icmp6<'a>(
    line: &mut String,
    message: Part<'a>,
) -> Result<Option<Part<'a>>, fmt::Error> {
    let (Some([kind, code]), Some(rest)) = (message.bytes(0), message.u32(REST_OF_HEADER)) else {
        return line.write_str("[|icmp6]").map(|()| None);
    };
    let quoted = message.skip(HEADER);
    let address = |offset| message.bytes::<16>(offset).map(Ipv6Addr::from);
    line.write_str("ICMP6, ")?;
    let cut = match kind {
        1 => unreachable6(line, code, QuotedTarget::ipv6(quoted).as_ref())?,
        2 => write!(line, "packet too big, mtu {rest}").map(|()| false)?,
        3 => time_exceeded6(line, code, quoted)?,
        4 => parameter_problem6(line, code, rest).map(|()| false)?,
        128 | 129 => {
            let what = if kind == 128 { "request" } else { "reply" };
            write!(line, "echo {what}, id {}, seq {}", rest >> 16, rest & 0xffff)?;
            false
        }
        130 => line.write_str("multicast listener query").map(|()| false)?,
        131 => line.write_str("multicast listener report").map(|()| false)?,
        132 => line.write_str("multicast listener done").map(|()| false)?,
        133 => line.write_str("router solicitation").map(|()| false)?,
        134 => line.write_str("router advertisement").map(|()| false)?,
        135 | 136 => {
            let (name, what) = if kind == 135 {
                ("neighbor solicitation", "who has")
            } else {
                ("neighbor advertisement", "tgt is")
            };
            line.write_str(name)?;
            match address(HEADER) {
                Some(target) => write!(line, ", {what} {target}").map(|()| false)?,
                None => true,
            }
        }
        137 => {
            line.write_str("redirect")?;
            match (address(HEADER), address(HEADER + 16)) {
                (Some(to), Some(target)) => write!(line, ", {target} to {to}").map(|()| false)?,
                _ => true,
            }
        }
        143 => write!(line, "multicast listener report v2, {} group record(s)", rest & 0xffff)
            .map(|()| false)?,
        _ => write!(line, "unknown icmp6 type ({kind})").map(|()| false)?,
    };
    if cut {
        return line.write_str(" [|icmp6]").map(|()| None);
    }
    write!(line, ", length {}", message.length)?;
    match kind {
        1..=4 => Ok(present(quoted)),
        _ => Ok(None),
    }
}

/// Writes an `ICMPv6` "time exceeded" message. Returns whether too few bytes were captured.
fn time_exceeded6(line: &mut String, code: u8, quoted: Part<'_>) -> Result<bool, fmt::Error> {
    line.write_str("time exceeded in-transit")?;
    Ok(match code {
        0 => match QuotedTarget::ipv6(quoted) {
            Some(quoted) => write!(line, " for {}", quoted.address).map(|()| false)?,
            None => true,
        },
        1 => line.write_str(" (reassembly)").map(|()| false)?,
        _ => write!(line, ", unknown code ({code})").map(|()| false)?,
    })
}

fn parameter_problem6(line: &mut String, code: u8, rest: u32) -> fmt::Result {
    line.write_str("parameter problem, ")?;
    match code {
        0 => write!(line, "erroneous - octet {rest}"),
        1 => write!(line, "next header - octet {rest}"),
        2 => write!(line, "option - octet {rest}"),
        3 => write!(line, "incomplete header chain - octet {rest}"),
        _ => write!(line, "code-#{code}"),
    }
}

/// Writes an IPv6 "destination unreachable" message. Returns whether too few bytes were captured.
fn unreachable6(
    line: &mut String,
    code: u8,
    quoted: Option<&QuotedTarget>,
) -> Result<bool, fmt::Error> {
    line.write_str("destination unreachable, ")?;
    let Some(&QuotedTarget { source, address, protocol, port }) = quoted else {
        return write!(line, "code {code}").map(|()| true);
    };
    match code {
        0 => write!(line, "unreachable route {address}")?,
        1 => write!(line, "unreachable prohibited {address}")?,
        2 => write!(line, "beyond scope {address}, source address {source}")?,
        3 => write!(line, "unreachable address {address}")?,
        4 => {
            line.write_str("unreachable port")?;
            let Some(port) = port else { return Ok(true) };
            match protocol {
                IpNumber::TCP => write!(line, ", {address} tcp port {port}")?,
                IpNumber::UDP => write!(line, ", {address} udp port {port}")?,
                IpNumber(other) => write!(line, ", {address} protocol {other} port {port}")?,
            }
        }
        _ => write!(line, "unknown unreach code ({code})")?,
    }
    Ok(false)
}

/// The quoted packet, unless the error ends before it.
fn present(quoted: Part<'_>) -> Option<Part<'_>> {
    (quoted.length != 0).then_some(quoted)
}

/// The destination of the packet that an error quotes.
struct QuotedTarget {
    source: IpAddr,
    address: IpAddr,
    protocol: IpNumber,
    /// `None`: the port was not captured. The bytes are read for protocols without ports, too, and not used.
    port: Option<u16>,
}

impl QuotedTarget {
    fn ipv4(packet: Part<'_>) -> Option<Self> {
        let header = Ipv4HeaderSlice::from_slice(packet.captured).ok()?;
        Some(Self {
            source: header.source_addr().into(),
            address: header.destination_addr().into(),
            protocol: header.protocol(),
            port: packet.skip(header.slice().len()).u16(2),
        })
    }

    fn ipv6(packet: Part<'_>) -> Option<Self> {
        let header = Ipv6HeaderSlice::from_slice(packet.captured).ok()?;
        Some(Self {
            source: header.source_addr().into(),
            address: header.destination_addr().into(),
            protocol: header.next_header(),
            port: packet.skip(header.slice().len()).u16(2),
        })
    }
}
