//! Problems that are going on now. Counters since the start cannot show that, so they are read twice, a second apart.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::error::Result;
use crate::model::host::cpus_in_words;
use crate::model::reason::Verdict;
use crate::observe::flood_guard::FloodGuard;
use crate::observe::gue_refused;
use crate::observe::gue_refused::GueRefused;
use crate::observe::rates::Rates;
use crate::observe::rates::whole;
use crate::observe::stats::Stats;
use crate::observe::tables::TableStatus;
use crate::observe::tunnel_loop;
use crate::observe::tunnel_loop::TunnelLoop;
use crate::observe::tunnel_refused;
use crate::observe::tunnel_refused::TunnelRefused;

/// How long to look. The flood guard lets new flows in again at each second, so a shorter look could fall into a gap
/// of a flood.
const WINDOW: Duration = Duration::from_millis(1100);

/// A table counts as full from this share of its entries on, in percent: its sets are never filled evenly.
const FULL_PERCENT: u32 = 90;

/// A full table is too small if more than one in a hundred packets that are looked up is missed …
const MISSED_PERCENT: u32 = 1;

/// … and more than this many a second. A few misses are normal: another balancer had these connections before.
const MISSED_PER_SECOND: u32 = 10;

/// Too many frames to other MACs: more than one in a hundred packets for VIPs comes in such a frame …
const OTHER_MAC_PERCENT: u32 = 1;

/// … and more than this many a second. A switch floods a few frames whenever it has forgotten a host's port.
const OTHER_MAC_PER_SECOND: u32 = 10;

/// If no table is full, misses come from connections that began elsewhere. A few are normal. If another balancer's
/// connections move here, it is normal to miss them all for some seconds. More than this share of look-ups, in percent,
/// is too many.
const STRANGE_PERCENT: u32 = 10;

/// How long the first look takes.
const GLANCE: Duration = Duration::from_millis(100);

/// What to do if more new flows arrive than are remembered.
const FLOOD_FIX: &str = "if this is a flood, do nothing: established flows stay, and 'lbctl stats --watch' shows which \
    VIP gets it. If it is normal traffic, raise connection_table.new_connections_per_second, then lbctl apply -f FILE";

/// What to do about a table that is too small.
const TABLE_FIX: &str = "raise connection_table.entries, then lbctl apply -f FILE, which takes the flows along. Right \
    after a flood, do nothing: flows in use replace those of the flood, or 'lbctl flows delete' removes them at once";

/// What to do if frames are addressed to other MACs.
const OTHER_MAC_FIX: &str = "'tcpdump -eni INTERFACE dst VIP' shows the MACs. If one is this host's, too (VRRP, a bridge), \
    add it to macs of [[interfaces]], then lbctl apply -f FILE. If it is another host's, the switch floods: it does not \
    learn that MAC, as nothing is ever sent from it";

/// What to do if no table knows the connections, though there is room.
const STRANGE_FIX: &str = "after a start, after a change of RSS or table CPUs, or when another balancer's flows come here, \
    do nothing: it ends within seconds. Otherwise it is a flood of ACKs ('lbctl stats --watch' shows which VIP gets it), \
    or packets of one connection come to several CPUs ('lbctl flows find' shows several entries): set RSS with \
    ethtool -N, ethtool -X";

/// What to do if flows are forgotten, though there is room.
const FORGOTTEN_FIX: &str = "flows gather in few sets, which chance does not do: please report it with the clients' addresses. \
    connection_table.kind = \"lru\", then lbctl apply -f FILE, helps and takes the flows along";

/// More new flows arrive than are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flood {
    /// The CPUs that do not remember all their new flows.
    pub cpus: Vec<u32>,
    /// New flows a second that they balance but do not remember.
    pub not_remembered: u64,
}

/// A connection table is full, and packets find no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Misses {
    /// Flows of its fullest family in the fullest table.
    pub used: u32,
    /// Flows of a family that this table has room for.
    pub entries: u32,
    /// Packets a second whose flow is in a table.
    pub hits: u64,
    /// TCP packets a second, not SYNs, whose flow is in no table.
    pub missed: u64,
}

