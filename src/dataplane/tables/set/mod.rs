//! A set of a connection table while packets use it: reading it, taking an entry out, putting one in.
//!
//! Its CPU writes to it without locks, a word at a time. On another CPU, an entry may be seen half written:
//! two readings that agree make that unlikely. On the set's own CPU it cannot be seen at all, as programs run
//! to their end before a process goes on; what remains is that packets come between two steps.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::model::abi::consts;
use crate::model::connection_tables::Family;

/// Entries of a set.
const WAYS: usize = consts::SET_WAYS as usize;

/// The words of an entry; of IPv4 the first two.
pub(super) type Entry = [u64; 4];

/// How often a set is read until two readings agree.
const READINGS: usize = 16;

/// How often something is tried that packets may come between.
const ATTEMPTS: usize = 16;

/// Where the last word of an entry has the time.
const SEEN_BIT: u32 = 48;

/// The shared words of a set.
pub(super) trait Words {
    fn load(&self, at: usize) -> u64;

    /// Writes `new` where `current` is; whether that was there.
    fn exchange(&self, at: usize, current: u64, new: u64) -> bool;

    /// Writes a word that nobody else writes to.
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

/// The entries of a set for whoever must not miss one; where packets came between, some are there more than once, the
/// latest reading first. A flow that a packet moves past a reading is in another one: read until two agree in which no
/// flow is twice, as one that was moved past shows another, which it moved, a second time.
pub(super) fn read_all(set: &(impl Words + ?Sized), family: Family) -> Vec<Entry> {
    let mut all = Vec::with_capacity(2 * WAYS);
    let mut before = None;
    for _ in 0..READINGS {
        let entries = read_once(set, family);
        let repeats = |(way, entry): (usize, &Entry)| {
            entries[..way].iter().any(|other| is_same_flow(entry, other, family))
        };
        if before == Some(entries) && !entries.iter().enumerate().any(repeats) {
            // It is the latest already.
            break;
        }
        // The latest first.
        all.splice(0..0, entries);
        before = Some(entries);
    }
    all
}

/// Whether two entries are of the same flow.
fn is_same_flow(one: &Entry, other: &Entry, family: Family) -> bool {
    let last = family.entry_words() - 1;
    let vip = |entry: &Entry| crate::model::abi::low_half(entry[last]) >> 8;
    one[..last] == other[..last] && vip(one) == vip(other) && vip(one) != 0
}

/// What came of putting an entry in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is in.
    Done,
    /// The flow has an entry, at this place.
    Known(usize, Entry),
    /// There is no free entry behind the last that is taken, which is this one.
    Full(Entry),
    /// Packets came between all the time.
    Busy,
}

/// Puts a flow's entry into a set, behind all others, unless it has one. To be called on the CPU that the set belongs
/// to, by one writer at a time. `now` is the time in units of an entry.
///
/// An entry has more words than can be written in one step, and a packet between two steps could take the free
/// entry for its own flow, or move it. So it is claimed first, in one step: then packets do not take it, as it is
/// not free; they do not find a flow in it; and they begin no flow in this set, so that none lies behind it.
/// A packet moves only what lies in front of its flow: the claimed entry stays where it is.
pub(super) fn put_in(set: &(impl Words + ?Sized), family: Family, new: &Entry, now: u16) -> Put {
    const CLAIMED: u64 = consts::SET_CLAIMED as u64;
    let words = family.entry_words();
    let last = words - 1;
    for _ in 0..ATTEMPTS {
        let entries = read(set, family);
        let place = |entry: &dyn Fn(&Entry) -> bool| entries.iter().position(entry);
        if let Some(way) = place(&|entry| entry[last] == CLAIMED) {
            // Whoever did that was killed.
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

/// Takes out an entry of a flow that has another one, in front of it, which packets find. A packet of it may have come
/// before it was put in, and taken an entry that was free in front of others: that one is newer.
fn forget_older(set: &(impl Words + ?Sized), family: Family, flow: &Entry, now: u16) {
    for _ in 0..ATTEMPTS {
        let entries = read(set, family);
        let mut ways = (0..WAYS).filter(|way| is_same_flow(&entries[*way], flow, family));
        let (Some(newer), Some(older)) = (ways.next(), ways.next()) else { return };
        // The reading may have met one entry twice, as it moved. While the older one lies where it was marked, what
        // lies elsewhere is not that one.
        let is_there = || {
            let entry = read_once(set, family)[newer];
            is_same_flow(&entry, flow, family)
        };
        exchange_last(set, family, older, &entries[older], now, 0, &is_there);
    }
}

/// Gives an entry that was read as `expected` another real; `false`: packets have moved or changed it meanwhile.
/// As [`take_out`].
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
    // Without a VIP, the entry is free.
    exchange_last(set, family, way, expected, now, 0, &|| true)
}

/// Writes the last word of an entry: see [`take_out`]. `condition` is asked while the entry is marked; if that is still
/// so afterwards, no packet of its flow has come meanwhile, and it has not moved.
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
    if !(is_expected && condition()) {
        set.exchange(last(way), marked, was);
        return false;
    }
    set.exchange(last(way), marked, new)
}

/// Times that no packet writes, more than a set has entries. They are to come: packets write the present, of a clock
/// that may be a tick late, or of TCP the time that was read last, which may be long ago. Nobody takes a flow that
/// was seen in the near future for an idle one.
fn marks(now: u16) -> impl Iterator<Item = u16> {
    (2..).take(WAYS + 1).map(move |units: u16| now.wrapping_add(super::FUTURE / 2 + units))
}

#[cfg(test)]
mod tests;
