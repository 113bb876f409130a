//! One connection table, of either kind: create it, read its flows, insert and forget flows.
//!
//! `include/l4lb/balance/table_sets.h` explains how a table of sets is used. This module finds the same place for a
//! flow as packets do, so that flows can move to tables of another size or kind.

mod fill;
mod place;
mod set;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;

use crate::kernel::bpf;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::kernel::maps::create_inner;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::connection_tables::Family;
use crate::model::secret::Secret;

pub(crate) use fill::Room;
pub(crate) use fill::SetTables;
pub(crate) use fill::fill_lru;
pub(crate) use fill::insert_in_lru;
pub(crate) use fill::own_first;
use place::set_of;

type Result<T> = std::result::Result<T, MapError>;

/// How often to look at a set for flows to forget. Each entry is removed the first time, unless packets interfere.
const ATTEMPTS: u32 = 8 * consts::SET_WAYS;

/// 8 MB of an IPv6 table.
pub(crate) const SETS_OF_PART: u32 = 1 << 16;

/// An entry's time this many units ahead is taken for a future time, not for one 19 hours ago.
#[expect(clippy::cast_possible_truncation, reason = "64")]
pub(crate) const FUTURE: u16 = consts::SEEN_FUTURE as u16;

/// Flags of the map of a table of sets, as in state/maps.h.
const SET_FLAGS: u32 =
    libbpf_sys::BPF_F_MMAPABLE | libbpf_sys::BPF_F_INNER_MAP | libbpf_sys::BPF_F_NUMA_NODE;

/// A flow, as a table holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) key: abi::flow_key,
    pub(crate) real: u32,
    pub(crate) generation: u32,
    /// When it was last seen: `CLOCK_MONOTONIC`, in ns. For a table of sets, this is the time of the reading minus
    /// `units`.
    pub(crate) last_seen: u64,
    /// Only in a table of sets: its age in units.
    pub(crate) units: Option<u16>,
}

/// The key by which flows are distinguished.
pub(crate) type FlowId = ([u32; 4], u32, u16, u16);

impl Flow {
    pub(crate) fn id(&self) -> FlowId {
        let abi::flow_key { src, sport, dport, vip } = self.key;
        (src.word, vip, sport, dport)
    }

    /// Where its packets go.
    fn leads(&self) -> (u32, u32) {
        (self.real, self.generation)
    }

    /// When it was last used, in units of a table of sets. These do not depend on the time of reading.
    pub(crate) fn seen_units(&self) -> u64 {
        self.last_seen >> consts::SEEN_SHIFT
    }

    /// Whether its packets are IPv6. If the VIP's hash mode leaves out the source, this is not known: `false`.
    pub(crate) fn is_v6(&self) -> bool {
        let [a, b, c, _] = self.key.src.word;
        [a, b] != [0, 0] || (c != 0 && c != 0xffff_u32.to_be())
    }
}

/// Sorts flows by their last use, the latest first, and keeps each flow once. Flows of one set with the same time
/// keep their order.
pub(crate) fn newest_first(flows: &mut Vec<Flow>) {
    flows.sort_by_key(|flow| Reverse(flow.last_seen));
    let mut met = HashSet::with_capacity(flows.len());
    flows.retain(|flow| met.insert(flow.id()));
}

/// A table of kind LRU.
pub(crate) type LruTable = Map<abi::flow_key, abi::flow>;

/// Creates a table of kind LRU.
pub(crate) fn new_lru(entries: u32, node: u32) -> Result<LruTable> {
    let (key, value) = (size_of::<abi::flow_key>(), size_of::<abi::flow>());
    let flags = libbpf_sys::BPF_F_NUMA_NODE;
    Map::new(create_inner("flows", MapType::LruHash, key, value, entries, flags, node)?)
}

/// The flows of a table of kind LRU. If packets change the table meanwhile, some may be missing or occur twice.
pub(crate) fn lru_flows(table: &LruTable) -> Result<Vec<Flow>> {
    Ok(table.entries()?.into_iter().map(Flow::from).collect())
}

