//! The real's side: decapsulation, VIPs, and what the kernel does with both.

mod arp;
mod checksums;
mod decap;
mod gather;
mod return_path;
#[cfg(test)]
mod tests;
mod vips;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use checksums::Checksums;
pub(super) use gather::read;

use super::catalogue::FindingId;
use super::report::Answer;
use super::report::Report;
use crate::control::decap::DecapStatus;
use crate::control::decap::Followed;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::netlink::RouteFacts;
use crate::model::config::Encapsulation;
use crate::model::prefix::Prefix;

/// Facts of a real.
#[derive(Clone, Debug, Default)]
pub(super) struct Real {
    /// The VIPs: those that the caller names, and addresses on the loopback interface.
    pub(super) vips: Vec<Vip>,
    /// What the instance decapsulates. An error: why that is not known. `None`: it decapsulates nothing.
    pub(super) decap: Option<Result<DecapStatus, String>>,
    /// Addresses of the host that decapsulation does not know yet, and addresses that are gone.
    pub(super) outdated: Followed,
    /// UDP ports of GUE at which this host itself listens, and who does.
    pub(super) listening: BTreeMap<u16, String>,
    /// The host's addresses, and the prefixes that it routes as local.
    pub(super) own: Vec<Prefix>,
    pub(super) links: Vec<LinkFacts>,
    /// Settings of the interfaces, by their names.
    pub(super) settings: Vec<(String, Settings)>,
    /// The routes to clients, of both families.
    pub(super) back: [Back; 2],
    /// Whether the host forwards packets of either family; `None`: that cannot be read.
    pub(super) forwarding: [Option<bool>; 2],
    /// Packets with wrong checksums, by protocol.
    pub(super) checksums: Vec<Checksums>,
    /// The ways by which packets come; none: that is not known.
    pub(super) ways: Vec<Encapsulation>,
    /// The UDP ports at which anything listens, the kernel's own `fou` too. An error: why that is not known.
    pub(super) udp_ports: Option<Result<BTreeSet<u16>, String>>,
    /// How `lbctl` is called for this instance.
    pub(super) lbctl: String,
}

/// A VIP on a real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vip {
    pub(super) address: IpAddr,
    /// Whether the kernel delivers packets to it locally.
    pub(super) local: bool,
    /// The interfaces that have the address.
    pub(super) on: Vec<String>,
}

/// Settings in force for an interface: the larger of its own and that of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) rp_filter: u32,
    pub(super) arp_ignore: u32,
    pub(super) arp_announce: u32,
}

/// The route to clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Back {
    /// `None`: there is none. An error: why that is not known.
    pub(super) route: Option<Result<RouteFacts, String>>,
}

/// The address families, as indices and in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    fn name(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }

    /// Bytes of its header.
    fn header(self) -> u32 {
        if self == Self::V4 { 20 } else { 40 }
    }
}

/// Whether a device of this kind takes the outer header off packets of this inner family.
fn carries(kind: &str, inside: Family) -> bool {
    matches!((kind, inside), ("ipip" | "ip6tnl", Family::V4) | ("sit" | "ip6tnl", Family::V6))
}

impl Real {
    /// Whether all packets come without an outer header.
    fn gets_no_outer_header(&self) -> bool {
        !self.ways.is_empty() && self.ways.iter().all(|way| *way == Encapsulation::L2)
    }

    /// Whether the real serves VIPs of a family. If no VIP is known, IPv4 is most likely.
    fn serves(&self, family: Family) -> bool {
        if self.vips.is_empty() {
            family == Family::V4
        } else {
            self.vips.iter().any(|vip| family.has(vip.address))
        }
    }

