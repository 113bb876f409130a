//! Makes series from the library's reports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use prometheus::proto::MetricFamily;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::Maps;
use super::Rings;
use super::families as f;
use super::families::Family;
use crate::control::decap::DecapStatus;
use crate::kernel::nic::NicStatistics;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::config::TableKind;
use crate::model::config::XdpMode;
use crate::model::maglev::ring::Ring;
use crate::model::mismatch::Mismatch;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::observe::flood_guard::FloodGuard;
use crate::observe::readiness::GatewayState;
use crate::observe::readiness::InterfaceState;
use crate::observe::stats::ChainRuns;
use crate::observe::stats::Stats;
use crate::plan::Unserved;
use crate::report::background::Sample;

/// The label of the connection table that CPUs without one of their own share.
const SHARED: &str = "shared";

/// A value as a float, as all of Prometheus' are. Counters lose their last digits above 2^53, which takes years.
#[expect(clippy::cast_precision_loss, reason = "as said")]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// A metric without labels.
pub(super) fn single(family: &Family, value: f64) -> MetricFamily {
    family.with(vec![family.series([], value)])
}

/// A metric whose series are told apart by one label.
fn by<L: AsRef<str>>(family: &Family, values: impl IntoIterator<Item = (L, f64)>) -> MetricFamily {
    let series = values.into_iter().map(|(label, value)| family.series([label.as_ref()], value));
    family.with(series.collect())
}

pub(super) fn running(runs: bool) -> MetricFamily {
    single(&f::RUNNING, flag(runs))
}

pub(super) fn draining(since: Option<u64>) -> MetricFamily {
    single(&f::DRAINING, flag(since.is_some()))
}

pub(super) fn build_info() -> MetricFamily {
    by(&f::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1.0)])
}

pub(super) fn read_success<'a>(parts: impl Iterator<Item = (&'a str, bool)>) -> MetricFamily {
    by(&f::READ_SUCCESS, parts.map(|(part, success)| (part, flag(success))))
}

pub(super) fn counters(stats: &Stats, per_real: bool) -> Vec<MetricFamily> {
    let reasons = |family: &Family, value: fn(&crate::observe::stats::Count) -> u64| {
        let series = stats.reasons.iter().map(|reason| {
            let verdict = reason.verdict.to_string();
            family.series([reason.reason, &verdict], number(value(&reason.count)))
        });
        family.with(series.collect())
    };
    let cpus = |family, value: fn(&crate::observe::stats::Count) -> u64| {
        let cpus = stats.cpus.iter();
        by(family, cpus.map(|cpu| (cpu.cpu.to_string(), number(value(&cpu.count)))))
    };
    let vips: Vec<_> = stats.vips.iter().map(|(vip, count)| (vip.to_string(), count)).collect();
    let vip = |family, value: fn(&crate::observe::stats::VipCount) -> u64| {
        by(family, vips.iter().map(|(vip, count)| (vip, number(value(count)))))
    };
    let reals = stats.reals.iter().filter(|_| per_real);
    let reals: Vec<_> = reals.map(|(real, count)| (real.to_string(), count)).collect();
    let real = |family, value: fn(&crate::observe::stats::Count) -> u64| {
        by(family, reals.iter().map(|(real, count)| (real, number(value(count)))))
    };
    vec![
        reasons(&f::PACKETS, |count| count.packets),
        reasons(&f::BYTES, |count| count.bytes),
        cpus(&f::CPU_PACKETS, |count| count.packets),
        cpus(&f::CPU_BYTES, |count| count.bytes),
        by(&f::TABLE_EVENTS, stats.table.iter().map(|(event, count)| (event, number(*count)))),
        vip(&f::VIP_PACKETS, |count| count.sent.packets),
        vip(&f::VIP_BYTES, |count| count.sent.bytes),
        vip(&f::VIP_DROPPED, |count| count.dropped),
        vip(&f::VIP_NEW_FLOWS, |count| count.new_flows),
        real(&f::REAL_PACKETS, |count| count.packets),
        real(&f::REAL_BYTES, |count| count.bytes),
        by(
            &f::HEALTHCHECK_PACKETS,
            stats.healthcheck.iter().map(|(result, count)| (result, number(count.packets))),
        ),
    ]
}

pub(super) fn flood_guards(guards: &[FloodGuard]) -> Vec<MetricFamily> {
    let of = |family, value: fn(&FloodGuard) -> Option<f64>| {
        let values = guards.iter().filter_map(|guard| Some((guard.cpu.to_string(), value(guard)?)));
        by(family, values)
    };
    vec![
        of(&f::FLOOD_LIMITING, |guard| Some(flag(guard.limiting))),
        of(&f::FLOOD_LIMIT, |guard| guard.limit.map(f64::from)),
        of(&f::FLOOD_FLOWS, |guard| Some(number(guard.not_remembered))),
    ]
}

