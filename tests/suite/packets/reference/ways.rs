//! The ways to a real: IP in IP, GUE, L2, or to the balancer's own host.

use std::collections::HashMap;
use std::net::IpAddr;

use l4lb::Config;
use l4lb::Delivery;
use l4lb::Encapsulation;
use l4lb::HashMode;
use l4lb::Mac;
use l4lb::Vip;

use super::Flow;
use super::Kind;
use super::Reference;
use super::Talk;
use super::UDP;
use super::emit;
use super::parse::Fragment;
use super::parse::Packet;
use super::parse::Upper;

/// How a packet gets to its real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    By(Encapsulation),
    Local,
}

/// What reals say themselves, in whichever VIP.
pub(super) fn deliveries(config: &Config) -> HashMap<IpAddr, Delivery> {
    let reals = config.vips.iter().flat_map(|vip| &vip.reals);
    let said = reals.map(|real| (real.address, real.delivery()));
    said.filter(|(_, delivery)| *delivery != Delivery::AsVip).collect()
}

impl Reference {
    /// Says where a real of L2 is.
    pub(crate) fn neighbour(&mut self, real: IpAddr, mac: Mac) {
        self.neighbours.insert(real, mac.octets());
    }

    /// The way to a real of a VIP; without one, to those that say nothing themselves.
    pub(super) fn way(&self, vip: Vip, real: Option<IpAddr>) -> Way {
        match real.and_then(|real| self.deliveries.get(&real)) {
            Some(Delivery::Local) => Way::Local,
            Some(Delivery::By(own)) => Way::By(*own),
            _ => Way::By(self.services[&vip].encapsulation),
        }
    }

    /// What an ICMP error is about that quotes no flow of a VIP: maybe GUE that this balancer sent.
    pub(super) fn about_no_vip(
        &self,
        packet: &Packet<'_>,
        kind_and_code: (u8, u8),
        quote: &[u8],
    ) -> &'static str {
        let port_unreachable = if packet.is_v6() { (1, 4) } else { (3, 3) };
        let Some(quoted) = packet.parse_quote(quote) else { return "other_icmp" };
        let Upper::Protocol { number: UDP, body } = quoted.upper else { return "other_icmp" };
        let source: IpAddr = match quoted.source {
            IpAddr::V4(_) => self.wire.source4.address().into(),
            IpAddr::V6(_) => self.wire.source6.address().into(),
        };
        let from_here = quoted.source == source && packet.destination == source;
        let to_gue = body.get(2..4) == Some(&self.wire.gue.port.to_be_bytes()) && body.len() >= 8;
        if from_here
            && to_gue
            && quoted.fragment != Fragment::Later
            && kind_and_code == port_unreachable
        {
            "gue_refused"
        } else {
            "other_icmp"
        }
    }

    /// Only an outer header makes a packet too long.
    pub(super) fn is_too_long(&self, packet: &Packet<'_>, way: Way) -> bool {
        let has_outer = matches!(way, Way::By(Encapsulation::Ipip | Encapsulation::Gue));
        has_outer && packet.ip.len() > self.wire.longest
    }

    pub(super) fn fits(&self, packet: &Packet<'_>, talk: &Talk<'_>, real: IpAddr) -> bool {
        !self.is_too_long(packet, self.way(talk.vip, Some(real)))
    }

    pub(super) fn by_l2(&self, packet: &Packet<'_>, real: IpAddr) -> Result<Vec<u8>, &'static str> {
        let mac = self.neighbours.get(&real).ok_or("no_neighbour")?;
        emit::by_l2(packet, *mac).ok_or("l2_ttl")
    }

    /// The synthetic source derives from the client as the VIP's hash mode leaves it, but with the packet's own port.
    pub(super) fn by_ipip(
        &self,
        packet: &Packet<'_>,
        talk: &Talk<'_>,
        flow: Flow,
        gateway: [u8; 6],
        real: IpAddr,
    ) -> Vec<u8> {
        let port = match self.services[&talk.vip].hash {
            HashMode::NoSourcePort => 0,
            _ => talk.client_port,
        };
        match real {
            IpAddr::V4(real) => {
                let source = emit::source4(self.wire.source4, flow.client, port);
                emit::in_ipv4(packet, gateway, self.wire.outer_df, source, real)
            }
            IpAddr::V6(real) => {
                let source = emit::source6(self.wire.source6, flow.client, port);
                emit::in_ipv6(packet, gateway, source, real)
            }
        }
    }

    /// One outer source for all. The port that derives from the client's is that of the packet, whatever the hash mode.
    pub(super) fn by_gue(
        &self,
        packet: &Packet<'_>,
        talk: &Talk<'_>,
        flow: Flow,
        gateway: [u8; 6],
        real: IpAddr,
    ) -> Vec<u8> {
        let source = match real {
            IpAddr::V4(_) => self.wire.source4.address().into(),
            IpAddr::V6(_) => self.wire.source6.address().into(),
        };
        let carried = emit::Carried { packet, is_error: matches!(talk.kind, Kind::IcmpError) };
        let port = emit::gue_source_port(flow.client, talk.client_port, real);
        emit::in_gue(carried, gateway, self.wire.outer_df, (source, real), port, self.wire.gue)
    }
}
