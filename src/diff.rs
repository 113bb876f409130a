//! What runs, what is wanted, and the ordered writes that lead from one to the other.
//!
//! Everything here is pure. [`diff`] orders the writes so that the packet path finds a consistent table
//! after each of them, and so that a process killed between any two leaves something that the next
//! [`diff`] completes or cleans up:
//!
//! - a real is written before a ring names it, and cleared after the last ring that does is gone;
//! - a new VIP's entry is written last, a removed one's goes first;
//! - a VIP that changes carries a mark from before the first write to after the last;
//! - the record of a VIP's reals is written after the ring that was made from it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::abi;
use crate::abi::consts;
use crate::addr::Vip;
use crate::config::RealState;
use crate::ring::Member;
use crate::ring::Ring;
use crate::table::RealSpec;
use crate::table::Table;
use crate::table::VipSpec;
use crate::table::config_name;

/// A key of `vips`, comparable.
#[derive(Clone, Copy)]
pub(crate) struct Key(pub(crate) abi::vip_key);

impl From<abi::vip_key> for Key {
    fn from(key: abi::vip_key) -> Self {
        Self(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.vip() {
            Some(vip) => write!(f, "{vip}"),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.sort_key() == other.0.sort_key()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.sort_key().cmp(&other.0.sort_key())
    }
}

/// A VIP as the maps hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningVip {
    pub(crate) id: u32,
    pub(crate) serial: u32,
    pub(crate) flags: u32,
    pub(crate) spec: VipSpec,
    /// Real ids that no packet of the VIP may go to.
    pub(crate) barred: BTreeSet<u32>,
}

/// An entry of `reals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningReal {
    pub(crate) address: IpAddr,
    pub(crate) generation: u32,
    pub(crate) live: bool,
}

/// What the maps hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) vips: BTreeMap<Vip, RunningVip>,
    pub(crate) markers: BTreeSet<Key>,
    /// Every id that was ever used.
    pub(crate) reals: BTreeMap<u32, RunningReal>,
    pub(crate) server_ids: BTreeMap<u32, u32>,
    pub(crate) next_serial: u32,
    /// Rings, and reals of VIPs, of ids that no VIP has: left over from an interrupted command.
    pub(crate) stray_rings: BTreeSet<u32>,
    pub(crate) stray_vip_reals: Vec<abi::vip_real_key>,
    /// The index of the VIPs is not what `vips` says: an interrupted command did not come to it.
    pub(crate) stale_index: bool,
}

impl Running {
    /// What runs, in the words of what is wanted.
    pub(crate) fn table(&self) -> Table {
        let vips = self.vips.iter().map(|(vip, running)| (*vip, running.spec.clone())).collect();
        Table { vips, server_ids: self.server_id_addresses() }
    }

    fn server_id_addresses(&self) -> BTreeMap<u32, IpAddr> {
        let address =
            |real: &u32| self.reals.get(real).filter(|real| real.live).map(|real| real.address);
        self.server_ids.iter().filter_map(|(id, real)| Some((*id, address(real)?))).collect()
    }

    fn live_ids(&self) -> BTreeMap<IpAddr, u32> {
        let live = self.reals.iter().filter(|(_, real)| real.live);
        live.map(|(id, real)| (real.address, *id)).collect()
    }
}

/// Content of a ring map: what its slots hold, and whom it bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingImage {
    /// Empty: no real takes new flows.
    pub(crate) members: Vec<Member>,
    /// Real id of each member.
    pub(crate) ids: Vec<u32>,
    pub(crate) barred: BTreeSet<u32>,
}

/// One step. The packet path finds a consistent table after each.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Forgets the flows of reals whose ids are handed out with a generation that was used before.
    ForgetReals(BTreeSet<u32>),
    /// Forgets the flows of all VIPs but those with these serials: serials start over.
    ForgetVipsBut(BTreeSet<u32>),
    /// Hands out serials: those below `next_serial` are used.
    Serials {
        next_serial: u32,
    },
    Reals(Vec<(u32, RunningReal)>),
    ClearReal {
        id: u32,
        real: RunningReal,
    },
    ServerIds(Vec<(u32, u32)>),
    RemoveServerId(u32),
    /// Brings the index in line with `vips`. [`Write::Vips`] and [`Write::RemoveVip`] do so too.
    VipIndex,
    Vips(Vec<(Key, abi::vip)>),
    RemoveVip(Key),
    /// Sets a VIP's counters to zero: its id had another owner.
    ClearVipCounts(u32),
    /// Each replaces a ring in one step.
    Rings(Vec<(u32, RingImage)>),
    RemoveRing(u32),
    VipReals(Vec<(abi::vip_real_key, abi::vip_real)>),
    RemoveVipReals(Vec<abi::vip_real_key>),
}

