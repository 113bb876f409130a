//! Makes series from the library's reports. Metrics that have a series for each pair of a VIP and a real are written in a
//! walk of their own each, so that nothing has to be kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::Maps;
use super::Rings;
use super::families as f;
use super::families::Family;
use super::sink::Sink;
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
use crate::observe::stats::Count;
use crate::observe::stats::Stats;
use crate::observe::stats::VipCount;
use crate::plan::Unserved;
use crate::report::background::Sample;

/// A metric, and what a reading says about it.
type OfFamily<T, V> = (&'static Family, fn(&T) -> V);

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

pub(super) fn running(sink: &mut dyn Sink, runs: bool) {
    sink.single(&f::RUNNING, flag(runs));
}

pub(super) fn draining(sink: &mut dyn Sink, since: Option<u64>) {
    sink.single(&f::DRAINING, flag(since.is_some()));
}

pub(super) fn build_info(sink: &mut dyn Sink) {
    sink.by(&f::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1.0)]);
}

pub(super) fn read_success<'a>(sink: &mut dyn Sink, parts: impl Iterator<Item = (&'a str, bool)>) {
    sink.by(&f::READ_SUCCESS, parts.map(|(part, success)| (part, flag(success))));
}

pub(super) fn counters(sink: &mut dyn Sink, stats: &Stats, per_real: bool) {
    let reasons: [OfFamily<Count, u64>; 2] =
        [(&f::PACKETS, |count| count.packets), (&f::BYTES, |count| count.bytes)];
    for (family, value) in reasons {
        sink.family(family);
        for reason in &stats.reasons {
            let verdict = reason.verdict.to_string();
            sink.series(&[reason.reason, &verdict], number(value(&reason.count)));
        }
    }
    let cpus: Vec<_> = stats.cpus.iter().map(|cpu| (cpu.cpu.to_string(), cpu.count)).collect();
    sink.by(&f::CPU_PACKETS, cpus.iter().map(|(cpu, count)| (cpu, number(count.packets))));
    sink.by(&f::CPU_BYTES, cpus.iter().map(|(cpu, count)| (cpu, number(count.bytes))));
    sink.by(&f::TABLE_EVENTS, stats.table.iter().map(|(event, count)| (event, number(*count))));
    let vips: Vec<_> = stats.vips.iter().map(|(vip, count)| (vip.to_string(), count)).collect();
    let of_vip: [OfFamily<VipCount, u64>; 4] = [
        (&f::VIP_PACKETS, |count| count.sent.packets),
        (&f::VIP_BYTES, |count| count.sent.bytes),
        (&f::VIP_DROPPED, |count| count.dropped),
        (&f::VIP_NEW_FLOWS, |count| count.new_flows),
    ];
    for (family, value) in of_vip {
        sink.by(family, vips.iter().map(|(vip, count)| (vip, number(value(count)))));
    }
    let reals = stats.reals.iter().filter(|_| per_real);
    let reals: Vec<_> = reals.map(|(real, count)| (real.to_string(), count)).collect();
    sink.by(&f::REAL_PACKETS, reals.iter().map(|(real, count)| (real, number(count.packets))));
    sink.by(&f::REAL_BYTES, reals.iter().map(|(real, count)| (real, number(count.bytes))));
    let checks = stats.healthcheck.iter();
    sink.by(&f::HEALTHCHECK_PACKETS, checks.map(|(result, count)| (result, number(count.packets))));
}

pub(super) fn flood_guards(sink: &mut dyn Sink, guards: &[FloodGuard]) {
    let of: [OfFamily<FloodGuard, Option<f64>>; 3] = [
        (&f::FLOOD_LIMITING, |guard| Some(flag(guard.limiting))),
        (&f::FLOOD_LIMIT, |guard| guard.limit.map(f64::from)),
        (&f::FLOOD_FLOWS, |guard| Some(number(guard.not_remembered))),
    ];
    for (family, value) in of {
        let values = guards.iter().filter_map(|guard| Some((guard.cpu.to_string(), value(guard)?)));
        sink.by(family, values);
    }
}

pub(super) fn chain_runs(sink: &mut dyn Sink, runs: ChainRuns) {
    sink.single(&f::CHAIN_RUNS, number(runs.runs));
    sink.single(&f::CHAIN_SECONDS, number(runs.nanoseconds) / 1e9);
}

