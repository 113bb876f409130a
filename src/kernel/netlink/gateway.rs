//! Finds the MAC of the configured gateway.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio::time::sleep;

use super::client::Netlink;
use super::client::blocking;
use super::link::Link;
use super::link::mac_problem;
use super::next_hop::Choice;
use super::next_hop::to_ask;
use super::on_link::Reach;
use crate::model::address::Mac;
use crate::model::error::NetlinkError;
use crate::model::next_hop::NextHop;

/// The pauses between two looks at a neighbour that the kernel resolves: from this, doubling, …
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// … to this.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The time after which the kernel is asked again to resolve a neighbour that does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where an interface's frames go, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// To the next hop of the default route through the interface: IPv4's, or IPv6's when there is
    /// none or it does not answer.
    Auto,
    /// To this neighbour on the interface.
    Address(IpAddr),
    /// To this MAC. The kernel is not asked.
    Mac(Mac),
}

/// Where an interface's frames go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedGateway {
    /// The next hop by which it was found; `None` for a fixed MAC.
    pub next_hop: Option<NextHop>,
    /// The destination MAC. Never zero, broadcast or multicast.
    pub mac: Mac,
    /// Next hops of better default routes that did not answer.
    pub passed_over: Vec<IpAddr>,
}

/// What is configured for an interface's gateway, and what is already known about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) interface: &'a str,
    pub(crate) gateway: Gateway,
    /// The next hop in use; `None`: there is none, or it is not known.
    pub(crate) in_use: Option<NextHop>,
    /// Whether another may replace it, for [`Gateway::Auto`].
    pub(crate) choice: Choice,
}

/// An interface and where its frames go.
type Resolved = Result<(Link, ResolvedGateway), NetlinkError>;

/// Why no neighbour can have an address; `None` for one that a gateway can have.
fn address_problem(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        Some("the broadcast address")
    } else {
        None
    }
}

fn not_a_gateway(interface: &Link, gateway: String, why: &'static str) -> NetlinkError {
    NetlinkError::NotAGateway { interface: interface.name.clone(), gateway, why }
}

impl Netlink {
    /// Finds the MAC of an interface's gateway.
    ///
    /// Takes a usable neighbour entry as it is. If there is none, waits until the kernel has resolved the address, or
    /// until `timeout`. In both cases it makes the kernel use the entry, as if the kernel had a packet to send: so the
    /// kernel checks an entry that it has not heard of lately. It never writes to an entry that somebody else answers
    /// for.
    ///
    /// For [`Gateway::Auto`] it tries the next hops of [`default_gateways`](Self::default_gateways) in the order of
    /// [`to_ask`], each for an equal share of `timeout`. The first that answers is the gateway. If none does, the error
    /// is that of the one in use, or the first one's.
    pub(super) async fn resolve(
        &self,
        interface: &Link,
        wanted: &Wanted<'_>,
        timeout: Duration,
    ) -> Result<ResolvedGateway, NetlinkError> {
        let not_a_gateway = |gateway, why| not_a_gateway(interface, gateway, why);
        let configured = match wanted.gateway {
            Gateway::Mac(mac) => {
                let own = interface.mac.filter(|own| *own == mac);
                let own = own.map(|_| "the interface's own MAC, and frames would come back");
                return match mac_problem(mac).or(own) {
                    Some(why) => Err(not_a_gateway(mac.to_string(), why)),
                    None => Ok(ResolvedGateway { next_hop: None, mac, passed_over: Vec::new() }),
                };
            }
            Gateway::Address(address) => {
                let address = address.to_canonical();
                if let Some(why) = address_problem(address) {
                    return Err(not_a_gateway(address.to_string(), why));
                }
                Some(address)
            }
            Gateway::Auto => None,
        };
        let interface = self.link_by_index(interface.index).await?;
        if !interface.up {
            return Err(NetlinkError::InterfaceDown { interface: interface.name });
        }
        if interface.mac.is_none() {
            return Err(NetlinkError::NotEthernet { interface: interface.name });
        }
        let candidates = if let Some(address) = configured {
            self.check_neighbour(&interface, address).await?;
            vec![NextHop { address, route: None }]
        } else {
            let hops = self.default_gateways(&interface).await?;
            let hops = to_ask(&hops, wanted.in_use, wanted.choice);
            hops.into_iter().map(NextHop::from).collect()
        };
        let mut failure = None;
        let mut passed_over = Vec::new();
        let share = timeout / u32::try_from(candidates.len()).unwrap_or(u32::MAX).max(1);
        for next_hop in candidates {
            let address = next_hop.address;
            match self.resolve_address(&interface, address, share).await {
                Ok(mac) => {
                    return Ok(ResolvedGateway { next_hop: Some(next_hop), mac, passed_over });
                }
                Err(error) => {
                    tracing::debug!(%error, "this gateway will not do");
                    if failure.is_none() || wanted.in_use.is_some_and(|it| it.address == address) {
                        failure = Some(error);
                    }
                    passed_over.push(address);
                }
            }
        }
        let no_route = || NetlinkError::NoDefaultRoute { interface: interface.name.clone() };
        let failure = failure.unwrap_or_else(no_route);
        if !matches!(failure, NetlinkError::GatewayNotResolved { .. }) {
            return Err(failure);
        }
        let interface = self.link_by_index(interface.index).await?;
        Err(if !interface.up {
            NetlinkError::InterfaceDown { interface: interface.name }
        } else if !interface.carrier {
            NetlinkError::NoCarrier { interface: interface.name }
        } else {
            failure
        })
    }