/// What becomes of a VIP.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipAction {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It goes.
    Remove,
    /// An interrupted command left it half changed; it is completed.
    Repair,
}

/// A VIP's part in a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VipChange {
    /// Which one.
    pub vip: Vip,
    /// What becomes of it.
    pub action: VipAction,
    /// What changes, one short phrase each.
    pub details: Vec<String>,
    /// Share of the VIP's hash space, 0 to 1, that goes to another real than before. Flows that the
    /// connection table holds stay where they are, unless their real goes down or away.
    pub moved: f64,
}

/// A server id's part in a plan: `None` stands for "no real".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServerIdChange {
    /// The id.
    pub id: u32,
    /// Its real so far.
    pub from: Option<IpAddr>,
    /// Its real from now on.
    pub to: Option<IpAddr>,
}

/// The difference between two tables, for people and for the maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableDiff {
    pub(crate) vips: Vec<VipChange>,
    pub(crate) server_ids: Vec<ServerIdChange>,
    pub(crate) writes: Vec<Write>,
    /// There is no plan: interrupted commands left too many reals behind.
    pub(crate) ids_exhausted: bool,
}

/// Builds each ring once, however many VIPs have the same reals.
#[derive(Debug, Default)]
pub(crate) struct Rings(HashMap<Vec<(IpAddr, u32)>, Option<Arc<Ring>>>);

impl Rings {
    pub(crate) fn of(&mut self, members: &[Member]) -> Option<Arc<Ring>> {
        let key = members.iter().map(|member| (member.address, member.weight)).collect();
        self.0.entry(key).or_insert_with(|| Ring::build(members).map(Arc::new)).clone()
    }
}

/// Share of slots that lead to another address.
fn moved(
    old: Option<&Ring>,
    old_members: &[Member],
    new: Option<&Ring>,
    new_members: &[Member],
) -> f64 {
    let (old, new) = match (old, new) {
        (None, None) => return 0.0,
        (Some(old), Some(new)) => (old, new),
        _ => return 1.0,
    };
    let slots = old.slots().iter().zip(new.slots());
    let differing = slots
        .filter(|(old, new)| {
            old_members[usize::from(**old)].address != new_members[usize::from(**new)].address
        })
        .count();
    #[expect(clippy::cast_precision_loss, reason = "at most 65537")]
    let share = differing as f64 / f64::from(crate::ring::RING_SIZE);
    share
}

fn describe(old: &VipSpec, new: &VipSpec) -> Vec<String> {
    let mut details = Vec::new();
    if old.hash != new.hash {
        details.push(format!("hash {} → {}", config_name(&old.hash), config_name(&new.hash)));
    }
    if old.stateless != new.stateless {
        details.push(format!("connection_table {} → {}", !old.stateless, !new.stateless));
    }
    if old.routing != new.routing {
        let list =
            |spec: &VipSpec| spec.routing.iter().map(config_name).collect::<Vec<_>>().join(", ");
        details.push(format!("routing [{}] → [{}]", list(old), list(new)));
    }
    for (address, real) in &new.reals {
        match old.reals.get(address) {
            None => details.push(format!("+ real {address} {}", describe_real(*real))),
            Some(before) if before != real => details.push(format!(
                "real {address} {} → {}",
                describe_real(*before),
                describe_real(*real)
            )),
            Some(_) => {}
        }
    }
    let gone = old.reals.keys().filter(|address| !new.reals.contains_key(address));
    details.extend(gone.map(|address| format!("- real {address}")));
    details
}

fn describe_real(real: RealSpec) -> String {
    match real.state {
        RealState::Up => format!("weight {}", real.weight),
        state => format!("weight {} {state}", real.weight),
    }
}

struct Differ<'a> {
    running: &'a Running,
    wanted: &'a Table,
    wanted_reals: BTreeSet<IpAddr>,
    /// Address → id: of all reals that run or are wanted.
    ids: BTreeMap<IpAddr, u32>,
    rings: Rings,
    diff: TableDiff,
}