const STATES: [(RealState, &str); 3] =
    [(RealState::Up, "up"), (RealState::Drain, "drain"), (RealState::Down, "down")];

/// A VIP with its label, and its reals.
#[derive(Debug)]
pub(super) struct OfVip<'a> {
    label: String,
    pub(super) vip: Vip,
    pub(super) spec: &'a VipSpec,
    /// Each with the place of its label.
    reals: Vec<(u32, &'a IpAddr, &'a RealSpec)>,
}

/// The VIPs and reals of a table in the order of their labels. Registries sort series by these, which is cheap for tens
/// of thousands that are already in order.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    pub(super) vips: Vec<OfVip<'a>>,
    /// Whether there are series for each pair of VIP and real.
    per_real: bool,
    /// The labels of the reals.
    labels: Vec<String>,
}

impl<'a> Pairs<'a> {
    pub(super) fn of(table: &'a Table, per_real: bool) -> Self {
        let addresses: FxHashSet<_> =
            table.vips.values().flat_map(|spec| spec.reals.keys()).collect();
        let mut labels: Vec<_> =
            addresses.into_iter().map(|real| (real.to_string(), real)).collect();
        labels.sort();
        let places: FxHashMap<_, _> =
            (0_u32..).zip(&labels).map(|(place, (_, real))| (*real, place)).collect();
        let of_vip = |(vip, spec): (&Vip, &'a VipSpec)| {
            let place = |(address, real)| Some((*places.get(address)?, address, real));
            let mut reals: Vec<_> = spec.reals.iter().filter_map(place).collect();
            reals.sort_unstable_by_key(|(place, ..)| *place);
            OfVip { label: vip.to_string(), vip: *vip, spec, reals }
        };
        let mut vips: Vec<_> = table.vips.iter().map(of_vip).collect();
        vips.sort_by(|a, b| a.label.cmp(&b.label));
        Self { vips, per_real, labels: labels.into_iter().map(|(label, _)| label).collect() }
    }

    /// A metric of these VIPs.
    pub(super) fn of_vips<'v>(
        sink: &mut dyn Sink,
        family: &'static Family,
        vips: impl IntoIterator<Item = &'v OfVip<'a>>,
        value: impl Fn(&OfVip<'_>) -> Option<f64>,
    ) where
        'a: 'v,
    {
        let values = vips.into_iter().filter_map(|vip| Some((&vip.label, value(vip)?)));
        sink.by(family, values);
    }

    /// A metric that counts the reals of each of these VIPs: `kind` says of what kind a real is, by its place among
    /// `kinds`.
    pub(super) fn counts<'v, const N: usize>(
        sink: &mut dyn Sink,
        family: &'static Family,
        vips: impl IntoIterator<Item = &'v OfVip<'a>>,
        kinds: [&str; N],
        kind: impl Fn(&RealSpec) -> Option<usize>,
    ) where
        'a: 'v,
    {
        sink.family(family);
        let vip_first = family.labels.first() == Some(&"vip");
        for vip in vips {
            let mut counts = [0_u32; N];
            for kind in vip.spec.reals.values().filter_map(&kind) {
                counts[kind] += 1;
            }
            for (count, kind) in counts.into_iter().zip(kinds) {
                let labels = if vip_first { [&vip.label, kind] } else { [kind, &vip.label] };
                sink.series(&labels, count.into());
            }
        }
    }

    /// A metric of pairs of these VIPs and a real, if there are series for pairs.
    pub(super) fn of_pairs<'v>(
        &self,
        sink: &mut dyn Sink,
        family: &'static Family,
        vips: impl IntoIterator<Item = &'v OfVip<'a>>,
        value: impl Fn(&OfVip<'_>, &IpAddr, &RealSpec) -> Option<f64>,
    ) where
        'a: 'v,
    {
        sink.family(family);
        self.each(vips, |vip, label, address, real| {
            if let Some(value) = value(vip, address, real) {
                sink.series(&[&vip.label, label], value);
            }
        });
    }

    fn states(&self, sink: &mut dyn Sink) {
        sink.family(&f::VIP_REAL_STATE);
        self.each(&self.vips, |vip, label, _, real| {
            sink.series(&[&vip.label, label, STATES[place_of(real.state)].1], 1.0);
        });
    }

    /// Walks through pairs of these VIPs and a real, with the real's label, if there are series for pairs.
    fn each<'v>(
        &self,
        vips: impl IntoIterator<Item = &'v OfVip<'a>>,
        mut take: impl FnMut(&OfVip<'_>, &str, &IpAddr, &RealSpec),
    ) where
        'a: 'v,
    {
        for vip in vips.into_iter().filter(|_| self.per_real) {
            for (place, address, real) in &vip.reals {
                take(vip, &self.labels[*place as usize], address, real);
            }
        }
    }
}