/// Packets for VIPs in frames that are not addressed to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OtherMac {
    /// Packets a second in frames to other MACs. They go to the kernel.
    pub other: u64,
    /// Packets a second for VIPs in frames to this host.
    pub ours: u64,
}

/// Packets belong to connections that no table has, though none is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MissesWithRoom {
    /// Packets a second whose flow is in a table.
    pub hits: u64,
    /// TCP packets a second, not SYNs, whose flow is in no table.
    pub missed: u64,
    /// Flows a second, at least, that were evicted from full sets while other sets had room. 0: the missed flows were
    /// new to the tables.
    pub forgotten: u64,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpus, not_remembered } = self;
        write!(
            f,
            "{}: {not_remembered} new flows a second are balanced but not remembered, as there are more than the limit",
            cpus_in_words(cpus)
        )
    }
}

impl fmt::Display for Misses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { used, entries, hits, missed } = self;
        write!(
            f,
            "a connection table is full ({used} of {entries} flows), and {missed} TCP packets a second find no \
             flow, beside {hits} that do"
        )
    }
}

impl fmt::Display for OtherMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { other, ours } = self;
        write!(
            f,
            "{other} packets a second for VIPs are not balanced, because their frames are addressed to other MACs, beside \
             {ours} to this host's"
        )
    }
}

impl fmt::Display for MissesWithRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { hits, missed, forgotten: 0 } => write!(
                f,
                "{missed} TCP packets a second belong to connections that no connection table knows, beside {hits} of \
                 known ones, though no table is full"
            ),
            Self { hits, missed, forgotten } => write!(
                f,
                "{forgotten} flows a second are forgotten though no connection table is full: {missed} TCP packets a \
                 second find no flow, beside {hits} that do"
            ),
        }
    }
}

impl Flood {
    /// What to do about it.
    pub(crate) fn fix() -> &'static str {
        FLOOD_FIX
    }
}

impl Misses {
    /// What to do about them.
    pub(crate) fn fix() -> &'static str {
        TABLE_FIX
    }
}

impl OtherMac {
    /// What to do about them.
    pub(crate) fn fix() -> &'static str {
        OTHER_MAC_FIX
    }
}

impl MissesWithRoom {
    /// What to do about them.
    pub(crate) fn fix(&self) -> &'static str {
        if self.forgotten == 0 { STRANGE_FIX } else { FORGOTTEN_FIX }
    }
}

/// The fullest table of a CPU, by its fullest family, if that is full.
fn full(tables: &[TableStatus]) -> Option<(u32, u32)> {
    fullest(tables)
        .filter(|(used, room)| u64::from(*used) * 100 >= u64::from(*room) * u64::from(FULL_PERCENT))
}

/// The fullest table of a CPU, by its fullest family. The table that the other CPUs share is a stopgap and does not
/// count.
fn fullest(tables: &[TableStatus]) -> Option<(u32, u32)> {
    let own = tables.iter().filter(|table| table.cpu.is_some());
    let parts =
        own.flat_map(|table| [(table.used_ipv4, table.entries), (table.used_ipv6, table.entries)]);
    parts.max_by_key(|(used, room)| u64::from(*used) * 1000 / u64::from(*room).max(1))
}

/// One look at counters and tables.
struct Reading {
    at: Instant,
    stats: Stats,
    guards: Vec<FloodGuard>,
    /// Empty if a table is full.
    tables: Vec<TableStatus>,
}

impl Reading {
    /// The look-ups a second that hit, and those that missed, since another reading.
    fn lookups_since(&self, stats: &Stats, at: Instant) -> (f64, f64) {
        let rates = Rates::between(stats, &self.stats, self.at.duration_since(at));
        (rates.event("hit"), rates.event("miss_tcp"))
    }
}

/// Whether this many misses, compared with the hits, are more than normal.
fn hurts(hits: f64, missed: f64) -> bool {
    missed > f64::from(MISSED_PER_SECOND)
        && missed * 100.0 > (hits + missed) * f64::from(MISSED_PERCENT)
}

/// The share of sets of four that are full in a table that is filled at random to this degree.
fn full_sets(filled: f64) -> f64 {
    let each = filled * f64::from(consts::SET_WAYS);
    1.0 - (-each).exp() * (1.0 + each + each.powi(2) / 2.0 + each.powi(3) / 6.0)
}

