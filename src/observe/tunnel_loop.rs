//! Packets that go round between sites: they come in an outer header until their TTL has run out.

use std::fmt;

use serde::Serialize;

use crate::observe::rates::Rates;
use crate::observe::rates::whole;

/// The reason with which such packets end.
pub(crate) const REASON: &str = "decap_ttl";

/// Too many of them: more than this many a second. A traceroute makes a few.
const PER_SECOND: f64 = 10.0;

/// What to do about it.
const FIX: &str = "'lbctl dump --at exit --reason decap_ttl' shows for which VIPs; a site that gets packets of a VIP from another \
    one must not have that site among the reals of the VIP: drain it there";

/// Packets go round between sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelLoop {
    /// Packets a second whose TTL has run out.
    pub expired: u64,
    /// Packets a second that are taken out of an outer header.
    pub decapsulated: u64,
}

impl TunnelLoop {
    /// What happened between two readings.
    pub(crate) fn of(rates: &Rates) -> Option<Self> {
        let expired = rates.reason(REASON);
        (expired > PER_SECOND).then(|| Self {
            expired: whole(expired),
            decapsulated: whole(rates.event("decapsulated")),
        })
    }

    /// What to do about it.
    pub(crate) fn fix() -> &'static str {
        FIX
    }
}

impl fmt::Display for TunnelLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expired, decapsulated } = self;
        write!(
            f,
            "{expired} packets a second in an outer header are dropped because the TTL inside has run out, beside \
             {decapsulated} that are balanced: perhaps two sites send them to one another"
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

    #[test]
    fn a_traceroute_is_no_loop() {
        let stats = |packets| Stats {
            reasons: vec![ReasonCount {
                verdict: Verdict::Drop,
                reason: REASON,
                count: Count { packets, bytes: 0 },
            }],
            ..Stats::default()
        };
        let found = |packets| {
            TunnelLoop::of(&Rates::between(&stats(5), &stats(packets), Duration::from_secs(2)))
        };
        assert_eq!(found(15), None);
        assert_eq!(found(105), Some(TunnelLoop { expired: 50, decapsulated: 0 }));
    }
}