    fn link(&self, name: &str) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.link.name == name)
    }

    /// Decapsulation by XDP.
    fn xdp(&self) -> Option<&DecapStatus> {
        self.decap.as_ref()?.as_ref().ok()
    }

    /// The interfaces on which XDP decapsulates.
    fn xdp_interfaces(&self) -> impl Iterator<Item = &str> {
        let interfaces = self.xdp().into_iter().flat_map(|decap| &decap.interfaces);
        interfaces.filter(|(_, mode)| mode.is_some()).map(|(name, _)| name.as_str())
    }

    /// Tunnel devices, up or down, that take the outer header off packets of a family.
    fn tunnels(&self, inside: Family) -> impl Iterator<Item = &LinkFacts> {
        let carries = move |kind: &String| carries(kind, inside);
        self.links.iter().filter(move |link| link.kind.as_ref().is_some_and(carries))
    }

    fn route_back(&self, family: Family) -> Option<&RouteFacts> {
        self.back[family as usize].route.as_ref()?.as_ref().ok()
    }

    /// The interface by which answers leave.
    fn interface_back(&self, family: Family) -> Option<&LinkFacts> {
        let index = self.route_back(family)?.interface?;
        self.links.iter().find(|link| link.link.index == index)
    }

    /// The interface where requests come in; if that is not known, where answers leave.
    fn uplink(&self) -> Option<&str> {
        let back = Family::BOTH.into_iter().find_map(|family| self.interface_back(family));
        self.xdp_interfaces().next().or_else(|| Some(back?.link.name.as_str()))
    }
}

/// Checks of an interface: the facts of all, and its name.
type OfInterface = fn(&Real, &str) -> Option<Answer>;

const OF_INTERFACES: &[(FindingId, OfInterface)] = &[
    (FindingId::ArpIgnore, arp::ignore),
    (FindingId::ArpAnnounce, arp::announce),
    (FindingId::RpFilter, return_path::rp_filter),
];

type OfFamily = fn(&Real, Family) -> Option<Answer>;

const OF_FAMILIES: &[(FindingId, OfFamily)] = &[
    (FindingId::NoDecap, decap::missing),
    (FindingId::NoRouteBack, return_path::no_route_back),
    (FindingId::Mss, return_path::mss),
    (FindingId::Forwarding, vips::forwarding),
];

type OfVip = fn(&Real, &Vip) -> Option<Answer>;

const OF_VIPS: &[(FindingId, OfVip)] = &[
    (FindingId::VipMissing, vips::missing),
    (FindingId::VipOnWire, vips::on_wire),
    (FindingId::DecapVipRefused, decap::vip_refused),
];

type OfHost = fn(&Real) -> Option<Answer>;

const OF_HOST: &[(FindingId, OfHost)] = &[
    (FindingId::DecapDetached, decap::detached),
    (FindingId::DecapOpen, decap::open),
    (FindingId::DecapWide, decap::wide),
    (FindingId::DecapOwnLeftOut, decap::own_left_out),
    (FindingId::DecapMss, return_path::lowered_mss),
    (FindingId::DecapGuePort, decap::gue_port),
    (FindingId::DecapOutdated, decap::outdated),
    (FindingId::DecapRefused, decap::refused),
    (FindingId::DecapFragments, decap::fragments),
    (FindingId::DecapOtherDestination, decap::other_destination),
    (FindingId::WrongChecksums, checksums::wrong),
    (FindingId::NoVip, vips::none),
];

/// Looks for everything that hurts a real.
pub(super) fn check(report: &mut Report, real: &Real) {
    for (id, check) in OF_HOST {
        report.add(*id, "host", check(real));
    }
    for family in Family::BOTH {
        for (id, check) in OF_FAMILIES {
            report.add(*id, family.name(), check(real, family));
        }
    }
    for vip in &real.vips {
        for (id, check) in OF_VIPS {
            report.add(*id, &format!("VIP {}", vip.address), check(real, vip));
        }
    }
    for (name, _) in &real.settings {
        for (id, check) in OF_INTERFACES {
            report.add(*id, &format!("interface {name}"), check(real, name));
        }
    }
}

/// What is checked here.
#[cfg(test)]
pub(super) fn ids() -> Vec<FindingId> {
    let interfaces = OF_INTERFACES.iter().map(|(id, _)| *id);
    let families = OF_FAMILIES.iter().map(|(id, _)| *id);
    let vips = OF_VIPS.iter().map(|(id, _)| *id);
    let host = OF_HOST.iter().map(|(id, _)| *id);
    interfaces.chain(families).chain(vips).chain(host).collect()
}
