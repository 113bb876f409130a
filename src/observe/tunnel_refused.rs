//! Packets of other sites that `[[decapsulate]]` refuses.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::observe::rates::Rates;
use crate::observe::rates::whole;

/// The reasons with which such packets end, and what to do. That their TTL has run out is another problem.
pub(crate) const REASONS: [(&str, &str); 6] = [
    (
        "decap_source",
        "if it is a balancer of another site, add its outer source to from of [[decapsulate]], then lbctl apply -f FILE; if \
         not, let the network's edge drop what it sends",
    ),
    (
        "decap_not_vip",
        "if another site balances these VIPs, add them to this site's file, then lbctl apply -f FILE; or take this site out \
         of their reals there",
    ),
    (
        "decap_fragment",
        "raise the MTU between the sites, or let clients send less: a piece of a packet cannot be balanced",
    ),
    ("decap_checksum", "something on the way damages packets, or somebody forges them"),
    (
        "decap_malformed",
        "an ip6tnl that sends needs 'encaplimit none'; otherwise the sender is no balancer, or something on the way cuts \
         packets off",
    ),
    (
        "decap_inner_address",
        "the sender lets packets pass that no router forwards; with then = \"router\", it sends what is for the balancer \
         itself",
    ),
];

/// Too many of them: more than this many a second. A scan of the network makes a few.
const PER_SECOND: f64 = 10.0;

/// Packets in an outer header come for an address of `[[decapsulate]]`, and are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelRefused {
    /// Packets a second, by the reason why they are dropped.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Packets a second that are taken out of an outer header and balanced.
    pub decapsulated: u64,
}

impl TunnelRefused {
    /// What happened between two readings.
    pub(crate) fn of(rates: &Rates) -> Option<Self> {
        let mut refused = REASONS.map(|(reason, _)| (reason, rates.reason(reason))).to_vec();
        refused.retain(|(_, packets)| *packets > 0.0);
        let all: f64 = refused.iter().map(|(_, packets)| packets).sum();
        (all > PER_SECOND).then(|| Self {
            dropped: refused.iter().map(|(reason, packets)| (*reason, whole(*packets))).collect(),
            decapsulated: whole(rates.event("decapsulated")),
        })
    }

    /// The reason that most of them have.
    fn first(&self) -> &'static str {
        let most = self.dropped.iter().max_by_key(|(_, packets)| **packets);
        most.map_or(REASONS[0].0, |(reason, _)| *reason)
    }

    /// What to do about it.
    pub(crate) fn fix(&self) -> String {
        let first = self.first();
        let fix = REASONS.iter().find(|(reason, _)| *reason == first).map_or("", |(_, fix)| fix);
        format!("'lbctl dump --at exit --reason {first}' shows who sends them: {fix}")
    }
}

impl fmt::Display for TunnelRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dropped, decapsulated } = self;
        let mut by_reason: Vec<_> = dropped.iter().collect();
        by_reason.sort_by_key(|(_, packets)| std::cmp::Reverse(**packets));
        let all: u64 = dropped.values().sum();
        let by_reason: Vec<_> =
            by_reason.iter().map(|(reason, packets)| format!("{packets} {reason}")).collect();
        write!(
            f,
            "{all} packets a second in an outer header are dropped ({}), beside {decapsulated} that are balanced",
            by_reason.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::reason::Verdict;
    use crate::observe::stats::Count;
    use crate::observe::stats::ReasonCount;
    use crate::observe::stats::Stats;

    fn found(counts: &[(&'static str, u64)]) -> Option<TunnelRefused> {
        let count = |(reason, packets): &(&'static str, u64)| ReasonCount {
            verdict: Verdict::Drop,
            reason,
            count: Count { packets: *packets, bytes: 0 },
        };
        let stats = Stats { reasons: counts.iter().map(count).collect(), ..Stats::default() };
        TunnelRefused::of(&Rates::between(&Stats::default(), &stats, Duration::from_secs(2)))
    }

    #[test]
    fn what_most_are_dropped_for_is_told_first() {
        assert_eq!(found(&[("decap_source", 20), ("no_real", 1000), ("decap_ttl", 1000)]), None);
        let refused = found(&[("decap_not_vip", 4), ("decap_source", 40)]).expect("they are many");
        assert_eq!(
            refused.to_string(),
            "22 packets a second in an outer header are dropped (20 decap_source, 2 decap_not_vip), beside 0 that are balanced"
        );
        assert!(refused.fix().contains("--reason decap_source' shows who sends them: if it is"));
    }

    /// Each is one that packets end with.
    #[test]
    fn the_reasons_exist() {
        for (name, _) in REASONS {
            let known = crate::reasons().iter().any(|reason| reason.name == name);
            assert!(known, "{name}");
        }
    }
}
