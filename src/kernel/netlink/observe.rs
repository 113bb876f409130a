//! What the kernel knows of interfaces in use and their gateways, without asking a neighbour.

use std::net::IpAddr;

use crate::model::address::Mac;

use super::client::Netlink;
use super::client::blocking;
use super::gateway::Gateway;
use super::link::Link;
use super::neighbour::Known;
use super::neighbour::Neighbour;
use super::next_hop::Choice;
use super::next_hop::to_ask;
use crate::model::error::NetlinkError;
use crate::model::next_hop::NextHop;

/// How an interface is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Name(String),
    Index(u32),
    /// It is not looked for: it is in another network namespace.
    Elsewhere,
}

/// An interface in use.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    pub(crate) which: Which,
    /// How its gateway is found.
    pub(crate) gateway: Gateway,
    /// The next hop by which it was found; `None`: the MAC is fixed, or the next hop is not known.
    pub(crate) next_hop: Option<NextHop>,
    /// The MAC that its frames are sent to.
    pub(crate) mac: Mac,
}

/// What the kernel knows of an interface in use.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// `None`: there is no such interface.
    pub(crate) link: Option<Link>,
    /// What it knows about the MAC in use.
    pub(crate) known: Known,
    /// Whether there is a default route by the interface, if its gateway is found by one.
    pub(crate) routed: bool,
    /// The gateway's MAC, if that is another one than the MAC in use.
    pub(crate) moved_to: Option<Mac>,
    /// Another default router. It must be resolved first, because the kernel does not do so by itself.
    pub(crate) alternative: Option<IpAddr>,
}

/// What the neighbours on an interface tell about the MAC in use. Only the neighbour by which it was found counts.
/// Others do not, even if they have that MAC or claim to be routers.
fn known(mac: Mac, next_hop: Option<NextHop>, neighbours: &[(IpAddr, Neighbour)]) -> Known {
    let in_question: Vec<_> = neighbours
        .iter()
        .filter(|(address, _)| next_hop.is_none_or(|next_hop| next_hop.address == *address))
        .map(|(_, entry)| entry)
        .collect();
    let usable: Vec<_> =
        in_question.iter().filter(|entry| entry.usable_mac() == Some(mac)).collect();
    let confirmed = usable.iter().filter(|entry| !entry.is_fixed());
    match (confirmed.filter_map(|entry| entry.confirmed).min(), usable.is_empty()) {
        (Some(ago), _) => Known::Confirmed(ago),
        (None, false) => Known::Fixed,
        (None, true) => match in_question[..] {
            [entry] if next_hop.is_some() && entry.is_silent() => Known::Silent(entry.confirmed),
            _ => Known::Not,
        },
    }
}

impl Netlink {
    async fn observe(&self, wanted: &InUse) -> Result<Observed, NetlinkError> {
        let fixed = matches!(wanted.gateway, Gateway::Mac(_));
        let unasked = if fixed { Known::Fixed } else { Known::Not };
        let unseen = Observed {
            link: None,
            known: unasked,
            routed: true,
            moved_to: None,
            alternative: None,
        };
        let link = match &wanted.which {
            Which::Name(name) => self.link(name).await,
            Which::Index(index) => self.link_by_index(*index).await,
            Which::Elsewhere => return Ok(unseen),
        };
        let link = match link {
            Ok(link) => link,
            Err(NetlinkError::NoSuchInterface { .. } | NetlinkError::NoSuchIndex { .. }) => {
                return Ok(unseen);
            }
            Err(error) => return Err(error),
        };
        let (next_hop, routers, all) = match wanted.gateway {
            Gateway::Mac(_) => return Ok(Observed { link: Some(link), ..unseen }),
            Gateway::Address(address) => {
                let address = address.to_canonical();
                (Some(NextHop { address, route: None }), vec![address], Vec::new())
            }
            Gateway::Auto => {
                let hops = self.default_gateways(&link).await?;
                let addresses = |choice| -> Vec<_> {
                    let hops = to_ask(&hops, wanted.next_hop, choice).into_iter();
                    hops.map(|hop| hop.address).collect()
                };
                (wanted.next_hop, addresses(Choice::Keep), addresses(Choice::Anew))
            }
        };
        let neighbours = self.neighbours(link.index).await?;
        let mac_of = |address: &IpAddr| {
            let found = neighbours.iter().find(|(other, _)| other == address);
            found.and_then(|(_, entry)| entry.usable_mac())
        };
        Ok(Observed {
            link: Some(link),
            known: known(wanted.mac, next_hop, &neighbours),
            routed: !routers.is_empty(),
            // The gateway moves to the first usable one.
            moved_to: routers.iter().find_map(mac_of).filter(|now| *now != wanted.mac),
            alternative: next_hop
                .and_then(|next_hop| all.into_iter().find(|other| *other != next_hop.address)),
        })
    }
}

/// What the kernel knows about interfaces in use. Sends nothing to neighbours, and changes nothing.
pub(crate) fn observe_blocking(wanted: &[InUse]) -> Result<Vec<Observed>, NetlinkError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    blocking(async |netlink| {
        let mut observed = Vec::new();
        for wanted in wanted {
            observed.push(netlink.observe(wanted).await?);
        }
        Ok(observed)
    })
}
