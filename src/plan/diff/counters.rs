//! Which counters the packet path uses for the pairs of a VIP and a real: see `LB_REAL_COUNTS` in abi/counters.h.
//!
//! A VIP counts at its first counter plus the real's id. First counters are chosen so that no two pairs meet, as rows
//! of a sparse table are laid over each other (row displacement: Tarjan and Yao, "Storing a sparse table", 1979). The
//! packet path then needs no look-up to find a pair's counter.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use super::Differ;
use super::RunningVip;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::vip_table::VipSpec;
use crate::plan::counter_change::CounterChange;

/// Where a VIP counts that has no counters of its own: by real only.
const SHARED: u32 = 0;

/// Counters that are left free behind those of a VIP, so that it can get further reals: at most so many.
const MOST_SPARE: usize = 64;

/// The changes of one VIP's counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CounterChanges {
    /// Before packets use its new counters or its new ring.
    pub(super) before: Vec<CounterChange>,
    /// After they use the new ring, and before the records of its reals change. Readers of the counters would see less
    /// than before, if the record of a pair went first.
    pub(super) after: Vec<CounterChange>,
    /// After its entry says that no server ids name its reals any more.
    pub(super) last: Vec<CounterChange>,
}

/// The ids of the reals that a VIP counts for, now and afterwards.
struct Rows {
    running: BTreeSet<u32>,
    wanted: BTreeSet<u32>,
}

/// Which counters are in use.
struct Places {
    used: Vec<u64>,
    /// Where the next search begins.
    next: u32,
    /// How many counters a search leaves free.
    spare: u32,
}

impl Places {
    fn new() -> Self {
        Self { used: vec![0; consts::REAL_COUNTS as usize / 64], next: consts::REAL_IDS, spare: 0 }
    }

    fn is_free(&self, at: u32) -> bool {
        self.used.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 0)
    }

    fn take(&mut self, first: u32, ids: &BTreeSet<u32>) {
        for at in ids.iter().map(|id| first + id) {
            if let Some(word) = self.used.get_mut(at as usize / 64) {
                *word |= 1 << (at % 64);
            }
        }
    }

    fn has_room(&self, first: u32, mut ids: impl Iterator<Item = u32>) -> bool {
        ids.all(|id| self.is_free(first + id))
    }

    /// The first of these places where all of the row is free. It looks at 64 places at a time: a large table is full
    /// of places where some real meets the counter of another pair.
    fn search(&self, places: Range<u32>, row: &[u32]) -> Option<u32> {
        places.clone().step_by(64).find_map(|first| {
            let mut met = 0;
            for id in row {
                met |= self.used_from(first + id);
                if met == u64::MAX {
                    return None;
                }
            }
            Some(first + met.trailing_ones()).filter(|first| places.contains(first))
        })
    }

    /// Which of the 64 counters from here on are in use, the lowest bit first. What is behind the last one is.
    fn used_from(&self, at: u32) -> u64 {
        let word = |place: usize| self.used.get(place).copied().unwrap_or(u64::MAX);
        let (place, bit) = (at as usize / 64, at % 64);
        match bit {
            0 => word(place),
            _ => word(place) >> bit | word(place + 1) << (64 - bit),
        }
    }

    /// Finds the first counter of a VIP with these reals, and takes its counters. [`SHARED`]: there is no room.
    fn find(&mut self, ids: &BTreeSet<u32>) -> u32 {
        let (Some(lowest), Some(highest)) = (ids.first(), ids.last()) else { return SHARED };
        // The lowest real's counter comes behind the shared ones, the highest real's is the last at most.
        let all = consts::REAL_IDS - lowest..consts::REAL_COUNTS - highest;
        let from = self.next.saturating_sub(*lowest).clamp(all.start, all.end);
        let row: Vec<u32> = ids.iter().copied().collect();
        let found = self.search(from..all.end, &row).or_else(|| self.search(all.start..from, &row));
        let Some(first) = found else { return SHARED };
        self.take(first, ids);
        self.next = (first + highest + 1).saturating_add(self.spare);
        first
    }

    /// Shares what is free among the VIPs that look for a place.
    fn spare(&mut self, seeking: &[(Vip, BTreeSet<u32>)]) {
        let free: u32 =
            self.used[consts::REAL_IDS as usize / 64..].iter().map(|word| word.count_zeros()).sum();
        let needed: usize = seeking.iter().map(|(_, ids)| ids.len()).sum();
        let left = (free as usize).saturating_sub(needed);
        // Half of it: a search skips counters, too.
        let spare = (left / 2 / (seeking.len() + 1)).min(MOST_SPARE);
        self.spare = u32::try_from(spare).unwrap_or_default();
    }
}

