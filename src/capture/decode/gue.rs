//! GUE: what a balancer puts around a packet, or what a tunnel of Linux' `fou` does.

use std::fmt;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use etherparse::IpNumber;

use super::Part;
use super::Telling;
use super::ip;
use crate::model::gue;
use crate::model::gue::Gue;
use crate::model::gue::GueHeader;
use crate::model::gue::NextHops;

/// Writes what follows the UDP header of a packet to a port of GUE.
pub(super) fn gue(line: &mut String, payload: Part<'_>, telling: Telling) -> fmt::Result {
    match gue::read(payload.captured) {
        Gue::Packet => {
            line.write_str("GUE variant 1: ")?;
            match telling.inside() {
                Some(telling) => ip::either(line, payload, telling),
                None => line.write_str("[more packets inside]"),
            }
        }
        Gue::Header(header) => variant_0(line, &header, payload, telling),
        Gue::Unknown { first } => {
            write!(line, "GUE of an unknown variant, {first:#04x}, length {}", payload.length)
        }
        Gue::Cut => line.write_str("[|gue]"),
    }
}

fn variant_0(
    line: &mut String,
    header: &GueHeader<'_>,
    payload: Part<'_>,
    telling: Telling,
) -> fmt::Result {
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
        return write!(line, ", bad header length {} > {}", header.length, payload.length);
    }
    let inside = payload.skip(header.length);
    if header.control {
        return write!(line, ", control message {}, length {}", header.protocol, inside.length);
    }
    line.write_str(": ")?;
    ip::without_ports(line, IpNumber(header.protocol), inside, telling)
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