/// How many flows were forgotten at least between two readings of tables of sets; `None`: no more than chance would
/// cause.
///
/// If a packet's flow is not in the table, the packet inserts it. The table then has one flow more, unless the set is
/// full. So flows that were missed but did not make the tables fuller have evicted others. New flows of any protocol,
/// floods of single packets, flows of another balancer and flows that moved to other CPUs all make the tables fuller.
/// SYNs of known flows, and stale or expired flows, are also counted as inserted: they are subtracted. So are packets
/// that miss and are not inserted (RST).
fn forgotten(before: &Reading, after: &Reading) -> Option<u64> {
    let since = |event| after.stats.event(event).saturating_sub(before.stats.event(event));
    let used = |reading: &Reading| -> u64 {
        let used = |table: &TableStatus| u64::from(table.used_ipv4) + u64::from(table.used_ipv6);
        reading.tables.iter().map(used).sum()
    };
    let others = since("miss_syn") + since("stale") + since("expired");
    let put_in = since("inserted").saturating_sub(others);
    let grown = used(after).checked_sub(used(before))?;
    let forgotten = put_in.min(since("miss_tcp") + since("miss_udp")).saturating_sub(grown);
    let (used, room) = fullest(&after.tables)?;
    let by_chance = full_sets(f64::from(used) / f64::from(room.max(1)));
    let all = u32::try_from(since("inserted")).map_or(f64::from(u32::MAX), f64::from);
    let found = u32::try_from(forgotten).map_or(f64::from(u32::MAX), f64::from);
    (found > 2.0 * by_chance * all).then_some(forgotten)
}

/// Whether a second look is needed: the counters may show something old, or something that still goes on.
fn is_unclear(tables: &[TableStatus], guards: &[FloodGuard], stats: &Stats) -> bool {
    let flooded = guards.iter().any(|guard| guard.not_remembered != 0);
    let other_mac = stats.reason("other_mac") != 0;
    let of_tunnels = [tunnel_loop::REASON, gue_refused::REASON].into_iter();
    let of_tunnels = of_tunnels.chain(tunnel_refused::REASONS.iter().map(|(reason, _)| *reason));
    flooded
        || other_mac
        || of_tunnels.into_iter().any(|reason| stats.reason(reason) != 0)
        || (full(tables).is_some() && stats.event("miss_tcp") != 0)
}

/// What happened between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) flood: Option<Flood>,
    pub(crate) misses: Option<Misses>,
    pub(crate) other_mac: Option<OtherMac>,
    pub(crate) misses_with_room: Option<MissesWithRoom>,
    pub(crate) tunnel_loop: Option<TunnelLoop>,
    pub(crate) tunnel_refused: Option<TunnelRefused>,
    pub(crate) gue_refused: Option<GueRefused>,
}

impl Recent {
    /// Looks for about a second, unless counters and tables show that there was nothing.
    pub(crate) fn watch(
        balancer: &Balancer,
        tables: &[TableStatus],
        guards: &[FloodGuard],
        stats: &Stats,
    ) -> Result<Self> {
        let full = full(tables);
        let read = |tables| -> Result<_> {
            let (at, stats, guards) = (Instant::now(), balancer.stats()?, balancer.flood_guards()?);
            Ok(Reading { at, stats, guards, tables })
        };
        let count = || if full.is_none() { balancer.table_status() } else { Ok(Vec::new()) };
        if !is_unclear(tables, guards, stats) {
            if stats.event("miss_tcp") == 0 {
                return Ok(Self::default());
            }
            let first = read(Vec::new())?;
            sleep(GLANCE);
            let (hits, missed) = read(Vec::new())?.lookups_since(&first.stats, first.at);
            if !hurts(hits, missed) {
                return Ok(Self::default());
            }
        }
        // The counters are read before and after the tables. Packets in between make tables fuller, not emptier.
        let before = read(count()?)?;
        sleep(WINDOW);
        let mut after = read(Vec::new())?;
        after.tables = count()?;
        let elapsed = after.at.duration_since(before.at);
        let rates = Rates::between(&before.stats, &after.stats, elapsed);
        let found = Self::of(full, &rates, flood(&before.guards, &after.guards, elapsed));
        if full.is_some() || found.flood.is_some() {
            return Ok(found);
        }
        // The kernel's LRU hash evicts entries before it is full.
        let of_sets = balancer.tables()?.kind == TableKind::SetAssociative;
        let forgotten = forgotten(&before, &after).filter(|_| of_sets).unwrap_or(0);
        let forgotten = if forgotten == 0 { 0 } else { per_second(forgotten, elapsed) };
        Ok(Self { misses_with_room: misses_with_room(&rates, forgotten), ..found })
    }