pub(super) fn chain_runs(runs: ChainRuns) -> Vec<MetricFamily> {
    vec![
        single(&f::CHAIN_RUNS, number(runs.runs)),
        single(&f::CHAIN_SECONDS, number(runs.nanoseconds) / 1e9),
    ]
}

const STATES: [(RealState, &str); 3] =
    [(RealState::Up, "up"), (RealState::Drain, "drain"), (RealState::Down, "down")];

/// The VIPs and reals of a table in the order of their labels. Registries sort series by these, which is cheap for tens
/// of thousands that are already in order.
pub(super) struct Pairs<'a> {
    /// Label, VIP, its properties.
    pub(super) vips: Vec<(String, Vip, &'a VipSpec)>,
    /// Whether there are series for each pair of VIP and real.
    pub(super) per_real: bool,
    /// A real's label, and its place among all labels.
    reals: FxHashMap<IpAddr, (String, usize)>,
}

impl<'a> Pairs<'a> {
    pub(super) fn of(table: &'a Table, per_real: bool) -> Self {
        let vips = table.vips.iter().map(|(vip, spec)| (vip.to_string(), *vip, spec));
        let mut vips: Vec<_> = vips.collect();
        vips.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let reals: FxHashSet<_> = table.vips.values().flat_map(|spec| spec.reals.keys()).collect();
        let mut reals: Vec<_> = reals.into_iter().map(|real| (real.to_string(), *real)).collect();
        reals.sort();
        let place = |(place, (label, real))| (real, (label, place));
        Self { vips, per_real, reals: reals.into_iter().enumerate().map(place).collect() }
    }

    /// The reals of a VIP, with their labels.
    pub(super) fn reals(
        &self,
        spec: &'a VipSpec,
    ) -> impl Iterator<Item = (&str, &'a IpAddr, &'a RealSpec)> {
        let labels = spec.reals.iter().filter_map(|(address, real)| {
            let (label, place) = self.reals.get(address)?;
            Some((*place, label.as_str(), address, real))
        });
        let mut reals: Vec<_> = labels.collect();
        reals.sort_unstable_by_key(|(place, ..)| *place);
        reals.into_iter().map(|(_, label, address, real)| (label, address, real))
    }
}

pub(super) fn vips(pairs: &Pairs<'_>) -> Vec<MetricFamily> {
    let (mut counted, mut usable) = (Vec::new(), Vec::new());
    let (mut weights, mut states) = (Vec::new(), Vec::new());
    for (vip, _, spec) in &pairs.vips {
        let mut counts = [0; STATES.len()];
        for (label, _, real) in pairs.reals(spec) {
            if pairs.per_real {
                weights.push(f::VIP_REAL_WEIGHT.series([vip, label], real.weight.into()));
            }
            for (count, (state, name)) in counts.iter_mut().zip(STATES) {
                if real.state == state {
                    *count += 1;
                    if pairs.per_real {
                        states.push(f::VIP_REAL_STATE.series([vip, label, name], 1.0));
                    }
                }
            }
        }
        let counts = counts.into_iter().zip(STATES);
        counted.extend(
            counts.map(|(count, (_, name))| f::VIP_REALS.series([name, vip], number(count))),
        );
        let members = spec.members();
        let takers = members.len() - Ring::without_slot(&members).len();
        usable.push(f::VIP_USABLE_REALS.series([vip], number(takers as u64)));
    }
    vec![
        f::VIP_REALS.with(counted),
        f::VIP_USABLE_REALS.with(usable),
        f::VIP_REAL_WEIGHT.with(weights),
        f::VIP_REAL_STATE.with(states),
    ]
}

