//! How long segments from clients may be: the program on the way out that lowers the MSS of what a real sends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;

use super::InUse;
use super::Request;
use super::request::Mss;
use crate::instance::Instance;
use crate::instance::egress;
use crate::instance::egress::Attachment;
use crate::instance::egress::Egress;
use crate::instance::egress::MSS_LIMITS;
use crate::instance::egress::MSS_STATES;
use crate::instance::egress::attachments;
use crate::instance::links::interface_name;
use crate::instance::programs::load_mss;
use crate::instance::remove_pin;
use crate::kernel::maps::Map;
use crate::kernel::maps::PerCpuArray;
use crate::kernel::netlink;
use crate::model::abi;
use crate::model::error::Result;
use crate::model::reason::mss_results;

const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const TCP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
/// The GUE header of variant 0, with the private data that a balancer writes.
const GUE_HEADER: u32 = 8;

/// The most that segments may ask for, which leave by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) v4: u16,
    pub(crate) v6: u16,
}

impl Limit {
    /// What fits packets of an MTU with this many bytes in front.
    fn fitting(mtu: u32, overhead: u32) -> Self {
        let fits = |header| {
            let bytes = mtu.saturating_sub(overhead + header + TCP_HEADER);
            u16::try_from(bytes).unwrap_or(u16::MAX).clamp(Mss::MIN, Mss::MAX)
        };
        Self { v4: fits(IPV4_HEADER), v6: fits(IPV6_HEADER) }
    }
}

/// Bytes of the longest outer header that is taken off.
fn overhead(in_use: &InUse) -> u32 {
    let outer = in_use.outer();
    let ip = if outer.iter().any(IpAddr::is_ipv6) { IPV6_HEADER } else { IPV4_HEADER };
    let gue = if in_use.gue_ports.is_empty() { 0 } else { UDP_HEADER + GUE_HEADER };
    ip + gue
}

/// What is asked for, by the index of the interface. One that is gone has none.
pub(crate) fn wanted(
    requests: &BTreeMap<u32, Request>,
    in_use: &InUse,
) -> Result<BTreeMap<u32, Limit>> {
    let mut limits = BTreeMap::new();
    for (ifindex, request) in requests {
        let limit = match request.mss {
            None => continue,
            Some(Mss::Bytes(bytes)) => Limit { v4: bytes, v6: bytes },
            Some(Mss::Auto) => {
                let Some(name) = interface_name(*ifindex) else { continue };
                Limit::fitting(netlink::link_blocking(&name)?.mtu, overhead(in_use))
            }
        };
        limits.insert(*ifindex, limit);
    }
    Ok(limits)
}

type Limits = Map<u32, abi::mss_limit>;

/// The maps of the running program. If a command was killed, others may be pinned.
const MAPS: [&str; 2] = [MSS_LIMITS, MSS_STATES];

/// Whether the interface of an attachment runs the program, by the maps that are pinned.
fn is_current(instance: &Instance, attachment: &Attachment) -> bool {
    attachment.program.is_some_and(|program| egress::uses(instance, program, &MAPS))
}

/// The limits in force: of interfaces that have the program.
pub(crate) fn running(instance: &Instance) -> Result<BTreeMap<u32, Limit>> {
    let attached = attachments(Egress::Mss, instance)?;
    if attached.is_empty() || !instance.map(MSS_LIMITS).exists() {
        return Ok(BTreeMap::new());
    }
    let limits = Limits::open(&instance.map(MSS_LIMITS))?.entries()?.into_iter();
    let runs = |ifindex: &u32| {
        attached.iter().any(|at| at.ifindex == *ifindex && is_current(instance, at))
    };
    let limit = |raw: abi::mss_limit| Limit { v4: raw.v4, v6: raw.v6 };
    Ok(limits.filter(|(ifindex, _)| runs(ifindex)).map(|(i, raw)| (i, limit(raw))).collect())
}

