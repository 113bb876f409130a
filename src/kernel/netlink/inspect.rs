//! What [`crate::report::doctor`] asks of interfaces and routes. Reads only.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::InfoData;
use netlink_packet_route::link::InfoIpTunnel;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::link::LinkExtentMask;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::link::LinkInfo;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::link::LinkXdp;
use netlink_packet_route::link::XdpAttached;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteMetric;
use netlink_packet_route::route::RouteType;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::client::blocking;
use super::link::Link;
use super::refused::errno;
use super::route::metric;
use super::route::next_hop;
use crate::model::error::NetlinkError;

/// An interface, in more detail than the balancer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) link: Link,
    /// Its kind, as `ip -d link` shows it: `veth`, `bond`, `ipip`, …; `None` for a physical device.
    pub(crate) kind: Option<String>,
    pub(crate) loopback: bool,
    /// Whether it answers ARP.
    pub(crate) arp: bool,
    /// The other end of a veth; the interface below a VLAN.
    pub(crate) lower: Option<u32>,
    /// The network namespace of `lower`, by its number in this one; `None`: this one.
    pub(crate) lower_namespace: Option<i32>,
    /// The only sender from which a tunnel takes packets; `None`: from all.
    pub(crate) remote: Option<IpAddr>,
    /// Whether its driver runs an XDP program.
    pub(crate) native_xdp: bool,
}

impl LinkFacts {
    fn from_message(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut facts = Self {
            link: Link::from_message(message)?,
            kind: None,
            loopback: flags.contains(LinkFlags::Loopback),
            arp: !flags.contains(LinkFlags::Noarp),
            lower: None,
            lower_namespace: None,
            remote: None,
            native_xdp: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => facts.lower = Some(*index),
                LinkAttribute::LinkNetNsId(id) => facts.lower_namespace = Some(*id),
                LinkAttribute::Xdp(xdp) => {
                    let native = |attribute: &LinkXdp| {
                        matches!(
                            attribute,
                            LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Multiple)
                        )
                    };
                    facts.native_xdp = xdp.iter().any(native);
                }
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| match info {
                    LinkInfo::Kind(kind) => facts.kind = Some(kind.to_string()),
                    LinkInfo::Data(InfoData::IpTunnel(tunnel)) => facts.remote = remote(tunnel),
                    _ => {}
                }),
                _ => {}
            }
        }
        Some(facts)
    }
}

fn remote(tunnel: &[InfoIpTunnel]) -> Option<IpAddr> {
    let remote = tunnel.iter().find_map(|attribute| match attribute {
        InfoIpTunnel::Remote(remote) => Some(*remote),
        _ => None,
    });
    remote.filter(|remote| !remote.is_unspecified())
}

/// A route, as the kernel's tables have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteFacts {
    /// To this host itself.
    pub(crate) local: bool,
    /// The interface through which it leads; `None`: it has several next hops.
    pub(crate) interface: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    /// The destinations, as `ip route` writes them.
    pub(crate) destination: String,
    /// The protocol that made it, as `ip route` writes it.
    pub(crate) protocol: String,
    pub(crate) source: Option<IpAddr>,
    /// Less is better.
    pub(crate) metric: u32,
    /// The MTU of the path, if the route says so.
    pub(crate) mtu: Option<u32>,
    /// The MSS that the host announces, if the route says so.
    pub(crate) advmss: Option<u32>,
}

/// Whether a route of this kind forwards packets.
fn leads_on(kind: RouteType) -> bool {
    !matches!(kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit)
}

