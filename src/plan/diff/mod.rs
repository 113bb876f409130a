//! What runs, what is wanted, and the ordered writes that lead from one to the other.
//!
//! Everything here is pure. [`diff`] orders the writes so that the packet path finds a consistent table
//! after each of them, and so that a process killed between any two leaves something that the next
//! [`diff`] completes or cleans up:
//!
//! - a real is written before a ring names it, and cleared after the last ring that does is gone;
//! - a new VIP's entry is written last, a removed one's goes first;
//! - a VIP that changes carries a mark, in the record of its reals, from before the first write to after the
//!   last;
//! - a VIP whose flows get other keys gets a new serial in the same write: its old flows are never found again;
//! - what an address does with packets that no VIP takes is written last;
//! - the record of a VIP's reals is written after the ring that was made from it.

mod changes;
mod counters;
pub(crate) mod decapsulate;
mod markers;
mod repair;
pub(crate) mod running;
mod serials;
mod ways;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::health::policies::Policies;
use crate::model::mismatch::Mismatch;
use crate::model::real_way::RealFacts;
use crate::model::real_way::RealWay;
use crate::model::vip_key::VipKey;
use crate::model::vip_real::STATE_CHANGING;
use crate::model::vip_real::STATE_DOWN;
use crate::model::vip_real::STATE_DRAIN;
use crate::model::vip_real::STATE_UP;
use crate::model::vip_real::VipRealKey;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::plan::rings::RingImage;
use crate::plan::rings::Rings;
use crate::plan::writes::Write;

use crate::plan::detail::Detail;
pub use crate::plan::report::ServerIdChange;
pub use crate::plan::report::VipAction;
pub use crate::plan::report::VipChange;
use crate::plan::report::describe_checks;
use crate::plan::report::describe_gone;
use crate::plan::report::describe_new;
pub use decapsulate::DecapsulateChange;
use markers::MARKER;
pub(crate) use running::Running;
pub(crate) use running::RunningReal;
pub(crate) use running::RunningVip;
use running::next_generation;
pub(crate) use ways::follow_ways;
pub(crate) use ways::on_link;

/// The difference between two tables, for people and for the maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableDiff {
    pub(crate) vips: Vec<VipChange>,
    pub(crate) server_ids: Vec<ServerIdChange>,
    pub(crate) decapsulate: Vec<DecapsulateChange>,
    /// What changes about checks.
    pub(crate) checks: Vec<Detail>,
    /// What changes about reals without a change of the configuration: addresses of this host, MACs.
    pub(crate) reals: Vec<Detail>,
    pub(crate) writes: Vec<Write>,
    /// Map contents that do not match the other maps, and are written anew.
    pub(crate) repairs: Vec<Mismatch>,
    /// Rings without a checksum, from an earlier build. The next change adds it.
    pub(crate) unsigned: Vec<(u32, RingImage)>,
    /// The rings that were built to find out what moves.
    pub(crate) rings: Rings,
    /// There is no plan: interrupted commands left too many reals behind.
    pub(crate) ids_exhausted: bool,
}

struct Differ<'a> {
    running: &'a Running,
    wanted: &'a Table,
    wanted_keys: BTreeMap<VipKey, Option<Vip>>,
    wanted_reals: FxHashSet<IpAddr>,
    /// The ids of the wanted reals, once all have one.
    wanted_ids: FxHashSet<u32>,
    /// The server ids that run.
    server_ids: BTreeMap<u32, IpAddr>,
    /// The next serial to hand out, and those handed out so far.
    next_serial: u32,
    handed_out: BTreeSet<u32>,
    /// The first counters of VIPs that get other ones.
    counters: BTreeMap<Vip, u32>,
    /// Address → id: of all reals that run or are wanted.
    ids: FxHashMap<IpAddr, u32>,
    /// The ways of wanted reals, unless it is that of their VIPs.
    ways: FxHashMap<IpAddr, RealWay>,
    /// The wanted reals whose own MAC frames go to.
    on_link: BTreeSet<IpAddr>,
    /// Nothing is configured anew.
    follows: bool,
    diff: TableDiff,
}

/// Returns the ordered writes after which the maps hold `wanted`. What is known about the host stays as it is.
pub(crate) fn diff(running: &Running, wanted: &Table) -> TableDiff {
    diff_with(running, wanted, &running.facts())
}

