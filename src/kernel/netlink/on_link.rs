//! Finds out whether an address is a neighbour on an interface.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteType;
use nix::errno::Errno;

use super::client::Netlink;
use super::link::Link;
use super::refused::errno;
use super::route::next_hop;
use crate::model::error::NetlinkError;

/// What the kernel would do with a packet to an address that leaves by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It would resolve the address to a MAC, or it does not tell.
    Neighbour,
    /// It would send it to a router.
    Behind(IpAddr),
    /// It has no route for it.
    Nowhere,
    /// It would deliver it locally: the address is the host's own.
    Own,
    /// It would broadcast it.
    Broadcast,
}

impl Reach {
    /// Reads the kernel's answer.
    pub(super) fn of(route: &RouteMessage, interface: u32, address: IpAddr) -> Self {
        match route.header.kind {
            RouteType::Local => return Self::Own,
            RouteType::Broadcast => return Self::Broadcast,
            RouteType::Unicast => {}
            _ => return Self::Nowhere,
        }
        let paths = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(paths) => Some(paths),
            _ => None,
        });
        let hops: Vec<_> = match paths {
            Some(paths) => paths
                .iter()
                .filter(|path| path.interface_index == interface)
                .map(|path| next_hop(&path.attributes))
                .collect(),
            None => vec![next_hop(&route.attributes)],
        };
        // A next hop equal to the destination means an `onlink` route.
        match hops.iter().find(|hop| hop.is_none_or(|hop| hop == address)) {
            Some(_) => Self::Neighbour,
            None => hops.into_iter().flatten().next().map_or(Self::Nowhere, Self::Behind),
        }
    }
}

impl Netlink {
    /// Finds out from the kernel's routes how an address is reached by an interface.
    pub(super) async fn reach(
        &self,
        interface: &Link,
        address: IpAddr,
    ) -> Result<Reach, NetlinkError> {
        let (family, destination, length) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4), 32),
            // Link-local addresses are on every link.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => return Ok(Reach::Neighbour),
            IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6), 128),
        };
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        // Without this flag, the kernel takes every IPv4 address without a route on the interface for a neighbour.
        message.header.flags = RouteFlags::FibMatch;
        message.attributes.push(RouteAttribute::Destination(destination));
        message.attributes.push(RouteAttribute::Oif(interface.index));
        match self.request(RouteNetlinkMessage::GetRoute(message), 0).await {
            Ok(answers) => {
                let route = answers.into_iter().find_map(|answer| match answer {
                    RouteNetlinkMessage::NewRoute(route) => Some(route),
                    _ => None,
                });
                let Some(mut route) = route else { return Ok(Reach::Neighbour) };
                self.expand(&mut route).await?;
                Ok(Reach::of(&route, interface.index, address))
            }
            Err(error)
                if matches!(errno(&error), Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH)) =>
            {
                Ok(Reach::Nowhere)
            }
            // Any other error says nothing against the address.
            Err(error) => {
                tracing::debug!("whether {address} is on the link cannot be told: {error}");
                Ok(Reach::Neighbour)
            }
        }
    }
}
