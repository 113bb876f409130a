//! How many flows find no room in tables of another size, kind or number, as `dataplane/flow_moves/copy.rs` copies
//! them.

use std::collections::BTreeMap;
use std::iter;

use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::connection_tables::Tables;
use crate::model::connection_tables::lru_room;

/// The entries of a CPU's tables, or of the shared one: IPv4 and IPv6.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entries {
    /// Entries that are copied.
    pub(super) live: [u64; 2],
    /// Live and stale entries. Stale ones take room in tables that stay.
    pub(super) all: [u64; 2],
}

/// By CPU; `None` is the shared table.
pub(super) type Used = BTreeMap<Option<u32>, Entries>;

const WAYS: usize = consts::SET_WAYS as usize;

/// The mean over all sets of a new table is estimated from this many.
const SETS_LOOKED_AT: u32 = 2048;

/// How many flows find no room when tables `new` replace tables `running`. This is an expectation, as chance decides
/// which flows meet in a set. A CPU's own flows come first. Flows of CPUs that lose their table are copied to all other
/// CPUs, as nobody knows to which one their packets will come; this counts the mean.
pub(super) fn without_room(running: &Tables, new: &Tables, used: &Used) -> f64 {
    let entries = |cpu: Option<u32>| used.get(&cpu).copied().unwrap_or_default();
    let of = |cpu: Option<u32>| entries(cpu).live;
    let lost: Vec<u32> =
        running.own.keys().filter(|cpu| !new.own.contains_key(cpu)).copied().collect();
    let leaving =
        lost.iter().map(|cpu| of(Some(*cpu))).fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
    if new.own.is_empty() {
        let room = lru_room(SHARED_TABLE_ENTRIES, entries(None).all.iter().sum());
        let room = room.max(u64::from(SHARED_TABLE_ENTRIES) / 2);
        return number(leaving.iter().sum::<u64>().saturating_sub(room));
    }
    let (mut left, mut of_shared, mut newcomers, mut of_leaving) = (0.0, 0.0, 0, 0.0);
    for (cpu, size) in &new.own {
        let before = running.own.get(cpu);
        let same = running.kind == new.kind && before == Some(size);
        let own = entries(before.map(|_| *cpu));
        let own = if same { own.all } else { own.live };
        let (own_left, leaving_left) = match new.kind {
            TableKind::SetAssociative => {
                let former = before.filter(|_| running.kind == TableKind::SetAssociative);
                let families = own.into_iter().zip(leaving);
                let each = families.map(|(own, leaving)| in_sets(own, former, *size, leaving));
                each.fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d))
            }
            TableKind::Lru => {
                let (own, leaving) = (own.iter().sum::<u64>(), leaving.iter().sum::<u64>());
                let room = lru_room(*size, own);
                let left = own.saturating_sub(u64::from(*size));
                (number(left), number(leaving.saturating_sub(room)))
            }
        };
        match before {
            _ if same => {}
            Some(_) => left += own_left,
            None => {
                of_shared += own_left;
                newcomers += 1;
            }
        }
        of_leaving += leaving_left;
    }
    left + of_shared / number(newcomers.max(1)) + of_leaving / number(new.own.len() as u64)
}

/// How full a set is: the probability of each number of entries.
type Occupancy = [f64; WAYS + 1];

/// For a table of sets: how many of its CPU's own flows find their set full, and how many of the flows from other CPUs,
/// which come after them. `before`: if the own flows come from a table of sets, its number of sets.
fn in_sets(own: u64, before: Option<&u32>, sets: u32, leaving: u64) -> (f64, f64) {
    let each = |flows: u64| number(flows) / f64::from(sets.max(1));
    let filled = match before {
        Some(before) => from_sets(own, *before, sets),
        None => random(each(own)),
    };
    let kept = mean(&filled);
    let with_others = mean(&convolve(&filled, &random(each(leaving))));
    let left = |flows: u64, kept: f64| (number(flows) - kept * f64::from(sets)).max(0.0);
    let own_left = left(own, kept);
    // Removes rounding errors of floating-point sums.
    let own_left = if own_left < 1e-6 * number(own) { 0.0 } else { own_left };
    (own_left, left(leaving, with_others - kept))
}