/// The place of a state among [`STATES`].
fn place_of(state: RealState) -> usize {
    STATES.iter().position(|(one, _)| *one == state).unwrap_or_default()
}

pub(super) fn vips(sink: &mut dyn Sink, pairs: &Pairs<'_>) {
    let states = STATES.map(|(_, name)| name);
    Pairs::counts(sink, &f::VIP_REALS, &pairs.vips, states, |real| Some(place_of(real.state)));
    Pairs::of_vips(sink, &f::VIP_USABLE_REALS, &pairs.vips, |vip| {
        let members = vip.spec.members();
        Some(number((members.len() - Ring::without_slot(&members).len()) as u64))
    });
    pairs.of_pairs(sink, &f::VIP_REAL_WEIGHT, &pairs.vips, |_, _, real| Some(real.weight.into()));
    pairs.states(sink);
}

/// Of reals whose own MAC frames go to: whether it is known.
pub(super) fn macs(sink: &mut dyn Sink, reals: &[(IpAddr, bool)]) {
    let reals = reals.iter().map(|(real, known)| (real.to_string(), flag(*known)));
    sink.by(&f::REAL_MAC_KNOWN, reals);
}

/// Series of the rings, for VIPs and reals that the table has now: the rings may have been read earlier.
pub(super) fn rings(sink: &mut dyn Sink, pairs: &Pairs<'_>, sample: &Sample<Rings>) {
    let Rings { table: before, by_vip: rings, mismatches } = &sample.value;
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
    let is_known = |vip: &Vip| rings.contains_key(vip) && before.vips.contains_key(vip);
    let known: Vec<_> = pairs.vips.iter().filter(|vip| is_known(&vip.vip)).collect();
    let vips = || known.iter().copied();
    Pairs::of_vips(sink, &f::VIP_RING_DIGEST, vips(), |vip| {
        rings.get(&vip.vip).map(|ring| number(ring.digest))
    });
    pairs.of_pairs(sink, &f::VIP_REAL_SHARE, vips(), |vip, address, _| {
        let was_there = before.vips.get(&vip.vip)?.reals.contains_key(address);
        was_there.then(|| rings.get(&vip.vip).map(|ring| ring.share(*address))).flatten()
    });
    Pairs::of_vips(sink, &f::VIP_RING_WRONG, vips(), |vip| {
        Some(of_vips.get(&vip.vip).copied().unwrap_or_default().into())
    });
    sink.by(&f::MISMATCHES, counts.into_iter().map(|(map, count)| (map, count.into())));
    sink.single(&f::RING_AGE, sample.age().as_secs_f64());
}

pub(super) fn maps(sink: &mut dyn Sink, sample: &Sample<Maps>) {
    let Maps { tables, fill, memory } = &sample.value;
    let mut of_tables = Vec::new();
    for table in fill {
        let cpu = table.cpu.map_or_else(|| SHARED.to_owned(), |cpu| cpu.to_string());
        // In a hash table both families share the room.
        let families: &[(&str, u32)] =
            if table.cpu.is_some() && tables.kind == TableKind::SetAssociative {
                &[("ipv4", table.used_ipv4), ("ipv6", table.used_ipv6)]
            } else {
                &[("any", table.used_ipv4 + table.used_ipv6)]
            };
        let families = families.iter();
        of_tables
            .extend(families.map(|(family, used)| (cpu.clone(), *family, *used, table.entries)));
    }
    sink.family(&f::TABLE_ENTRIES);
    for (cpu, family, used, _) in &of_tables {
        sink.series(&[cpu, family], (*used).into());
    }
    sink.family(&f::TABLE_MAX_ENTRIES);
    for (cpu, family, _, most) in &of_tables {
        sink.series(&[cpu, family], (*most).into());
    }
    sink.by(&f::MAP_MEMORY, memory.iter().map(|memory| (memory.map, number(memory.bytes))));
    sink.single(&f::TABLE_AGE, sample.age().as_secs_f64());
}

