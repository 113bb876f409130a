//! Reads from a frame what the reference judges by.

use std::net::IpAddr;
use std::net::Ipv6Addr;

use super::emit::internet_sum;

/// IPv6 extension headers that are walked.
const MOST_EXTENSIONS: usize = 6;

/// A transport header that begins behind this byte of the frame is not looked for.
const LAST_OFFSET: usize = 511;

/// Whether a packet is a part of one. An atomic fragment (RFC 6946) is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    No,
    /// With the transport header.
    First,
    Later,
}

/// What comes behind the IP header and its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upper<'a> {
    /// The bytes of it that the packet has: neither padding, nor what the frame lacks.
    Protocol { number: u8, body: &'a [u8] },
    /// Not to be told; the reason if that is for a VIP address.
    Hidden(&'static str),
}

/// An IP packet in its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Ethernet header and VLAN tags.
    pub(crate) link: &'a [u8],
    /// The rest of the frame.
    pub(crate) ip: &'a [u8],
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TOS or traffic class.
    pub(crate) class: u8,
    /// As the header says, header included.
    pub(crate) length: usize,
    pub(crate) options: bool,
    pub(crate) has_extensions: bool,
    /// Its only extension header is that of an atomic fragment.
    pub(crate) atomic: bool,
    pub(crate) fragment: Fragment,
    pub(crate) upper: Upper<'a>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Packet<'a> {
    /// Or the reason to pass it.
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Self, &'static str> {
        let is_tag = |ether_type| ether_type == 0x8100 || ether_type == 0x88a8;
        let mut at = 12;
        let mut ether_type = u16_at(frame, at).ok_or("not_ip")?;
        while is_tag(ether_type) && at < 12 + 2 * 4 {
            at += 4;
            ether_type = u16_at(frame, at).ok_or("not_ip")?;
        }
        let (link, ip) = frame.split_at(at + 2);
        match ether_type {
            0x0800 => Self::parse_v4(link, ip, None).ok_or("bad_ip_header"),
            0x86dd => Self::parse_v6(link, ip, None).ok_or("bad_ip_header"),
            _ => Err("not_ip"),
        }
    }

    /// The packet that an ICMP error in this one quotes. Its length does not say how much of it is
    /// quoted, so it does not matter.
    pub(crate) fn parse_quote(&self, quote: &'a [u8]) -> Option<Self> {
        let before = quote.as_ptr() as usize - self.ip.as_ptr() as usize;
        if self.is_v6() {
            Self::parse_v6(&self.ip[..0], quote, Some((quote.len(), self.link.len() + before)))
        } else {
            Self::parse_v4(&self.ip[..0], quote, Some(quote.len()))
        }
    }

    /// `length` in place of what the header says.
    fn parse_v4(link: &'a [u8], ip: &'a [u8], length: Option<usize>) -> Option<Self> {
        let header: [u8; 20] = *ip.first_chunk()?;
        let header_length = usize::from(header[0] & 0xf) * 4;
        if header[0] >> 4 != 4 || header_length < header.len() {
            return None;
        }
        let address = |at: usize| header[at..at + 4].first_chunk().copied().map(<[u8; 4]>::into);
        let length = length.unwrap_or(u16_at(&header, 2)?.into());
        let fragment = u16_at(&header, 6)?;
        Some(Self {
            link,
            ip,
            source: address(12)?,
            destination: address(16)?,
            class: header[1],
            length,
            options: header_length > header.len(),
            has_extensions: false,
            atomic: false,
            fragment: match (fragment & 0x1fff, fragment & 0x2000) {
                (0, 0) => Fragment::No,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            },
            upper: Upper::Protocol { number: header[9], body: body(ip, length, header_length) },
        })
    }

    /// With the length of a quote, and its place in the frame.
    fn parse_v6(link: &'a [u8], ip: &'a [u8], quote: Option<(usize, usize)>) -> Option<Self> {
        let header: [u8; 40] = *ip.first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let address = |at: usize| {
            let address = Ipv6Addr::from(*header[at..].first_chunk::<16>()?);
            // Such addresses stand for IPv4 in programs; no packet may have one.
            address.to_ipv4_mapped().is_none().then_some(IpAddr::V6(address))
        };
        let length = header.len() + usize::from(u16_at(&header, 4)?);
        let (length, at) = quote.unwrap_or((length, link.len()));
        let (fragment, upper) = walk(ip, length, header[6], at);
        let one = header[6] == 44 && ip.get(40).is_some_and(|next| !is_extension(*next));
        Some(Self {
            link,
            ip,
            source: address(8)?,
            destination: address(24)?,
            class: header[0] << 4 | header[1] >> 4,
            length,
            options: false,
            has_extensions: is_extension(header[6]),
            atomic: one && fragment == Fragment::No,
            fragment,
            upper,
        })
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.destination.is_ipv6()
    }

    /// Whether the checksum of what it carries is right, of a protocol that has one.
    pub(crate) fn has_right_sum(&self, protocol: u8) -> bool {
        self.upper_sum(protocol) == Some(0xffff)
    }

    /// The sum over what it carries, with the pseudo-header.
    pub(crate) fn upper_sum(&self, protocol: u8) -> Option<u16> {
        let Upper::Protocol { body, .. } = self.upper else { return None };
        let pseudo = match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) if protocol == 1 => Vec::new(),
            (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
            (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
            _ => return None,
        };
        // Without a pseudo-header its length and protocol do not count either.
        let length = u32::try_from(body.len()).unwrap_or_default() + u32::from(protocol);
        let rest = if pseudo.is_empty() { [0; 4] } else { length.to_be_bytes() };
        Some(internet_sum(&[&pseudo, &rest, body]))
    }

    /// Why it cannot be balanced, whatever real would serve it.
    pub(crate) fn unfit(&self, runt: bool) -> Result<(), &'static str> {
        if self.fragment != Fragment::No {
            Err("fragment")
        } else if self.options {
            Err("ip_options")
        } else if runt {
            Err("runt")
        } else if self.length > self.ip.len() {
            Err("bad_length")
        } else {
            Ok(())
        }
    }
}

