//! Tunnels that end at the balancer: what comes out of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;

use l4lb::Config;
use l4lb::DecapsulateThen;
use l4lb::Prefix;

use super::Reference;
use super::UDP;
use super::emit::internet_sum;
use super::parse::Fragment;
use super::parse::Packet;

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const FRAGMENT: u8 = 44;

/// What becomes of a frame before anything else looks at it.
pub(super) enum Taken {
    /// It is in no tunnel that ends here.
    Not,
    /// What was inside, to be balanced.
    Out(Vec<u8>),
    /// What was inside, for the router.
    Back(Vec<u8>),
    Dropped(&'static str),
}

/// The addresses at which tunnels end.
#[derive(Debug)]
pub(super) struct Ends {
    ends: HashMap<IpAddr, (DecapsulateThen, Option<Vec<Prefix>>)>,
    gue_port: u16,
}

impl Ends {
    pub(super) fn of(config: &Config) -> Self {
        let entry =
            |entry: &l4lb::DecapsulateConfig| (entry.address, (entry.then, entry.from.clone()));
        Self {
            ends: config.decapsulate.iter().map(entry).collect(),
            gue_port: config.packets.gue_port(),
        }
    }
}

/// The outer header of a tunnel's packet.
struct Tunnel<'a> {
    packet: Packet<'a>,
    protocol: u8,
    /// Where it ends, within the packet.
    at: usize,
    fragment: bool,
}

/// An inner packet, within the outer one.
struct Inner {
    at: usize,
    v6: bool,
}

impl<'a> Tunnel<'a> {
    /// The headers of IP in IP, or of UDP to the port of GUE; `None`: another packet.
    fn parse(frame: &'a [u8], gue_port: u16) -> Option<Self> {
        let packet = Packet::parse(frame).ok()?;
        let ip = packet.ip;
        let mut tunnel = if packet.is_v6() {
            Self { protocol: ip[6], at: 40, fragment: false, packet }
        } else {
            let fragment = packet.fragment != Fragment::No;
            Self { protocol: ip[9], at: usize::from(ip[0] & 0xf) * 4, fragment, packet }
        };
        let mut later = packet.fragment == Fragment::Later;
        if packet.is_v6() && tunnel.protocol == FRAGMENT {
            let [next, _, high, low, ..]: [u8; 8] = *tunnel.body().first_chunk()?;
            let offset = u16::from_be_bytes([high, low]);
            tunnel.fragment = offset & 0xfff9 != 0;
            later = offset & 0xfff8 != 0;
            tunnel.protocol = next;
            tunnel.at += 8;
        }
        match tunnel.protocol {
            IPIP | IPV6 => Some(tunnel),
            UDP if later => None,
            UDP => {
                let [_, _, high, low]: [u8; 4] = *tunnel.body().first_chunk()?;
                (u16::from_be_bytes([high, low]) == gue_port).then_some(tunnel)
            }
            _ => None,
        }
    }