/// How full the sets of a table are with the flows of another table of sets. A flow's place is a fraction of the table:
/// a set gets the flows of a range of former sets, and a part of those at both ends. At most [`WAYS`] flows come from
/// one former set, so a table of twice as many sets has room for all.
fn from_sets(flows: u64, former: u32, sets: u32) -> Occupancy {
    let (former, sets) = (former.max(1), sets.max(1));
    let each = full_sets(number(flows) / f64::from(former));
    let looked_at = sets.min(SETS_LOOKED_AT);
    let mut sum = [0.0; WAYS + 1];
    for n in 0..looked_at {
        // Sets at regular distances could all be alike.
        let set = if looked_at == sets { n } else { scattered(n, sets) };
        // In these units, a former set is `sets` long and a new set is `former` long.
        let (parts, wide) = (u64::from(sets), u64::from(former));
        let (begin, end) = (u64::from(set) * wide, (u64::from(set) + 1) * wide);
        let (first, last) = (begin / parts, (end - 1) / parts);
        let share = |from: u64, to: u64| thinned(&each, number(to - from) / number(parts));
        let occupancy = if first == last {
            share(begin, end)
        } else {
            let inner = power(&each, last - first - 1);
            let outer = convolve(&share(begin, (first + 1) * parts), &share(last * parts, end));
            convolve(&inner, &outer)
        };
        sum.iter_mut().zip(occupancy).for_each(|(sum, chance)| *sum += chance);
    }
    sum.map(|sum| sum / f64::from(looked_at))
}

/// The n-th of evenly spread numbers below `end`: fractions of multiples of the golden ratio.
fn scattered(n: u32, end: u32) -> u32 {
    const GOLDEN: u32 = 0x9e37_79b9;
    crate::model::abi::high_half(u64::from(n.wrapping_mul(GOLDEN)) * u64::from(end))
}

/// Sets that flows come to by chance, `each` on average: a Poisson distribution, cut off at the entries that a set has.
fn random(each: f64) -> Occupancy {
    let mut occupancy = [0.0; WAYS + 1];
    let (mut chance, mut below, mut k) = ((-each).exp(), 0.0, 0.0);
    for at in &mut occupancy[..WAYS] {
        *at = chance;
        below += chance;
        k += 1.0;
        chance *= each / k;
    }
    occupancy[WAYS] = (1.0 - below).max(0.0);
    occupancy
}

/// Sets that were filled by chance and hold `held` flows on average.
fn full_sets(held: f64) -> Occupancy {
    // Chance never reaches an average of exactly four.
    let (mut low, mut high) = (0.0, 64.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        *(if mean(&random(middle)) < held { &mut low } else { &mut high }) = middle;
    }
    random(high)
}

fn mean(occupancy: &Occupancy) -> f64 {
    occupancy.iter().zip(0_u32..).map(|(chance, k)| chance * f64::from(k)).sum()
}

/// The sum of two sets' flows, up to the room of a set.
fn convolve(one: &Occupancy, other: &Occupancy) -> Occupancy {
    let mut both = [0.0; WAYS + 1];
    for (a, chance) in one.iter().enumerate() {
        for (b, other) in other.iter().enumerate() {
            both[(a + b).min(WAYS)] += chance * other;
        }
    }
    both
}

/// The sum of `count` such sets' flows.
fn power(occupancy: &Occupancy, mut count: u64) -> Occupancy {
    let (mut all, mut doubled) = ([0.0; WAYS + 1], *occupancy);
    all[0] = 1.0;
    while count != 0 {
        if count % 2 == 1 {
            all = convolve(&all, &doubled);
        }
        doubled = convolve(&doubled, &doubled);
        count /= 2;
    }
    all
}

/// A random share of each set's flows.
fn thinned(occupancy: &Occupancy, share: f64) -> Occupancy {
    let one = {
        let mut one = [0.0; WAYS + 1];
        (one[0], one[1]) = (1.0 - share, share);
        one
    };
    let mut thin = [0.0; WAYS + 1];
    let of = iter::successors(Some(power(&one, 0)), |of| Some(convolve(of, &one)));
    for (chance, of) in occupancy.iter().zip(of) {
        thin.iter_mut().zip(of).for_each(|(sum, part)| *sum += chance * part);
    }
    thin
}

#[expect(clippy::cast_precision_loss, reason = "an expectation")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
