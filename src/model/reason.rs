//! Verdicts and reasons, as include/l4lb/abi/reasons.h lists them.

use std::fmt;

use serde::Serialize;

use crate::model::abi;

/// What the balancer finally does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Sent out of the interface it came in by: `XDP_TX`.
    Tx,
    /// Dropped: `XDP_DROP`.
    Drop,
    /// Handed on to the next program of the chain, or to the kernel after the last one: `XDP_PASS`.
    Pass,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tx => "tx",
            Self::Drop => "drop",
            Self::Pass => "pass",
        })
    }
}

/// Why a packet got its verdict. Every packet has exactly one reason, and the reason implies the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The verdict that the reason implies.
    pub verdict: Verdict,
    /// The name, as in metric labels: stable, lower case with underscores.
    pub name: &'static str,
    /// What it means, in a few words.
    pub help: &'static str,
}

impl Reason {
    /// Whether the packet was sent to a real, or handed to the kernel for a real that is this host itself. All other
    /// packets that are sent are answers to senders, or go back to the router.
    pub fn goes_to_real(&self) -> bool {
        match self.verdict {
            Verdict::Tx => !self.name.ends_with("_reply") && self.name != "to_router",
            Verdict::Drop => false,
            Verdict::Pass => self.name == "local",
        }
    }
}

/// A counter that is not a reason: its name and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name, as in metric labels: stable, lower case with underscores.
    pub name: &'static str,
    /// What it counts, in a few words.
    pub help: &'static str,
}

mod lists {
    use super::Named;
    use super::Reason;
    use super::Verdict as V;

    #[expect(non_snake_case, reason = "the header writes verdicts as XDP does")]
    mod Verdict {
        use super::V;
        pub(crate) const TX: V = V::Tx;
        pub(crate) const DROP: V = V::Drop;
        pub(crate) const PASS: V = V::Pass;
    }

    include!(concat!(env!("OUT_DIR"), "/reasons.rs"));

    pub(crate) fn reasons() -> &'static [Reason] {
        REASONS
    }

    pub(crate) fn table_events() -> &'static [Named] {
        TABLE_EVENTS
    }

    pub(crate) fn decap_results() -> &'static [Named] {
        DECAP_RESULTS
    }

    pub(crate) fn healthcheck_results() -> &'static [Named] {
        HEALTHCHECK_RESULTS
    }

    pub(crate) fn mss_results() -> &'static [Named] {
        MSS_RESULTS
    }
}

/// All reasons, in the order of their counters.
pub fn reasons() -> &'static [Reason] {
    lists::reasons()
}

/// The counted events of connection table and server ids, in the order of their counters.
pub fn table_events() -> &'static [Named] {
    lists::table_events()
}

/// What decapsulation did with a packet, in the order of its counters.
pub fn decap_results() -> &'static [Named] {
    lists::decap_results()
}

/// What became of the packets of checks that go through the tunnel, in the order of the counters.
pub fn healthcheck_results() -> &'static [Named] {
    lists::healthcheck_results()
}

/// What became of the segments in which a real says how long segments to it may be, in the order of the counters.
pub fn mss_results() -> &'static [Named] {
    lists::mss_results()
}

/// How often a CPU counted the table event of this name.
pub(crate) fn event_count(state: &abi::cpu_state, name: &str) -> u64 {
    let event = table_events().iter().position(|event| event.name == name);
    debug_assert!(event.is_some(), "there is no table event {name}");
    event.and_then(|event| state.table.get(event)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_that_the_packet_path_relies_on() {
        let group = |reason: &Reason| match reason.verdict {
            Verdict::Tx => u8::from(!reason.goes_to_real()),
            Verdict::Drop => 2,
            Verdict::Pass => 3,
        };
        assert!(reasons().is_sorted_by_key(group));
        let last = |of| reasons().iter().rfind(|reason| group(reason) == of).map(|last| last.name);
        let first =
            |of| reasons().iter().find(|reason| group(reason) == of).map(|first| first.name);
        assert_eq!(
            (last(0), first(2), first(3)),
            (Some("icmp_error"), Some("too_big"), Some("not_vip"))
        );
    }
}
