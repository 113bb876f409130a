//! Nexthop objects (`ip nexthop`, Linux 5.3), and where routes with their ids lead.
//!
//! A route can name one by its id. With the sysctl `net.ipv4.nexthop_compat_mode` off, the kernel then reports only
//! the id.

use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteNextHop;
use netlink_packet_route::route::RouteNextHopFlags;
use nix::errno::Errno;

use super::client::Netlink;
use super::message::Message;
use super::message::Nexthop;
use super::message::NexthopMessage;
use super::refused::errno;
use crate::model::error::NetlinkError;

impl Netlink {
    /// The nexthop object of an id.
    async fn nexthop(&self, id: u32) -> Result<Option<Nexthop>, NetlinkError> {
        match self.ask(Message::Nexthop(NexthopMessage::Get(id)), 0).await {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                Message::Nexthop(NexthopMessage::New(nexthop)) if nexthop.id == id => Some(nexthop),
                _ => None,
            })),
            // It was removed, or the kernel has no nexthop objects.
            Err(error) if matches!(errno(&error), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                Ok(None)
            }
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("read nexthop {id}"),
                cause: cause.into(),
            }),
        }
    }

    /// If a route only has the id of a nexthop object, adds the object's next hops to the route, as the kernel does
    /// with the sysctl `net.ipv4.nexthop_compat_mode` on.
    pub(super) async fn expand(&self, route: &mut RouteMessage) -> Result<(), NetlinkError> {
        let mut id = None;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::NhId(nexthop) => id = Some(*nexthop),
                RouteAttribute::Oif(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_) => return Ok(()),
                _ => {}
            }
        }
        let Some(id) = id else { return Ok(()) };
        let Some(nexthop) = self.nexthop(id).await? else { return Ok(()) };
        let mut members = Vec::new();
        // The kernel bounds a group: its members fit one attribute.
        for id in &nexthop.group {
            members.extend(self.nexthop(*id).await?);
        }
        write_hops(route, &nexthop, &members);
        Ok(())
    }
}

/// The attributes of a route, or of one path of several, for a nexthop.
fn attributes(nexthop: &Nexthop) -> Option<RouteAttribute> {
    nexthop.gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway)))
}

/// Writes the next hops of a nexthop object, or those of the members of a group, into a route.
pub(super) fn write_hops(route: &mut RouteMessage, nexthop: &Nexthop, members: &[Nexthop]) {
    if nexthop.group.is_empty() {
        // If it discards packets, the kernel says so in the route itself.
        let Some(interface) = nexthop.interface else { return };
        route.attributes.push(RouteAttribute::Oif(interface));
        route.attributes.extend(attributes(nexthop));
        route.header.flags.set(RouteFlags::Dead, nexthop.dead);
        return;
    }
    let paths = members.iter().filter(|member| !member.blackhole).filter_map(|member| {
        let mut path = RouteNextHop::default();
        path.interface_index = member.interface?;
        path.flags.set(RouteNextHopFlags::Dead, member.dead);
        path.attributes.extend(attributes(member));
        Some(path)
    });
    route.attributes.push(RouteAttribute::MultiPath(paths.collect()));
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteMessage;

    use super::Nexthop;
    use super::write_hops;
    use crate::kernel::netlink::route::default_next_hops;
    use crate::model::next_hop::RouteFamily;

    #[test]
    fn members_that_lead_nowhere_are_no_next_hops() {
        let member = |last: u8| Nexthop {
            interface: Some(2),
            gateway: Some([10, 0, 0, last].into()),
            ..Nexthop::default()
        };
        let members = [
            Nexthop { dead: true, ..member(1) },
            Nexthop { blackhole: true, ..member(2) },
            Nexthop { interface: Some(3), ..member(3) },
            Nexthop { gateway: None, ..member(4) },
            member(5),
        ];
        let default_route = || {
            let mut route = RouteMessage::default();
            route.header.kind = netlink_packet_route::route::RouteType::Unicast;
            route.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
            route
        };
        let mut route = default_route();
        let group = Nexthop { group: vec![1, 2, 3, 4, 5], ..Nexthop::default() };
        write_hops(&mut route, &group, &members);
        let hops = default_next_hops(&[route], RouteFamily::Ipv4, 2);
        let hops: Vec<_> = hops.iter().map(|hop| hop.address.to_string()).collect();
        assert_eq!(hops, ["10.0.0.5"]);

        for (dead, hops) in [(false, 1), (true, 0)] {
            let mut route = default_route();
            write_hops(&mut route, &Nexthop { dead, ..member(1) }, &[]);
            let found = default_next_hops(&[route], RouteFamily::Ipv4, 2);
            assert_eq!(found.len(), hops, "one that leads out alone, dead: {dead}");
        }
    }
}
