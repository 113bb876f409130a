//! What a balancer puts around a packet for a real, read from the frame that leaves.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;

use etherparse::IpNumber;
use etherparse::LinkSlice;
use etherparse::NetSlice;
use etherparse::SlicedPacket;
use etherparse::UdpSlice;
use serde::Serialize;

use crate::model::address::Mac;
use crate::model::gue;
use crate::model::gue::Gue;
use crate::model::gue::GuePorts;
use crate::model::reason::Reason;
use crate::model::reason::Verdict;

/// What is around a packet on its way to a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "encapsulation", rename_all = "lowercase")]
pub enum Around {
    /// IP in IP.
    Ipip {
        /// The outer source.
        source: IpAddr,
        /// The outer destination: the real.
        destination: IpAddr,
        /// How many bytes are in front of the packet.
        bytes: usize,
    },
    /// GUE: IP in UDP.
    Gue {
        /// 1: the packet is right behind the UDP header. 0: behind a header of GUE.
        variant: u8,
        /// The outer source, with the UDP port.
        source: SocketAddr,
        /// The outer destination, with the UDP port.
        destination: SocketAddr,
        /// How many bytes are in front of the packet.
        bytes: usize,
    },
    /// Nothing: the frame goes to the real's own MAC.
    L2 {
        /// That MAC.
        mac: Mac,
    },
    /// Nothing: this host's kernel gets it.
    Local,
}

impl Around {
    /// What is around the packet in a frame that ended with this reason. `None`: it goes to no real.
    pub(super) fn of(
        frame: &[u8],
        reason: &Reason,
        real: Option<IpAddr>,
        gue: GuePorts,
    ) -> Option<Self> {
        let real = real?;
        match reason.verdict {
            Verdict::Pass => return Some(Self::Local),
            Verdict::Drop => return None,
            Verdict::Tx => {}
        }
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        Self::ipip(&sliced, real).or_else(|| Self::gue(&sliced, real, gue)).or_else(|| {
            let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link else { return None };
            Some(Self::L2 { mac: Mac::from(ethernet.destination()) })
        })
    }

    fn ipip(sliced: &SlicedPacket<'_>, real: IpAddr) -> Option<Self> {
        let (source, destination, bytes) = ends(sliced)?;
        let protocol = sliced.ip_payload()?.ip_number;
        let inside = matches!(protocol, IpNumber::IPV4 | IpNumber::IPV6);
        (inside && destination == real).then_some(Self::Ipip { source, destination, bytes })
    }

    fn gue(sliced: &SlicedPacket<'_>, real: IpAddr, ports: GuePorts) -> Option<Self> {
        let (source, destination, bytes) = ends(sliced)?;
        let payload = sliced.ip_payload()?;
        if payload.ip_number != IpNumber::UDP || destination != real {
            return None;
        }
        let udp = UdpSlice::from_slice(payload.payload).ok()?;
        if !ports.contains(udp.destination_port()) {
            return None;
        }
        let (variant, header) = match gue::read(udp.payload()) {
            Gue::Packet => (1, 0),
            Gue::Header(header) => (0, header.length),
            Gue::Unknown { .. } | Gue::Cut => return None,
        };
        Some(Self::Gue {
            variant,
            source: SocketAddr::new(source, udp.source_port()),
            destination: SocketAddr::new(destination, udp.destination_port()),
            bytes: bytes + UDP_HEADER + header,
        })
    }
}

const UDP_HEADER: usize = 8;

/// Source, destination and length of the IP header.
fn ends(sliced: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr, usize)> {
    match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            Some((source.into(), destination.into(), header.slice().len()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            Some((source.into(), destination.into(), header.slice().len()))
        }
        NetSlice::Arp(_) => None,
    }
}

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip { source, destination, bytes } => {
                write!(f, "IP in IP, {bytes} bytes: {source} > {destination}")
            }
            Self::Gue { variant, source, destination, bytes } => {
                write!(f, "GUE variant {variant}, {bytes} bytes: {source} > {destination}")
            }
            Self::L2 { mac } => write!(f, "nothing: the frame goes to the real's own MAC, {mac}"),
            Self::Local => f.write_str("nothing: this host's kernel gets it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::model::reason::reasons;

    const REAL: [u8; 4] = [10, 0, 3, 1];

    fn reason(name: &str) -> &'static Reason {
        reasons().iter().find(|reason| reason.name == name).expect("a reason")
    }

    fn inner() -> Vec<u8> {
        let mut bytes = Vec::new();
        let ip = PacketBuilder::ipv4([192, 0, 2, 1], [10, 200, 1, 1], 64);
        ip.tcp(31337, 80, 1, 1000).write(&mut bytes, &[]).expect("memory");
        bytes
    }

    fn frame(around: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        around(&mut bytes);
        bytes
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = ethernet.ipv4([172, 31, 0, 2], REAL, 64).udp(5000, port);
        frame(|bytes| ip.write(bytes, payload).expect("memory"))
    }

    fn said(frame: &[u8], reason: &Reason) -> String {
        let around = Around::of(frame, reason, Some(REAL.into()), GuePorts::only(6080));
        around.map_or_else(|| "none".to_owned(), |around| around.to_string())
    }

    #[test]
    fn each_way_to_a_real_in_words() {
        let ring = reason("ring");
        let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ipip = frame(|bytes| {
            let ip = ethernet().ipv4([172, 16, 0, 9], REAL, 64);
            ip.write(bytes, IpNumber::IPV4, &inner()).expect("memory");
        });
        assert_eq!(said(&ipip, ring), "IP in IP, 20 bytes: 172.16.0.9 > 10.0.3.1");
        let direct = "GUE variant 1, 28 bytes: 172.31.0.2:5000 > 10.0.3.1:6080";
        assert_eq!(said(&udp(6080, &inner()), ring), direct);
        let headed = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &inner()].concat();
        let words = "GUE variant 0, 36 bytes: 172.31.0.2:5000 > 10.0.3.1:6080";
        assert_eq!(said(&udp(6080, &headed), ring), words);
        let l2 = frame(|bytes| {
            let ip = ethernet().ipv4([192, 0, 2, 1], [10, 200, 1, 1], 64);
            ip.udp(5000, 6080).write(bytes, &inner()).expect("memory");
        });
        let words = "nothing: the frame goes to the real's own MAC, 02:00:00:00:00:02";
        assert_eq!(said(&l2, ring), words);
        assert_eq!(said(&l2, reason("other_mac")), "nothing: this host's kernel gets it");
        assert_eq!(said(&l2, reason("no_real")), "none");
        assert_eq!(Around::of(&l2, ring, None, GuePorts::default()), None);
    }
}
