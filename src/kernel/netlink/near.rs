//! Finds hosts on the networks of interfaces, and their MACs.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::client::Netlink;
use super::client::blocking;
use super::gateway::LONGEST_PAUSE;
use super::gateway::SHORTEST_PAUSE;
use super::link::Link;
use super::neighbour::Neighbour;
use super::on_link::Reach;
use crate::model::address::Mac;
use crate::model::error::NetlinkError;

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    /// On the network of this interface, with this MAC.
    At {
        /// The interface's index.
        ifindex: u32,
        /// The host's MAC.
        mac: Mac,
    },
    /// On the network of this interface. It does not answer for its MAC.
    Silent {
        /// The interface's index.
        ifindex: u32,
    },
    /// On none of these networks. The kernel would send packets for it to this router, if it has a route.
    Far(Option<IpAddr>),
    /// The address is this host's own.
    Own,
    /// The network of one of the interfaces has it as broadcast address.
    Broadcast,
}

/// Neighbours by interface and address.
type Table = HashMap<(u32, IpAddr), Neighbour>;

impl Netlink {
    /// The interfaces of these indices that exist and are up.
    async fn up(&self, interfaces: &[u32]) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        for index in interfaces {
            match self.link_by_index(*index).await {
                Ok(link) if link.up => links.push(link),
                Ok(_) | Err(NetlinkError::NoSuchIndex { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(links)
    }

    async fn table(&self, links: &[Link]) -> Result<Table, NetlinkError> {
        let mut table = Table::new();
        for link in links {
            let entries = self.neighbours(link.index).await?.into_iter();
            table.extend(entries.map(|(address, entry)| ((link.index, address), entry)));
        }
        Ok(table)
    }

    /// Where a host is, from what the kernel knows now.
    async fn place(
        &self,
        links: &[Link],
        table: &Table,
        address: IpAddr,
    ) -> Result<Near, NetlinkError> {
        let (mut silent, mut far) = (None, None);
        for link in links {
            match self.reach(link, address).await? {
                Reach::Own => return Ok(Near::Own),
                Reach::Broadcast => return Ok(Near::Broadcast),
                Reach::Neighbour => {
                    let ifindex = link.index;
                    match table.get(&(ifindex, address)).and_then(Neighbour::usable_mac) {
                        Some(mac) => return Ok(Near::At { ifindex, mac }),
                        None => drop(silent.get_or_insert(ifindex)),
                    }
                }
                Reach::Behind(router) => drop(far.get_or_insert(router)),
                Reach::Nowhere => {}
            }
        }
        Ok(silent.map_or(Near::Far(far), |ifindex| Near::Silent { ifindex }))
    }

    /// Finds hosts, and waits until `limit` for the MACs of those that are awaited and have not answered yet.
    async fn near(
        &self,
        interfaces: &[u32],
        addresses: &[IpAddr],
        awaited: &BTreeSet<IpAddr>,
        limit: Duration,
    ) -> Result<Vec<Near>, NetlinkError> {
        let links = self.up(interfaces).await?;
        let mut table = self.table(&links).await?;
        let mut found = Vec::with_capacity(addresses.len());
        for address in addresses {
            let near = self.place(&links, &table, *address).await?;
            if let Near::At { ifindex, .. } | Near::Silent { ifindex } = near {
                let entry = table.get(&(ifindex, *address)).copied();
                let link = links.iter().find(|link| link.index == ifindex);
                if let Some(link) = link.filter(|_| !entry.is_some_and(|entry| entry.is_fixed())) {
                    // No packet of the kernel's own goes there, so nothing else keeps the entry. If its table is full,
                    // the real is one that does not answer.
                    if let Err(error) = self.make_kernel_use(link, *address, entry).await {
                        tracing::debug!(%error, "the kernel does not look for this real");
                    }
                }
            }
            found.push(near);
        }
        let (start, mut pause) = (Instant::now(), SHORTEST_PAUSE);
        let silent = |(near, address): (&Near, &IpAddr)| {
            matches!(near, Near::Silent { .. })
                .then_some(*address)
                .filter(|real| awaited.contains(real))
        };
        while let Some(first) = found.iter().zip(addresses).find_map(silent) {
            let rest = limit.saturating_sub(start.elapsed());
            if rest.is_zero() {
                break;
            }
            tracing::debug!("waiting for {first} to answer for its MAC, for {rest:?} at most");
            sleep(pause.min(rest)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            table = self.table(&links).await?;
            for (near, address) in found.iter_mut().zip(addresses) {
                let Near::Silent { ifindex } = *near else { continue };
                let entry = table.get(&(ifindex, *address));
                if let Some(mac) = entry.and_then(Neighbour::usable_mac) {
                    *near = Near::At { ifindex, mac };
                }
            }
        }
        Ok(found)
    }
}

/// Where each of these hosts is, as seen from interfaces. Makes the kernel ask for MACs that it does not have, and check
/// those that it has not confirmed for long. Waits until `limit` for answers of those that are awaited.
pub(crate) fn near_blocking(
    interfaces: &[u32],
    addresses: &[IpAddr],
    awaited: &BTreeSet<IpAddr>,
    limit: Duration,
) -> Result<Vec<Near>, NetlinkError> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    blocking(async |netlink| netlink.near(interfaces, addresses, awaited, limit).await)
}
