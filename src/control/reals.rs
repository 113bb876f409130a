//! Where reals are: which of their addresses are this host's own, and the MACs of those that frames go to directly.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::control::own_host::OwnHost;
use crate::control::own_host::local_without_vip;
use crate::dataplane::Dataplane;
use crate::kernel::netlink::Near;
use crate::kernel::netlink::near_blocking;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::Delivery;
use crate::model::config::Encapsulation;
use crate::model::error::Result;
use crate::model::real_way::Neighbour;
use crate::model::real_way::RealFacts;
use crate::model::vip_table::Table;
use crate::plan::diff::on_link;

/// How long an apply or a command waits for reals to answer for their MACs. The kernel asks once a second.
const WAIT: Duration = Duration::from_millis(1_200);

/// What was found about the reals of a table.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) facts: RealFacts,
    /// Reals that get their packets by their MAC, and are on no network of an interface. With the router that the
    /// kernel would send to.
    pub(crate) far: Vec<(IpAddr, Option<IpAddr>)>,
    /// Reals on such a network that did not answer for their MAC.
    pub(crate) silent: Vec<IpAddr>,
    /// VIP addresses that this host does not have, and their reals that are this host.
    local_without_vip: BTreeSet<(IpAddr, IpAddr)>,
    /// The interfaces.
    names: Vec<String>,
}

/// Looks for the reals of a table by interfaces of these indices. Waits [`WAIT`] at most for the answers of those that are
/// awaited.
pub(crate) fn look(
    table: &Table,
    interfaces: &[(&str, u32)],
    is_awaited: impl Fn(IpAddr) -> bool,
) -> Result<Looked> {
    let host = OwnHost::addresses()?;
    let own = table.reals().into_iter().filter(|address| host.takes(*address));
    let names = interfaces.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut looked = Looked { names, ..Looked::default() };
    looked.facts.own = own.collect();
    looked.local_without_vip = local_without_vip(table, &host);
    let wanted: Vec<_> = on_link(table, &looked.facts.own).into_iter().collect();
    let indices: Vec<_> = interfaces.iter().map(|(_, index)| *index).collect();
    let awaited = wanted.iter().copied().filter(|real| is_awaited(*real)).collect();
    let found = near_blocking(&indices, &wanted, &awaited, WAIT)?;
    for (real, near) in wanted.into_iter().zip(found) {
        match near {
            Near::At { ifindex, mac } => {
                looked.facts.neighbours.insert(real, Neighbour { ifindex, mac });
            }
            Near::Silent { .. } => looked.silent.push(real),
            Near::Far(router) => looked.far.push((real, router)),
            // The operator says that it is elsewhere than at this host.
            Near::Own | Near::Broadcast => looked.far.push((real, None)),
        }
    }
    Ok(looked)
}

/// Whether what the host knows can change the way of packets to a real: one is this host or was, or frames go to the
/// real's own MAC. Reads much less than the whole table.
pub(crate) fn may_change(dataplane: &Dataplane) -> Result<bool> {
    let reals = dataplane.read_reals()?;
    let by_mac = Delivery::By(Encapsulation::L2);
    let by_vip = |vip: &abi::vip| {
        vip.flags & consts::VIP_MARKER == 0
            && Encapsulation::from_vip_flags(vip.flags) == Encapsulation::L2
    };
    if reals.values().any(|real| real.live && (real.way.is_own || real.way.said == by_mac))
        || dataplane.vips.entries()?.iter().any(|(_, vip)| by_vip(vip))
        || !dataplane.read_neighbours()?.is_empty()
    {
        return Ok(true);
    }
    let host = OwnHost::addresses()?;
    Ok(reals.values().any(|real| real.live && host.owner(real.address).is_some()))
}

