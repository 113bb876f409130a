//! Interprets entries of connection tables: resolves the numbers in an entry to VIPs, reals and limits, and says what
//! the flow's next packet does with the entry.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::dataplane::tables::Flow;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::plan::diff::Running;
use crate::plan::diff::RunningReal;

/// What the next packet of a flow does with its entry. In all states but the first the entry is stale: the ring
/// decides again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FlowState {
    /// The packet goes to the entry's real.
    Live,
    /// The UDP flow had no packet for longer than `udp_timeout_seconds`.
    Expired,
    /// The real was removed, from this VIP or from all.
    RealRemoved,
    /// The real is down in this VIP.
    RealDown,
    /// The VIP was removed, or it forgot its flows: its hash mode changed, or its connection table was switched off
    /// and on.
    VipRemoved,
    /// The VIP's connection table is switched off: packets do not look at the entry.
    Unused,
}

impl FlowState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Live,
        Self::Expired,
        Self::RealRemoved,
        Self::RealDown,
        Self::VipRemoved,
        Self::Unused,
    ];

    /// Whether the entry has no effect any more.
    pub fn is_stale(self) -> bool {
        self != Self::Live
    }
}

/// What flows need to know of a VIP.
#[derive(Debug)]
pub(crate) struct ViewVip {
    pub(crate) vip: Vip,
    pub(crate) id: u32,
    pub(crate) serial: u32,
    pub(crate) flags: u32,
    /// Ids of reals that its packets may not go to.
    barred: BTreeSet<u32>,
    /// Reals that are down in this VIP.
    down: BTreeSet<IpAddr>,
}

/// The VIPs, reals and limits at one moment.
#[derive(Debug)]
pub(crate) struct View {
    /// By serial.
    vips: FxHashMap<u32, ViewVip>,
    /// By id.
    reals: Vec<Option<RunningReal>>,
    udp_timeout: Duration,
    udp_timeout_units: u32,
}

impl View {
    pub(crate) fn new(running: Running, knobs: Option<&abi::knobs>) -> Self {
        let mut reals = Vec::new();
        reals.resize_with(consts::REAL_IDS as usize, || None);
        for (id, real) in running.reals {
            if let Some(place) = reals.get_mut(id as usize) {
                *place = Some(real);
            }
        }
        let vips = running.vips.into_iter().map(|(vip, running)| {
            let down = running.spec.reals.iter().filter(|(_, real)| real.state == RealState::Down);
            let view = ViewVip {
                vip,
                id: running.id,
                serial: running.serial,
                flags: running.flags,
                barred: running.barred,
                down: down.map(|(address, _)| *address).collect(),
            };
            (running.serial, view)
        });
        let udp_timeout = Duration::from_nanos(knobs.map_or(u64::MAX, |knobs| knobs.udp_timeout));
        let udp_timeout_units = knobs.map_or(u32::MAX, |knobs| knobs.udp_timeout_units);
        Self { vips: vips.collect(), reals, udp_timeout, udp_timeout_units }
    }

    pub(crate) fn vip(&self, vip: &Vip) -> Option<&ViewVip> {
        self.vips.values().find(|view| view.vip == *vip)
    }

    /// Whether an id belongs to the real, or did before the real was removed.
    pub(crate) fn knows_real(&self, address: IpAddr) -> bool {
        self.reals.iter().flatten().any(|real| real.address == address)
    }

    /// The real that has this id now.
    pub(crate) fn live_real(&self, id: u32) -> Option<IpAddr> {
        let real = self.reals.get(id as usize)?.as_ref()?;
        real.live.then_some(real.address)
    }

    /// Whether packets treat a UDP flow of this age as expired: see `sets_recall` and `lru_recall`.
    fn is_idle(&self, raw: &Flow, age: Duration) -> bool {
        match raw.units {
            Some(units) => u32::from(units) > self.udp_timeout_units,
            None => age > self.udp_timeout,
        }
    }

    /// Whether the next packet of a flow would go to its entry's real, at the time `now` of `CLOCK_MONOTONIC`, in
    /// nanoseconds.
    pub(crate) fn is_live(&self, raw: &Flow, now: u64) -> bool {
        self.state(raw, Self::age(raw, now)) == FlowState::Live
    }

    /// What the next packet of a flow does with its entry, which has this age.
    pub(crate) fn state(&self, raw: &Flow, age: Duration) -> FlowState {
        let Some(view) = self.vips.get(&raw.key.vip) else { return FlowState::VipRemoved };
        let expired = view.is_udp() && self.is_idle(raw, age);
        view.state(raw, self.real_of(raw), expired)
    }

    /// The VIP of an entry.
    pub(crate) fn vip_of(&self, raw: &Flow) -> Option<&ViewVip> {
        self.vips.get(&raw.key.vip)
    }

    /// The real of an entry; `None`: its id now belongs to another real.
    pub(crate) fn real_of(&self, raw: &Flow) -> Option<&RunningReal> {
        let real = self.reals.get(raw.real as usize).and_then(Option::as_ref);
        real.filter(|real| real.owns(raw.generation))
    }

    /// The age of an entry's time, at the time `now` of `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) fn age(raw: &Flow, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(raw.last_seen))
    }
}

impl ViewVip {
    pub(crate) fn is_udp(&self) -> bool {
        self.vip.protocol == Protocol::Udp
    }

    /// Checks in the same order as packets: see `flow_lookup` in `connection_table.h`.
    fn state(&self, raw: &Flow, real: Option<&RunningReal>, expired: bool) -> FlowState {
        if self.flags & consts::VIP_STATELESS != 0 || !self.looks_for(&raw.key) {
            return FlowState::Unused;
        }
        if expired {
            return FlowState::Expired;
        }
        let Some(real) = real.filter(|real| real.live) else { return FlowState::RealRemoved };
        if !self.barred.contains(&raw.real) {
            FlowState::Live
        } else if self.down.contains(&real.address) {
            FlowState::RealDown
        } else {
            FlowState::RealRemoved
        }
    }

    /// Reduces a flow's key by the hash mode, as `flow_key_of` in balance/select.h does.
    pub(crate) fn reduce(&self, key: &abi::flow_key) -> abi::flow_key {
        let mut key = *key;
        let has = |flag| self.flags & flag != 0;
        if has(consts::VIP_IGNORE_SPORT) {
            key.sport = 0;
        }
        if has(consts::VIP_IGNORE_DPORT) {
            key.dport = 0;
        }
        if has(consts::VIP_DPORT_ONLY) {
            key.src = abi::lb_addr::default();
            key.sport = key.dport;
        }
        key
    }

    /// Whether a packet may have this key. The hash mode may have been different when the entry was created.
    fn looks_for(&self, key: &abi::flow_key) -> bool {
        let no_address = key.src.word == [0; 4];
        let dport_only = self.flags & consts::VIP_DPORT_ONLY != 0;
        abi::bytes_of(&self.reduce(key)) == abi::bytes_of(key) && no_address == dport_only
    }
}

#[cfg(test)]
mod tests;
