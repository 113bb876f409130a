//! The real's side: takes the balancer's outer header off, on hosts without tunnel devices.
//!
//! The program lives in the chain of an instance, as the balancer does, and may share it with one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;

use serde::Serialize;

use crate::abi;
use crate::abi::consts;
use crate::attach;
use crate::balancer;
use crate::chain;
use crate::chain::Attaching;
use crate::chain::Chain;
use crate::chain::refuse_foreign_programs;
use crate::config::XdpMode;
use crate::error::Error;
use crate::error::Result;
use crate::host;
use crate::instance::Instance;
use crate::instance::remove_pin;
use crate::maps::Map;
use crate::maps::PerCpuArray;
use crate::netlink;
use crate::object;
use crate::reason;
use crate::stats::Count;

/// Name of the decapsulation program's pin.
pub(crate) const PROGRAM: &str = "decap";

/// The pins of its maps.
pub(crate) const MAPS: [&str; 3] = ["decap_addresses", "decap_owners", "decap_states"];

/// Outer destinations, for the packet path. The value means nothing.
type Addresses = Map<abi::decap_addr, u32>;

/// Who asked for them. The value means nothing.
type Owners = Map<abi::decap_owner, u32>;

/// Which packets are decapsulated, and how many were.
#[derive(Clone, Debug, Serialize)]
pub struct DecapStatus {
    /// The interfaces, and the mode that the program runs in.
    pub interfaces: BTreeMap<String, Option<XdpMode>>,
    /// Outer destinations that packets are decapsulated for.
    pub addresses: BTreeSet<IpAddr>,
    /// Packets by what became of them, in the order of [`crate::decap_results`].
    pub results: BTreeMap<&'static str, Count>,
}

/// Whether the instance decapsulates.
pub(crate) fn is_attached(instance: &Instance) -> bool {
    has_chain(instance) && instance.program(PROGRAM).exists()
}

/// Whether what is pinned can run: without the root program it is left over.
fn has_chain(instance: &Instance) -> bool {
    instance.program(attach::ROOT).exists()
}

/// The indices of the interfaces that decapsulation needs.
pub(crate) fn interfaces(instance: &Instance) -> Result<BTreeSet<u32>> {
    let pin = instance.map("decap_owners");
    if !pin.exists() {
        return Ok(BTreeSet::new());
    }
    let owners: Owners = Map::open(&pin)?;
    Ok(owners.entries()?.into_iter().map(|(owner, _)| owner.ifindex).collect())
}

/// The addresses of an interface that balancers could know this host by.
fn addresses_of(interface: &str) -> Result<BTreeSet<IpAddr>> {
    Ok(host::addresses()?
        .into_iter()
        .filter(|(name, address)| name == interface && !host::is_link_local(*address))
        .map(|(_, address)| address)
        .collect())
}

/// Decapsulates packets that come in by an interface for these outer destinations; none: for the
/// interface's own addresses. Called again for an interface, it replaces what was asked for before.
///
/// A program that the interface has already is an error; with `adopt`, it goes into that slot of the chain.
pub fn attach(
    instance: &Instance,
    interface: &str,
    mode: XdpMode,
    addresses: &[IpAddr],
    adopt: Option<u32>,
) -> Result<DecapStatus> {
    instance.check_host()?;
    let link = netlink::link_blocking(interface)?;
    let addresses = if addresses.is_empty() {
        addresses_of(interface)?
    } else {
        addresses.iter().copied().collect()
    };
    if addresses.is_empty() {
        return Err(Error::NoAddress { interface: interface.to_owned() });
    }
    if !instance.exists() {
        // As in `Balancer::apply`.
        let fits = refuse_foreign_programs(instance, &[(interface, link.index, mode)], adopt);
        if fits.is_err() && !instance.exists() {
            fits?;
        }
    }
    let lock = instance.lock()?;
    let fresh = instance.is_empty(&lock);
    let done = carry_out(instance, (interface, link.index, mode), &addresses, adopt);
    if let Err(error) = done {
        if fresh {
            attach::remove_all(instance, lock)?;
        }
        return Err(error);
    }
    status(instance)
}

fn carry_out(
    instance: &Instance,
    (interface, ifindex, mode): (&str, u32, XdpMode),
    addresses: &BTreeSet<IpAddr>,
    adopt: Option<u32>,
) -> Result<()> {
    balancer::refuse_other_mode(instance, interface, ifindex, mode)?;
    let chain = Chain::open_or_create(instance)?;
    chain.settle()?;
    chain.home(PROGRAM, consts::SLOT_DECAP)?;
    let mut attaching = Attaching::default();
    let done = attaching
        .attach(instance, &chain, &[(interface, ifindex, mode)], adopt)
        .and_then(|()| program(instance, &chain, ifindex, addresses));
    if done.is_err() {
        attaching.undo(instance, &chain);
    }
    done
}