pub(super) fn interfaces(
    sink: &mut dyn Sink,
    states: &[InterfaceState],
    heard: &BTreeMap<String, Instant>,
) {
    sink.family(&f::INTERFACE_INFO);
    for state in states {
        let mode = match state.mode {
            Some(XdpMode::Native) => "native",
            Some(XdpMode::Generic) => "generic",
            Some(XdpMode::Auto) | None => "none",
        };
        let gateway = state.next_hop.map(|next_hop| next_hop.address.to_string());
        let gateway = gateway.as_deref().unwrap_or("none");
        sink.series(&[&state.interface, gateway, &state.mac.to_string(), mode], 1.0);
    }
    let of: [OfFamily<InterfaceState, f64>; 3] = [
        (&f::INTERFACE_ATTACHED, |state| flag(state.mode.is_some())),
        (&f::INTERFACE_MTU, |state| state.mtu.into()),
        (&f::GATEWAY_RESOLVED, |state| {
            flag(matches!(state.gateway, GatewayState::Confirmed(_) | GatewayState::Fixed))
        }),
    ];
    for (family, value) in of {
        sink.by(family, states.iter().map(|state| (&state.interface, value(state))));
    }
    let heard = heard.iter().map(|(name, at)| (name, at.elapsed().as_secs_f64()));
    sink.by(&f::GATEWAY_AGE, heard);
}

/// `unserved`: the records of interfaces. Some of these may be served as before.
pub(super) fn served(sink: &mut dyn Sink, states: &[InterfaceState], unserved: &[Unserved]) {
    let attached = states.iter().map(|state| (state.interface.as_str(), state.mode.is_some()));
    let waiting = unserved.iter().map(|unserved| (unserved.name.as_str(), false));
    // Both lists may have an interface that is gone.
    let mut served: BTreeMap<_, _> = waiting.collect();
    served.extend(attached);
    let served = served.into_iter().map(|(name, served)| (name, flag(served)));
    sink.by(&f::INTERFACE_SERVED, served);
}

pub(super) fn nics(sink: &mut dyn Sink, nics: &[(&str, NicStatistics)]) {
    sink.family(&f::NIC_STATISTIC);
    for (interface, nic) in nics {
        for (name, value) in &nic.statistics {
            sink.series(&[interface, name], number(*value));
        }
    }
}

pub(super) fn decap(sink: &mut dyn Sink, status: &DecapStatus) {
    let of: [OfFamily<Count, u64>; 2] =
        [(&f::DECAP_PACKETS, |count| count.packets), (&f::DECAP_BYTES, |count| count.bytes)];
    for (family, value) in of {
        let results = status.results.iter();
        sink.by(family, results.map(|(result, count)| (result, number(value(count)))));
    }
    let interfaces = status.interfaces.iter();
    sink.by(&f::DECAP_ATTACHED, interfaces.map(|(name, mode)| (name, flag(mode.is_some()))));
    sink.single(&f::DECAP_ADDRESSES, number(status.addresses.len() as u64));
    sink.single(&f::DECAP_TO, number(status.to.len() as u64));
    sink.single(&f::DECAP_FROM, number(status.from.len() as u64));
    let ports = status.gue_ports.iter().map(|port| (port.to_string(), 1.0));
    sink.by(&f::DECAP_GUE_PORT, ports);
    if status.mss.is_empty() {
        return;
    }
    sink.family(&f::DECAP_MSS);
    for (interface, mss) in &status.mss {
        for (family, bytes) in [("ipv4", mss.ipv4), ("ipv6", mss.ipv6)] {
            sink.series(&[interface, family], bytes.unwrap_or_default().into());
        }
    }
    let results = status.mss_results.iter();
    sink.by(&f::DECAP_MSS_SEGMENTS, results.map(|(result, count)| (result, number(*count))));
}
