//! The rings of a change. VIPs with the same reals share a ring: it is built once. All CPUs build rings.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::abi::consts;
use crate::model::maglev::hash::real_hash;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::RING_SIZE;
use crate::model::maglev::ring::Ring;
use crate::model::parallel;

/// How many changes are compared at a time: each has two rings, of 131 KB each.
const CHANGES_AT_ONCE: usize = 64;

/// Values of a ring map.
pub(crate) const RING_MAP_VALUES: u32 = consts::RING_VALUES + consts::BARRED_VALUES;

/// The number of ring maps that are open at a time. Each of them replaces one that is open too.
pub(crate) const RINGS_AT_ONCE: usize = 256;

/// Content of a ring map: what its slots hold, and which reals it bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingImage {
    /// Empty: no real takes new flows.
    pub(crate) members: Vec<Member>,
    /// Real id of each member.
    pub(crate) ids: Vec<u32>,
    pub(crate) barred: BTreeSet<u32>,
}

impl RingImage {
    /// `None`: the VIP needs no ring. `ids` has the ids of all members.
    pub(crate) fn new(
        members: Vec<Member>,
        ids: &FxHashMap<IpAddr, u32>,
        barred: BTreeSet<u32>,
    ) -> Option<Self> {
        if members.is_empty() && barred.is_empty() {
            return None;
        }
        let ids = members.iter().map(|member| ids[&member.address]).collect();
        Some(Self { members, ids, barred })
    }

    /// The checksum at [`consts::RING_CHECKSUM_SHIFT`], never 0. It covers all values of the ring map, and the reals
    /// that they were made from. Comparing checksums is a hundred times faster than building the ring.
    pub(crate) fn checksum(&self, values: usize, value: impl Fn(usize) -> u64) -> u64 {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        // Each step is invertible in both arguments: if one value differs, the result differs.
        let step = |sum: u64, value: u64| (sum.rotate_left(5) ^ value).wrapping_mul(MULTIPLIER);
        let mut sum = self.members.len() as u64;
        for (member, id) in self.members.iter().zip(&self.ids) {
            sum = step(sum, real_hash(member.address));
            sum = step(sum, u64::from(member.weight) << 32 | u64::from(*id));
        }
        // Four sums at a time, because each multiplication waits for the one before.
        let mut sums = [sum; 4];
        let mut at = 0;
        while at < values {
            for sum in &mut sums {
                if at < values {
                    *sum = step(*sum, slots_of(at, value(at)));
                }
                at += 1;
            }
        }
        let sum = sums.into_iter().fold(0, |all, sum| step(all, sum ^ sum >> 32));
        ((sum ^ sum >> 32) & consts::RING_CHECKSUM_MASK).max(1)
    }
}

/// A value of a ring map without the checksum.
pub(crate) fn slots_of(at: usize, value: u64) -> u64 {
    if at + 1 == consts::RING_VALUES as usize {
        value & !(u64::MAX << consts::RING_CHECKSUM_SHIFT)
    } else {
        value
    }
}

/// Rings that were built, by their members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rings(HashMap<Vec<Member>, Arc<Ring>>);

impl Rings {
    /// The ring of these members, if they make one.
    pub(crate) fn get_or_build(&self, members: &[Member]) -> Option<Arc<Ring>> {
        self.0.get(members).cloned().or_else(|| Ring::build(members).map(Arc::new))
    }

    fn build<'a>(&mut self, rings: impl Iterator<Item = &'a Vec<Member>>) {
        let missing: HashSet<_> =
            rings.filter(|members| !self.0.contains_key(members.as_slice())).collect();
        let missing: Vec<_> = missing.into_iter().collect();
        let built = parallel::map(&missing, |members| Ring::build(members).map(Arc::new));
        let built = missing.into_iter().cloned().zip(built);
        self.0.extend(built.filter_map(|(members, ring)| Some((members, ring?))));
    }

    /// For each change from one list of members to another, the share of slots that lead to another real. Keeps the
    /// new rings for later use.
    pub(crate) fn moved(&mut self, changes: &[(Vec<Member>, Vec<Member>)]) -> Vec<f64> {
        let mut shares = Vec::with_capacity(changes.len());
        for changes in changes.chunks(CHANGES_AT_ONCE) {
            let mut both = Self::default();
            let differing = changes.iter().filter(|(old, new)| old != new);
            both.build(differing.flat_map(|(old, new)| [old, new]));
            shares.extend(changes.iter().map(|(old, new)| both.moved_between(old, new)));
            for (_, new) in changes {
                self.0.extend(both.0.remove_entry(new));
            }
        }
        shares
    }

    /// The share of flows that go to another real once the hash uses other fields. The rest keeps its real by chance.
    pub(crate) fn moved_anew(old: &[Member], new: &[Member]) -> f64 {
        if old.is_empty() && new.is_empty() {
            return 0.0;
        }
        let after: HashMap<_, _> =
            new.iter().map(|member| member.address).zip(Ring::shares(new)).collect();
        let before = old.iter().map(|member| member.address).zip(Ring::shares(old));
        let share = |slots: u32| f64::from(slots) / f64::from(RING_SIZE);
        let same = before.map(|(real, slots)| {
            share(slots) * after.get(&real).map_or(0.0, |slots| share(*slots))
        });
        1.0 - same.sum::<f64>()
    }

    fn moved_between(&self, old: &[Member], new: &[Member]) -> f64 {
        if old == new {
            return 0.0;
        }
        let (before, after) = match (self.0.get(old), self.0.get(new)) {
            (None, None) => return 0.0,
            (Some(before), Some(after)) => (before, after),
            _ => return 1.0,
        };
        // The place of each old member in the new list, if it has one.
        let places: HashMap<_, u16> = new.iter().map(|member| member.address).zip(0..).collect();
        let new_place: Vec<_> = old.iter().map(|member| places.get(&member.address)).collect();
        let slots = before.slots().iter().zip(after.slots());
        let differing =
            slots.filter(|(old, new)| new_place[usize::from(**old)] != Some(*new)).count();
        #[expect(clippy::cast_precision_loss, reason = "at most 65537")]
        let share = differing as f64 / f64::from(RING_SIZE);
        share
    }
}
