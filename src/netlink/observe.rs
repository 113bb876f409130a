//! What the kernel knows of interfaces in use and their gateways, without asking a neighbour.

use std::net::IpAddr;

use macaddr::MacAddr6;

use super::client::Netlink;
use super::client::blocking;
use super::error::NetlinkError;
use super::gateway::Gateway;
use super::link::Link;
use super::neighbour::Known;
use super::neighbour::Neighbour;

/// How an interface is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Name(String),
    Index(u32),
    /// Not at all: another network namespace has it.
    Elsewhere,
}

/// An interface in use.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    pub(crate) which: Which,
    /// Where it finds its gateway.
    pub(crate) gateway: Gateway,
    /// What its frames are sent to.
    pub(crate) mac: MacAddr6,
}

/// What the kernel knows of an interface in use.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// `None`: there is no such interface.
    pub(crate) link: Option<Link>,
    /// What it knows of the MAC in use.
    pub(crate) known: Known,
    /// Whether there is a default route by the interface, where its gateway is found by one.
    pub(crate) routed: bool,
    /// The gateway's MAC, if that is another one than the MAC in use.
    pub(crate) moved_to: Option<MacAddr6>,
}

impl Observed {
    /// Judges the neighbours on an interface; `gateways` are the addresses that may be its gateway's.
    fn new(
        link: Link,
        mac: MacAddr6,
        gateways: &[IpAddr],
        neighbours: &[(IpAddr, Neighbour)],
    ) -> Self {
        // One for each of its addresses.
        let usable: Vec<_> =
            neighbours.iter().filter(|(_, entry)| entry.usable_mac() == Some(mac)).collect();
        let confirmed = usable.iter().filter(|(_, entry)| !entry.is_fixed());
        let confirmed = confirmed.filter_map(|(_, entry)| entry.confirmed).min();
        let known = match (confirmed, usable.is_empty()) {
            (Some(ago), _) => Known::Confirmed(ago),
            (None, true) => Known::Not,
            (None, false) => Known::Fixed,
        };
        let mac_of = |address: &IpAddr| {
            let found = neighbours.iter().find(|(other, _)| other == address);
            found.and_then(|(_, entry)| entry.usable_mac())
        };
        // The first that is usable is the one that would be resolved to.
        let moved_to = gateways.iter().find_map(mac_of).filter(|now| *now != mac);
        Self { link: Some(link), known, routed: !gateways.is_empty(), moved_to }
    }
}

impl Netlink {
    async fn observe(&self, wanted: &InUse) -> Result<Observed, NetlinkError> {
        let fixed = matches!(wanted.gateway, Gateway::Mac(_));
        let known = if fixed { Known::Fixed } else { Known::Not };
        let unseen = Observed { link: None, known, routed: true, moved_to: None };
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
        let gateways = match wanted.gateway {
            Gateway::Mac(_) => return Ok(Observed { link: Some(link), ..unseen }),
            Gateway::Address(address) => vec![address.to_canonical()],
            Gateway::Auto => self.default_gateways(&link).await?,
        };
        let neighbours = self.neighbours(link.index).await?;
        Ok(Observed::new(link, wanted.mac, &gateways, &neighbours))
    }
}

/// What the kernel knows of interfaces in use. Asks no neighbour, and changes nothing.
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
