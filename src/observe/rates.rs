//! Rates per second, from two readings of the counters.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::model::address::Vip;
use crate::model::reason::Verdict;
use crate::observe::stats::Count;
use crate::observe::stats::Stats;
use crate::observe::stats::VipCount;
use crate::observe::stats::by_name;

/// Packets, and the bits of their frames as received, without checksum, per second. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Packets per second.
    pub packets: f64,
    /// Bits per second.
    pub bits: f64,
}

/// How many packets ended for one reason, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReasonRate {
    /// The reason's name.
    pub reason: &'static str,
    /// The verdict that the reason implies.
    pub verdict: Verdict,
    /// How much.
    #[serde(flatten)]
    pub rate: Rate,
}

/// A VIP's packets, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct VipRate {
    /// Sent to reals.
    #[serde(flatten)]
    pub sent: Rate,
    /// Packets that no real got.
    pub dropped: f64,
    /// Packets for which the ring selected a real.
    pub new_flows: f64,
}

impl VipRate {
    /// Packets that came in for it, sent to a real or not.
    pub fn packets(&self) -> f64 {
        self.sent.packets + self.dropped
    }
}

/// Rates per second, from two readings of [`Stats`]. Zero rates are left out.
///
/// A counter that is lower than before was restarted: somebody deleted and added the VIP again, or took the instance
/// down. Then its whole value counts as new since the first reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the readings.
    pub seconds: f64,
    /// Everything that came in.
    pub total: Rate,
    /// By reason, in the order of [`crate::reasons`].
    pub reasons: Vec<ReasonRate>,
    /// Events per second at connection table and server ids, by name, in the order of
    /// [`crate::table_events`]; in JSON an object.
    #[serde(serialize_with = "by_name")]
    pub table: Vec<(&'static str, f64)>,
    /// By VIP.
    pub vips: BTreeMap<Vip, VipRate>,
    /// By real: what was sent to it for any VIP.
    pub reals: BTreeMap<IpAddr, Rate>,
    /// By VIP and real: what was sent to the real for this VIP.
    #[serde(skip)]
    pub sent: FxHashMap<(Vip, IpAddr), Rate>,
}

impl Rates {
    /// Computes rates from two readings, `elapsed` apart. If no time passed, there are no rates.
    pub fn between(before: &Stats, after: &Stats, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        if seconds == 0.0 {
            return Self::default();
        }
        let per_second = |events| per_second(events, seconds);
        let rate = |before, after| {
            let Count { packets, bytes } = count_since(before, after);
            Rate { packets: per_second(packets), bits: per_second(bytes) * 8.0 }
        };

        let reasons = after.reasons.iter().filter_map(|reason| {
            let earlier = before.reasons.iter().find(|other| other.reason == reason.reason);
            let rate = rate(earlier.map(|earlier| earlier.count).unwrap_or_default(), reason.count);
            let reason = ReasonRate { reason: reason.reason, verdict: reason.verdict, rate };
            (rate != Rate::default()).then_some(reason)
        });
        let table = after.table.iter().filter_map(|(event, count)| {
            let events = since(before.event(event), *count);
            (events != 0).then(|| (*event, per_second(events)))
        });
        let vips = after.vips.iter().filter_map(|(vip, count)| {
            let count = vip_since(before.vips.get(vip).copied().unwrap_or_default(), *count);
            let rate = VipRate {
                sent: rate(Count::default(), count.sent),
                dropped: per_second(count.dropped),
                new_flows: per_second(count.new_flows),
            };
            (rate != VipRate::default()).then_some((*vip, rate))
        });
        let reals = after.reals.iter().filter_map(|(real, count)| {
            let rate = rate(before.reals.get(real).copied().unwrap_or_default(), *count);
            (rate != Rate::default()).then_some((*real, rate))
        });
        let sent = after.sent.iter().filter_map(|(pair, count)| {
            let rate = rate(before.sent.get(pair).copied().unwrap_or_default(), *count);
            (rate != Rate::default()).then_some((*pair, rate))
        });
        Self {
            sent: sent.collect(),
            seconds,
            total: rate(before.total, after.total),
            reasons: reasons.collect(),
            table: table.collect(),
            vips: vips.collect(),
            reals: reals.collect(),
        }
    }

    /// The rate of the event with this name, one of [`crate::table_events`].
    pub fn event(&self, name: &str) -> f64 {
        self.table.iter().find(|(event, _)| *event == name).map_or(0.0, |(_, rate)| *rate)
    }

    /// Packets per second that ended for the reason with this name, one of [`crate::reasons`].
    pub(crate) fn reason(&self, name: &str) -> f64 {
        let found = self.reasons.iter().find(|reason| reason.reason == name);
        found.map_or(0.0, |reason| reason.rate.packets)
    }

