//! Entries that are put in or corrected, and readings, with packets between any two of their steps.

use std::cell::RefCell;

use super::super::*;

const NOW: u16 = 1000;
const VIP: u64 = 5 << 8;
/// As many flows as a set has entries: no packet evicts one.
const FLOWS: u64 = WAYS as u64;
/// The flow that is put in, and the real that it leads to.
const NEW: u64 = 0;
const OTHER_REAL: u64 = 99;

/// Every flow leads to its own real, so that mixed-up entries show.
fn entry_of(flow: u64, real: u64, seen: u16, family: Family) -> Entry {
    let last = u64::from(seen) << SEEN_BIT | real << 32 | VIP | 3;
    match family {
        Family::V4 => [flow + 1, last, 0, 0],
        Family::V6 => [1, flow + 1, 2, last],
    }
}

/// A set, with packets that come before steps of its user. They are handled as `table_sets.h` does.
struct Live {
    entries: RefCell<[Entry; WAYS]>,
    family: Family,
    rng: RefCell<fastrand::Rng>,
    one_in: u32,
    clock: u16,
}

impl Live {
    fn last(&self) -> usize {
        self.family.entry_words() - 1
    }

    fn flow_of(&self, entry: &Entry) -> Option<u64> {
        let flow = entry[usize::from(self.family == Family::V6)];
        (entry[self.last()] & 0xff_ffff << 8 != 0).then(|| flow - 1)
    }

    fn packets(&self) {
        while self.one_in != 0 && self.rng.borrow_mut().u32(..self.one_in) == 0 {
            let flow = self.rng.borrow_mut().u64(..FLOWS);
            self.packet(flow);
            self.check();
        }
    }

    fn packet(&self, flow: u64) {
        let entries = &mut *self.entries.borrow_mut();
        if let Some(way) = entries.iter().position(|entry| self.flow_of(entry) == Some(flow)) {
            let last = &mut entries[way][self.last()];
            *last = *last << 16 >> 16 | u64::from(self.clock) << SEEN_BIT;
            entries[..=way].rotate_right(1);
            return;
        }
        if entries.iter().any(|entry| entry[self.last()] == u64::from(consts::SET_CLAIMED)) {
            return;
        }
        let new = entry_of(flow, flow + 10, self.clock, self.family);
        if let Some(free) = entries.iter().position(|entry| entry[self.last()] == 0) {
            entries[free] = new;
        } else {
            entries[WAYS / 2..].rotate_right(1);
            entries[WAYS / 2] = new;
        }
    }

    /// Checks that no flow leads where another one does.
    fn check(&self) {
        for entry in &*self.entries.borrow() {
            if let Some(flow) = self.flow_of(entry) {
                let (key, real) = (entry, entry[self.last()] >> 32 & 0xffff);
                let whole = entry_of(flow, real, 0, self.family);
                assert_eq!(key[..self.last()], whole[..self.last()], "a key of two flows");
                let corrected = flow == NEW && real == OTHER_REAL;
                assert!(real == flow + 10 || corrected, "flow {flow} leads to {real}");
            }
        }
    }

    fn count(&self, flow: u64) -> usize {
        self.entries.borrow().iter().filter(|entry| self.flow_of(entry) == Some(flow)).count()
    }
}

impl Words for Live {
    fn load(&self, at: usize) -> u64 {
        self.packets();
        let words = self.family.entry_words();
        self.entries.borrow()[at / words][at % words]
    }

    fn exchange(&self, at: usize, current: u64, new: u64) -> bool {
        self.packets();
        let words = self.family.entry_words();
        let word = &mut self.entries.borrow_mut()[at / words][at % words];
        let same = *word == current;
        if same {
            *word = new;
        }
        same
    }

    fn store(&self, at: usize, new: u64) {
        self.packets();
        let words = self.family.entry_words();
        self.entries.borrow_mut()[at / words][at % words] = new;
    }
}