    /// What the packet has behind its headers: neither padding, nor what the frame lacks.
    fn body(&self) -> &'a [u8] {
        let end = self.packet.length.min(self.packet.ip.len());
        self.packet.ip.get(self.at..end).unwrap_or_default()
    }

    /// Checks the outer headers, and finds the inner packet.
    fn inner(&self) -> Result<Inner, &'static str> {
        let packet = &self.packet;
        if packet.options {
            return Err("decap_malformed");
        }
        if !packet.is_v6() && internet_sum(&[&packet.ip[..20]]) != 0xffff {
            return Err("decap_checksum");
        }
        if self.fragment {
            return Err("decap_fragment");
        }
        if packet.length > packet.ip.len() {
            return Err("decap_malformed");
        }
        let inner = if self.protocol == UDP {
            self.inner_of_gue()?
        } else {
            Inner { at: self.at, v6: self.protocol == IPV6 }
        };
        self.whole(&inner).then_some(inner).ok_or("decap_malformed")
    }

    fn inner_of_gue(&self) -> Result<Inner, &'static str> {
        let datagram = self.body();
        let wrong = "decap_malformed";
        let udp: [u8; 8] = *datagram.first_chunk().ok_or(wrong)?;
        if usize::from(u16::from_be_bytes([udp[4], udp[5]])) != datagram.len() {
            return Err(wrong);
        }
        let gue = &datagram[8..];
        let first = *gue.first().ok_or(wrong)?;
        let (skip, v6) = match first >> 4 {
            4 => (0, false),
            6 => (0, true),
            0 | 1 => {
                let [_, protocol, a, b]: [u8; 4] = *gue.first_chunk().ok_or(wrong)?;
                let private = usize::from(first & 0x1f) * 4;
                let v6 = match protocol {
                    IPIP => false,
                    IPV6 => true,
                    _ => return Err(wrong),
                };
                if (a, b) != (0, 0) || gue.len() < 4 + private {
                    return Err(wrong);
                }
                if private > 0 {
                    let [a, b, _, count]: [u8; 4] = *gue[4..].first_chunk().ok_or(wrong)?;
                    // Further hops: IPv4 addresses, or IPv6 ones.
                    let each = match (a, b) {
                        (0, 0) => 4,
                        (0, 1) => 16,
                        _ => 0,
                    };
                    if each > 0 && 4 + usize::from(count) * each > private {
                        return Err(wrong);
                    }
                }
                let version = gue.get(4 + private).map(|first| first >> 4);
                if version.is_some_and(|version| version != if v6 { 6 } else { 4 }) {
                    return Err(wrong);
                }
                (4 + private, v6)
            }
            _ => return Err(wrong),
        };
        let right = match (udp[6], udp[7]) {
            (0, 0) => !self.packet.is_v6(),
            _ => self.has_right_sum(datagram),
        };
        if right { Ok(Inner { at: self.at + 8 + skip, v6 }) } else { Err("decap_checksum") }
    }

    fn has_right_sum(&self, datagram: &[u8]) -> bool {
        let addresses = match (self.packet.source, self.packet.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
            (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
            _ => return false,
        };
        let rest = u32::try_from(datagram.len()).unwrap_or_default() + u32::from(UDP);
        internet_sum(&[&addresses, &rest.to_be_bytes(), datagram]) == 0xffff
    }

    /// Whether all of the inner packet is there.
    fn whole(&self, inner: &Inner) -> bool {
        let ip = self.packet.ip.get(inner.at..self.packet.length).unwrap_or_default();
        if inner.v6 {
            let Some(header) = ip.first_chunk::<40>() else { return false };
            let mapped = |at: usize| {
                let octets = *header[at..].first_chunk::<16>().expect("the header has 40 bytes");
                Ipv6Addr::from(octets).to_ipv4_mapped().is_some()
            };
            let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            header[0] >> 4 == 6 && !mapped(8) && !mapped(24) && length <= ip.len()
        } else {
            let Some(header) = ip.first_chunk::<20>() else { return false };
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let least = usize::from(header[0] & 0xf) * 4;
            header[0] >> 4 == 4 && least >= 20 && (least..=ip.len()).contains(&length)
        }
    }

    /// The frame without the outer headers, one hop further. `None`: its TTL has run out.
    fn out(&self, inner: &Inner) -> Option<Vec<u8>> {
        let mut ip = self.packet.ip[inner.at..].to_vec();
        let congestion = self.packet.class & 3 == 3;
        if inner.v6 {
            ip[7] = ip[7].checked_sub(1).filter(|left| *left > 0)?;
            if congestion && ip[1] & 0x30 != 0 {
                ip[1] |= 0x30;
            }
        } else {
            ip[8] = ip[8].checked_sub(1).filter(|left| *left > 0)?;
            let sum = (u32::from(u16::from_be_bytes([ip[10], ip[11]])) + 0x100) % 0xffff;
            ip[10..12].copy_from_slice(&sum.to_be_bytes()[2..]);
            if congestion && ip[1] & 3 != 0 {
                mark(&mut ip);
            }
        }
        let (ether_type, addresses) = (&self.packet.link.len() - 2, &self.packet.link);
        let kind: [u8; 2] = if inner.v6 { [0x86, 0xdd] } else { [8, 0] };
        Some([&addresses[..ether_type], &kind, &ip].concat())
    }
}

/// Marks congestion in an IPv4 header, as RFC 1624 says.
fn mark(ip: &mut [u8]) {
    let word = |ip: &[u8], at: usize| u32::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    let old = word(ip, 0);
    ip[1] |= 3;
    let sum = (!word(ip, 10) & 0xffff) + (!old & 0xffff) + word(ip, 0);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(sum + (sum >> 16));
    ip[10..12].copy_from_slice(&sum.to_be_bytes()[2..]);
}

/// Whether no router forwards packets from or to it.
fn never_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..=239) || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            v6.octets()[..12] == [0; 12] || v6.is_multicast() || v6.is_unicast_link_local()
        }
    }
}

/// Source and destination of an IP header.
fn ends_of(ip: &[u8], v6: bool) -> (IpAddr, IpAddr) {
    let address = |at: usize| -> IpAddr {
        if v6 {
            (*ip[at..].first_chunk::<16>().expect("a whole header")).into()
        } else {
            (*ip[at..].first_chunk::<4>().expect("a whole header")).into()
        }
    };
    if v6 { (address(8), address(24)) } else { (address(12), address(16)) }
}

impl Reference {
    pub(super) fn take_out(&self, frame: &[u8]) -> Taken {
        let Some(tunnel) = Tunnel::parse(frame, self.ends.gue_port) else { return Taken::Not };
        let packet = &tunnel.packet;
        let end = self.ends.ends.get(&packet.destination);
        let (Some((then, from)), Ok(_)) = (end, self.gateway(packet)) else { return Taken::Not };
        if from.as_ref().is_some_and(|from| !from.iter().any(|of| of.contains(packet.source))) {
            return Taken::Dropped("decap_source");
        }
        let back = *then == DecapsulateThen::Router;
        if back && frame[6..12] == [0xff; 6] {
            return Taken::Dropped("decap_malformed");
        }
        let inner = match tunnel.inner() {
            Ok(inner) => inner,
            Err(reason) => return Taken::Dropped(reason),
        };
        let (from, to) = ends_of(&packet.ip[inner.at..], inner.v6);
        let no_client = never_routed(from) || !back && self.rules.contains_key(&from);
        if no_client || back && !self.is_for_router(to) {
            return Taken::Dropped("decap_inner_address");
        }
        let Some(mut out) = tunnel.out(&inner) else { return Taken::Dropped("decap_ttl") };
        if !back {
            return Taken::Out(out);
        }
        out[..6].copy_from_slice(&frame[6..12]);
        out[6..12].copy_from_slice(&frame[..6]);
        Taken::Back(out)
    }

    fn is_for_router(&self, to: IpAddr) -> bool {
        let link_local = matches!(to, IpAddr::V4(v4) if v4.is_link_local());
        !never_routed(to) && !link_local && !self.ends.ends.contains_key(&to)
    }
}
