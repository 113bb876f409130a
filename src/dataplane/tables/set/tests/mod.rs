//! Deletions with packets between any two of their steps.

mod put;

use std::cell::Cell;
use std::cell::RefCell;

use super::*;

/// Flows in the same set. All go to the same real and have the same age: only their keys differ.
const FLOWS: u64 = 6;
const NOW: u16 = 1000;
const VIP_AND_REAL: u64 = 7 << 32 | 5 << 8 | 3;

/// The words of a flow.
fn entry_of(flow: u64, seen: u16, family: Family) -> Entry {
    let last = VIP_AND_REAL | u64::from(seen) << SEEN_BIT;
    match family {
        Family::V4 => [flow + 1, last, 0, 0],
        // IPv6 addresses may differ in one word only.
        Family::V6 => [1, flow + 1, 2, last],
    }
}

/// A set, with packets that come before steps of its user. They are handled as `table_sets.h` does.
struct Busy {
    entries: RefCell<[Entry; WAYS]>,
    family: Family,
    rng: RefCell<fastrand::Rng>,
    /// One in this many steps has a packet before it; 0: none.
    one_in: u32,
    /// The time that packets write.
    clock: u16,
    wanted: u64,
    freed: Cell<u32>,
}

impl Busy {
    fn last(&self) -> usize {
        self.family.entry_words() - 1
    }

    fn is_free(&self, entry: &Entry) -> bool {
        crate::model::abi::low_half(entry[self.last()]) >> 8 == 0
    }

    fn same_key(&self, a: &Entry, b: &Entry) -> bool {
        a[..self.last()] == b[..self.last()]
    }

    fn packets(&self) {
        let mut rng = self.rng.borrow_mut();
        while self.one_in != 0 && rng.u32(..self.one_in) == 0 {
            self.packet(rng.u64(..FLOWS));
        }
    }

    fn packet(&self, flow: u64) {
        let new = entry_of(flow, self.clock, self.family);
        let entries = &mut *self.entries.borrow_mut();
        let known = entries.iter().position(|e| !self.is_free(e) && self.same_key(e, &new));
        let free = || entries.iter().position(|e| self.is_free(e));
        if let Some(way) = known {
            entries[..=way].rotate_right(1);
            entries[0] = new;
        } else if let Some(way) = free() {
            entries[way] = new;
        } else {
            entries[WAYS / 2..].rotate_right(1);
            entries[WAYS / 2] = new;
        }
    }
}

impl Words for Busy {
    fn load(&self, at: usize) -> u64 {
        self.packets();
        let words = self.family.entry_words();
        self.entries.borrow()[at / words][at % words]
    }

    fn exchange(&self, at: usize, current: u64, new: u64) -> bool {
        self.packets();
        let words = self.family.entry_words();
        let entry = &mut self.entries.borrow_mut()[at / words];
        if entry[at % words] != current {
            return false;
        }
        let before = *entry;
        entry[at % words] = new;
        if self.is_free(entry) && !self.is_free(&before) {
            let wanted = entry_of(self.wanted, NOW, self.family);
            assert!(self.same_key(&before, &wanted), "another flow was forgotten");
            self.freed.set(self.freed.get() + 1);
        }
        let rest = |entry: &Entry| entry[self.last()] << 16 >> 16;
        assert!(self.is_free(entry) || rest(entry) == VIP_AND_REAL, "a flow leads elsewhere");
        true
    }

    fn store(&self, _: usize, _: u64) {
        unreachable!("a deletion owns no word");
    }
}

fn busy(family: Family, one_in: u32, clock: u16, seed: u64) -> Busy {
    let mut set = Busy {
        entries: RefCell::new([[0; 4]; WAYS]),
        family,
        rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        one_in: 0,
        clock: NOW - 600,
        wanted: seed % FLOWS,
        freed: Cell::new(0),
    };
    (0..FLOWS).for_each(|flow| set.packet(flow));
    (set.one_in, set.clock) = (one_in, clock);
    set
}

#[test]
fn an_entry_of_a_quiet_set_goes() {
    for family in Family::BOTH {
        {
            let set = busy(family, 0, NOW, FLOWS - 1);
            let before = read(&set, family);
            let way = before.iter().position(|e| set.same_key(e, &entry_of(FLOWS - 1, 0, family)));
            let way = way.expect("the flow that came last is there");
            assert!(take_out(&set, family, way, &before[way], NOW));
            assert_eq!(set.freed.get(), 1);
            let mut expected = before;
            expected[way][set.last()] = 0;
            assert_eq!(read(&set, family), expected, "all others are what they were");
        }
    }
}

/// The packets' clock shows the present, the tick before, or for TCP an earlier time.
#[test]
fn packets_between_any_two_steps_lose_no_other_flow() {
    for clock in [NOW, NOW - 1, NOW - 2, NOW - 600] {
        for family in Family::BOTH {
            let mut freed = 0;
            for seed in 0..10_000 {
                let one_in = 2 + u32::try_from(seed / FLOWS % 10).unwrap();
                let set = busy(family, one_in, clock, seed);
                let wanted = entry_of(set.wanted, clock, family);
                let entries = read(&set, family);
                for (way, found) in entries.iter().enumerate() {
                    if set.same_key(found, &wanted) && !set.is_free(found) {
                        take_out(&set, family, way, found, NOW);
                    }
                }
                freed += set.freed.get();
            }
            assert!(freed > 500, "only {freed} deletions came to pass");
        }
    }
}
