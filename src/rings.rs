//! The rings that a change takes: each is built once, however many VIPs have the same reals, and on all CPUs.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::parallel;
use crate::ring::Member;
use crate::ring::RING_SIZE;
use crate::ring::Ring;

/// How many changes are compared at a time: each has two rings, of 131 KB each.
const CHANGES_AT_ONCE: usize = 64;

/// Content of a ring map: what its slots hold, and whom it bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingImage {
    /// Empty: no real takes new flows.
    pub(crate) members: Vec<Member>,
    /// Real id of each member.
    pub(crate) ids: Vec<u32>,
    pub(crate) barred: BTreeSet<u32>,
}

/// Rings that were built, by their members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rings(HashMap<Vec<Member>, Arc<Ring>>);

impl Rings {
    /// The ring of these members, unless they make none.
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

    /// The share of slots that lead elsewhere after each change from one list of members to another. Keeps
    /// the new rings, which will be needed.
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

    /// The share of flows that lead elsewhere once they are looked for by other keys: those that meet their real
    /// again do so by chance.
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
        // Where each old member is in the new list, if it is.
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
