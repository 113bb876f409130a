//! A set of a connection table while packets use it: reading it, and taking an entry out.
//!
//! Its CPU writes to it without locks, a word at a time. On another CPU, an entry may be seen half written:
//! two readings that agree make that unlikely. On the set's own CPU it cannot be seen at all, as programs run
//! to their end before a process goes on; what remains is that packets come between two steps.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Family;
use crate::abi::consts;

/// Entries of a set.
const WAYS: usize = consts::SET_WAYS as usize;

/// The words of an entry; of IPv4 the first two.
pub(super) type Entry = [u64; 4];

/// How often a set is read until two readings agree.
const READINGS: usize = 16;

/// Where the last word of an entry has the time.
const SEEN_BIT: u32 = 48;

/// The shared words of a set.
pub(super) trait Words {
    fn load(&self, at: usize) -> u64;

    /// Writes `new` where `current` is; whether that was there.
    fn exchange(&self, at: usize, current: u64, new: u64) -> bool;
}

impl Words for [AtomicU64] {
    fn load(&self, at: usize) -> u64 {
        self.get(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn exchange(&self, at: usize, current: u64, new: u64) -> bool {
        self.get(at).is_some_and(|word| {
            word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        })
    }
}

impl Family {
    /// Words of an entry. All but the last are its key alone.
    pub(super) fn entry_words(self) -> usize {
        self.entry_size() / size_of::<u64>()
    }
}

fn read_once(set: &(impl Words + ?Sized), family: Family) -> [Entry; WAYS] {
    let mut entries = [[0; 4]; WAYS];
    let words = family.entry_words();
    for (way, entry) in entries.iter_mut().enumerate() {
        for (at, word) in entry.iter_mut().take(words).enumerate() {
            *word = set.load(way * words + at);
        }
    }
    entries
}

/// The entries of a set.
pub(super) fn read(set: &(impl Words + ?Sized), family: Family) -> [Entry; WAYS] {
    let mut entries = read_once(set, family);
    for _ in 1..READINGS {
        let again = read_once(set, family);
        if again == entries {
            break;
        }
        entries = again;
    }
    entries
}

/// Takes out an entry that was read as `expected`; `false`: packets have moved or changed it meanwhile.
/// To be called on the CPU that the set belongs to. `now` is the time in units of an entry.
///
/// The last word of an entry, which alone can be exchanged in one step, is the same for flows that go to the
/// same real and had a packet within the same second. So the entry is marked first, by a time that no other
/// entry has and no packet writes; then, as long as the mark is where it was put, it is this entry that lies
/// there. Only an entry whose key was read in between is freed. The mark does no harm to one that was
/// marked in another's place: it still leads to its real.
pub(super) fn take_out(
    set: &(impl Words + ?Sized),
    family: Family,
    way: usize,
    expected: &Entry,
    now: u16,
) -> bool {
    let words = family.entry_words();
    let last = |way: usize| way * words + words - 1;
    let was = expected[words - 1];
    let with_seen = |seen: u16| was << 16 >> 16 | u64::from(seen) << SEEN_BIT;
    // In this order: an entry moves from the front to the back, or is written as seen now.
    let others: [u64; WAYS] = std::array::from_fn(|way| set.load(last(way)));
    let Some(marked) = marks(now).map(with_seen).find(|mark| !others.contains(mark)) else {
        return false;
    };
    if !set.exchange(last(way), was, marked) {
        return false;
    }
    let key = way * words..last(way);
    let is_expected = key.zip(expected).all(|(at, word)| set.load(at) == *word);
    // If the mark is still there, the key was its entry's: one that was moved never comes back.
    if !is_expected {
        set.exchange(last(way), marked, was);
        return false;
    }
    // Without a VIP, the entry is free.
    set.exchange(last(way), marked, 0)
}

/// Times that no packet writes, more than a set has entries. They are to come: packets write the present, of a clock
/// that may be a tick late, or of TCP the time that was read last, which may be long ago. Nobody takes a flow that
/// was seen in the near future for an idle one.
fn marks(now: u16) -> impl Iterator<Item = u16> {
    (2..).take(WAYS + 1).map(move |units: u16| now.wrapping_add(super::FUTURE / 2 + units))
}

#[cfg(test)]
mod tests;
