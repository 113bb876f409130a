//! Reads and changes one set of a connection table while packets use it.
//!
//! The set's CPU writes to it without locks, one word at a time. On another CPU, a reader may see an entry half
//! written; two readings that agree make that unlikely. On the set's own CPU this cannot happen, because programs run
//! to their end before a process goes on. Even there, packets may come between two steps.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::model::abi::consts;
use crate::model::connection_tables::Family;

/// Entries of a set.
const WAYS: usize = consts::SET_WAYS as usize;

/// The words of an entry. IPv4 uses the first two.
pub(super) type Entry = [u64; 4];

/// How often to read a set until two readings agree.
const READINGS: usize = 16;

/// How often to try what packets may interrupt.
const ATTEMPTS: usize = 16;

/// The position of the time in an entry's last word.
const SEEN_BIT: u32 = 48;

/// The shared words of a set.
pub(super) trait Words {
    fn load(&self, at: usize) -> u64;

    /// Writes `new` if `current` is there. Returns whether it was.
    fn exchange(&self, at: usize, current: u64, new: u64) -> bool;

    /// Writes a word that no other writer writes to.
    fn store(&self, at: usize, new: u64);
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

    fn store(&self, at: usize, new: u64) {
        if let Some(word) = self.get(at) {
            word.store(new, Ordering::SeqCst);
        }
    }
}

impl Family {
    /// Words of an entry. All but the last hold only the key.
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

/// The entries of a set, for callers that must not miss one. If packets came between, some entries occur more than
/// once, the latest reading first. A packet that moves its flow past a reading also moves another flow, which then
/// occurs twice. So this reads until two readings agree in which no flow occurs twice.
pub(super) fn read_all(set: &(impl Words + ?Sized), family: Family) -> Vec<Entry> {
    let mut all = Vec::with_capacity(2 * WAYS);
    let mut before = None;
    for _ in 0..READINGS {
        let entries = read_once(set, family);
        let repeats = |(way, entry): (usize, &Entry)| {
            entries[..way].iter().any(|other| is_same_flow(entry, other, family))
        };
        if before == Some(entries) && !entries.iter().enumerate().any(repeats) {
            // It is the latest reading already.
            break;
        }
        // The latest reading first.
        all.splice(0..0, entries);
        before = Some(entries);
    }
    all
}

/// Whether two entries belong to the same flow.
fn is_same_flow(one: &Entry, other: &Entry, family: Family) -> bool {
    let last = family.entry_words() - 1;
    let vip = |entry: &Entry| crate::model::abi::low_half(entry[last]) >> 8;
    one[..last] == other[..last] && vip(one) == vip(other) && vip(one) != 0
}

/// The result of putting an entry in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was put in.
    Done,
    /// The flow has an entry already, at this place.
    Known(usize, Entry),
    /// No entry behind the last taken one is free. This is the last taken one.
    Full(Entry),
    /// Packets interfered each time.
    Busy,
}

/// Puts a flow's entry into a set, behind all others, unless the flow has one. Call this on the set's CPU, with one
/// writer at a time. `now` is the time in units of an entry.
///
/// An entry has more words than one step can write. A packet between two steps could take the free entry for its own
/// flow, or move it. So this first claims the entry, in one step. A claimed entry is not free, so packets do not take
/// it. They find no flow in it. They start no flow in this set, so no flow lies behind it. A packet moves only
/// entries in front of its flow, so the claimed entry stays where it is.
pub(super) fn put_in(set: &(impl Words + ?Sized), family: Family, new: &Entry, now: u16) -> Put {
    const CLAIMED: u64 = consts::SET_CLAIMED as u64;
    let words = family.entry_words();
    let last = words - 1;
    for _ in 0..ATTEMPTS {
        let entries = read(set, family);
        let place = |entry: &dyn Fn(&Entry) -> bool| entries.iter().position(entry);
        if let Some(way) = place(&|entry| entry[last] == CLAIMED) {
            // The command that made the claim was killed.
            set.exchange(way * words + last, CLAIMED, 0);
            continue;
        }
        if let Some(way) = place(&|entry| is_same_flow(entry, new, family)) {
            return Put::Known(way, entries[way]);
        }
        let way = entries.iter().rposition(|entry| entry[last] != 0).map_or(0, |taken| taken + 1);
        if way == WAYS {
            return Put::Full(entries[WAYS - 1]);
        }
        if !set.exchange(way * words + last, 0, CLAIMED) {
            continue;
        }
        for (at, word) in new.iter().enumerate().take(last) {
            set.store(way * words + at, *word);
        }
        set.store(way * words + last, new[last]);
        forget_older(set, family, new, now);
        return Put::Done;
    }
    Put::Busy
}