/// The same, with what the host knows about reals now.
pub(crate) fn diff_with(running: &Running, wanted: &Table, facts: &RealFacts) -> TableDiff {
    let mut differ = Differ::new(running, wanted);
    differ.repair();
    differ.find_ways(facts);
    // Where that is safe, removals come first, because the maps hold little more than the largest configuration.
    differ.remove_unused_reals();
    if !differ.add_reals() {
        return TableDiff { ids_exhausted: true, ..TableDiff::default() };
    }
    differ.set_ways(facts);
    differ.set_server_ids();
    differ.place_counters();
    differ.remove_vips();
    differ.remove_markers();
    differ.remove_strays();
    differ.change_vips();
    differ.add_markers();
    differ.add_vips();
    differ.set_rules();
    differ.set_decapsulate();
    differ.forget_neighbours();
    differ.remove_reals();
    differ.diff
}

impl<'a> Differ<'a> {
    fn new(running: &'a Running, wanted: &'a Table) -> Self {
        Self {
            running,
            wanted,
            wanted_keys: wanted.keys(),
            wanted_reals: wanted.reals(),
            wanted_ids: FxHashSet::default(),
            server_ids: running.server_id_addresses(),
            next_serial: running.next_serial,
            handed_out: BTreeSet::new(),
            counters: BTreeMap::new(),
            ids: running.live_ids(),
            ways: FxHashMap::default(),
            on_link: BTreeSet::new(),
            follows: false,
            diff: TableDiff::default(),
        }
    }
}

