//! Default routes and their next hops.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteNextHopFlags;
use netlink_packet_route::route::RoutePreference;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::route::RouteType;
use netlink_packet_route::route::RouteVia;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::link::Link;
use super::message::is_default;
use super::next_hop::DefaultHop;
use super::refused::errno;
use crate::model::error::NetlinkError;
use crate::model::next_hop::RouteFamily;

/// A route's metric; less is better.
pub(super) fn metric(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or(0)
}

/// The rank of a route's router preference (RFC 4191) among routes of one metric; less is better.
fn preference_rank(route: &RouteMessage) -> u8 {
    let preference = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Preference(preference) => Some(*preference),
        _ => None,
    });
    match preference {
        Some(RoutePreference::High) => 0,
        Some(RoutePreference::Low) => 2,
        _ => 1,
    }
}

/// The next hop's address in the attributes of a route or of one hop of a multipath route.
///
/// An IPv4 route by an IPv6 next hop has it in `RTA_VIA`.
pub(super) fn next_hop(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4))
        | RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6))
        | RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

/// The next hops a route has on an interface; none when it is a route to the link itself.
fn next_hops_on(route: &RouteMessage, index: u32) -> Vec<IpAddr> {
    let mut hops = Vec::new();
    let mut on_interface = false;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => on_interface = *oif == index,
            RouteAttribute::MultiPath(paths) => hops.extend(
                paths
                    .iter()
                    .filter(|path| path.interface_index == index)
                    .filter(|path| !path.flags.contains(RouteNextHopFlags::Dead))
                    .filter_map(|path| next_hop(&path.attributes)),
            ),
            _ => {}
        }
    }
    if on_interface && !route.header.flags.contains(RouteFlags::Dead) {
        hops.extend(next_hop(&route.attributes));
    }
    hops
}

/// The next hops of the default routes through an interface, the best first.
pub(super) fn default_next_hops(
    routes: &[RouteMessage],
    family: RouteFamily,
    index: u32,
) -> Vec<DefaultHop> {
    let mut routes: Vec<_> = routes.iter().filter(|route| is_default(route)).collect();
    routes.sort_by_key(|route| (metric(route), preference_rank(route)));
    let mut hops = Vec::new();
    for route in routes {
        let found = next_hops_on(route, index).into_iter().map(|address| DefaultHop {
            address,
            route: family,
            metric: metric(route),
            preference: preference_rank(route),
            advertised: route.header.protocol == RouteProtocol::Ra,
        });
        add_new(&mut hops, found);
    }
    hops
}

/// Adds the hops whose addresses are not in the list yet.
fn add_new(hops: &mut Vec<DefaultHop>, more: impl IntoIterator<Item = DefaultHop>) {
    for hop in more {
        if hops.iter().all(|known| known.address != hop.address) {
            hops.push(hop);
        }
    }
}

impl Netlink {
    /// The next hops of all default routes through an interface in the main table, the best first:
    /// IPv4's before IPv6's, each by metric, router preference and the kernel's order.
    pub(super) async fn default_gateways(
        &self,
        interface: &Link,
    ) -> Result<Vec<DefaultHop>, NetlinkError> {
        let mut hops = self.default_gateways_of(interface, RouteFamily::Ipv4).await?;
        // An IPv4 route can have an IPv6 next hop.
        add_new(&mut hops, self.default_gateways_of(interface, RouteFamily::Ipv6).await?);
        Ok(hops)
    }

    async fn default_gateways_of(
        &self,
        interface: &Link,
        route_family: RouteFamily,
    ) -> Result<Vec<DefaultHop>, NetlinkError> {
        let family = match route_family {
            RouteFamily::Ipv4 => AddressFamily::Inet,
            RouteFamily::Ipv6 => AddressFamily::Inet6,
        };
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(interface.index));
        match self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await {
            Ok(answers) => {
                let mut routes: Vec<_> = answers
                    .into_iter()
                    .filter_map(|answer| match answer {
                        RouteNetlinkMessage::NewRoute(route) => Some(route),
                        _ => None,
                    })
                    // If the kernel lacks the family, it may answer with all routes.
                    .filter(|route| route.header.address_family == family)
                    .collect();
                for route in routes.iter_mut().filter(|route| is_default(route)) {
                    self.expand(route).await?;
                }
                Ok(default_next_hops(&routes, route_family, interface.index))
            }
            // The table never had a route, or the kernel has no IPv6.
            Err(error)
                if matches!(
                    errno(&error),
                    Some(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
                ) =>
            {
                Ok(Vec::new())
            }
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("read the default routes of interface {}", interface.name),
                cause: cause.into(),
            }),
        }
    }
}