/// Series of the rings, for VIPs and reals that the table has now: the rings may have been read earlier.
pub(super) fn rings(pairs: &Pairs<'_>, sample: &Sample<Rings>) -> Vec<MetricFamily> {
    let Rings { table: before, by_vip: rings, mismatches } = &sample.value;
    let (mut digests, mut shares, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = BTreeMap::from([("reals", 0_u32), ("rings", 0), ("vip_index", 0)]);
    let mut of_vips = BTreeMap::new();
    for mismatch in mismatches {
        let map = match mismatch {
            Mismatch::Ring { vip, slots } => {
                of_vips.insert(*vip, *slots);
                "rings"
            }
            Mismatch::VipIndex => "vip_index",
            Mismatch::Real { .. } => "reals",
            Mismatch::Leftovers => continue,
        };
        *counts.entry(map).or_default() += 1;
    }
    for (label, vip, spec) in &pairs.vips {
        let (Some(ring), Some(before)) = (rings.get(vip), before.vips.get(vip)) else { continue };
        digests.push(f::VIP_RING_DIGEST.series([label], number(ring.digest)));
        let slots = of_vips.get(vip).copied().unwrap_or_default();
        wrong.push(f::VIP_RING_WRONG.series([label], slots.into()));
        if !pairs.per_real {
            continue;
        }
        let known = pairs.reals(spec).filter(|(_, real, _)| before.reals.contains_key(real));
        shares.extend(known.map(|(real, address, _)| {
            f::VIP_REAL_SHARE.series([label, real], ring.share(*address))
        }));
    }
    vec![
        f::VIP_RING_DIGEST.with(digests),
        f::VIP_REAL_SHARE.with(shares),
        f::VIP_RING_WRONG.with(wrong),
        by(&f::MISMATCHES, counts.into_iter().map(|(map, count)| (map, count.into()))),
        single(&f::RING_AGE, sample.age().as_secs_f64()),
    ]
}

pub(super) fn maps(sample: &Sample<Maps>) -> Vec<MetricFamily> {
    let Maps { tables, fill, memory } = &sample.value;
    let (mut entries, mut most) = (Vec::new(), Vec::new());
    for table in fill {
        let cpu = table.cpu.map_or_else(|| SHARED.to_owned(), |cpu| cpu.to_string());
        // In a hash table both families share the room.
        let families: &[(&str, u32)] =
            if table.cpu.is_some() && tables.kind == TableKind::SetAssociative {
                &[("ipv4", table.used_ipv4), ("ipv6", table.used_ipv6)]
            } else {
                &[("any", table.used_ipv4 + table.used_ipv6)]
            };
        for (family, used) in families {
            entries.push(f::TABLE_ENTRIES.series([&cpu, family], (*used).into()));
            most.push(f::TABLE_MAX_ENTRIES.series([&cpu, family], table.entries.into()));
        }
    }
    vec![
        f::TABLE_ENTRIES.with(entries),
        f::TABLE_MAX_ENTRIES.with(most),
        by(&f::MAP_MEMORY, memory.iter().map(|memory| (memory.map, number(memory.bytes)))),
        single(&f::TABLE_AGE, sample.age().as_secs_f64()),
    ]
}

pub(super) fn interfaces(
    states: &[InterfaceState],
    heard: &BTreeMap<String, Instant>,
) -> Vec<MetricFamily> {
    let of = |family, value: fn(&InterfaceState) -> f64| {
        by(family, states.iter().map(|state| (&state.interface, value(state))))
    };
    let info = states.iter().map(|state| {
        let mode = match state.mode {
            Some(XdpMode::Native) => "native",
            Some(XdpMode::Generic) => "generic",
            Some(XdpMode::Auto) | None => "none",
        };
        let gateway = state.next_hop.map(|next_hop| next_hop.address.to_string());
        let gateway = gateway.as_deref().unwrap_or("none");
        f::INTERFACE_INFO.series([&state.interface, gateway, &state.mac.to_string(), mode], 1.0)
    });
    vec![
        f::INTERFACE_INFO.with(info.collect()),
        of(&f::INTERFACE_ATTACHED, |state| flag(state.mode.is_some())),
        of(&f::INTERFACE_MTU, |state| state.mtu.into()),
        of(&f::GATEWAY_RESOLVED, |state| {
            flag(matches!(state.gateway, GatewayState::Confirmed(_) | GatewayState::Fixed))
        }),
        by(&f::GATEWAY_AGE, heard.iter().map(|(name, at)| (name, at.elapsed().as_secs_f64()))),
    ]
}

/// `unserved`: the records of interfaces. Some of these may be served as before.
pub(super) fn served(states: &[InterfaceState], unserved: &[Unserved]) -> MetricFamily {
    let attached = states.iter().map(|state| (state.interface.as_str(), state.mode.is_some()));
    let waiting = unserved.iter().map(|unserved| (unserved.name.as_str(), false));
    // Both lists may have an interface that is gone.
    let mut served: BTreeMap<_, _> = waiting.collect();
    served.extend(attached);
    by(&f::INTERFACE_SERVED, served.into_iter().map(|(name, served)| (name, flag(served))))
}

pub(super) fn nics(nics: &[(&str, NicStatistics)]) -> MetricFamily {
    let series = nics.iter().flat_map(|(interface, nic)| {
        let statistics = nic.statistics.iter();
        statistics.map(|(name, value)| f::NIC_STATISTIC.series([*interface, name], number(*value)))
    });
    f::NIC_STATISTIC.with(series.collect())
}

pub(super) fn decap(status: &DecapStatus) -> Vec<MetricFamily> {
    let of = |family, value: fn(&crate::observe::stats::Count) -> u64| {
        by(family, status.results.iter().map(|(result, count)| (result, number(value(count)))))
    };
    let interfaces = status.interfaces.iter();
    vec![
        of(&f::DECAP_PACKETS, |count| count.packets),
        of(&f::DECAP_BYTES, |count| count.bytes),
        by(&f::DECAP_ATTACHED, interfaces.map(|(name, mode)| (name, flag(mode.is_some())))),
        single(&f::DECAP_ADDRESSES, number(status.addresses.len() as u64)),
        single(&f::DECAP_TO, number(status.to.len() as u64)),
        single(&f::DECAP_FROM, number(status.from.len() as u64)),
    ]
}