/// What became of segments, by the names of [`mss_results`].
pub(crate) fn counts(instance: &Instance) -> Result<BTreeMap<&'static str, u64>> {
    let mut counts: BTreeMap<_, _> = mss_results().iter().map(|named| (named.name, 0)).collect();
    let pin = instance.map(MSS_STATES);
    if !pin.exists() {
        return Ok(counts);
    }
    for state in PerCpuArray::<abi::mss_state>::open(&pin)?.get(0)? {
        for (named, count) in mss_results().iter().zip(state.results) {
            *counts.entry(named.name).or_default() += count;
        }
    }
    Ok(counts)
}

/// Sees to it that these limits are in force, and no others. Also completes what a command that was killed has begun.
pub(crate) fn ensure(instance: &Instance, wanted: &BTreeMap<u32, Limit>) -> Result<()> {
    if wanted.is_empty() {
        return remove(instance);
    }
    let runs = running(instance)?;
    let missing = wanted.keys().any(|ifindex| !runs.contains_key(ifindex));
    // Loading creates the maps, and pins them.
    let program = missing.then(|| load_mss(instance)).transpose()?;
    let limits = Limits::open(&instance.map(MSS_LIMITS))?;
    for (ifindex, limit) in wanted {
        limits.set(ifindex, &abi::mss_limit { v4: limit.v4, v6: limit.v6 })?;
    }
    let mut there = BTreeMap::new();
    for attachment in attachments(Egress::Mss, instance)? {
        let keeps = attachment.program.is_some() && wanted.contains_key(&attachment.ifindex);
        if keeps && !there.contains_key(&attachment.ifindex) {
            there.insert(attachment.ifindex, attachment);
        } else {
            egress::detach(&attachment)?;
        }
    }
    let Some(program) = program else { return forget_others(&limits, wanted) };
    for ifindex in wanted.keys() {
        match there.get(ifindex) {
            Some(attachment) if is_current(instance, attachment) => {}
            Some(attachment) => egress::replace(attachment, program.as_fd())?,
            None => {
                let name = interface_name(*ifindex).unwrap_or_else(|| ifindex.to_string());
                egress::attach(Egress::Mss, instance, program.as_fd(), *ifindex, &name)?;
            }
        }
    }
    forget_others(&limits, wanted)
}

fn forget_others(limits: &Limits, wanted: &BTreeMap<u32, Limit>) -> Result<()> {
    for (ifindex, _) in limits.entries()? {
        if !wanted.contains_key(&ifindex) {
            limits.remove(&ifindex)?;
        }
    }
    Ok(())
}

/// Takes the program off all interfaces, and removes its maps.
pub(crate) fn remove(instance: &Instance) -> Result<()> {
    egress::remove(Egress::Mss, instance)?;
    remove_pin(&instance.map(MSS_LIMITS))?;
    remove_pin(&instance.map(MSS_STATES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_an_mtu() {
        let in_use = |addresses: &[&str], gue: &[u16]| InUse {
            addresses: addresses
                .iter()
                .map(|address| (address.parse().unwrap(), abi::consts::DECAP_OUTER))
                .collect(),
            gue_ports: gue.iter().copied().collect(),
            ..InUse::default()
        };
        for (addresses, gue, bytes) in [
            (&["10.0.0.1"][..], &[][..], 20),
            (&["10.0.0.1", "fc00::1"], &[], 40),
            (&["10.0.0.1"], &[6080], 36),
            (&["fc00::1"], &[6080, 19523], 56),
        ] {
            assert_eq!(overhead(&in_use(addresses, gue)), bytes, "{addresses:?} {gue:?}");
        }
        assert_eq!(Limit::fitting(1500, 20), Limit { v4: 1440, v6: 1420 });
        assert_eq!(Limit::fitting(1500, 56), Limit { v4: 1404, v6: 1384 });
        assert_eq!(Limit::fitting(576, 56), Limit { v4: 536, v6: 536 });
        assert_eq!(Limit::fitting(0, 56), Limit { v4: 536, v6: 536 });
        assert_eq!(Limit::fitting(u32::MAX, 20), Limit { v4: 9176, v6: 9176 });
    }
}