/// Loads the program and writes its maps.
fn program(
    instance: &Instance,
    chain: &Chain,
    ifindex: u32,
    addresses: &BTreeSet<IpAddr>,
) -> Result<()> {
    let (slot, place) = chain.home(PROGRAM, consts::SLOT_DECAP)?;
    let loaded = object::load_decap(Some(instance), place)?;
    let attached = attach::links(instance)?.into_values().filter_map(|link| link.ifindex).collect();
    set_owners(instance, &attached, ifindex, addresses)?;
    chain.put(slot, loaded.program.as_fd(), PROGRAM)
}

/// Stops decapsulating on an interface, or on all. Whether there was anything to stop.
pub fn detach(instance: &Instance, interface: Option<&str>) -> Result<bool> {
    instance.check_host()?;
    let Some(lock) = instance.lock_existing()? else { return Ok(false) };
    let served = balancer::served_interfaces(instance)?;
    let (asked, others): (BTreeMap<_, _>, BTreeMap<_, _>) = attach::links(instance)?
        .into_iter()
        .partition(|(name, _)| interface.is_none_or(|asked| asked == name));

    let stays = !chain::others(instance).is_empty();
    let kept = others.values().filter_map(|link| link.ifindex).collect();
    let mut found = set_owners(instance, &kept, 0, &BTreeSet::new())?;
    for link in asked.into_values() {
        if !stays && !link.ifindex.is_some_and(|ifindex| served.contains(&ifindex)) {
            attach::remove_link(&instance.link(&link.pin))?;
            found = true;
        }
    }
    if interfaces(instance)?.is_empty() {
        remove_program(instance, lock)?;
    }
    Ok(found)
}

/// Gives an interface these addresses, and takes all from those that are not among `kept`. Whether others had
/// any.
fn set_owners(
    instance: &Instance,
    kept: &BTreeSet<u32>,
    ifindex: u32,
    wanted: &BTreeSet<IpAddr>,
) -> Result<bool> {
    let pins = ["decap_owners", "decap_addresses"].map(|name| instance.map(name));
    if !pins.iter().all(|pin| pin.exists()) {
        return Ok(false);
    }
    let [owners, addresses] = pins;
    let (owners, addresses): (Owners, Addresses) = (Map::open(&owners)?, Map::open(&addresses)?);
    // An address has an owner for as long as packets are decapsulated for it, so that the next command knows
    // what an interrupted one left.
    for address in wanted {
        owners.set(&abi::decap_owner { addr: (*address).into(), ifindex }, &0)?;
        addresses.set(&(*address).into(), &0)?;
    }
    let (stay, go): (Vec<_>, Vec<_>) =
        owners.entries()?.into_iter().map(|(owner, _)| owner).partition(|owner| {
            if owner.ifindex == ifindex {
                wanted.contains(&owner.addr.into())
            } else {
                kept.contains(&owner.ifindex)
            }
        });
    let stay: BTreeSet<IpAddr> = stay.into_iter().map(|owner| owner.addr.into()).collect();
    for (address, _) in addresses.entries()? {
        if !stay.contains(&address.into()) {
            addresses.remove(&address)?;
        }
    }
    owners.remove_many(&go)?;
    Ok(go.iter().any(|owner| owner.ifindex != ifindex))
}

fn remove_program(instance: &Instance, lock: crate::instance::Lock) -> Result<()> {
    if !chain::is_needed_without(instance, PROGRAM) {
        return attach::remove_all(instance, lock);
    }
    Chain::open(instance)?.remove_named(PROGRAM)?;
    MAPS.iter().try_for_each(|name| remove_pin(&instance.map(name)))
}

/// What is decapsulated.
pub fn status(instance: &Instance) -> Result<DecapStatus> {
    instance.check_host()?;
    if !is_attached(instance) {
        return Err(Error::NoDecap { instance: instance.name().to_owned() });
    }
    let ours = interfaces(instance)?;
    let addresses: Addresses = Map::open(&instance.map("decap_addresses"))?;
    let states: PerCpuArray<abi::decap_state> = PerCpuArray::open(&instance.map("decap_states"))?;
    let mut results: BTreeMap<_, _> =
        reason::decap_results().iter().map(|result| (result.name, Count::default())).collect();
    for state in states.get(0)? {
        for (result, count) in reason::decap_results().iter().zip(state.results) {
            *results.entry(result.name).or_default() += Count::from_raw(count.packets, count.bytes);
        }
    }
    let links = attach::links(instance)?.into_iter();
    Ok(DecapStatus {
        interfaces: links
            .filter(|(_, link)| link.ifindex.is_some_and(|ifindex| ours.contains(&ifindex)))
            .map(|(name, link)| (name, link.mode))
            .collect(),
        addresses: addresses.entries()?.into_iter().map(|(address, _)| address.into()).collect(),
        results,
    })
}