/// A set whose entries are flows from `first` on, or free.
fn live(family: Family, first: u64, seed: u64) -> Live {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut flows: Vec<_> = (first..FLOWS).collect();
    rng.shuffle(&mut flows);
    let mut entries = [[0; 4]; WAYS];
    for (entry, flow) in entries.iter_mut().zip(flows) {
        if rng.u8(..4) != 0 {
            *entry = entry_of(flow, flow + 10, NOW - 300, family);
        }
    }
    if rng.bool() {
        // Free entries in front of others, as deletions leave them.
        rng.shuffle(&mut entries);
    }
    let one_in = u32::try_from(seed % 12).unwrap();
    let clock = if seed.is_multiple_of(2) { NOW } else { NOW - 600 };
    let one_in = if one_in == 1 { 2 } else { one_in };
    Live { entries: RefCell::new(entries), family, rng: RefCell::new(rng), one_in, clock }
}

#[test]
fn packets_between_any_two_steps_do_no_harm_to_what_is_put_in() {
    for family in Family::BOTH {
        let (mut done, mut known) = (0, 0);
        for seed in 0..20_000 {
            let set = live(family, NEW + 1, seed);
            let before: Vec<_> = (1..FLOWS).filter(|flow| set.count(*flow) == 1).collect();
            let new = entry_of(NEW, NEW + 10, NOW - 1, family);
            let put = put_in(&set, family, &new, NOW);
            match put {
                Put::Done => done += 1,
                Put::Known(..) => known += 1,
                Put::Full(_) | Put::Busy => {}
            }
            let claimed = u64::from(consts::SET_CLAIMED);
            let entries = set.entries.borrow().iter().map(|e| e[set.last()]).collect::<Vec<_>>();
            assert!(!entries.contains(&claimed), "seed {seed}: claimed for ever: {put:?}");
            for flow in 0..FLOWS {
                let count = set.count(flow);
                let least =
                    usize::from(before.contains(&flow) || (flow == NEW && put == Put::Done));
                assert!((least..=1).contains(&count), "seed {seed}: flow {flow} {count} times");
            }
        }
        assert!(done > 2000 && known > 2000, "{done} put in, {known} were there");
    }
}

#[test]
fn a_claim_of_a_command_that_was_killed_goes() {
    for family in Family::BOTH {
        let set = live(family, NEW + 1, 0);
        *set.entries.borrow_mut() = [[0; 4]; WAYS];
        set.entries.borrow_mut()[0][set.last()] = consts::SET_CLAIMED.into();
        set.packet(2);
        assert_eq!(set.count(2), 0, "no flow begins there");
        let new = entry_of(NEW, NEW + 10, NOW, family);
        assert_eq!(put_in(&set, family, &new, NOW), Put::Done);
        assert_eq!(set.entries.borrow()[0], new);
    }
}

#[test]
fn packets_between_any_two_steps_do_no_harm_to_what_is_corrected() {
    for family in Family::BOTH {
        let mut corrections = 0;
        for seed in 0..10_000 {
            let set = live(family, NEW, seed);
            let new = entry_of(NEW, OTHER_REAL, NOW, family);
            let entries = read(&set, family);
            let Some(way) = entries.iter().position(|e| set.flow_of(e) == Some(NEW)) else {
                continue;
            };
            let done = correct(&set, family, way, &entries[way], &new, NOW);
            let entries = *set.entries.borrow();
            let found = entries.iter().find(|e| set.flow_of(e) == Some(NEW)).expect("it stays");
            assert!(!done || found[set.last()] >> 32 & 0xffff == OTHER_REAL, "seed {seed}");
            corrections += u32::from(done);
        }
        assert!(corrections > 2000, "{corrections}");
    }
}

/// Flows move all the time, and a reading does not miss one.
#[test]
fn what_stays_is_read() {
    for family in Family::BOTH {
        for seed in 0..5000 {
            let set = live(family, NEW, seed);
            // About two packets come while a set is read, far more than in reality.
            let set = Live { one_in: set.one_in.max(8), ..set };
            let before: Vec<_> = (0..FLOWS).filter(|flow| set.count(*flow) == 1).collect();
            let read = read_all(&set, family);
            for flow in before {
                let found = read.iter().any(|entry| set.flow_of(entry) == Some(flow));
                assert!(found, "seed {seed}: flow {flow} is missing");
            }
        }
    }
}
