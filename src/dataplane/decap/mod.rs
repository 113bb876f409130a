//! The maps of decapsulation: the requests of each interface, and the tables that packets are checked against.

pub(crate) mod mss;
mod request;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use crate::instance::Instance;
use crate::instance::links::interface_name;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::programs;
use crate::instance::repair;
use crate::kernel::bpf;
use crate::kernel::host;
use crate::kernel::maps;
use crate::kernel::maps::Map;
use crate::kernel::netlink;
use crate::kernel::sockets::listeners;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::error::DecapError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

pub use request::Mss;
pub use request::Request;
use request::covers_ipv4;
use request::prefix_of;
use request::raw_prefix;

/// Whose maps are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nobody's. An interrupted command may have left some, which no packet uses.
    None,
    /// This build's.
    Ours,
    /// Another build's, or not those of the running program.
    Other,
}

impl Layout {
    pub(crate) fn of(instance: &Instance) -> Result<Self> {
        let runs = instance.program(OwnProgram::Decap.name()).exists();
        let strange = if runs { Self::Other } else { Self::None };
        let settings = instance.map("decap_settings");
        if !settings.exists() {
            return Ok(strange);
        }
        // The version is the first word, even if another build lays out the rest differently.
        if maps::first_word(&maps::open(&settings)?)? != consts::ABI_VERSION {
            return Ok(strange);
        }
        if !runs {
            return Ok(Self::Ours);
        }
        let id = Map::<u32, abi::decap_settings>::open(&settings)?.id()?;
        let program = instance.program(OwnProgram::Decap.name());
        let uses = bpf::pinned(&program)
            .and_then(|program| bpf::program_info(program.as_fd()))
            .map_err(|source| pin_error("open", &program, source))?;
        Ok(if uses.maps.contains(&id) { Self::Ours } else { Self::Other })
    }
}

/// Removes all maps. A running program keeps its maps.
pub(crate) fn remove_maps(instance: &Instance) -> Result<()> {
    OwnProgram::Decap.remove_maps(instance)
}

/// Whether the instance decapsulates.
pub(crate) fn is_attached(instance: &Instance) -> bool {
    // Pins without the root program are leftovers.
    instance.program(ROOT).exists() && instance.program(OwnProgram::Decap.name()).exists()
}

/// The error if another build has created the maps.
pub(crate) fn other(instance: &Instance) -> Error {
    DecapError::OtherBuild { instance: instance.name().to_owned() }.into()
}

/// The maps of an instance that decapsulates.
pub(crate) fn ours(instance: &Instance) -> Result<Maps> {
    repair::refuse_lost(instance)?;
    if !is_attached(instance) {
        return Err(DecapError::None { instance: instance.name().to_owned() }.into());
    }
    match Layout::of(instance)? {
        Layout::Ours => Maps::open(instance),
        Layout::None | Layout::Other => Err(other(instance)),
    }
}

/// The UDP ports of GUE that the instance takes; `None`: it does not decapsulate, or by another build's maps.
pub(crate) fn gue_ports(instance: &Instance) -> Result<Option<BTreeSet<u16>>> {
    if !is_attached(instance) || Layout::of(instance)? != Layout::Ours {
        return Ok(None);
    }
    let settings: Map<u32, _> = Map::open(&instance.map("decap_settings"))?;
    Ok(settings.get(&0)?.as_ref().map(gue_ports_of))
}

fn gue_ports_of(settings: &abi::decap_settings) -> BTreeSet<u16> {
    settings.gue_port.into_iter().filter(|port| *port != 0).map(u16::from_be).collect()
}

/// Loads the running program again, for another place of the chain.
pub(crate) fn load_copy(instance: &Instance, place: u32) -> Result<OwnedFd> {
    match Layout::of(instance)? {
        Layout::Ours => Ok(programs::load_decap(Some(instance), place)?.program),
        Layout::None | Layout::Other => Err(other(instance)),
    }
}

/// The host's addresses, for requests that leave addresses out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its addresses, by interface.
    addresses: Vec<(String, IpAddr)>,
    /// Prefixes that its loopback devices route to the host itself, except loopback addresses.
    local: BTreeSet<Prefix>,
    /// Ports of GUE that packets are taken from now.
    gue_ports: BTreeSet<u16>,
    /// Where the host listens for UDP, if it matters.
    listeners: BTreeSet<SocketAddr>,
}

impl Facts {
    pub(crate) fn read() -> Result<Self> {
        Ok(Self {
            addresses: host::addresses()?,
            local: netlink::local_prefixes_blocking()?.into_iter().collect(),
            ..Self::default()
        })
    }

