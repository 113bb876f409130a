//! GUE: what a balancer puts around a packet, or what a tunnel of Linux' `fou` does.

use std::fmt;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use etherparse::IpNumber;

use super::Part;
use crate::model::gue;
use crate::model::gue::Gue;
use crate::model::gue::GueHeader;
use crate::model::gue::NextHops;

/// What a datagram of GUE holds.
pub(super) enum Inside<'a> {
    /// A packet of either IP version.
    Packet(Part<'a>),
    /// What the header names.
    Protocol(IpNumber, Part<'a>),
}

/// Writes what follows the UDP header of a packet to a port of GUE, up to what is inside.
pub(super) fn gue<'a>(
    line: &mut String,
    payload: Part<'a>,
) -> Result<Option<Inside<'a>>, fmt::Error> {
    match gue::read(payload.captured) {
        Gue::Packet => {
            line.write_str("GUE variant 1: ")?;
            return Ok(Some(Inside::Packet(payload)));
        }
        Gue::Header(header) => return variant_0(line, &header, payload),
        Gue::Unknown { first } => {
            write!(line, "GUE of an unknown variant, {first:#04x}, length {}", payload.length)?;
        }
        Gue::Cut => line.write_str("[|gue]")?,
    }
    Ok(None)
}

fn variant_0<'a>(
    line: &mut String,
    header: &GueHeader<'_>,
    payload: Part<'a>,
) -> Result<Option<Inside<'a>>, fmt::Error> {
    line.write_str("GUE variant 0")?;
    if header.flags != 0 {
        write!(line, ", flags {:#06x}", header.flags)?;
    }
    match header.next_hops() {
        Some(hops) => next_hops(line, hops)?,
        None if header.more.is_empty() => {}
        None => write!(line, ", {} bytes of fields or private data", header.more.len())?,
    }
    if header.length > payload.length {
        write!(line, ", bad header length {} > {}", header.length, payload.length)?;
        return Ok(None);
    }
    let inside = payload.skip(header.length);
    if header.control {
        write!(line, ", control message {}, length {}", header.protocol, inside.length)?;
        return Ok(None);
    }
    line.write_str(": ")?;
    Ok(Some(Inside::Protocol(IpNumber(header.protocol), inside)))
}

fn next_hops(line: &mut String, hops: NextHops<'_>) -> fmt::Result {
    write!(line, ", next hop {} of {}", hops.next, hops.count)?;
    let each = if hops.kind == 0 { size_of::<Ipv4Addr>() } else { size_of::<Ipv6Addr>() };
    for (n, address) in hops.addresses.chunks_exact(each).enumerate() {
        line.write_str(if n == 0 { " (" } else { ", " })?;
        match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
            (Ok(v4), _) => write!(line, "{}", Ipv4Addr::from(v4))?,
            (_, Ok(v6)) => write!(line, "{}", Ipv6Addr::from(v6))?,
            _ => {}
        }
    }
    line.write_str(if hops.addresses.is_empty() { "" } else { ")" })
}