    /// The reasons, the most frequent one first.
    pub fn busiest_reasons(&self) -> Vec<&ReasonRate> {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by(|a, b| b.rate.packets.total_cmp(&a.rate.packets));
        reasons
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 packets within an interval are not to be had")]
fn per_second(events: u64, seconds: f64) -> f64 {
    events as f64 / seconds
}

fn since(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

/// Both counters of one thing restart together.
fn count_since(before: Count, after: Count) -> Count {
    let went_back = after.packets < before.packets || after.bytes < before.bytes;
    let before = if went_back { Count::default() } else { before };
    Count { packets: after.packets - before.packets, bytes: after.bytes - before.bytes }
}

fn vip_since(before: VipCount, after: VipCount) -> VipCount {
    let went_back = after.sent.packets < before.sent.packets
        || after.sent.bytes < before.sent.bytes
        || after.dropped < before.dropped
        || after.new_flows < before.new_flows;
    let before = if went_back { VipCount::default() } else { before };
    VipCount {
        sent: count_since(before.sent, after.sent),
        dropped: after.dropped - before.dropped,
        new_flows: after.new_flows - before.new_flows,
    }
}

/// A rate as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative"
)]
pub(crate) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::stats::ReasonCount;

    const VIP: &str = "tcp://10.200.1.1:80";
    const REAL: &str = "10.0.0.1";

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 100 }
    }

    fn stats(packets: u64, dropped: u64) -> Stats {
        let reason =
            |reason, verdict, packets| ReasonCount { reason, verdict, count: count(packets) };
        let vip = VipCount { sent: count(packets), dropped, new_flows: packets / 10 };
        Stats {
            total: count(packets + dropped),
            reasons: vec![
                reason("ring", Verdict::Tx, packets),
                reason("no_real", Verdict::Drop, dropped),
            ],
            table: vec![("hit", packets), ("flood", 0)],
            vips: [(VIP.parse().expect("a VIP"), vip)].into(),
            reals: [(REAL.parse().expect("an address"), count(packets))].into(),
            sent: FxHashMap::default(),
            cpus: Vec::new(),
            healthcheck: Vec::new(),
        }
    }

    fn vip(rates: &Rates) -> Option<VipRate> {
        rates.vips.get(&VIP.parse().expect("a VIP")).copied()
    }

    #[test]
    fn differences_are_per_second() {
        let rates = Rates::between(&stats(100, 7), &stats(300, 8), Duration::from_secs(2));
        let hundred = Rate { packets: 100.0, bits: 80_000.0 };
        assert_eq!(rates.total, Rate { packets: 100.5, bits: 80_400.0 });
        assert_eq!(vip(&rates), Some(VipRate { sent: hundred, dropped: 0.5, new_flows: 10.0 }));
        assert_eq!(rates.reals.values().collect::<Vec<_>>(), [&hundred]);
        assert_eq!(rates.reasons[0].rate, hundred);
        assert_eq!(rates.busiest_reasons()[1].reason, "no_real");
        assert_eq!((rates.event("hit"), rates.event("flood")), (100.0, 0.0));
    }

    #[test]
    fn what_stands_still_is_left_out() {
        let rates = Rates::between(&stats(100, 7), &stats(100, 9), Duration::from_secs(1));
        assert_eq!(rates.reasons.len(), 1, "{rates:?}");
        assert!(rates.reals.is_empty() && rates.table.is_empty(), "{rates:?}");
        let idle = Rates::between(&stats(100, 7), &stats(100, 7), Duration::from_secs(1));
        assert_eq!(idle, Rates { seconds: 1.0, ..Rates::default() });
        let at_once = Rates::between(&stats(1, 1), &stats(2, 2), Duration::ZERO);
        assert_eq!(at_once, Rates::default());
    }

    #[test]
    fn counters_that_went_back_began_anew() {
        // More was dropped than before, but the counters are those of another VIP of the same name.
        let rates = Rates::between(&stats(1000, 1), &stats(50, 4), Duration::from_secs(1));
        let fifty = Rate { packets: 50.0, bits: 40_000.0 };
        assert_eq!(vip(&rates), Some(VipRate { sent: fifty, dropped: 4.0, new_flows: 5.0 }));
        assert_eq!(rates.reals.values().collect::<Vec<_>>(), [&fifty]);
        assert_eq!(rates.total, Rate { packets: 54.0, bits: 43_200.0 });
        assert_eq!(rates.table, [("hit", 50.0)]);
        let new = Rates::between(&Stats::default(), &stats(50, 4), Duration::from_secs(1));
        assert_eq!((&new.vips, &new.reals), (&rates.vips, &rates.reals), "as what was not there");
        let gone = Rates::between(&stats(50, 4), &Stats::default(), Duration::from_secs(1));
        assert_eq!(gone, Rates { seconds: 1.0, ..Rates::default() });
    }
}