    /// As [`Self::read`], with what decides about the ports of GUE. A port stays once packets are taken from it: a program
    /// that listens there later gets nothing, and finding `decap-gue-port` says so.
    pub(crate) fn read_for(
        requests: &BTreeMap<u32, Request>,
        gue_ports: BTreeSet<u16>,
    ) -> Result<Self> {
        let mut facts = Self { gue_ports, ..Self::read()? };
        let new = |port: &u16| !facts.gue_ports.contains(port);
        if requests.values().flat_map(Request::wanted_ports).any(|port| new(&port)) {
            facts.listeners = listeners(Protocol::Udp)?;
        }
        Ok(facts)
    }

    /// The addresses of an interface that a balancer could send to.
    pub(crate) fn of_interface(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .filter(move |(name, address)| name == interface && !host::is_link_local(*address))
            .map(|(_, address)| *address)
    }
}

/// What packets are checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    /// `DECAP_OUTER` and `DECAP_OWN`, by address.
    addresses: BTreeMap<IpAddr, u32>,
    /// Outer sources; empty: any.
    pub(crate) from: BTreeSet<Prefix>,
    /// Destinations of the inner packets.
    pub(crate) to: BTreeSet<Prefix>,
    /// Prefixes that are routed to the host as its own, except for single addresses. No inner packet comes from
    /// these.
    own: BTreeSet<Prefix>,
    /// The host's addresses and prefixes that the map has no room for. Inner packets from these are not refused.
    pub(crate) own_left_out: u32,
    /// The UDP ports at which GUE comes.
    pub(crate) gue_ports: BTreeSet<u16>,
}

impl InUse {
    /// What follows from requests. The keys are the indices of their interfaces.
    pub(crate) fn of(requests: &BTreeMap<u32, Request>, facts: &Facts) -> Result<Self> {
        let mut in_use = Self::default();
        for (ifindex, request) in requests {
            let own = || {
                let name = interface_name(*ifindex);
                name.map(|name| facts.of_interface(&name).collect()).unwrap_or_default()
            };
            let addresses =
                if request.addresses.is_empty() { own() } else { request.addresses.clone() };
            for address in addresses {
                *in_use.addresses.entry(address).or_default() |= consts::DECAP_OUTER;
            }
            in_use.from.extend(&request.from);
            let to = if request.to.is_empty() { &facts.local } else { &request.to };
            in_use.to.extend(to);
        }
        if requests.values().any(|request| request.from.is_empty()) {
            in_use.from.clear();
        }
        let outer = in_use.addresses.len();
        let room = consts::DECAP_MAX_ADDRESSES as usize;
        // Each trie may need one entry that does not count: see [`entries`].
        let prefixes = consts::DECAP_MAX_PREFIXES as usize - 1;
        for (what, count, most, option) in [
            ("outer destinations", outer, room, "--address"),
            ("outer sources", in_use.from.len(), prefixes, "--from"),
            ("inner destinations", in_use.to.len(), prefixes, "--to"),
        ] {
            if count > most {
                return Err(DecapError::Limit { what, count, most, option }.into());
            }
        }
        for request in requests.values() {
            let ports = request.wanted_ports().into_iter();
            let usual = request.gue_ports.is_none();
            let ports = ports.filter(|port| !usual || in_use.listener(*port, facts).is_none());
            let ports: BTreeSet<_> = ports.collect();
            in_use.gue_ports.extend(ports);
        }
        if in_use.gue_ports.len() > Request::MOST_GUE_PORTS {
            let (what, count) = ("UDP ports of GUE", in_use.gue_ports.len());
            let most = Request::MOST_GUE_PORTS;
            return Err(DecapError::Limit { what, count, most, option: "--gue-port" }.into());
        }
        if !requests.is_empty() {
            let elsewhere = |address: &IpAddr| !address.is_loopback() && !is_on_link(*address);
            for address in facts.addresses.iter().map(|(_, address)| *address).filter(elsewhere) {
                *in_use.addresses.entry(address).or_default() |= consts::DECAP_OWN;
            }
            for prefix in &facts.local {
                if prefix.is_single() {
                    *in_use.addresses.entry(prefix.address()).or_default() |= consts::DECAP_OWN;
                } else if prefix.prefix_len() != 0 {
                    // The prefix of all addresses is left out: clients have such addresses, too.
                    in_use.own.insert(*prefix);
                }
            }
        }
        // If the map has no room, the program runs with one check less.
        let all = in_use.addresses.len();
        if all > room {
            in_use.addresses.retain(|_, flags| *flags & consts::DECAP_OUTER != 0);
            in_use.own_left_out = u32::try_from(all - outer).unwrap_or(u32::MAX);
        }
        if in_use.own.len() > prefixes {
            let own = u32::try_from(in_use.own.len()).unwrap_or(u32::MAX);
            in_use.own_left_out = in_use.own_left_out.saturating_add(own);
            in_use.own.clear();
        }
        Ok(in_use)
    }