impl From<(abi::flow_key, abi::flow)> for Flow {
    fn from((key, flow): (abi::flow_key, abi::flow)) -> Self {
        let abi::flow { real, generation, last_seen } = flow;
        Self { key, real, generation, last_seen, units: None }
    }
}

/// How many flows a table of kind LRU holds, IPv4 and IPv6 ([`Flow::is_v6`]). Reads a part at a time.
pub(crate) fn lru_used(table: &LruTable) -> Result<[u32; 2]> {
    let mut used = [0; 2];
    table.each_entry(|entry| used[usize::from(Flow::from(entry).is_v6())] += 1)?;
    Ok(used)
}

impl From<&Flow> for abi::flow {
    fn from(flow: &Flow) -> Self {
        // A table of sets rounds times down to units. This takes the end of the unit: the packet came no later, and a
        // later reading of the same entry does not give an earlier time.
        let last_seen = match flow.units {
            None | Some(0) => flow.last_seen,
            Some(_) => (flow.seen_units() + 1) << consts::SEEN_SHIFT,
        };
        Self { real: flow.real, generation: flow.generation, last_seen }
    }
}

/// A table of sets, of one family.
#[derive(Debug)]
pub(crate) struct SetTable {
    memory: ArrayMemory,
    family: Family,
    sets: u32,
}

impl SetTable {
    /// Creates an empty table and its map.
    pub(crate) fn create(family: Family, sets: u32, node: u32) -> Result<(Self, MapHandle)> {
        let (key, value) = (size_of::<u32>(), family.set_size());
        let map =
            create_inner(family.map_name(), MapType::Array, key, value, sets, SET_FLAGS, node)?;
        Ok((Self::new(&map, family)?, map))
    }

    /// Creates an empty table without a map.
    #[cfg(test)]
    pub(crate) fn in_memory(family: Family, sets: u32) -> Self {
        let bytes = family.set_size() * sets as usize;
        let memory = ArrayMemory::anonymous(bytes).expect("memory");
        Self { memory, family, sets }
    }

    /// Opens the table of a map. The map lives as long as this value.
    pub(crate) fn new(map: &MapHandle, family: Family) -> Result<Self> {
        if map.value_size() as usize != family.set_size() {
            return Err(MapError::layout(family.map_name()));
        }
        let sets = map.max_entries();
        let memory = ArrayMemory::new(map)
            .map_err(|source| MapError::new(family.map_name(), "map it", source))?;
        Ok(Self { memory, family, sets })
    }

    /// Opens a part of a table, to read all flows of a large table with little memory: at most [`SETS_OF_PART`] sets
    /// from `first` on. `first` is a multiple of that.
    pub(crate) fn part(map: &MapHandle, family: Family, first: u32) -> Result<Self> {
        if map.value_size() as usize != family.set_size() {
            return Err(MapError::layout(family.map_name()));
        }
        let sets = map.max_entries().saturating_sub(first).min(SETS_OF_PART);
        let memory = ArrayMemory::part(map, first..first + sets)
            .map_err(|source| MapError::new(family.map_name(), "map a part of it", source))?;
        Ok(Self { memory, family, sets })
    }

    /// The number of sets.
    #[cfg(test)]
    pub(crate) fn sets(&self) -> u32 {
        self.sets
    }

    /// The words of a set.
    fn set(&self, set: u32) -> &[AtomicU64] {
        let words = self.family.entry_words() * consts::SET_WAYS as usize;
        let at = set as usize * words;
        self.memory.words().get(at..at + words).unwrap_or_default()
    }

    /// The words of an entry.
    fn entry(&self, set: u32, way: u32) -> &[AtomicU64] {
        let words = self.family.entry_words();
        let at = (set as usize * consts::SET_WAYS as usize + way as usize) * words;
        self.memory.words().get(at..at + words).unwrap_or_default()
    }

