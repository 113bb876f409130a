//! By which interfaces packets to an address leave the host, and how many filters an interface has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteType;
use netlink_packet_route::tc::TcAttribute;
use netlink_packet_route::tc::TcHandle;
use netlink_packet_route::tc::TcMessage;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::client::blocking;
use super::refused::errno;
use super::route::next_hop;
use crate::model::error::NetlinkError;

/// How packets to an address leave the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Not at all: it is the host's own address.
    Local,
    /// Not at all: no route leads there.
    None,
    /// By these interfaces.
    By(BTreeSet<Way>),
}

/// An interface, and the router there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) interface: u32,
    /// `None`: the address is said to be on that network itself.
    pub(crate) gateway: Option<IpAddr>,
}

impl Ways {
    fn from_message(route: &RouteMessage) -> Self {
        match route.header.kind {
            RouteType::Local => return Self::Local,
            RouteType::Unicast => {}
            _ => return Self::None,
        }
        let mut ways = BTreeSet::new();
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(interface) => {
                    let gateway = next_hop(&route.attributes);
                    ways.insert(Way { interface: *interface, gateway });
                }
                RouteAttribute::MultiPath(paths) => ways.extend(paths.iter().map(|path| {
                    let gateway = next_hop(&path.attributes);
                    Way { interface: path.interface_index, gateway }
                })),
                _ => {}
            }
        }
        if ways.is_empty() { Self::None } else { Self::By(ways) }
    }
}

impl Netlink {
    async fn ways(&self, to: IpAddr, mark: u32) -> Result<Ways, NetlinkError> {
        let route = self.table_route(to, Some(mark)).await?;
        Ok(route.map_or(Ways::None, |route| Ways::from_message(&route)))
    }

    async fn has_filters(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        let parents = [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS];
        for minor in parents {
            let mut message = TcMessage::with_index(ifindex.cast_signed());
            message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
            let answers = self.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP);
            match answers.await {
                Ok(answers) if answers.is_empty() => {}
                Ok(_) => return Ok(true),
                Err(error) if matches!(errno(&error), Some(Errno::ENODEV | Errno::EINVAL)) => {}
                Err(cause) => {
                    return Err(NetlinkError::Netlink {
                        operation: format!("list the filters of interface number {ifindex}"),
                        cause: cause.into(),
                    });
                }
            }
        }
        Ok(false)
    }
}

impl Netlink {
    async fn has_clsact(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        let message = TcMessage::with_index(ifindex.cast_signed());
        let qdiscs = self.request(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_DUMP);
        let qdiscs = qdiscs.await.map_err(|cause| NetlinkError::Netlink {
            operation: format!("list the qdiscs of interface number {ifindex}"),
            cause: cause.into(),
        })?;
        Ok(qdiscs.iter().any(|answer| match answer {
            // The kernel lists those of all interfaces.
            RouteNetlinkMessage::NewQueueDiscipline(qdisc) => {
                qdisc.header.index == ifindex.cast_signed()
                    && qdisc.attributes.contains(&TcAttribute::Kind("clsact".to_owned()))
            }
            _ => false,
        }))
    }
}

/// Finds how packets with a mark leave the host to each of the addresses.
pub(crate) fn ways_blocking(to: &[IpAddr], mark: u32) -> Result<Vec<Ways>, NetlinkError> {
    blocking(async |netlink| {
        let mut found = Vec::new();
        for to in to {
            found.push(netlink.ways(*to, mark).await?);
        }
        Ok(found)
    })
}

/// Those of the addresses, each with the index of an interface, for which nobody on the interface's network answers: the
/// kernel cannot send to them. All are asked at once, and have until `limit`. Whatever else is wrong counts as an answer.
pub(crate) fn silent_blocking(
    neighbours: &BTreeSet<(u32, IpAddr)>,
    limit: Duration,
) -> Result<BTreeSet<(u32, IpAddr)>, NetlinkError> {
    if neighbours.is_empty() {
        return Ok(BTreeSet::new());
    }
    blocking(async |netlink| {
        let netlink = &netlink;
        let ask = async |(index, address): (u32, IpAddr)| {
            let link = netlink.link_by_index(index).await.ok()?;
            match netlink.resolve_address(&link, address, limit).await {
                Err(NetlinkError::GatewayNotResolved { .. }) => Some((index, address)),
                _ => None,
            }
        };
        Ok(join_all(neighbours.iter().copied().map(ask)).await.into_iter().flatten().collect())
    })
}

/// Whether the clsact qdisc of an interface has filters, on the way in or out.
pub(crate) fn has_filters_blocking(ifindex: u32) -> Result<bool, NetlinkError> {
    blocking(async |netlink| netlink.has_filters(ifindex).await)
}

/// Whether an interface has a clsact qdisc.
pub(crate) fn has_clsact_blocking(ifindex: u32) -> Result<bool, NetlinkError> {
    blocking(async |netlink| netlink.has_clsact(ifindex).await)
}