/// Removes an entry of a flow if the flow has another one in front of it, which packets find. That one is newer: a
/// packet of the flow came before the new entry was put in, and took a free entry in front of others.
fn forget_older(set: &(impl Words + ?Sized), family: Family, flow: &Entry, now: u16) {
    for _ in 0..ATTEMPTS {
        let entries = read(set, family);
        let mut ways = (0..WAYS).filter(|way| is_same_flow(&entries[*way], flow, family));
        let (Some(newer), Some(older)) = (ways.next(), ways.next()) else { return };
        // The reading may have seen one moving entry twice. While the older entry is where it was marked, an entry at
        // another place is a different one.
        let is_there = || {
            let entry = read_once(set, family)[newer];
            is_same_flow(&entry, flow, family)
        };
        exchange_last(set, family, older, &entries[older], now, 0, &is_there);
    }
}

/// Changes the real of an entry that was read as `expected`. Returns `false` if packets have moved or changed the
/// entry meanwhile. Works like [`take_out`].
pub(super) fn correct(
    set: &(impl Words + ?Sized),
    family: Family,
    way: usize,
    expected: &Entry,
    new: &Entry,
    now: u16,
) -> bool {
    exchange_last(set, family, way, expected, now, new[family.entry_words() - 1], &|| true)
}

/// Removes an entry that was read as `expected`. Returns `false` if packets have moved or changed the entry
/// meanwhile. Call this on the set's CPU. `now` is the time in units of an entry.
///
/// Only the last word of an entry can be exchanged in one step. It is the same for all flows that go to the same real
/// and had a packet within the same second. So this first marks the entry with a time that no other entry has and no
/// packet writes. While the mark is in its place, the same entry is there. The entry is freed only if its key was
/// read in between. A mark in a different entry does no harm: that entry still leads to its real.
pub(super) fn take_out(
    set: &(impl Words + ?Sized),
    family: Family,
    way: usize,
    expected: &Entry,
    now: u16,
) -> bool {
    // An entry without a VIP is free.
    exchange_last(set, family, way, expected, now, 0, &|| true)
}

/// Writes the last word of an entry: see [`take_out`]. `condition` is evaluated while the entry is marked. If the
/// mark is still there afterwards, no packet of the flow has come meanwhile, and the entry has not moved.
fn exchange_last(
    set: &(impl Words + ?Sized),
    family: Family,
    way: usize,
    expected: &Entry,
    now: u16,
    new: u64,
    condition: &dyn Fn() -> bool,
) -> bool {
    let words = family.entry_words();
    let last = |way: usize| way * words + words - 1;
    let was = expected[words - 1];
    let with_seen = |seen: u16| was << 16 >> 16 | u64::from(seen) << SEEN_BIT;
    // Reads in this order, because an entry moves from the front to the back, or gets the present time.
    let others: [u64; WAYS] = std::array::from_fn(|way| set.load(last(way)));
    let Some(marked) = marks(now).map(with_seen).find(|mark| !others.contains(mark)) else {
        return false;
    };
    if !set.exchange(last(way), was, marked) {
        return false;
    }
    let key = way * words..last(way);
    let is_expected = key.zip(expected).all(|(at, word)| set.load(at) == *word);
    // If the mark is still there, the key was that of its entry: an entry that moved away does not come back.
    if !(is_expected && condition()) {
        set.exchange(last(way), marked, was);
        return false;
    }
    set.exchange(last(way), marked, new)
}

/// Times that no packet writes; more than a set has entries. They are in the future. Packets write the present time,
/// of a clock that may be a tick late, or for TCP the time that was last read, which may be long ago. A time in the
/// near future does not make a flow look idle.
fn marks(now: u16) -> impl Iterator<Item = u16> {
    (2..).take(WAYS + 1).map(move |units: u16| now.wrapping_add(super::FUTURE / 2 + units))
}

#[cfg(test)]
mod tests;
