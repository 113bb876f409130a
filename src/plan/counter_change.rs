//! How counters of pairs of a VIP and a real are handed on: see `LB_REAL_COUNTS` in abi/counters.h.

use std::collections::BTreeSet;

use crate::model::abi;

/// What becomes of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CounterChange {
    /// A pair begins to use it, at zero.
    Begin(u32),
    /// A pair uses another counter from now on, which goes on from what this one has.
    Move { from: u32, to: u32 },
    /// A pair is gone. What it has counted remains in what the real has for all VIPs.
    Keep { from: u32, real: u32 },
}

impl CounterChange {
    /// The counters that it concerns; twice the same, if it is only one.
    pub(crate) fn counters(self) -> [u32; 2] {
        match self {
            Self::Begin(counter) => [counter, counter],
            Self::Move { from, to } => [from, to],
            Self::Keep { from, real } => [from, real],
        }
    }
}

/// Hands on counters, in this order. A counter is never set: what it had when its pair began is noted in `starts`.
/// `sum` is what a counter has on all CPUs. Returns whose starts are other ones.
pub(crate) fn hand_on(
    changes: &[CounterChange],
    sum: impl Fn(u32) -> abi::count,
    starts: &mut [abi::count],
) -> BTreeSet<u32> {
    let mut begun = BTreeSet::new();
    for change in changes {
        let [from, to] = change.counters();
        let places = (starts.get(from as usize).copied(), starts.get(to as usize).copied());
        let (Some(start), Some(other)) = places else { continue };
        // Counters wrap, and so do starts: one that takes over a count may lie below zero.
        let counted = minus(sum(from), start);
        match change {
            CounterChange::Begin(_) => starts[to as usize] = sum(to),
            // The pair is read at its old counter until its VIP has the new one.
            CounterChange::Move { .. } => starts[to as usize] = minus(sum(to), counted),
            CounterChange::Keep { .. } => {
                starts[to as usize] = minus(other, counted);
                starts[from as usize] = sum(from);
                begun.insert(from);
            }
        }
        begun.insert(to);
    }
    begun
}

pub(crate) fn plus(a: abi::count, b: abi::count) -> abi::count {
    let (packets, bytes) = (a.packets.wrapping_add(b.packets), a.bytes.wrapping_add(b.bytes));
    abi::count { packets, bytes }
}

pub(crate) fn minus(a: abi::count, b: abi::count) -> abi::count {
    let (packets, bytes) = (a.packets.wrapping_sub(b.packets), a.bytes.wrapping_sub(b.bytes));
    abi::count { packets, bytes }
}