    fn words(&self, set: u32, way: u32) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, shared) in words.iter_mut().zip(self.entry(set, way)) {
            *word = shared.load(Ordering::Relaxed);
        }
        words
    }

    /// The flow of an entry's words; `None`: the entry is free.
    fn flow(&self, words: &[u64; 4], now: u64) -> Option<Flow> {
        let (src, [ports, rest]) = match self.family {
            Family::V4 => {
                let source = abi::low_half(words[0]);
                // 0 is no address: the VIP's hash mode leaves out the source.
                let mapped = if source == 0 { 0 } else { 0xffff_u32.to_be() };
                ([0, 0, mapped, source], [words[0], words[1]])
            }
            Family::V6 => {
                let halves = |word| [abi::low_half(word), abi::high_half(word)];
                let ([a, b], [c, d]) = (halves(words[0]), halves(words[1]));
                ([a, b, c, d], [words[2], words[3]])
            }
        };
        let (vip, ports) = (abi::low_half(rest) >> 8, abi::high_half(ports));
        let key = abi::flow_key {
            src: abi::lb_addr { word: src },
            sport: (ports & 0xffff) as u16,
            dport: (ports >> 16) as u16,
            vip,
        };
        let units = now_units(now).wrapping_sub((rest >> 48) as u16);
        // A future time comes from a packet after `now`, or is a mark that a deletion left.
        let units = if units > u16::MAX - FUTURE { 0 } else { units };
        let age = u64::from(units) << consts::SEEN_SHIFT;
        (vip != 0).then(|| Flow {
            key,
            real: abi::high_half(rest) & 0xffff,
            generation: abi::low_half(rest) & consts::MAX_GENERATION,
            last_seen: now.saturating_sub(age),
            units: Some(units),
        })
    }

    /// Appends its flows, set by set. Packets may use the table meanwhile: every flow that stays in it is returned,
    /// some of them twice.
    pub(crate) fn read_flows(&self, now: u64, into: &mut Vec<Flow>) {
        for set in 0..self.sets {
            let entries = set::read_all(self.set(set), self.family).into_iter();
            into.extend(entries.filter_map(|words| self.flow(&words, now)));
        }
    }

    /// The flows of one set. The clock is read afterwards, so no flow was seen later.
    pub(crate) fn flows_in(
        &self,
        set: u32,
    ) -> crate::model::error::Result<impl Iterator<Item = Flow> + '_> {
        let entries = set::read(self.set(set), self.family);
        let now = bpf::monotonic_ns()?;
        Ok(entries.into_iter().filter_map(move |words| self.flow(&words, now)))
    }

    /// The flow of a key, in the set where packets look for it.
    pub(crate) fn find(
        &self,
        key: &abi::flow_key,
        secret: &Secret,
    ) -> crate::model::error::Result<Option<Flow>> {
        let wanted = Flow { key: *key, real: 0, generation: 0, last_seen: 0, units: None };
        let words = entry_words(&wanted, self.family);
        let set = set_of(&words, key.vip, self.family, self.sets, secret);
        let same = |flow: &Flow| abi::bytes_of(&flow.key) == abi::bytes_of(key);
        Ok(self.flows_in(set)?.find(same))
    }

    /// How many flows it holds. Packets may use the table meanwhile.
    pub(crate) fn used(&self) -> u32 {
        let words = self.family.entry_size() / size_of::<u64>();
        // An entry without a VIP is free.
        let taken = |last: &AtomicU64| abi::low_half(last.load(Ordering::Relaxed)) >> 8 != 0;
        let entries = self.memory.words().chunks_exact(words);
        let used = entries.filter_map(<[_]>::last).filter(|last| taken(last)).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Inserts a flow, unless it is there or its set is full. Call this only while no packet uses the table.
    pub(crate) fn add(&self, flow: &Flow, secret: &Secret) {
        let words = entry_words(flow, self.family);
        let set = set_of(&words, flow.key.vip, self.family, self.sets, secret);
        // All words but the last form the key. The last one also holds what changes.
        let key = self.family.entry_size() / size_of::<u64>() - 1;
        for way in 0..consts::SET_WAYS {
            let there = self.words(set, way);
            let free = abi::low_half(there[key]) >> 8 == 0;
            let same = there[..key] == words[..key]
                && abi::low_half(there[key]) >> 8 == abi::low_half(words[key]) >> 8;
            if free {
                for (shared, word) in self.entry(set, way).iter().zip(words) {
                    shared.store(word, Ordering::Relaxed);
                }
            }
            if free || same {
                return;
            }
        }
    }

    /// Inserts a flow while packets use the table. Runs on the table's CPU. Returns whether the flow was inserted. If
    /// the set is full and [`Room::Taken`] allows it, this evicts the least recently used entry, if that was used
    /// before this flow. If the flow has an entry that was not used since, that entry gets the flow's real.
    pub(crate) fn insert(&self, flow: &Flow, secret: &Secret, now: u64, room: Room) -> bool {
        let words = entry_words(flow, self.family);
        let at = set_of(&words, flow.key.vip, self.family, self.sets, secret);
        let (set, units) = (self.set(at), now_units(now));
        // Nanoseconds depend on the time of reading. Units do not, so these are compared.
        let seen = |entry: &[u64; 4]| self.flow(entry, now).map(|flow| flow.seen_units());
        for _ in 0..ATTEMPTS {
            match set::put_in(set, self.family, &words, units) {
                set::Put::Done => return true,
                set::Put::Known(way, there) => {
                    let known = self.flow(&there, now);
                    let outdated = known.is_some_and(|known| {
                        known.leads() != flow.leads() && known.seen_units() <= flow.seen_units()
                    });
                    if !outdated || set::correct(set, self.family, way, &there, &words, units) {
                        return true;
                    }
                }
                set::Put::Full(least) => {
                    let way = consts::SET_WAYS as usize - 1;
                    let older = seen(&least).is_some_and(|seen| seen < flow.seen_units());
                    if room == Room::Free || !older {
                        return false;
                    }
                    set::take_out(set, self.family, way, &least, units);
                }
                set::Put::Busy => {}
            }
        }
        false
    }

    /// Frees the entries that a killed command had claimed.
    pub(crate) fn release_claims(&self) {
        let words = self.family.entry_words();
        for last in self.memory.words().chunks_exact(words).filter_map(<[_]>::last) {
            if last.load(Ordering::Relaxed) == u64::from(consts::SET_CLAIMED) {
                let claimed = u64::from(consts::SET_CLAIMED);
                let _ = last.compare_exchange(claimed, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    }

    /// Forgets flows. Returns how many. Packets may use the table meanwhile, if this runs on its CPU: no other flow
    /// is affected. A flow that gets a packet at the same time may stay or come back.
    pub(crate) fn forget(
        &self,
        unwanted: &dyn Fn(&Flow) -> bool,
    ) -> crate::model::error::Result<u64> {
        let mut forgotten = 0;
        for at in 0..self.sets {
            let set = self.set(at);
            // Repeats until none is left, because packets may move an entry past this loop.
            for _ in 0..ATTEMPTS {
                let entries = set::read(set, self.family);
                let now = bpf::monotonic_ns()?;
                let flows = entries.iter().map(|words| self.flow(words, now));
                let found =
                    (0..).zip(flows).find_map(|(way, flow)| Some((way, flow.filter(unwanted)?)));
                let Some((way, _)) = found else { break };
                let taken = set::take_out(set, self.family, way, &entries[way], now_units(now));
                forgotten += u64::from(taken);
            }
        }
        Ok(forgotten)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what entries hold")]
fn now_units(now: u64) -> u16 {
    (now >> consts::SEEN_SHIFT) as u16
}

/// The words of a flow's entry, as `make_entry` in `table_sets.h` makes them. IPv4 uses the first two.
fn entry_words(flow: &Flow, family: Family) -> [u64; 4] {
    let [a, b, c, d] = flow.key.src.word.map(u64::from);
    let ports = u64::from(flow.key.dport) << 48 | u64::from(flow.key.sport) << 32;
    let rest = u64::from(now_units(flow.last_seen)) << 48
        | u64::from(flow.real & 0xffff) << 32
        | u64::from(flow.key.vip) << 8
        | u64::from(flow.generation & consts::MAX_GENERATION);
    match family {
        Family::V4 => [ports | d, rest, 0, 0],
        Family::V6 => [b << 32 | a, d << 32 | c, ports, rest],
    }
}

#[cfg(test)]
mod tests;