    fn of(full: Option<(u32, u32)>, rates: &Rates, flood: Option<Flood>) -> Self {
        let (hits, missed) = (rates.event("hit"), rates.event("miss_tcp"));
        // Packets also miss flows that the flood guard did not remember, however much room there is. And a flood fills
        // any table.
        let full = full.filter(|_| hurts(hits, missed) && flood.is_none());
        let found = full.map(|(used, entries)| Misses {
            used,
            entries,
            hits: whole(hits),
            missed: whole(missed),
        });
        Self {
            flood,
            misses: found,
            other_mac: other_mac(rates),
            misses_with_room: None,
            tunnel_loop: TunnelLoop::of(rates),
            tunnel_refused: TunnelRefused::of(rates),
            gue_refused: GueRefused::of(rates),
        }
    }
}

fn other_mac(rates: &Rates) -> Option<OtherMac> {
    let other = rates.reason("other_mac");
    let ours = rates.reasons.iter().filter(|rate| rate.verdict != Verdict::Pass);
    let ours: f64 = ours.map(|rate| rate.rate.packets).sum();
    let hurts = other > f64::from(OTHER_MAC_PER_SECOND)
        && other * 100.0 > (other + ours) * f64::from(OTHER_MAC_PERCENT);
    hurts.then(|| OtherMac { other: whole(other), ours: whole(ours) })
}

/// Judges misses while no table is full and the flood guard does not limit.
fn misses_with_room(rates: &Rates, forgotten: u64) -> Option<MissesWithRoom> {
    let (hits, missed) = (rates.event("hit"), rates.event("miss_tcp"));
    let forgotten = if forgotten > u64::from(MISSED_PER_SECOND) { forgotten } else { 0 };
    // A flow that is new to the tables is missed once.
    let strange = missed * 100.0 > (hits + missed) * f64::from(STRANGE_PERCENT);
    (hurts(hits, missed) && (forgotten != 0 || strange)).then(|| MissesWithRoom {
        hits: whole(hits),
        missed: whole(missed),
        forgotten,
    })
}

fn flood(before: &[FloodGuard], after: &[FloodGuard], elapsed: Duration) -> Option<Flood> {
    let before: BTreeMap<_, _> =
        before.iter().map(|guard| (guard.cpu, guard.not_remembered)).collect();
    let since = |guard: &FloodGuard| {
        // Counters that are lower than before were restarted.
        let before = before.get(&guard.cpu).filter(|before| **before <= guard.not_remembered);
        guard.not_remembered - before.unwrap_or(&0)
    };
    let cpus: Vec<_> = after.iter().filter(|guard| since(guard) != 0).collect();
    let flows: u64 = cpus.iter().map(|guard| since(guard)).sum();
    (flows != 0).then(|| Flood {
        cpus: cpus.iter().map(|guard| guard.cpu).collect(),
        not_remembered: per_second(flows, elapsed),
    })
}

