//! What entries of connection tables mean: the VIPs, reals and limits that they refer to by numbers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::AgeOf;
use super::Flow;
use super::FlowState;
use crate::abi;
use crate::abi::consts;
use crate::addr::Protocol;
use crate::addr::Vip;
use crate::config::RealState;
use crate::diff::Running;
use crate::diff::RunningReal;
use crate::tables;

/// A VIP as flows see it.
#[derive(Debug)]
pub(super) struct ViewVip {
    pub(super) vip: Vip,
    pub(super) id: u32,
    pub(super) serial: u32,
    pub(super) flags: u32,
    /// Ids of reals that its packets may not go to.
    barred: BTreeSet<u32>,
    /// Reals that are down in it.
    down: BTreeSet<IpAddr>,
}

/// VIPs, reals and limits at one moment.
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

    pub(super) fn vip(&self, vip: &Vip) -> Option<&ViewVip> {
        self.vips.values().find(|view| view.vip == *vip)
    }

    /// Whether some id belongs to the real, or did before it was removed.
    pub(super) fn knows_real(&self, address: IpAddr) -> bool {
        self.reals.iter().flatten().any(|real| real.address == address)
    }

    /// The real that an id stands for now.
    pub(super) fn live_real(&self, id: u32) -> Option<IpAddr> {
        let real = self.reals.get(id as usize)?.as_ref()?;
        real.live.then_some(real.address)
    }

    /// Whether packets take a UDP flow of this age for expired: see `sets_recall` and `lru_recall`.
    fn is_idle(&self, raw: &tables::Flow, age: Duration) -> bool {
        match raw.units {
            Some(units) => u32::from(units) > self.udp_timeout_units,
            None => age > self.udp_timeout,
        }
    }

    /// Whether the next packet of a flow would go to its entry's real, at `now` of `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) fn is_live(&self, raw: &tables::Flow, now: u64) -> bool {
        // The state does not depend on whose table it is.
        self.flow(raw, None, AgeOf::LastPacket, now).state == FlowState::Live
    }

    /// Puts an entry into words. `tcp_age` is what TCP's ages are of in its table, `now` of `CLOCK_MONOTONIC`, in
    /// nanoseconds.
    pub(super) fn flow(
        &self,
        raw: &tables::Flow,
        cpu: Option<u32>,
        tcp_age: AgeOf,
        now: u64,
    ) -> Flow {
        let view = self.vips.get(&raw.key.vip);
        let real = self.reals.get(raw.real as usize).and_then(Option::as_ref);
        let real = real.filter(|real| real.owns(raw.generation));
        let age = Duration::from_nanos(now.saturating_sub(raw.last_seen));
        let udp = view.is_some_and(|view| view.vip.protocol == Protocol::Udp);
        let port = |port: u16| (port != 0).then(|| u16::from_be(port));
        // Without an address, the port is the destination's once more.
        let client = (raw.key.src.word != [0; 4]).then(|| IpAddr::from(raw.key.src));
        Flow {
            vip: view.map(|view| view.vip),
            client,
            client_port: client.and_then(|_| port(raw.key.sport)),
            port: port(raw.key.dport),
            real: real.map(|real| real.address),
            cpu,
            age,
            age_of: if udp { AgeOf::LastPacket } else { tcp_age },
            state: match view {
                None => FlowState::VipRemoved,
                Some(view) => view.state(raw, real, udp && self.is_idle(raw, age)),
            },
        }
    }
}

impl ViewVip {
    /// In the order in which packets ask: see `flow_lookup` in flow.h.
    fn state(&self, raw: &tables::Flow, real: Option<&RunningReal>, expired: bool) -> FlowState {
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

    /// What the hash mode leaves of a flow's key, as `flow_key_of` in select.h has it.
    pub(super) fn reduce(&self, key: &abi::flow_key) -> abi::flow_key {
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

    /// Whether a packet may have this key. The hash mode may have been another one when the entry was made.
    fn looks_for(&self, key: &abi::flow_key) -> bool {
        let no_address = key.src.word == [0; 4];
        let dport_only = self.flags & consts::VIP_DPORT_ONLY != 0;
        abi::bytes_of(&self.reduce(key)) == abi::bytes_of(key) && no_address == dport_only
    }
}

#[cfg(test)]
mod tests;