impl RouteFacts {
    fn from_message(route: &RouteMessage) -> Self {
        let length = route.header.destination_prefix_length;
        let mut facts = Self {
            local: route.header.kind == RouteType::Local,
            interface: None,
            gateway: next_hop(&route.attributes),
            destination: "default".to_owned(),
            protocol: route.header.protocol.to_string(),
            source: None,
            metric: metric(route),
            mtu: None,
            advmss: None,
        };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => facts.interface = Some(*index),
                RouteAttribute::Destination(address) if length != 0 => {
                    facts.destination =
                        ip(address).map_or_else(String::new, |ip| format!("{ip}/{length}"));
                }
                RouteAttribute::PrefSource(address) => facts.source = ip(address),
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        match metric {
                            RouteMetric::Mtu(mtu) => facts.mtu = Some(*mtu),
                            RouteMetric::Advmss(advmss) => facts.advmss = Some(*advmss),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        facts
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn links_in(answers: &[RouteNetlinkMessage]) -> Vec<LinkFacts> {
    let facts = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => LinkFacts::from_message(link),
        _ => None,
    });
    facts.collect()
}

impl Netlink {
    pub(super) async fn links(&self) -> Result<Vec<LinkFacts>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.request(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP).await {
            Ok(answers) => Ok(links_in(&answers)),
            Err(cause) => Err(NetlinkError::Netlink {
                operation: "list the interfaces".to_owned(),
                cause: cause.into(),
            }),
        }
    }

    /// An interface in another network namespace.
    async fn peer(&self, index: u32, namespace: i32) -> Result<Option<LinkFacts>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfNetnsId(namespace));
        match self.request(RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(answers) => Ok(links_in(&answers).pop()),
            Err(cause) => {
                let operation = "look into the network namespace of a veth's other end".to_owned();
                Err(NetlinkError::Netlink { operation, cause: cause.into() })
            }
        }
    }

    /// Finds the route of the table that a packet to an address takes, with its own metrics and all next hops: not the
    /// entry that the kernel derives for the destination. A mark may lead to another table.
    pub(super) async fn table_route(
        &self,
        to: IpAddr,
        mark: Option<u32>,
    ) -> Result<Option<RouteMessage>, NetlinkError> {
        let mut message = RouteMessage::default();
        let (family, address, length) = match to {
            IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4), 32),
            IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6), 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.header.flags = RouteFlags::FibMatch;
        message.attributes.push(RouteAttribute::Destination(address));
        message.attributes.extend(mark.map(RouteAttribute::Mark));
        match self.request(RouteNetlinkMessage::GetRoute(message), 0).await {
            Ok(answers) => {
                let route = answers.into_iter().find_map(|answer| match answer {
                    RouteNetlinkMessage::NewRoute(route) => Some(route),
                    _ => None,
                });
                let Some(mut route) = route else { return Ok(None) };
                self.expand(&mut route).await?;
                Ok(Some(route))
            }
            Err(error)
                if matches!(
                    errno(&error),
                    Some(
                        Errno::ENETUNREACH
                            | Errno::EHOSTUNREACH
                            | Errno::EAFNOSUPPORT
                            | Errno::EOPNOTSUPP
                            // The kernel's answers for "blackhole" and "prohibit" routes.
                            | Errno::EINVAL
                            | Errno::EACCES
                    )
                ) =>
            {
                Ok(None)
            }
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("find the route to {to}"),
                cause: cause.into(),
            }),
        }
    }

    /// Finds the route that a packet to an address takes, if it leads on.
    async fn route(&self, to: IpAddr) -> Result<Option<RouteFacts>, NetlinkError> {
        let route = self.table_route(to, None).await?;
        let route = route.filter(|route| leads_on(route.header.kind));
        Ok(route.map(|route| RouteFacts::from_message(&route)))
    }
}

/// Lists the interfaces.
pub(crate) fn links_blocking() -> Result<Vec<LinkFacts>, NetlinkError> {
    blocking(async |netlink| netlink.links().await)
}

/// Finds an interface in another network namespace, by that namespace's number here. Needs `CAP_NET_ADMIN` there.
pub(crate) fn peer_blocking(index: u32, namespace: i32) -> Result<Option<LinkFacts>, NetlinkError> {
    blocking(async |netlink| netlink.peer(index, namespace).await)
}

/// Finds the route that a packet to an address takes; `None`: there is none.
pub(crate) fn route_blocking(to: IpAddr) -> Result<Option<RouteFacts>, NetlinkError> {
    blocking(async |netlink| netlink.route(to).await)
}