/// What must be written, and in which order, so that the maps hold `wanted`.
pub(crate) fn diff(running: &Running, wanted: &Table) -> TableDiff {
    let mut differ = Differ {
        running,
        wanted,
        wanted_reals: wanted.reals(),
        ids: running.live_ids(),
        rings: Rings::default(),
        diff: TableDiff::default(),
    };
    if running.stale_index {
        differ.write(Write::VipIndex);
    }
    // What goes makes room for what comes, wherever that is safe: the maps hold little more than what a
    // configuration may have.
    differ.remove_unused_reals();
    if !differ.add_reals() {
        return TableDiff { ids_exhausted: true, ..TableDiff::default() };
    }
    differ.set_server_ids();
    differ.remove_vips();
    differ.remove_markers();
    differ.remove_strays();
    differ.change_vips();
    differ.add_vips();
    differ.remove_reals();
    differ.diff
}

impl Differ<'_> {
    fn write(&mut self, write: Write) {
        self.diff.writes.push(write);
    }

    /// Clears reals that only an interrupted command can have left: no VIP, no server id and no ring has
    /// them. While a VIP is half changed, its ring may.
    fn remove_unused_reals(&mut self) {
        let changing = |vip: &RunningVip| vip.flags & consts::VIP_CHANGING != 0;
        if self.running.vips.values().any(changing) {
            return;
        }
        let used = self.running.table().reals();
        let unused: Vec<_> = self
            .running
            .reals
            .iter()
            .filter(|(_, real)| real.live && !used.contains(&real.address))
            .filter(|(_, real)| !self.wanted_reals.contains(&real.address))
            .map(|(id, real)| (*id, *real))
            .collect();
        for (id, real) in unused {
            self.ids.remove(&real.address);
            self.write(Write::ClearReal { id, real: cleared(&real) });
        }
    }

    /// Whether there were ids for all.
    fn add_reals(&mut self) -> bool {
        let missing: Vec<_> = self
            .wanted_reals
            .iter()
            .filter(|address| !self.ids.contains_key(address))
            .copied()
            .collect();
        if missing.is_empty() {
            return true;
        }
        // Those that had the fewest owners first: a generation comes back as late as can be.
        let owned = &self.running.reals;
        let live: BTreeSet<u32> = self.ids.values().copied().collect();
        let mut used: Vec<_> = owned.iter().filter(|(id, _)| !live.contains(id)).collect();
        used.sort_by_key(|(_, real)| real.generation);
        let mut free = (1..consts::REAL_IDS)
            .filter(|id| !owned.contains_key(id))
            .chain(used.into_iter().map(|(id, _)| *id));
        let (mut new, mut again) = (Vec::new(), BTreeSet::new());
        for address in missing {
            let Some(id) = free.next() else { return false };
            let before = owned.get(&id).map(|real| real.generation);
            if before == Some(1) {
                again.insert(id);
            }
            self.ids.insert(address, id);
            new.push((id, RunningReal { address, generation: before.unwrap_or(1), live: true }));
        }
        if !again.is_empty() {
            self.write(Write::ForgetReals(again));
        }
        self.write(Write::Reals(new));
        true
    }

    fn set_server_ids(&mut self) {
        let before = self.running.server_id_addresses();
        for id in self.running.server_ids.keys() {
            if !self.wanted.server_ids.contains_key(id) {
                let from = before.get(id).copied();
                self.diff.server_ids.push(ServerIdChange { id: *id, from, to: None });
                self.write(Write::RemoveServerId(*id));
            }
        }
        let mut set = Vec::new();
        for (id, real) in &self.wanted.server_ids {
            let from = before.get(id).copied();
            if from != Some(*real) {
                set.push((*id, self.ids[real]));
                self.diff.server_ids.push(ServerIdChange { id: *id, from, to: Some(*real) });
            }
        }
        if !set.is_empty() {
            self.write(Write::ServerIds(set));
        }
    }

    fn remove_vips(&mut self) {
        let keys = self.wanted.keys();
        // A VIP with port 0 takes the place of the marker that others of its address need: it goes last.
        let gone = self.running.vips.iter().filter(|(vip, _)| !self.wanted.vips.contains_key(vip));
        let (any_port, one_port): (Vec<_>, Vec<_>) = gone.partition(|(vip, _)| vip.port == 0);
        for (vip, running) in one_port.into_iter().chain(any_port) {
            let key = Key::from(abi::vip_key::from(*vip));
            // Another VIP of the address may need a marker where this one was.
            if keys.contains_key(&key) {
                self.write(Write::Vips(vec![(key, MARKER)]));
            } else {
                self.write(Write::RemoveVip(key));
            }
            self.write(Write::RemoveRing(running.id));
            let reals = self.vip_real_keys(running, running.spec.reals.keys());
            if !reals.is_empty() {
                self.write(Write::RemoveVipReals(reals));
            }
            self.diff.vips.push(VipChange {
                vip: *vip,
                action: VipAction::Remove,
                details: Vec::new(),
                moved: 1.0,
            });
        }
    }

    fn vip_real_keys<'a>(
        &self,
        running: &RunningVip,
        reals: impl Iterator<Item = &'a IpAddr>,
    ) -> Vec<abi::vip_real_key> {
        let live = self.running.live_ids();
        reals
            .filter_map(|real| Some(abi::vip_real_key { vip: running.id, real: *live.get(real)? }))
            .collect()
    }

    fn remove_strays(&mut self) {
        for id in &self.running.stray_rings {
            self.write(Write::RemoveRing(*id));
        }
        if !self.running.stray_vip_reals.is_empty() {
            self.write(Write::RemoveVipReals(self.running.stray_vip_reals.clone()));
        }
    }

    /// The reals that stay barred or become so: those that could have flows and may not keep them. A real
    /// that goes altogether needs no bar, its generation ends.
    fn barred(&self, running: Option<&RunningVip>, spec: &VipSpec) -> BTreeSet<u32> {
        let keepers = spec.keepers(&self.wanted.server_ids);
        let mut barred = BTreeSet::new();
        if let Some(running) = running {
            let before = running.spec.keepers(&self.running.server_id_addresses());
            barred.extend(&running.barred);
            barred.extend(before.iter().filter_map(|address| self.ids.get(address)));
        }
        // A real that a packet may name by its id must not get it while it is down.
        let down = spec.reals.iter().filter(|(_, real)| real.state == RealState::Down);
        barred.extend(down.filter_map(|(address, _)| self.ids.get(address)));

        if barred.is_empty() {
            return barred;
        }
        let ids = |addresses: &BTreeSet<IpAddr>| -> BTreeSet<u32> {
            addresses.iter().filter_map(|address| self.ids.get(address)).copied().collect()
        };
        let (kept, stay) = (ids(&keepers), ids(&self.wanted_reals));
        barred.retain(|id| stay.contains(id) && !kept.contains(id));
        barred
    }

    /// A VIP's ring; `None`: there is nothing to say in one.
    fn ring(&self, spec: &VipSpec, barred: BTreeSet<u32>) -> Option<RingImage> {
        let members = spec.members();
        if members.is_empty() && barred.is_empty() {
            return None;
        }
        let ids = members.iter().map(|member| self.ids[&member.address]).collect();
        Some(RingImage { members, ids, barred })
    }

    fn vip_reals(&self, vip: u32, spec: &VipSpec) -> Vec<(abi::vip_real_key, abi::vip_real)> {
        let entries = spec.reals.iter().map(|(address, real)| {
            let state = match real.state {
                RealState::Up => consts::STATE_UP,
                RealState::Drain => consts::STATE_DRAIN,
                RealState::Down => consts::STATE_DOWN,
            };
            let key = abi::vip_real_key { vip, real: self.ids[address] };
            (key, abi::vip_real { weight: real.weight, state })
        });
        entries.collect()
    }

    fn change_vips(&mut self) {
        let before = self.running.server_id_addresses();
        for (vip, spec) in &self.wanted.vips {
            let Some(running) = self.running.vips.get(vip) else { continue };
            let interrupted = running.flags & consts::VIP_CHANGING != 0;
            let keepers_differ =
                running.spec.keepers(&before) != spec.keepers(&self.wanted.server_ids);
            if running.spec == *spec && !interrupted && !keepers_differ {
                continue;
            }
            let barred = self.barred(Some(running), spec);
            let bar = if barred.is_empty() { 0 } else { consts::VIP_BARRED };
            let key = Key::from(abi::vip_key::from(*vip));
            let value = |flags| abi::vip { id: running.id, serial: running.serial, flags };

            let (old_members, new_members) = (running.spec.members(), spec.members());
            let mut changed = running.flags & consts::VIP_RING_CHANGED;
            if old_members != new_members || interrupted {
                changed = consts::VIP_RING_CHANGED;
            }
            let mark = value(running.flags | bar | changed | consts::VIP_CHANGING);
            self.write(Write::Vips(vec![(key, mark)]));
            match self.ring(spec, barred) {
                Some(image) => self.write(Write::Rings(vec![(running.id, image)])),
                None => self.write(Write::RemoveRing(running.id)),
            }
            let gone: Vec<_> =
                running.spec.reals.keys().filter(|real| !spec.reals.contains_key(real)).collect();
            let gone = self.vip_real_keys(running, gone.into_iter());
            self.write(Write::VipReals(self.vip_reals(running.id, spec)));
            if !gone.is_empty() {
                self.write(Write::RemoveVipReals(gone));
            }
            self.write(Write::Vips(vec![(key, value(spec.flags(vip) | bar | changed))]));

            let (old, new) = (self.rings.of(&old_members), self.rings.of(&new_members));
            let details = describe(&running.spec, spec);
            if running.spec != *spec || interrupted {
                let action =
                    if running.spec == *spec { VipAction::Repair } else { VipAction::Change };
                self.diff.vips.push(VipChange {
                    vip: *vip,
                    action,
                    details,
                    moved: moved(old.as_deref(), &old_members, new.as_deref(), &new_members),
                });
            }
        }
    }

    fn add_vips(&mut self) {
        let keys = self.wanted.keys();
        let runs = |key: &Key| {
            self.running.markers.contains(key)
                || key.0.vip().is_some_and(|vip| self.running.vips.contains_key(&vip))
        };
        let markers = keys.iter().filter(|(key, vip)| vip.is_none() && !runs(key));
        let markers: Vec<_> = markers.map(|(key, _)| (*key, MARKER)).collect();
        if !markers.is_empty() {
            self.write(Write::Vips(markers));
        }

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
        let (mut rings, mut reals, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for ((vip, spec), serial) in new.into_iter().zip(serials) {
            // Config limits the number of VIPs.
            let Some(id) = free.next() else { break };
            let barred = self.barred(None, spec);
            let bar = if barred.is_empty() { 0 } else { consts::VIP_BARRED };
            // Before the first VIP nobody counted.
            if self.running.next_serial > 1 {
                self.write(Write::ClearVipCounts(id));
            }
            rings.extend(self.ring(spec, barred).map(|image| (id, image)));
            reals.extend(self.vip_reals(id, spec));
            let key = Key::from(abi::vip_key::from(*vip));
            entries.push((key, abi::vip { id, serial, flags: spec.flags(vip) | bar }));
            self.diff.vips.push(VipChange {
                vip: *vip,
                action: VipAction::Add,
                details: describe(&VipSpec { reals: BTreeMap::new(), ..spec.clone() }, spec),
                moved: 1.0,
            });
        }
        // All at once: nothing of it is in use before the entries are there, and the kernel waits for
        // running programs once instead of once a ring.
        self.write(Write::Rings(rings));
        self.write(Write::VipReals(reals));
        self.write(Write::Vips(entries));
    }

    /// Hands out serials.
    fn new_serials(&mut self, count: usize) -> Vec<u32> {
        let taken: BTreeSet<u32> = self.running.vips.values().map(|vip| vip.serial).collect();
        let free = |from| {
            let all = from..=consts::MAX_SERIAL;
            all.filter(|serial| !taken.contains(serial)).take(count).collect::<Vec<u32>>()
        };
        // 0 stands for no VIP.
        let mut serials = free(self.running.next_serial.max(1));
        if serials.len() < count {
            serials = free(1);
            self.write(Write::ForgetVipsBut(taken.clone()));
        }
        let next_serial = serials.last().map_or(1, |last| last + 1);
        self.write(Write::Serials { next_serial });
        serials
    }

    fn remove_markers(&mut self) {
        let keys = self.wanted.keys();
        for key in &self.running.markers {
            if !keys.contains_key(key) {
                self.write(Write::RemoveVip(*key));
            }
        }
    }

    fn remove_reals(&mut self) {
        let unwanted: Vec<_> = self
            .running
            .reals
            .iter()
            .filter(|(id, real)| real.live && self.ids.get(&real.address) == Some(id))
            .filter(|(_, real)| !self.wanted_reals.contains(&real.address))
            .map(|(id, real)| (*id, *real))
            .collect();
        for (id, real) in unwanted {
            self.write(Write::ClearReal { id, real: cleared(&real) });
        }
    }
}

/// A real that lost its id: flows that were given to it are stale from now on, and packets that are on
/// their way to it still find its address.
fn cleared(real: &RunningReal) -> RunningReal {
    RunningReal { live: false, generation: real.generation % consts::MAX_GENERATION + 1, ..*real }
}

/// See `struct vip_key` in abi.h.
const MARKER: abi::vip = abi::vip { id: 0, serial: 0, flags: consts::VIP_MARKER };

#[cfg(test)]
mod tests;
