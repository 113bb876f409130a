//! The host's own addresses and prefixes on its loopback devices.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteType;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::client::blocking;
use super::inspect::ip;
use super::message::is_local;
use super::refused::errno;
use crate::model::error::NetlinkError;
use crate::model::prefix::Prefix;

/// The destinations of a local route by one of these interfaces, unless they are loopback or link-local addresses.
pub(super) fn local_prefix(route: &RouteMessage, interfaces: &[u32]) -> Option<Prefix> {
    let (mut by, mut destination) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => by = Some(*index),
            RouteAttribute::Destination(address) => destination = ip(address),
            _ => {}
        }
    }
    let prefix = Prefix::new(destination?, route.header.destination_prefix_length)?;
    let ours = is_local(route) && interfaces.contains(&by?);
    let foreign =
        prefix.address().is_loopback() || crate::kernel::host::is_link_local(prefix.address());
    (ours && !foreign).then_some(prefix)
}

impl Netlink {
    async fn local_prefixes(&self) -> Result<Vec<Prefix>, NetlinkError> {
        let loopback: Vec<_> = self
            .links()
            .await?
            .into_iter()
            .filter(|link| link.loopback)
            .map(|link| link.link.index)
            .collect();
        let mut prefixes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = nix::libc::RT_TABLE_LOCAL;
            message.header.kind = RouteType::Local;
            match self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await {
                Ok(answers) => prefixes.extend(answers.iter().filter_map(|answer| match answer {
                    RouteNetlinkMessage::NewRoute(route)
                        if route.header.address_family == family =>
                    {
                        local_prefix(route, &loopback)
                    }
                    _ => None,
                })),
                // The kernel has no IPv6, or the table never had a route.
                Err(error)
                    if matches!(
                        errno(&error),
                        Some(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
                    ) => {}
                Err(cause) => {
                    let operation = "read the routes to this host itself".to_owned();
                    return Err(NetlinkError::Netlink { operation, cause: cause.into() });
                }
            }
        }
        Ok(prefixes)
    }
}

/// Lists the host's own addresses and prefixes on its loopback devices: their addresses, and prefixes that are routed
/// to it (`ip route add local PREFIX dev lo`). Loopback and link-local addresses are left out.
pub(crate) fn local_prefixes_blocking() -> Result<Vec<Prefix>, NetlinkError> {
    blocking(async |netlink| netlink.local_prefixes().await)
}