    /// Whether `from` is empty: any source may send.
    pub(crate) fn anybody(&self) -> bool {
        self.from.is_empty()
            && self.addresses.values().any(|flags| flags & consts::DECAP_OUTER != 0)
    }

    /// Where this host itself listens for what comes to a port of GUE, unless packets are taken from that port already.
    pub(crate) fn listener(&self, port: u16, facts: &Facts) -> Option<SocketAddr> {
        if facts.gue_ports.contains(&port) {
            return None;
        }
        listener(&facts.listeners, port, |address| self.is_outer(address))
    }

    fn is_outer(&self, address: IpAddr) -> bool {
        let flags = self.addresses.get(&address);
        flags.is_some_and(|flags| flags & consts::DECAP_OUTER != 0)
    }

    /// Outer destinations.
    pub(crate) fn outer(&self) -> BTreeSet<IpAddr> {
        let outer = self.addresses.iter().filter(|(_, flags)| *flags & consts::DECAP_OUTER != 0);
        outer.map(|(address, _)| *address).collect()
    }
}

/// A socket that would get what comes to a port of one of the addresses.
pub(crate) fn listener(
    listeners: &BTreeSet<SocketAddr>,
    port: u16,
    is_outer: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let takes =
        |at: &&SocketAddr| at.port() == port && (at.ip().is_unspecified() || is_outer(at.ip()));
    listeners.iter().find(takes).copied()
}

/// Sources that no packet from another network has. The program refuses all of them.
fn is_on_link(address: IpAddr) -> bool {
    address.is_ipv6() && host::is_link_local(address)
}

/// The entries of a trie: prefixes, and whether each counts. One that does not count keeps a short IPv6 prefix from
/// covering IPv4.
type Prefixes = Map<abi::decap_prefix, u32>;

fn entries(prefixes: &BTreeSet<Prefix>) -> Vec<(Prefix, u32)> {
    let mut entries: Vec<_> = prefixes.iter().map(|prefix| (*prefix, 1)).collect();
    if prefixes.iter().any(covers_ipv4) && !prefixes.contains(&Prefix::ALL_IPV4) {
        entries.push((Prefix::ALL_IPV4, 0));
    }
    entries
}

/// This build's maps.
#[derive(Debug)]
pub(crate) struct Maps {
    addresses: Map<abi::decap_addr, u32>,
    from: Prefixes,
    to: Prefixes,
    own: Prefixes,
    requests: Map<u32, abi::decap_request>,
    settings: Map<u32, abi::decap_settings>,
}

impl Maps {
    pub(crate) fn open(instance: &Instance) -> Result<Self> {
        Ok(Self {
            addresses: Map::open(&instance.map("decap_addresses"))?,
            from: Map::open(&instance.map("decap_from"))?,
            to: Map::open(&instance.map("decap_to"))?,
            own: Map::open(&instance.map("decap_own"))?,
            requests: Map::open(&instance.map("decap_requests"))?,
            settings: Map::open(&instance.map("decap_settings"))?,
        })
    }

    /// The requests, by the index of the interface.
    pub(crate) fn requests(&self) -> Result<BTreeMap<u32, Request>> {
        let entries = self.requests.entries()?.into_iter();
        Ok(entries.map(|(ifindex, raw)| (ifindex, Request::from_raw(&raw))).collect())
    }

    /// Replaces the requests.
    pub(crate) fn set_requests(&self, wanted: &BTreeMap<u32, Request>) -> Result<()> {
        let running = self.requests()?;
        for ifindex in running.keys().filter(|ifindex| !wanted.contains_key(ifindex)) {
            self.requests.remove(ifindex)?;
        }
        for (ifindex, request) in wanted {
            if running.get(ifindex) != Some(request) {
                self.requests.set(ifindex, &request.to_raw())?;
            }
        }
        Ok(())
    }

    pub(crate) fn in_use(&self) -> Result<InUse> {
        let prefixes = |map: &Prefixes| -> Result<BTreeSet<Prefix>> {
            let counted = map.walk()?.into_iter().filter(|(_, counts)| *counts != 0);
            Ok(counted.map(|(prefix, _)| prefix_of(&prefix)).collect())
        };
        let settings = self.settings.get(&0)?.unwrap_or_default();
        Ok(InUse {
            addresses: self
                .addresses
                .entries()?
                .into_iter()
                .map(|(address, flags)| (address.into(), flags))
                .collect(),
            from: if settings.check_source == 0 { BTreeSet::new() } else { prefixes(&self.from)? },
            to: prefixes(&self.to)?,
            own: if settings.own_prefixes == 0 { BTreeSet::new() } else { prefixes(&self.own)? },
            own_left_out: settings.own_left_out,
            gue_ports: gue_ports_of(&settings),
        })
    }

