//! What each slot of the chain holds, and the interfaces that the chain is on.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::Unit;
use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::instance::chain::direct;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::OwnProgram;
use crate::instance::repair::refuse_lost;
use crate::kernel::bpf;
use crate::model::config::XdpMode;
use crate::model::epoch;
use crate::model::error::ChainError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::observe::decap;

/// Where a program of the chain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It is one of l4lb's.
    Own,
    /// It was loaded from an object by `lbctl chain insert`.
    Object,
    /// Another program loaded it: for the chain, or for an interface from which `lbctl` took it over.
    Foreign,
}

/// A filled slot of the chain.
#[derive(Clone, Debug, Serialize)]
pub struct SlotStatus {
    /// Its number; lower ones run first.
    pub slot: u32,
    /// What the program is called in the chain.
    pub name: String,
    /// The kernel's id of the program.
    pub id: u32,
    /// When it was loaded, to the second; in JSON in seconds since 1970.
    #[serde(serialize_with = "epoch::seconds")]
    pub since: Option<SystemTime>,
    /// Packets that it has seen. Only the balancer and decapsulation count them. The kernel does not count how often
    /// it calls programs of a chain.
    pub packets: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it can hand packets on. A program that cannot ends the chain: what it passes goes to the kernel.
    pub hands_on: bool,
    /// The interfaces that run it directly, without the detour by way of the root program, because it is alone in the
    /// chain.
    pub direct: Vec<String>,
}

/// How an interface runs the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnInterface {
    /// The XDP mode; `None`: the interface is gone, or in another network namespace.
    pub mode: Option<XdpMode>,
    /// The program that it runs directly, because that is alone in the chain; `None`: it runs the root program, which
    /// runs the chain.
    pub direct: Option<String>,
}

/// The programs of an instance's chain, in their order; none, if there is no such instance.
pub fn list(instance: &Instance) -> Result<Vec<SlotStatus>> {
    instance.check_host()?;
    refuse_lost(instance)?;
    let Some(chain) = Chain::open_existing(instance)? else { return Ok(Vec::new()) };
    let names = chain.names()?;
    let links = links::links(instance)?;
    let mut list = Vec::new();
    for (slot, filled) in (0..).zip(chain.filled()?) {
        let Some(filled) = filled else { continue };
        let info = bpf::program_by_id(filled.id)
            .and_then(|program| bpf::program_info(program.as_fd()))
            .unwrap_or_default();
        // A program without a name is a leftover of an interrupted command.
        let name = names.get(&filled.id).cloned().unwrap_or(info.name);
        let origin = match OwnProgram::named(&name) {
            Some(_) => Origin::Own,
            None if instance.object(&name).exists() => Origin::Object,
            None => Origin::Foreign,
        };
        list.push(SlotStatus {
            slot,
            id: filled.id,
            since: loaded_at(info.loaded)?,
            packets: packets(instance, &name),
            origin,
            hands_on: filled.place.is_some(),
            direct: links
                .iter()
                .filter(|(_, link)| link.index.is_some() && link.program == filled.id)
                .map(|(interface, _)| interface.clone())
                .collect(),
            name,
        });
    }
    Ok(list)
}

/// The interfaces that the chain is on, also those that the balancer does not serve, and how they run it.
pub fn interfaces(instance: &Instance) -> Result<BTreeMap<String, OnInterface>> {
    instance.check_host()?;
    let names = match Chain::open_existing(instance) {
        Ok(Some(chain)) => chain.names()?,
        // The caller has said what is wrong.
        Ok(None) | Err(_) => BTreeMap::new(),
    };
    let on = links::links(instance)?.into_iter().map(|(interface, link)| {
        let direct = names.get(&link.program).filter(|_| link.index.is_some()).cloned();
        (interface, OnInterface { mode: link.mode, direct })
    });
    Ok(on.collect())
}

/// The interfaces that run the root program, though the chain has one program only, which they could run directly.
pub(crate) fn detours(instance: &Instance) -> Result<Vec<String>> {
    let Some(chain) = Chain::open_existing(instance)? else { return Ok(Vec::new()) };
    let Some((_, program)) = chain.only()? else { return Ok(Vec::new()) };
    let only = bpf::program_info(program.as_fd())
        .map_err(|source| Error::Host { operation: "ask the kernel about a program", source })?;
    let mut links = links::links(instance)?;
    let goes_direct = |ifindex: u32| !direct::stops_to_change(ifindex);
    links.retain(|_, link| link.ifindex().is_some_and(goes_direct) && link.program != only.id);
    Ok(links.into_keys().collect())
}

/// The program of this name.
pub(crate) fn find(instance: &Instance, name: &str) -> Result<SlotStatus> {
    let found = list(instance)?.into_iter().find(|program| program.name == name);
    found.ok_or_else(|| ChainError::NoSuchProgram(format!("'{name}'")).into())
}

/// Converts a time since boot to the time of day.
fn loaded_at(loaded: u64) -> Result<Option<SystemTime>> {
    let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_err(|errno| Error::Host { operation: "read the clock", source: errno.into() })?;
    let age = Duration::from(uptime).checked_sub(Duration::from_nanos(loaded));
    Ok(age.filter(|_| loaded != 0).and_then(|age| so_long_ago(SystemTime::now(), age)))
}

/// Rounds to whole seconds. This is done here, for all callers: the kernel's clock and ours are read one after the
/// other, so that one caller that rounds and another that truncates would print different seconds.
fn so_long_ago(now: SystemTime, age: Duration) -> Option<SystemTime> {
    let time = Timestamp::try_from(now.checked_sub(age)?).ok()?;
    time.round(Unit::Second).ok()?.try_into().ok()
}

/// What our own programs count. All programs of a chain are reached by a tail call, and the kernel's statistics do
/// not count those runs.
fn packets(instance: &Instance, name: &str) -> Option<u64> {
    match OwnProgram::named(name)? {
        OwnProgram::Balancer => Some(Balancer::open(instance).ok()?.stats().ok()?.total.packets),
        OwnProgram::Decap => {
            let results = decap::status(instance).ok()?.results;
            Some(results.values().map(|count| count.packets).sum())
        }
        OwnProgram::Captures => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_was_loaded_in_a_whole_second() {
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ago = |milliseconds| {
            so_long_ago(second + Duration::from_secs(5), Duration::from_millis(milliseconds))
        };
        assert_eq!([ago(4600), ago(5400)], [Some(second); 2]);
        assert_eq!(ago(4400), Some(second + Duration::from_secs(1)));
    }
}