impl Differ<'_> {
    /// Chooses counters for new VIPs, and for those whose new reals would meet the counters of others.
    pub(super) fn place_counters(&mut self) {
        let wanted = self.wanted.vips.iter();
        let changing: Vec<_> = wanted
            .filter(|(vip, spec)| {
                self.running.vips.get(vip).is_none_or(|running| self.row_changes(running, spec))
            })
            .collect();
        if changing.is_empty() {
            return;
        }
        let mut places = Places::new();
        for (vip, running) in &self.running.vips {
            if self.wanted.vips.contains_key(vip) && running.counters != SHARED {
                places.take(running.counters, &self.running_row(running));
            }
        }
        let mut seeking = Vec::new();
        for (vip, spec) in changing {
            let Some(running) = self.running.vips.get(vip) else {
                seeking.push((*vip, self.wanted_row(spec)));
                continue;
            };
            let Rows { running: before, wanted } = self.rows(running, spec);
            let more = wanted.difference(&before).copied();
            if running.counters != SHARED && places.has_room(running.counters, more) {
                places.take(running.counters, &wanted);
            } else {
                // While the VIP changes, packets still go to the reals that leave.
                seeking.push((*vip, &before | &wanted));
            }
        }
        places.spare(&seeking);
        let found: BTreeMap<_, _> =
            seeking.into_iter().map(|(vip, ids)| (vip, places.find(&ids))).collect();
        self.counters = found;
    }

    /// A VIP's first counter afterwards.
    pub(super) fn counters(&self, vip: &Vip, running: Option<&RunningVip>) -> u32 {
        let chosen = self.counters.get(vip).copied();
        chosen.or_else(|| running.map(|running| running.counters)).unwrap_or(SHARED)
    }

    /// Whether the reals that a VIP counts for change.
    fn row_changes(&self, running: &RunningVip, spec: &VipSpec) -> bool {
        let by_id = running.spec.is_routed_by_id() || spec.is_routed_by_id();
        !running.spec.reals.keys().eq(spec.reals.keys())
            || by_id
                && (self.server_ids != self.wanted.server_ids
                    || running.spec.is_routed_by_id() != spec.is_routed_by_id())
    }

    fn rows(&self, running: &RunningVip, spec: &VipSpec) -> Rows {
        Rows { running: self.running_row(running), wanted: self.wanted_row(spec) }
    }

    fn running_row(&self, running: &RunningVip) -> BTreeSet<u32> {
        self.row(&running.spec, self.server_ids.values())
    }

    fn wanted_row(&self, spec: &VipSpec) -> BTreeSet<u32> {
        self.row(spec, self.wanted.server_ids.values())
    }

    /// A packet's server id may name a real that the VIP does not have.
    fn row<'a>(&self, spec: &'a VipSpec, named: impl Iterator<Item = &'a IpAddr>) -> BTreeSet<u32> {
        let named = named.filter(|_| spec.is_routed_by_id());
        spec.reals.keys().chain(named).filter_map(|real| self.ids.get(real)).copied().collect()
    }

    /// What becomes of the counters of a VIP that changes.
    pub(super) fn change_counters(
        &self,
        vip: &Vip,
        running: &RunningVip,
        spec: &VipSpec,
    ) -> CounterChanges {
        let mut changes = CounterChanges::default();
        let (from, to) = (running.counters, self.counters(vip, Some(running)));
        if from == to && !self.row_changes(running, spec) {
            return changes;
        }
        let Rows { running: before, wanted } = self.rows(running, spec);
        if to == SHARED {
            changes.after = self.kept(from, before.iter());
            return changes;
        }
        if from == SHARED {
            changes
                .before
                .extend((&before | &wanted).iter().map(|id| CounterChange::Begin(to + id)));
        } else {
            if from != to {
                let moved = before.iter();
                let moved = moved.map(|id| CounterChange::Move { from: from + id, to: to + id });
                changes.before.extend(moved);
            }
            let new = wanted.difference(&before);
            changes.before.extend(new.map(|id| CounterChange::Begin(to + id)));
        }
        let kept = self.kept(to, before.difference(&wanted));
        if running.spec.is_routed_by_id() && !spec.is_routed_by_id() {
            changes.last = kept;
        } else {
            changes.after = kept;
        }
        changes
    }

    /// Pairs that are gone, of reals that stay.
    fn kept<'a>(&self, first: u32, ids: impl Iterator<Item = &'a u32>) -> Vec<CounterChange> {
        let ids = ids.filter(|id| first != SHARED && self.wanted_ids.contains(id));
        ids.map(|id| CounterChange::Keep { from: first + id, real: *id }).collect()
    }

    /// Before a VIP goes.
    pub(super) fn keep_counters(&self, running: &RunningVip) -> Vec<CounterChange> {
        self.kept(running.counters, self.running_row(running).iter())
    }

    /// Before a VIP is new.
    pub(super) fn begin_counters(&self, first: u32, spec: &VipSpec) -> Vec<CounterChange> {
        // Before the first VIP, all counters are zero.
        if self.running.next_serial <= 1 || first == SHARED {
            return Vec::new();
        }
        self.wanted_row(spec).into_iter().map(|id| CounterChange::Begin(first + id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
        ids.into_iter().collect()
    }

    /// Places all rows, and returns the first counters.
    fn place(rows: &[BTreeSet<u32>]) -> Vec<u32> {
        let vip = |n: usize| {
            let n = u16::try_from(n + 1).expect("few");
            format!("tcp://10.0.0.1:{n}").parse().expect("a VIP")
        };
        let seeking: Vec<_> =
            rows.iter().enumerate().map(|(n, row)| (vip(n), row.clone())).collect();
        let mut places = Places::new();
        places.spare(&seeking);
        rows.iter().map(|row| places.find(row)).collect()
    }

    fn no_two_meet(rows: &[BTreeSet<u32>], firsts: &[u32]) {
        let mut used = BTreeSet::new();
        for (row, first) in rows.iter().zip(firsts).filter(|(_, first)| **first != SHARED) {
            assert!(u16::try_from(*first).is_ok(), "it must fit into vip.counters");
            for id in row {
                let at = first + id;
                assert!((consts::REAL_IDS..consts::REAL_COUNTS).contains(&at), "{first} + {id}");
                assert!(used.insert(at), "two pairs count at {at}");
            }
        }
    }

    #[test]
    fn the_largest_table_of_one_kind_has_room() {
        let rows = vec![ids(1..=100); 512];
        let firsts = place(&rows);
        no_two_meet(&rows, &firsts);
        assert!(firsts.iter().all(|first| *first != SHARED));
    }

    #[test]
    fn scattered_reals_have_room() {
        let row = |vip: u32| ids((0..40).map(|n| 1 + (vip * 7919 + n * 104_729) % 12_287));
        let rows: Vec<_> = (0..512).map(row).collect();
        let firsts = place(&rows);
        no_two_meet(&rows, &firsts);
        assert!(firsts.iter().all(|first| *first != SHARED));
    }

    #[test]
    fn without_room_a_vip_counts_by_real_only() {
        let rows = vec![ids(1..=4096); 16];
        let firsts = place(&rows);
        no_two_meet(&rows, &firsts);
        // Behind the shared counters there is room for 13 times 4,096.
        assert_eq!(firsts.iter().filter(|first| **first == SHARED).count(), 3);
        assert_eq!(place(&[ids([])]), [SHARED], "it counts nothing");
        assert_eq!(
            place(&[ids([1]), ids([12_287])]).iter().filter(|first| **first == SHARED).count(),
            0
        );
    }

    #[test]
    fn the_search_finds_what_looking_at_each_place_finds() {
        let mut places = Places::new();
        for (seed, count) in [(1_u32, 3_u32), (7, 60), (40, 1), (12_000, 90), (5, 64), (63, 2)] {
            for step in 0..40 {
                let row = ids((0..count).map(|n| 1 + (seed + step * 131 + n * n * 37) % 12_287));
                let (lowest, highest) = (row.first().unwrap(), row.last().unwrap());
                let all = consts::REAL_IDS - lowest..consts::REAL_COUNTS - highest;
                for from in [all.start, all.start + 1 + step * 61, all.end - 1 - step, all.end] {
                    let row: Vec<u32> = row.iter().copied().collect();
                    let mut each = from..all.end;
                    let first = each.find(|first| places.has_room(*first, row.iter().copied()));
                    assert_eq!(places.search(from..all.end, &row), first, "{from} {row:?}");
                }
                places.find(&row);
            }
        }
    }

    #[test]
    fn a_vip_has_room_for_more_reals() {
        let firsts = place(&[ids([1]), ids([1])]);
        assert!(firsts[1] - firsts[0] > 32, "{firsts:?}");
    }
}