/// What a packet of this length has from `at` on.
fn body(ip: &[u8], length: usize, at: usize) -> &[u8] {
    ip.get(at..length.min(ip.len())).unwrap_or_default()
}

fn is_extension(number: u8) -> bool {
    // Hop by hop, routing, fragment, authentication, destination.
    [0, 43, 44, 51, 60].contains(&number)
}

/// Follows the chain of extension headers of a packet that begins `frame_at` bytes into the frame.
fn walk(ip: &[u8], length: usize, first: u8, frame_at: usize) -> (Fragment, Upper<'_>) {
    let mut number = first;
    let mut at = 40;
    let mut fragment = Fragment::No;
    let mut walked = 0;
    while is_extension(number) {
        if walked == MOST_EXTENSIONS {
            return (fragment, Upper::Hidden("extension_headers"));
        }
        walked += 1;
        let Some([next, size, c, d]) = body(ip, length, at).first_chunk().copied() else {
            return (fragment, Upper::Hidden("runt"));
        };
        at += match number {
            44 => 8,
            51 => (usize::from(size) + 2) * 4,
            _ => (usize::from(size) + 1) * 8,
        };
        if number == 44 {
            let offset_and_more = u16::from_be_bytes([c, d]);
            if offset_and_more & 1 != 0 {
                fragment = Fragment::First;
            }
            if offset_and_more >> 3 != 0 {
                // Whatever it is, even an extension header: the rest of the chain came with the first.
                let upper = Upper::Protocol { number: next, body: body(ip, length, at) };
                return (Fragment::Later, upper);
            }
        }
        number = next;
        if frame_at + at > LAST_OFFSET {
            return (fragment, Upper::Hidden("extension_headers"));
        }
    }
    (fragment, Upper::Protocol { number, body: body(ip, length, at) })
}