impl Differ<'_> {
    fn write(&mut self, write: Write) {
        if !write.is_empty() {
            self.diff.writes.push(write);
        }
    }

    /// Clears reals that an interrupted command left: no VIP, no server id and no ring has them. While a VIP is half
    /// changed, its ring may still have some.
    fn remove_unused_reals(&mut self) {
        let unwanted = self.unwanted_reals();
        if unwanted.is_empty() || self.running.vips.values().any(|vip| vip.changing) {
            return;
        }
        let of_vips = self.running.vips.values().flat_map(|vip| vip.spec.reals.keys());
        let used: FxHashSet<_> = of_vips.chain(self.server_ids.values()).copied().collect();
        for (id, real) in unwanted.into_iter().filter(|(_, real)| !used.contains(&real.address)) {
            self.ids.remove(&real.address);
            self.write(Write::SetReal { id, real: cleared(&real) });
        }
    }

    /// The reals that run and are not wanted.
    fn unwanted_reals(&self) -> Vec<(u32, RunningReal)> {
        let live = self.running.reals.iter().filter(|(_, real)| real.live);
        live.filter(|(_, real)| !self.wanted_reals.contains(&real.address))
            .map(|(id, real)| (*id, *real))
            .collect()
    }

    /// Gives every new real an id. Returns whether there were enough.
    fn add_reals(&mut self) -> bool {
        let mut addresses: Vec<IpAddr> = self.wanted_reals.iter().copied().collect();
        addresses.retain(|address| !self.ids.contains_key(address));
        // Sort by address, so that machines with the same configuration look the same.
        addresses.sort_unstable();
        // Take ids with the fewest owners first, so that a generation repeats as late as possible.
        let owned = &self.running.reals;
        let live: FxHashSet<u32> = self.ids.values().copied().collect();
        let mut used = Vec::new();
        if !addresses.is_empty() {
            used.extend(owned.iter().filter(|(id, _)| !live.contains(id)));
            used.sort_by_key(|(_, real)| real.generation);
        }
        let mut free = (1..consts::REAL_IDS)
            .filter(|id| !owned.contains_key(id))
            .chain(used.into_iter().map(|(id, _)| *id));
        let (mut new, mut again) = (Vec::new(), BTreeSet::new());
        for address in addresses {
            let Some(id) = free.next() else { return false };
            let before = owned.get(&id).map(|real| real.generation);
            if before == Some(1) {
                again.insert(id);
            }
            self.ids.insert(address, id);
            let (generation, way) = (before.unwrap_or(1), self.way(address));
            new.push((id, RunningReal { address, generation, live: true, way }));
        }
        if !again.is_empty() {
            self.write(Write::ForgetReals(again));
        }
        self.write(Write::Reals(new));
        self.wanted_ids = self.wanted_reals.iter().map(|address| self.ids[address]).collect();
        true
    }

    fn set_server_ids(&mut self) {
        let gone = self.running.server_ids.keys();
        let gone = gone.filter(|id| !self.wanted.server_ids.contains_key(id));
        for id in gone.copied().collect::<Vec<_>>() {
            let from = self.server_ids.get(&id).copied();
            self.diff.server_ids.push(ServerIdChange { id, from, to: None });
            self.write(Write::RemoveServerId(id));
        }
        let mut set = Vec::new();
        for (id, real) in &self.wanted.server_ids {
            let from = self.server_ids.get(id).copied();
            if from != Some(*real) {
                set.push((*id, self.ids[real]));
                self.diff.server_ids.push(ServerIdChange { id: *id, from, to: Some(*real) });
            }
        }
        self.write(Write::ServerIds(set));
    }

    fn remove_vips(&mut self) {
        // A VIP with port 0 has the key of the marker that other VIPs of its address need, so it is removed last.
        let gone = self.running.vips.iter().filter(|(vip, _)| !self.wanted.vips.contains_key(vip));
        let (any_port, one_port): (Vec<_>, Vec<_>) = gone.partition(|(vip, _)| vip.port == 0);
        let (mut counters, mut markers, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rings, mut reals) = (Vec::new(), Vec::new());
        for (vip, running) in one_port.into_iter().chain(any_port) {
            let key = VipKey::from(abi::vip_key::from(*vip));
            counters.extend(self.keep_counters(running));
            // Another VIP of the address may need a marker under this key.
            if self.wanted_keys.contains_key(&key) {
                markers.push((key, MARKER));
            } else {
                keys.push(key);
            }
            rings.push(running.id);
            reals.extend(self.vip_real_keys(running.id, running.spec.reals.keys()));
            reals.extend(running.changing.then_some(mark(running.id).key()));
            self.diff.vips.push(VipChange {
                vip: *vip,
                action: VipAction::Remove,
                details: describe_gone(&running.spec),
                moved: 1.0,
                moves_by_reals: false,
            });
        }
        // The next write ends the packets of all these VIPs at once.
        self.write(Write::Counters(counters));
        self.write(Write::Vips(markers));
        for key in keys {
            self.write(Write::RemoveVip(key));
        }
        self.write(Write::RemoveRings(rings));
        self.write(Write::RemoveVipReals(reals));
    }

    fn vip_real_keys<'a>(
        &self,
        vip: u32,
        reals: impl Iterator<Item = &'a IpAddr>,
    ) -> impl Iterator<Item = VipRealKey> {
        reals.filter_map(move |real| Some((vip, *self.ids.get(real)?)))
    }

    fn set_policies(&mut self) {
        let wanted = Policies::from(self.wanted);
        if wanted != self.running.policies {
            describe_checks(&mut self.diff.checks, self.running, self.wanted);
            self.write(Write::Policies(Box::new(wanted)));
        }
    }

    fn remove_strays(&mut self) {
        self.write(Write::RemoveRings(self.running.stray_rings.iter().copied().collect()));
        self.write(Write::RemoveVipReals(self.running.stray_vip_reals.clone()));
    }

    /// The reals that are barred afterwards: those that may have flows and must not keep them. A real that is removed
    /// altogether needs no bar, because its generation ends.
    fn barred(&self, running: Option<&RunningVip>, spec: &VipSpec) -> BTreeSet<u32> {
        let mut barred = BTreeSet::new();
        if let Some(running) = running {
            let before = running.spec.keepers(&self.server_ids);
            barred.extend(&running.barred);
            barred.extend(before.iter().filter_map(|address| self.ids.get(address)));
        }
        // A packet can name a real by its server id. While the real is down, it must not get the packet.
        barred.extend(spec.downs().iter().filter_map(|address| self.ids.get(address)));

        if running.is_some_and(|running| self.lost_bars(running)) {
            barred.extend(self.ids.values());
        }

        if barred.is_empty() {
            return barred;
        }
        let keepers = spec.keepers(&self.wanted.server_ids);
        let kept: BTreeSet<_> =
            keepers.iter().filter_map(|address| self.ids.get(address)).collect();
        barred.retain(|id| self.wanted_ids.contains(id) && !kept.contains(id));
        barred
    }

    /// A VIP's ring; `None`: it needs none.
    fn ring(&self, spec: &VipSpec, barred: BTreeSet<u32>) -> Option<RingImage> {
        RingImage::new(spec.members(), &self.ids, barred)
    }

    /// Whether all reals of a ring stay. If not, the ring is replaced: before a real is cleared, the kernel must have
    /// finished all packets that read its id in the ring.
    fn stay(&self, ring: &RingImage) -> bool {
        ring.ids.iter().all(|id| self.wanted_ids.contains(id))
    }

    fn vip_reals<'a>(
        &self,
        vip: u32,
        reals: impl Iterator<Item = (&'a IpAddr, &'a RealSpec)>,
    ) -> impl Iterator<Item = abi::vip_real> {
        reals.map(move |(address, real)| {
            let state = match real.state {
                RealState::Up => STATE_UP,
                RealState::Drain => STATE_DRAIN,
                RealState::Down => STATE_DOWN,
            };
            let (health, missing_share) = real.health.raw();
            let real_id = self.ids[address];
            abi::vip_real {
                vip,
                real: real_id,
                weight: real.weight,
                state,
                health,
                missing_share,
                pad: 0,
            }
        })
    }

    fn add_vips(&mut self) {
        let kept = self.running.vips.iter().filter(|(vip, _)| self.wanted.vips.contains_key(vip));
        let taken: BTreeSet<u32> = kept.map(|(_, running)| running.id).collect();
        let mut free = (0..consts::MAX_VIPS).filter(|id| !taken.contains(id));
        let new: Vec<_> = self
            .wanted
            .vips
            .iter()
            .filter(|(vip, _)| !self.running.vips.contains_key(vip))
            .collect();
        if new.is_empty() {
            return;
        }
        let serials = self.new_serials(new.len());
        let (mut begun, mut entries) = (Vec::new(), Vec::new());
        let (mut rings, mut reals) = (Vec::new(), Vec::new());
        for ((vip, spec), serial) in new.into_iter().zip(serials) {
            // Config limits the number of VIPs.
            let Some(id) = free.next() else { break };
            let barred = self.barred(None, spec);
            let bar = if barred.is_empty() { 0 } else { consts::VIP_BARRED };
            // Before the first VIP, all counters are zero.
            if self.running.next_serial > 1 {
                self.write(Write::ClearVipCounts(id));
            }
            let counters = self.counters(vip, None);
            begun.extend(self.begin_counters(counters, spec));
            rings.extend(self.ring(spec, barred).map(|image| (id, image)));
            reals.extend(self.vip_reals(id, spec.reals.iter()));
            let key = VipKey::from(abi::vip_key::from(*vip));
            entries.push((key, raw_vip(id, counters, serial, spec.flags(vip) | bar)));
            self.diff.vips.push(VipChange {
                vip: *vip,
                action: VipAction::Add,
                details: describe_new(spec),
                moved: 1.0,
                moves_by_reals: false,
            });
        }
        self.write(Write::Counters(begun));
        // In one batch: no packet uses rings and reals before the VIPs' entries exist.
        self.write(Write::Rings(rings));
        self.write(Write::VipReals(reals));
        self.write(Write::Vips(entries));
    }

    fn remove_reals(&mut self) {
        for (id, real) in self.unwanted_reals() {
            // Skips those that were already removed as unused.
            if self.ids.get(&real.address) == Some(&id) {
                self.write(Write::SetReal { id, real: cleared(&real) });
            }
        }
    }
}

/// A value of `vips`. Ids and first counters are below 2^16.
fn raw_vip(id: u32, counters: u32, serial: u32, flags: u32) -> abi::vip {
    let low = |number| u16::try_from(number).unwrap_or_default();
    abi::vip { id: low(id), counters: low(counters), serial, flags }
}

/// The mark of a VIP that changes.
fn mark(vip: u32) -> abi::vip_real {
    abi::vip_real { vip, state: STATE_CHANGING, ..abi::vip_real::default() }
}

/// A real that loses its id. Its flows are stale from now on; packets that the program handles right now still find
/// its address.
fn cleared(real: &RunningReal) -> RunningReal {
    RunningReal { live: false, generation: next_generation(real.generation), ..*real }
}

#[cfg(test)]
mod tests;