/// What is wrong with a real that is on none of the networks.
fn far_away(real: IpAddr, router: Option<IpAddr>, interfaces: &[String]) -> String {
    let where_it_is = not_on_link(router, interfaces);
    format!(
        "{real} gets its packets by l2, and {where_it_is}: frames can only go to a neighbour; say encapsulation = \
         \"ipip\" or \"gue\" for it, or give it an address there"
    )
}

/// `it is not on the network of eth0 (it is behind router 10.0.0.254)`
fn not_on_link(router: Option<IpAddr>, interfaces: &[String]) -> String {
    let networks = match interfaces {
        [] => "there is no interface whose network it could be on".to_owned(),
        [one] => format!("it is not on the network of {one}"),
        several => format!("it is on none of the networks of {}", several.join(", ")),
    };
    let behind =
        router.map(|router| format!(" (it is behind router {router})")).unwrap_or_default();
    format!("{networks}{behind}")
}

/// The key of a real in a configuration.
fn key(config: &Config, address: IpAddr) -> String {
    let mut vips = config.vips.iter().enumerate();
    let of_vips = vips.find_map(|(i, vip)| {
        let j = vip.reals.iter().position(|real| real.address == address)?;
        Some(format!("vips[{i}].reals[{j}].address"))
    });
    of_vips.unwrap_or_else(|| {
        let mut ids = config.server_ids.iter();
        let i = ids.position(|entry| entry.real == address).unwrap_or_default();
        format!("server_ids[{i}].real")
    })
}

impl Looked {
    /// Nobody looked: these facts are known from before.
    pub(crate) fn nothing(facts: RealFacts) -> Self {
        Self { facts, ..Self::default() }
    }

    /// Refuses reals that are on none of the networks, except those that were there before.
    pub(crate) fn refuse_far(
        &self,
        config: &Config,
        before: impl Fn(IpAddr) -> bool,
    ) -> Result<(), ConfigError> {
        match self.far.iter().find(|(real, _)| !before(*real)) {
            None => Ok(()),
            Some((real, router)) => {
                let what = far_away(*real, *router, &self.names);
                Err(ConfigError::at(key(config, *real), what))
            }
        }
    }

    /// Reals that are on none of the networks, and where they are, in words.
    pub(crate) fn far_away(&self) -> impl Iterator<Item = (IpAddr, String)> {
        self.far.iter().map(|(real, router)| {
            let where_it_is = not_on_link(*router, &self.names);
            (*real, format!("it gets its packets by l2, and {where_it_is}"))
        })
    }

    /// The same, without what is known of these reals already.
    pub(crate) fn without(mut self, known: &BTreeSet<IpAddr>) -> Self {
        self.far.retain(|(real, _)| !known.contains(real));
        self.silent.retain(|real| !known.contains(real));
        self.local_without_vip.retain(|(_, real)| !known.contains(real));
        self
    }

    /// Reals that do not answer, or cannot, and what becomes of their packets. `known`: a MAC of the real is known.
    pub(crate) fn warnings(&self, known: impl Fn(IpAddr) -> bool) -> Vec<String> {
        let far = self.far.iter().map(|(real, router)| {
            let far = far_away(*real, *router, &self.names);
            if known(*real) {
                format!("real {far}; frames still go to its last known MAC")
            } else {
                format!("real {far}; its packets are dropped")
            }
        });
        let silent = self.silent.iter().map(|real| {
            if known(*real) {
                return format!(
                    "real {real}: it does not answer for its MAC; until it does, its last known MAC stays"
                );
            }
            format!(
                "real {real}: it does not answer for its MAC; until it does, its packets are dropped (no_neighbour), and \
                 'lbctl serve' or the next apply finds it"
            )
        });
        let local = self.local_without_vip.iter().map(|(vip, real)| {
            let length = if vip.is_ipv4() { 32 } else { 128 };
            format!(
                "real {real} is this host, which does not have the VIP's address: its kernel drops the packets; run \
                 ip addr add {vip}/{length} dev lo, and give the VIP allow_own_address = true"
            )
        });
        far.chain(silent).chain(local).collect()
    }
}