    /// Writes what packets are checked against. New entries are written first: so no packet is refused that is
    /// allowed both before and after.
    pub(crate) fn set_in_use(&self, wanted: &InUse) -> Result<()> {
        let (from, to, own) = (entries(&wanted.from), entries(&wanted.to), entries(&wanted.own));
        let old_from = add(&self.from, &from)?;
        let check_source = u32::from(!wanted.from.is_empty());
        let mut gue_port = abi::decap_settings::default().gue_port;
        for (place, port) in gue_port.iter_mut().zip(&wanted.gue_ports) {
            *place = port.to_be();
        }
        let settings = abi::decap_settings {
            gue_port,
            abi: consts::ABI_VERSION,
            check_source,
            own_left_out: wanted.own_left_out,
            own_prefixes: u32::from(!wanted.own.is_empty()),
        };
        let old_to = add(&self.to, &to)?;
        let old_own = add(&self.own, &own)?;
        let old_addresses: BTreeMap<IpAddr, _> = self
            .addresses
            .entries()?
            .into_iter()
            .map(|(address, flags)| (address.into(), (address, flags)))
            .collect();
        // If the map has no room for both, this removes old entries first.
        let both = wanted.addresses.keys().filter(|address| !old_addresses.contains_key(address));
        let crowded = old_addresses.len() + both.count() > consts::DECAP_MAX_ADDRESSES as usize;
        let remove_old = || -> Result<()> {
            for (address, (raw, _)) in &old_addresses {
                if !wanted.addresses.contains_key(address) {
                    self.addresses.remove(raw)?;
                }
            }
            Ok(())
        };
        if crowded {
            remove_old()?;
        }
        for (address, flags) in &wanted.addresses {
            if old_addresses.get(address).is_none_or(|(_, old)| old != flags) {
                self.addresses.set(&(*address).into(), flags)?;
            }
        }
        let running = self.settings.get(&0)?.unwrap_or_default();
        if abi::bytes_of(&running) != abi::bytes_of(&settings) {
            self.settings.set(&0, &settings)?;
        }
        if !crowded {
            remove_old()?;
        }
        self.to.remove_many(&old_to)?;
        self.own.remove_many(&old_own)?;
        Ok(self.from.remove_many(&old_from)?)
    }
}

/// Adds what is missing in a trie. Returns the entries of the trie that are not wanted.
fn add(map: &Prefixes, wanted: &[(Prefix, u32)]) -> Result<Vec<abi::decap_prefix>> {
    let running: BTreeMap<_, _> =
        map.walk()?.into_iter().map(|(raw, counts)| (prefix_of(&raw), (raw, counts))).collect();
    // Entries that do not count are added first: an IPv6 prefix must not cover IPv4 meanwhile.
    for (prefix, counts) in wanted.iter().rev() {
        if running.get(prefix).is_none_or(|(_, running)| running != counts) {
            map.set(&raw_prefix(*prefix), counts)?;
        }
    }
    let gone =
        running.into_iter().filter(|(net, _)| !wanted.iter().any(|(prefix, _)| prefix == net));
    // Entries that do not count are removed last.
    Ok(gone.rev().map(|(_, (raw, _))| raw).collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// If a host has more addresses than fit, the map still has the outer destinations.
    #[test]
    fn own_addresses_that_there_is_no_room_for() {
        let room = consts::DECAP_MAX_ADDRESSES;
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let facts = |count: u32| Facts {
            addresses: (0..count).map(|n| ("eth0".to_owned(), address(n))).collect(),
            local: ["10.200.0.0/16".parse().unwrap()].into(),
            ..Facts::default()
        };
        let request = Request { addresses: [address(7)].into(), ..Request::default() };
        let requests = [(1, request)].into();
        let fits = InUse::of(&requests, &facts(room)).unwrap();
        assert_eq!((fits.addresses.len(), fits.own_left_out), (room as usize, 0));
        let in_use = InUse::of(&requests, &facts(room + 1)).unwrap();
        assert_eq!(in_use.outer(), [address(7)].into());
        assert_eq!((in_use.addresses.len(), in_use.own_left_out), (1, room));
        // Requested entries need room.
        let many = (0..consts::DECAP_MAX_PREFIXES).map(|n| Prefix::from(address(n)));
        let many = Request { to: many.collect(), ..Request::default() };
        let error = InUse::of(&[(1, many)].into(), &facts(1)).unwrap_err().to_string();
        assert!(
            error.ends_with("has room for 4095; name fewer, or shorter prefixes, with --to"),
            "{error}"
        );
    }
}
