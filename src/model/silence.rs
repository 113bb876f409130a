//! Since when flows are silent, as far as readings of counters and clocks prove it. Pure.
//!
//! A table of sets notes when a flow's last packet came. For TCP it notes the time that its CPU read last, and a CPU
//! reads the time only for new flows and UDP. So an entry with an old time may belong to a flow that is in use. Two
//! things prove that it is not: the CPU's clock went on, and the entry did not; or the real got no packet at all on
//! that CPU.

use std::collections::VecDeque;

/// What is known about one table and one real. Times are in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// When the CPU's clock was read, and what it said, in the units of an entry. Both only grow.
    clocks: VecDeque<(u64, u64)>,
    /// How many packets the real had got on this CPU, and when that was read first.
    packets: Option<(u64, u64)>,
}

impl Silence {
    /// Adds readings that were complete at the time `at`. Readings are kept for as long as `idle` needs them.
    pub(crate) fn add(&mut self, at: u64, clock: u64, packets: u64, idle: u64) {
        if self.packets.is_none_or(|(before, _)| before != packets) {
            self.packets = Some((packets, at));
        }
        if self.clocks.back().is_none_or(|(_, before)| *before < clock) {
            self.clocks.push_back((at, clock));
        }
        // The last reading before the time that counts stands for all that came before it.
        while self.clocks.get(1).is_some_and(|(next, _)| at.saturating_sub(*next) >= idle) {
            self.clocks.pop_front();
        }
    }

    /// Since when a flow had no packet for certain. `seen` is the unit of its last packet by the CPU's clock; `None`:
    /// its table does not tell.
    pub(crate) fn since(&self, seen: Option<u64>) -> u64 {
        let by_packets = self.packets.map_or(u64::MAX, |(_, since)| since);
        let by_clock = seen.and_then(|seen| {
            let later = self.clocks.partition_point(|(_, clock)| *clock <= seen);
            self.clocks.get(later).map(|(at, _)| *at)
        });
        by_packets.min(by_clock.unwrap_or(u64::MAX))
    }

    /// Whether the CPU's clock still shows the unit, so that the flow may be in use whatever its age seems to be.
    pub(crate) fn is_now(&self, seen: u64) -> bool {
        self.clocks.back().is_none_or(|(_, clock)| *clock <= seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: u64 = 100;

    #[test]
    fn a_clock_that_goes_on_proves_silence() {
        let mut silence = Silence::default();
        silence.add(10, 5, 1, IDLE);
        assert!(silence.is_now(5) && !silence.is_now(4));
        assert_eq!(
            silence.since(Some(4)),
            10,
            "nothing is known of the time before the first reading"
        );
        assert_eq!(silence.since(Some(5)), 10, "no packet was counted since");
        silence.add(20, 5, 2, IDLE);
        assert_eq!(silence.since(Some(5)), 20, "it may have been this flow's packet");
        assert_eq!(silence.since(Some(4)), 10, "it was not this flow's packet");
        silence.add(30, 7, 3, IDLE);
        assert_eq!(silence.since(Some(4)), 10);
        assert_eq!(silence.since(Some(5)), 30);
        assert_eq!(silence.since(Some(7)), 30);
        silence.add(40, 7, 4, IDLE);
        assert_eq!(silence.since(Some(7)), 40, "in use, for all that is known");
        assert_eq!(silence.since(None), 40, "a table that tells no times");
    }

    #[test]
    fn a_counter_that_stands_still_proves_silence() {
        let mut silence = Silence::default();
        for at in [10, 20, 30] {
            silence.add(at, 0, 9, IDLE);
        }
        assert_eq!(silence.since(Some(0)), 10);
        assert_eq!(silence.since(None), 10);
        assert_eq!(Silence::default().since(None), u64::MAX, "without a reading nothing is proven");
    }

    #[test]
    fn old_readings_are_forgotten_and_still_count() {
        let mut silence = Silence::default();
        for step in 0..10_000 {
            silence.add(step, step, step, IDLE);
        }
        assert!(silence.clocks.len() <= 102, "{}", silence.clocks.len());
        let since = silence.since(Some(3));
        assert!(9_999 - since >= IDLE, "{since}: silent for long enough");
        assert_eq!(silence.since(Some(9_950)), 9_951);
    }
}
