//! Which packets an instance decapsulates, how many it has decapsulated, and whether it can.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use crate::dataplane::decap::Request;
use crate::dataplane::decap::mss;
use crate::dataplane::decap::ours;
use crate::instance::Instance;
use crate::instance::links;
use crate::instance::repair::LostPins;
use crate::kernel::maps::PerCpuArray;
use crate::kernel::netlink;
use crate::model::abi;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::prefix::Prefix;
use crate::model::reason;
use crate::observe::readiness::LinkState;
use crate::observe::readiness::Unready;
use crate::observe::readiness::ready_without_pins;
use crate::observe::stats::Count;

/// Which packets are decapsulated, and how many were.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DecapStatus {
    /// The interfaces, and the mode that the program runs in; `None`: it runs on no interface of this network
    /// namespace.
    pub interfaces: BTreeMap<String, Option<XdpMode>>,
    /// What was asked for, by interface.
    pub requests: BTreeMap<String, Request>,
    /// Outer destinations that packets are decapsulated for.
    pub addresses: BTreeSet<IpAddr>,
    /// Outer sources that may send; empty: any source may.
    pub from: BTreeSet<Prefix>,
    /// Destinations that inner packets may have.
    pub to: BTreeSet<Prefix>,
    /// The UDP ports from which GUE is taken.
    pub gue_ports: BTreeSet<u16>,
    /// What was asked for interfaces that are gone, or from which somebody removed the program. The key is the
    /// interface's name, else the name of its pin, else the index. Once [`follow`](crate::control::decap::follow) has
    /// noticed, these requests have no effect any more.
    pub lost: BTreeMap<String, Request>,
    /// Whether any source may send, because `from` is empty.
    pub anybody_may_send: bool,
    /// Addresses of this host that the map had no room for. Inner packets from these are not refused as
    /// `bad_inner_source`.
    pub own_addresses_left_out: u32,
    /// The interfaces for which a smaller MSS was asked for.
    pub mss: BTreeMap<String, MssStatus>,
    /// Segments that begin a connection, by what became of their MSS, in the order of [`crate::mss_results`].
    pub mss_results: BTreeMap<&'static str, u64>,
    /// Packets by what became of them, in the order of [`crate::decap_results`].
    pub results: BTreeMap<&'static str, Count>,
}

/// What segments may ask for that leave by an interface, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MssStatus {
    /// Over IPv4; `None`: the program is not on the interface, and nothing is lowered.
    pub ipv4: Option<u16>,
    /// The same over IPv6.
    pub ipv6: Option<u16>,
}

/// Reads what the instance decapsulates.
pub fn status(instance: &Instance) -> Result<DecapStatus> {
    instance.check_host()?;
    let maps = ours(instance)?;
    let asked = maps.requests()?;
    let in_use = maps.in_use()?;
    let states: PerCpuArray<abi::decap_state> = PerCpuArray::open(&instance.map("decap_states"))?;
    let mut results: BTreeMap<_, _> =
        reason::decap_results().iter().map(|result| (result.name, Count::default())).collect();
    for state in states.get(0)? {
        for (result, count) in reason::decap_results().iter().zip(state.results) {
            *results.entry(result.name).or_default() += Count::from_raw(count.packets, count.bytes);
        }
    }
    let (mut interfaces, mut requests) = (BTreeMap::new(), BTreeMap::new());
    let mut indices = BTreeMap::new();
    let mut lost = asked;
    let mut gone = Vec::new();
    for (name, link) in links::links(instance)? {
        if link.index.is_none() {
            gone.push(name.clone());
        }
        if let Some(request) = link.index.and_then(|ifindex| lost.remove(&ifindex)) {
            requests.insert(name.clone(), request);
            indices.extend(link.index.map(|ifindex| (name.clone(), ifindex)));
            interfaces.insert(name, link.mode);
        }
    }
    let limits = mss::running(instance)?;
    let asked = requests.iter().filter(|(_, request)| request.mss.is_some());
    let mss = asked.map(|(name, _)| {
        let limit = indices.get(name).and_then(|ifindex| limits.get(ifindex));
        let of = |bytes: fn(&mss::Limit) -> u16| limit.map(bytes);
        (name.clone(), MssStatus { ipv4: of(|limit| limit.v4), ipv6: of(|limit| limit.v6) })
    });
    let mss = mss.collect();
    // The pin and the index certainly belong together only if there is one of each.
    let single = gone.pop().filter(|_| gone.is_empty() && lost.len() == 1);
    let name_of = |ifindex| {
        let name = links::interface_name(ifindex).or_else(|| single.clone());
        name.unwrap_or_else(|| format!("index {ifindex}"))
    };
    let lost = lost.into_iter().map(|(ifindex, request)| (name_of(ifindex), request)).collect();
    Ok(DecapStatus {
        interfaces,
        requests,
        lost,
        anybody_may_send: in_use.anybody(),
        own_addresses_left_out: in_use.own_left_out,
        addresses: in_use.outer(),
        from: in_use.from,
        to: in_use.to,
        gue_ports: in_use.gue_ports,
        mss,
        mss_results: mss::counts(instance)?,
        results,
    })
}

/// Whether the instance can decapsulate packets. The error is the first obstacle.
///
/// Returns the pins that somebody removed, if traffic goes on without them.
pub fn readiness(instance: &Instance) -> Result<LostPins, Unready> {
    let status = match status(instance) {
        Err(Error::LostPins(lost)) => return ready_without_pins(instance, *lost),
        status => status.map_err(|error| Unready::NotRunning(error.to_string()))?,
    };
    let other = links::refuse_other_namespace(instance, &[]).err();
    if let Some(Error::OtherNamespace { interface, .. }) = other {
        return Err(Unready::OtherNamespace(interface));
    }
    for (interface, mode) in &status.interfaces {
        let link = netlink::link_blocking(interface).ok();
        if let Some(unready) = LinkState::of(link.as_ref()).unready(interface) {
            return Err(unready);
        }
        if mode.is_none() {
            return Err(Unready::NotAttached(interface.clone()));
        }
    }
    if status.interfaces.is_empty() {
        return Err(Unready::NoInterface);
    }
    if status.addresses.is_empty() {
        return Err(Unready::NoOuterDestination);
    }
    if status.to.is_empty() {
        return Err(Unready::NoInnerDestination);
    }
    Ok(LostPins::default())
}
