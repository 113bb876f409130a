//! UDP, and recognising QUIC.

use std::fmt;
use std::fmt::Write as _;

use etherparse::IpNumber;
use etherparse::UdpHeaderSlice;

use super::Part;
use super::Telling;
use super::ends::Ends;
use super::gue;
use super::gue::Inside;
use super::verbose;

const HEADER: usize = 8;

/// The offset of the checksum.
const CHECKSUM: usize = 6;

/// The port of HTTP/3.
const QUIC_PORT: u16 = 443;

/// How many bytes of a short header's connection id are shown. Only the server knows its length.
const SHORT_ID: usize = 8;

/// The longest connection id of the known versions (RFC 9000, 17.2).
const LONGEST_ID: usize = 20;

/// Writes a datagram; of GUE, up to what is inside.
pub(super) fn udp<'a>(
    line: &mut String,
    datagram: Part<'a>,
    mut ends: Ends,
    telling: Telling,
) -> Result<Option<Inside<'a>>, fmt::Error> {
    let ports = datagram.u16(0).zip(datagram.u16(2));
    ends.write_ports(line, ports)?;
    let encapsulates = ports.is_some_and(|(_, destination)| telling.gue.contains(destination));
    if telling.quoted {
        // Routers may quote no more than the outer headers.
        let payload = datagram.skip(HEADER);
        return match payload.captured {
            [_, ..] if encapsulates => gue::gue(line, payload),
            _ => line.write_str("udp").map(|()| None),
        };
    }
    if datagram.length > 0 && datagram.length < HEADER {
        write!(line, "truncated-udp {}", datagram.length)?;
        return Ok(None);
    }
    let Ok(header) = UdpHeaderSlice::from_slice(datagram.captured) else {
        line.write_str("[|udp]")?;
        return Ok(None);
    };
    let length = usize::from(header.length());
    if length < HEADER {
        write!(line, "truncated-udplength {length}")?;
        return Ok(None);
    }
    // tcpdump says it of IPv4 only with -vv.
    if telling.style.verbose > u8::from(ends.source.is_ipv4()) && !ends.fragment {
        let pair = (ends.source, ends.destination);
        match verbose::transport_checksum(pair, IpNumber::UDP, datagram.limit(length), CHECKSUM) {
            _ if header.checksum() == 0 => line.write_str("[no cksum] ")?,
            // Zero means that there is none, so its complement stands for it.
            Some((given, right)) if given == right || (given, right) == (u16::MAX, 0) => {
                line.write_str("[udp sum ok] ")?;
            }
            Some((given, right)) => {
                write!(line, "[bad udp cksum {given:#06x} -> {right:#06x}!] ")?;
            }
            None => {}
        }
    }
    let available = datagram.length - HEADER;
    if length - HEADER > available && !ends.fragment {
        write!(line, "UDP, bad length {} > {available}", length - HEADER)?;
    } else if encapsulates {
        return gue::gue(line, datagram.limit(length).skip(HEADER));
    } else {
        write!(line, "UDP, length {}", length - HEADER)?;
    }
    let quic_port = [header.source_port(), header.destination_port()].contains(&QUIC_PORT);
    quic(line, datagram.limit(length).skip(HEADER).captured, quic_port)?;
    Ok(None)
}

/// Notes a QUIC header at the beginning of `payload`, as the balancer reads connection ids in it.
///
/// A long header is recognised by its version. A short header has one fixed bit, and counts as QUIC at the port of
/// HTTP/3. Long headers at that port may have the fixed bit cleared by the client (RFC 9287).
fn quic(line: &mut String, payload: &[u8], quic_port: bool) -> fmt::Result {
    const LONG: u8 = 0x80;
    const FIXED: u8 = 0x40;
    const V1_TYPES: [&str; 4] = ["initial", "0-rtt", "handshake", "retry"];
    let Some((&first, rest)) = payload.split_first() else { return Ok(()) };
    if first & LONG == 0 {
        if quic_port && first & FIXED != 0 && rest.len() >= SHORT_ID {
            line.write_str(", quic short dcid ")?;
            return line.write_str(&hex::encode(&rest[..SHORT_ID]));
        }
        return Ok(());
    }
    let Some((version, rest)) = rest.split_first_chunk() else { return Ok(()) };
    let version = u32::from_be_bytes(*version);
    let packet_type = first >> 4 & 3;
    let fixed = quic_port || first & FIXED != 0;
    // Version 2 numbers the types differently: RFC 9369, 3.2.
    let (name, version) = match version {
        0 if quic_port => ("version negotiation", ""),
        1 if fixed => (V1_TYPES[usize::from(packet_type)], " v1"),
        0xface_b000..=0xface_b01f if fixed => (V1_TYPES[usize::from(packet_type)], " mvfst"),
        0x6b33_43cf if fixed => {
            (["retry", "initial", "0-rtt", "handshake"][usize::from(packet_type)], " v2")
        }
        _ => return Ok(()),
    };
    let id = |bytes: &mut &[u8]| -> Option<Vec<u8>> {
        let (&length, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_at_checked(usize::from(length))?;
        *bytes = rest;
        (id.len() <= LONGEST_ID).then(|| id.to_vec())
    };
    let mut rest = rest;
    let ids = [("dcid", id(&mut rest)), ("scid", id(&mut rest))];
    write!(line, ", quic {name}{version}")?;
    for (name, id) in ids {
        match id {
            Some(id) if !id.is_empty() => {
                write!(line, " {name} ")?;
                line.write_str(&hex::encode(&id))?;
            }
            Some(_) => {}
            None => return line.write_str(" [|quic]"),
        }
    }
    Ok(())
}
