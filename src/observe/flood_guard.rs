//! The limit of new flows that a CPU remembers in a second, and on which CPUs it is in force now.

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::kernel::bpf;
use crate::model::abi;
use crate::model::error::Result;
use crate::model::reason::event_count;

/// How long a CPU counts, in nanoseconds: `LB_SECOND` of the packet path.
const SECOND: u64 = 1_000_000_000;

/// The flood guard of a CPU. If more than `connection_table.new_connections_per_second` flows begin within a second,
/// the CPU balances the rest but does not remember them. So a flood of new flows does not evict established ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FloodGuard {
    /// The CPU.
    pub cpu: u32,
    /// Whether the CPU has reached the limit at this moment.
    pub limiting: bool,
    /// New flows that it has remembered in the current second.
    pub new_flows: u64,
    /// The limit; `None`: the program is not in its slot.
    pub limit: Option<u32>,
    /// New flows that it has not remembered since the start.
    pub not_remembered: u64,
}

impl FloodGuard {
    /// `now` is the time that the packet path reads: `CLOCK_MONOTONIC`, in nanoseconds.
    fn new(cpu: u32, state: &abi::cpu_state, limit: Option<u32>, now: u64) -> Self {
        let second = &state.new_flows;
        let under_way = now.saturating_sub(second.start) < SECOND;
        let new_flows = if under_way { second.events } else { 0 };
        Self {
            cpu,
            limiting: limit.is_some_and(|limit| new_flows >= u64::from(limit)),
            new_flows,
            limit,
            not_remembered: event_count(state, "flood"),
        }
    }
}

impl Balancer {
    /// The flood guards of the CPUs that have connection tables, and of other CPUs that saw new flows.
    pub fn flood_guards(&self) -> Result<Vec<FloodGuard>> {
        let now = bpf::monotonic_ns()?;
        let limit = running_knobs(self.instance())?.map(|knobs| knobs.new_flows_per_second);
        let own = self.tables()?.own;
        let states = self.dataplane.cpu_states.get(0)?;
        let guards = (0..).zip(&states).map(|(cpu, state)| FloodGuard::new(cpu, state, limit, now));
        Ok(guards
            .filter(|guard| {
                own.contains_key(&guard.cpu) || guard.new_flows != 0 || guard.not_remembered != 0
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::FloodGuard;
    use super::SECOND;
    use crate::model::abi;

    #[test]
    fn it_limits_for_the_rest_of_the_second() {
        let mut state = abi::cpu_state::default();
        state.new_flows.start = 5 * SECOND;
        state.new_flows.events = 100;
        let guard = |limit, now| FloodGuard::new(0, &state, limit, now);

        let now = guard(Some(100), 6 * SECOND - 1);
        assert!(now.limiting, "{now:?}");
        assert_eq!(now.new_flows, 100);
        assert!(!guard(Some(101), 6 * SECOND - 1).limiting, "one more may come");
        let later = guard(Some(100), 6 * SECOND);
        assert!(!later.limiting, "the second is over");
        assert_eq!(later.new_flows, 0);
        // The packet path's clock is coarse, but never ahead. A later reader may be in a later second.
        assert!(guard(Some(100), 5 * SECOND - 1).limiting);
        assert!(!guard(None, 6 * SECOND - 1).limiting, "no program, no limit");
    }
}