/// Rounds up to one a second: there was at least one event.
fn per_second(events: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    (events.saturating_mul(1000) / milliseconds).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::rates::ReasonRate;
    use crate::observe::stats::ReasonCount;

    const FULL: Option<(u32, u32)> = Some((900, 1000));

    fn table(used_ipv4: u32, used_ipv6: u32) -> TableStatus {
        TableStatus { cpu: Some(0), entries: 1000, used_ipv4, used_ipv6 }
    }

    fn rates(hit: f64, miss_tcp: f64) -> Rates {
        Rates { table: vec![("hit", hit), ("miss_tcp", miss_tcp)], ..Rates::default() }
    }

    fn guard(cpu: u32, not_remembered: u64) -> FloodGuard {
        FloodGuard { cpu, limiting: false, new_flows: 0, limit: Some(10), not_remembered }
    }

    #[test]
    fn the_fullest_table_of_a_cpu_counts() {
        assert_eq!(full(&[table(0, 10), table(0, 900)]), FULL, "IPv6 alone");
        assert_eq!(full(&[table(899, 899)]), None, "room is left");
        assert_eq!(full(&[TableStatus { cpu: None, ..table(1000, 1000) }]), None, "the stopgap");
    }

    #[test]
    fn a_second_look_is_taken_only_where_something_was() {
        let stats = |missed| Stats { table: vec![("miss_tcp", missed)], ..Stats::default() };
        assert!(!is_unclear(&[table(1000, 0)], &[guard(0, 0)], &stats(0)), "full, nothing missed");
        assert!(!is_unclear(&[table(500, 0)], &[guard(0, 0)], &stats(7)), "missed, and room");
        assert!(is_unclear(&[table(1000, 0)], &[guard(0, 0)], &stats(1)));
        assert!(is_unclear(&[table(0, 0)], &[guard(0, 0), guard(1, 1)], &stats(0)));
        let count = crate::observe::stats::Count { packets: 1, bytes: 60 };
        let reason = ReasonCount { reason: "other_mac", verdict: Verdict::Pass, count };
        let stats = Stats { reasons: vec![reason], ..Stats::default() };
        assert!(is_unclear(&[], &[], &stats), "not for this host");
    }

    #[test]
    fn a_table_is_too_small_by_a_share_and_a_rate() {
        let misses = |full, hit, missed| Recent::of(full, &rates(hit, missed), None).misses;
        let found = misses(FULL, 1000.0, 20.4);
        assert_eq!(found, Some(Misses { used: 900, entries: 1000, hits: 1000, missed: 20 }));
        assert_eq!(misses(FULL, 9900.0, 100.0), None, "one in a hundred");
        assert_eq!(misses(FULL, 0.0, 10.0), None, "a handful");
        assert_eq!(misses(None, 0.0, 1e6), None, "room is left");
        let flood = Some(Flood { cpus: vec![0], not_remembered: 1 });
        let flooded = Recent::of(FULL, &rates(0.0, 1e6), flood.clone());
        assert_eq!(flooded, Recent { flood, ..Recent::default() });
    }

    #[test]
    fn frames_to_others_count_by_a_share_and_a_rate() {
        let rate = |reason, verdict, packets| {
            let rate = crate::observe::rates::Rate { packets, bits: 0.0 };
            ReasonRate { reason, verdict, rate }
        };
        let found = |other: f64, ours: f64| {
            let reasons = vec![
                rate("ring", Verdict::Tx, ours / 2.0),
                rate("no_real", Verdict::Drop, ours / 2.0),
                rate("not_vip", Verdict::Pass, 1e6),
                rate("other_mac", Verdict::Pass, other),
            ];
            other_mac(&Rates { reasons, ..Rates::default() })
        };
        assert_eq!(found(10.6, 1000.0), Some(OtherMac { other: 11, ours: 1000 }));
        assert_eq!(found(10.0, 0.0), None, "a handful");
        assert_eq!(found(1000.0, 99_000.0), None, "one in a hundred");
    }

    fn reading(used: u32, events: &[(&'static str, u64)]) -> Reading {
        let stats = Stats { table: events.to_vec(), ..Stats::default() };
        let tables = vec![TableStatus { entries: 1_000_000, ..table(used, 0) }];
        Reading { at: Instant::now(), stats, guards: Vec::new(), tables }
    }

    #[test]
    fn what_makes_tables_fuller_was_not_forgotten() {
        let before = reading(1000, &[]);
        let of = |used, events: &[_]| forgotten(&before, &reading(used, events));
        let miss = |tcp, udp, inserted| {
            [("miss_tcp", tcp), ("miss_udp", udp), ("inserted", inserted)].to_vec()
        };
        assert_eq!(of(1100, &miss(2000, 0, 2000)), Some(1900), "sets collide");
        assert_eq!(
            of(3000, &miss(2000, 0, 2000)),
            None,
            "ACKs, or connections of another balancer"
        );
        assert_eq!(of(3000, &miss(0, 2000, 2000)), None, "new flows of UDP");
        assert_eq!(of(1000, &miss(2000, 0, 0)), None, "RSTs");
        assert_eq!(of(900, &miss(2000, 0, 2000)), None, "flows were deleted");
        let ports_again = [("miss_syn", 5000), ("inserted", 5000), ("miss_tcp", 20)];
        assert_eq!(of(1000, &ports_again), None, "SYNs of flows that the table had");
        let stale = [("stale", 500), ("expired", 500), ("inserted", 1000), ("miss_udp", 1000)];
        assert_eq!(of(1000, &stale), None, "entries that were written anew");
        // In a table that is nearly full, new flows evict others.
        let before = reading(800_000, &[]);
        assert_eq!(forgotten(&before, &reading(800_600, &miss(0, 1000, 1000))), None);
        assert!((full_sets(0.5) - 0.143).abs() < 0.001);
    }

    #[test]
    fn misses_with_room_are_many_or_repeat() {
        let of = |hit, missed, forgotten| misses_with_room(&rates(hit, missed), forgotten);
        let found = |hits, missed, forgotten| Some(MissesWithRoom { hits, missed, forgotten });
        assert_eq!(of(1000.0, 20.4, 20), found(1000, 20, 20));
        assert_eq!(of(1000.0, 20.4, 0), None, "some are to be expected");
        assert_eq!(of(100.0, 20.0, 0), found(100, 20, 0));
        assert_eq!(of(0.0, 10.0, 10), None, "a handful");
    }

    #[test]
    fn a_flood_is_what_goes_on() {
        let of = |before: &[FloodGuard], after: &[FloodGuard]| {
            flood(before, after, Duration::from_millis(1250))
        };
        assert_eq!(of(&[guard(0, 7)], &[guard(0, 7)]), None, "it is over");
        let found = of(&[guard(0, 7), guard(2, 5)], &[guard(0, 7), guard(1, 300), guard(2, 205)]);
        assert_eq!(found, Some(Flood { cpus: vec![1, 2], not_remembered: 400 }));
        assert_eq!(of(&[guard(0, 900)], &[guard(0, 1)]).map(|flood| flood.not_remembered), Some(1));
    }

    /// docs/alerts.yml has the same thresholds for frames to other MACs.
    #[test]
    fn the_alert_of_other_macs_has_the_same_thresholds() {
        let rules = include_str!("../../docs/alerts.yml");
        let from = rules.find("alert: L4lbOtherMac").expect("the alert");
        let rule = rules[from..].split("labels:").next().expect("its expression");
        for threshold in [
            format!("> {} *", f64::from(OTHER_MAC_PERCENT) / 100.0),
            format!("> {OTHER_MAC_PER_SECOND}\n"),
        ] {
            assert!(rule.contains(&threshold), "'{threshold}' in {rule}");
        }
    }

    /// docs/alerts.yml has the same thresholds for a table that is too small.
    #[test]
    fn the_alert_has_the_same_thresholds() {
        let rules = include_str!("../../docs/alerts.yml");
        let from = rules.find("alert: L4lbTableFull").expect("the alert");
        let rule = rules[from..].split("labels:").next().expect("its expression");
        for threshold in [
            format!(">= {} *", f64::from(FULL_PERCENT) / 100.0),
            format!("> {} *", f64::from(MISSED_PERCENT) / 100.0),
            format!("> {MISSED_PER_SECOND}\n"),
            "unless on (job, instance)".to_owned(),
        ] {
            assert!(rule.contains(&threshold), "'{threshold}' in {rule}");
        }
    }

    /// docs/alerts.yml has the same thresholds for misses while there is room.
    #[test]
    fn the_alert_of_misses_with_room_has_the_same_thresholds() {
        let rules = include_str!("../../docs/alerts.yml");
        let from = rules.find("alert: L4lbMissesWithRoom").expect("the alert");
        let rule = rules[from..].split("labels:").next().expect("its expression");
        for threshold in [
            format!("> {} *", f64::from(STRANGE_PERCENT) / 100.0),
            format!("> {MISSED_PER_SECOND}\n"),
            format!(">= {} *", f64::from(FULL_PERCENT) / 100.0),
            "unless on (job, instance)".to_owned(),
        ] {
            assert!(rule.contains(&threshold), "'{threshold}' in {rule}");
        }
    }
}