    /// An error unless a configured gateway is a neighbour on the interface.
    async fn check_neighbour(&self, interface: &Link, address: IpAddr) -> Result<(), NetlinkError> {
        let refused = |why| Err(not_a_gateway(interface, address.to_string(), why));
        let behind = match self.whether_neighbour(interface, address).await? {
            Reach::Neighbour => return Ok(()),
            Reach::Own => return refused("an address of this host"),
            Reach::Broadcast => return refused("the broadcast address there"),
            Reach::Behind(router) => Some(router),
            Reach::Nowhere => None,
        };
        Err(NetlinkError::NotOnLink { interface: interface.name.clone(), address, behind })
    }

    /// Finds out whether an address can be a neighbour on an interface.
    async fn whether_neighbour(
        &self,
        interface: &Link,
        address: IpAddr,
    ) -> Result<Reach, NetlinkError> {
        let entry = self.neighbour(interface, address).await?;
        // A neighbour needs no route. Without a carrier, the kernel may have none now.
        if !interface.carrier || entry.is_some_and(|entry| entry.usable_mac().is_some()) {
            return Ok(Reach::Neighbour);
        }
        self.reach(interface, address).await
    }

    /// Finds an interface, and the MAC of its gateway.
    async fn find(&self, wanted: &Wanted<'_>, timeout: Duration) -> Resolved {
        let link = self.link(wanted.interface).await?;
        let resolved = self.resolve(&link, wanted, timeout).await?;
        Ok((link, resolved))
    }

    /// Waits for an address to have a usable entry.
    ///
    /// Ends with [`NetlinkError::GatewayNotResolved`], [`NetlinkError::UnusableNeighbour`] or
    /// [`NetlinkError::Netlink`] when it gets none.
    pub(super) async fn resolve_address(
        &self,
        interface: &Link,
        address: IpAddr,
        limit: Duration,
    ) -> Result<Mac, NetlinkError> {
        let start = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        let mut asked: Option<Instant> = None;
        loop {
            let entry = self.neighbour(interface, address).await?;
            let mac = entry.and_then(|entry| entry.usable_mac());
            match (entry, mac) {
                (Some(entry), None) if entry.is_fixed() => {
                    return Err(NetlinkError::UnusableNeighbour {
                        interface: interface.name.clone(),
                        address,
                        mac: entry.mac.unwrap_or_default(),
                    });
                }
                (Some(entry), Some(mac)) if entry.is_fixed() => return Ok(mac),
                (entry, _) if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) => {
                    asked = Some(Instant::now());
                    match self.make_kernel_use(interface, address, entry).await {
                        Err(error) if mac.is_some() => {
                            tracing::warn!(%error, "the gateway's MAC is known, but not checked");
                        }
                        answer => answer?,
                    }
                }
                _ => {}
            }
            if let Some(mac) = mac {
                return Ok(mac);
            }
            let rest = limit.saturating_sub(start.elapsed());
            if rest.is_zero() {
                return Err(NetlinkError::GatewayNotResolved {
                    interface: interface.name.clone(),
                    address,
                    timeout: limit,
                });
            }
            sleep(pause.min(rest)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Finds an interface and the MAC of its gateway, and makes the kernel check that MAC if it has not
/// heard of it lately.
///
/// If the kernel knows the gateway's MAC, takes it. If not, waits for it until `timeout`.
pub fn resolve_blocking(
    interface: &str,
    gateway: &Gateway,
    timeout: Duration,
) -> Result<(Link, ResolvedGateway), NetlinkError> {
    let wanted = Wanted { interface, gateway: *gateway, in_use: None, choice: Choice::Anew };
    blocking(async |netlink| netlink.find(&wanted, timeout).await)
}

/// As [`resolve_blocking`], for several interfaces at once. A gateway that does not answer delays no other.
pub(crate) fn resolve_all_blocking(
    wanted: &[Wanted<'_>],
    timeout: Duration,
) -> Result<Vec<Resolved>, NetlinkError> {
    blocking(async |netlink| {
        let netlink = &netlink;
        Ok(join_all(wanted.iter().map(|wanted| netlink.find(wanted, timeout))).await)
    })
}
