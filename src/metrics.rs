//! The counters as Prometheus metrics: for `lbctl serve`, and for services that embed the library.

use prometheus::IntCounterVec;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::core::Collector as _;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use crate::balancer::Balancer;
use crate::flood_guard::FloodGuard;
use crate::instance::Instance;
use crate::stats::Stats;

/// What a family is called, what it means, and its labels.
type Family = (&'static str, &'static str, &'static [&'static str]);

const PACKETS: Family =
    ("l4lb_packets_total", "Packets by verdict and reason.", &["verdict", "reason"]);
const BYTES: Family =
    ("l4lb_bytes_total", "Bytes of frames by verdict and reason.", &["verdict", "reason"]);
const TABLE: Family =
    ("l4lb_table_events_total", "Events at connection table and server ids.", &["event"]);
const VIP_PACKETS: Family =
    ("l4lb_vip_packets_total", "Packets of a VIP sent to its reals.", &["vip"]);
const VIP_BYTES: Family = ("l4lb_vip_bytes_total", "Bytes of a VIP sent to its reals.", &["vip"]);
const VIP_DROPPED: Family =
    ("l4lb_vip_dropped_packets_total", "Packets of a VIP that no real got.", &["vip"]);
const VIP_NEW_FLOWS: Family =
    ("l4lb_vip_new_flows_total", "Packets of a VIP that the ring selected a real for.", &["vip"]);
const REAL_PACKETS: Family = ("l4lb_real_packets_total", "Packets sent to a real.", &["real"]);
const REAL_BYTES: Family = ("l4lb_real_bytes_total", "Bytes sent to a real.", &["real"]);
const LIMITING: Family = (
    "l4lb_flood_guard_limiting",
    "Whether a CPU has reached its limit of new flows within the second: 1 or 0.",
    &["cpu"],
);
const NOT_REMEMBERED: Family = (
    "l4lb_flood_guard_flows_total",
    "New flows that a CPU has balanced but not remembered, as there were too many.",
    &["cpu"],
);
const BUILD_INFO: Family = ("l4lb_build_info", "The running build; always 1.", &["version"]);

/// Collects the metrics of an instance, whatever becomes of it: series of a VIP or real vanish with it, and
/// all but `l4lb_build_info` while the instance does not run.
///
/// ```no_run
/// let instance = l4lb::Instance::default();
/// let registry = prometheus::Registry::new();
/// registry.register(Box::new(l4lb::metrics::Collector::new(instance)))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Collector {
    instance: Instance,
    build_info: IntGaugeVec,
}

impl Collector {
    /// Collects from this instance, which need not run yet.
    pub fn new(instance: Instance) -> Self {
        Self { instance, build_info: gauge(BUILD_INFO) }
    }
}

/// A family of our own constants, which are valid names.
fn counter((name, help, labels): Family) -> IntCounterVec {
    #[expect(clippy::expect_used, reason = "fails for a bad constant only, and then always")]
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric name")
}

fn gauge((name, help, labels): Family) -> IntGaugeVec {
    #[expect(clippy::expect_used, reason = "fails for a bad constant only, and then always")]
    IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric name")
}

/// A family with these values by label values.
fn counters<const N: usize>(
    family: Family,
    values: impl IntoIterator<Item = ([String; N], u64)>,
) -> Vec<MetricFamily> {
    let vec = counter(family);
    for (labels, value) in values {
        vec.with_label_values(&labels).inc_by(value);
    }
    vec.collect()
}

/// As [`counters`], of values that go down, too.
fn gauges<const N: usize>(
    family: Family,
    values: impl IntoIterator<Item = ([String; N], i64)>,
) -> Vec<MetricFamily> {
    let vec = gauge(family);
    for (labels, value) in values {
        vec.with_label_values(&labels).set(value);
    }
    vec.collect()
}

fn families(stats: &Stats, guards: &[FloodGuard]) -> Vec<MetricFamily> {
    let reasons = || {
        stats
            .reasons
            .iter()
            .map(|reason| ([reason.verdict.to_string(), reason.reason.to_owned()], reason.count))
    };
    let vips = || stats.vips.iter().map(|(vip, count)| ([vip.to_string()], count));
    let reals = || stats.reals.iter().map(|(real, count)| ([real.to_string()], count));
    let guards = || guards.iter().map(|guard| ([guard.cpu.to_string()], guard));
    [
        counters(PACKETS, reasons().map(|(labels, count)| (labels, count.packets))),
        counters(BYTES, reasons().map(|(labels, count)| (labels, count.bytes))),
        counters(TABLE, stats.table.iter().map(|(event, count)| ([(*event).to_owned()], *count))),
        counters(VIP_PACKETS, vips().map(|(vip, count)| (vip, count.sent.packets))),
        counters(VIP_BYTES, vips().map(|(vip, count)| (vip, count.sent.bytes))),
        counters(VIP_DROPPED, vips().map(|(vip, count)| (vip, count.dropped))),
        counters(VIP_NEW_FLOWS, vips().map(|(vip, count)| (vip, count.new_flows))),
        counters(REAL_PACKETS, reals().map(|(real, count)| (real, count.packets))),
        counters(REAL_BYTES, reals().map(|(real, count)| (real, count.bytes))),
        gauges(LIMITING, guards().map(|(cpu, guard)| (cpu, guard.limiting.into()))),
        counters(NOT_REMEMBERED, guards().map(|(cpu, guard)| (cpu, guard.not_remembered))),
    ]
    .concat()
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.build_info.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |balancer: Balancer| Ok((balancer.stats()?, balancer.flood_guards()?));
        let mut metrics = match Balancer::open(&self.instance).and_then(read) {
            Ok((stats, guards)) => families(&stats, &guards),
            Err(error) => {
                tracing::warn!("cannot read the counters: {error}");
                Vec::new()
            }
        };
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.extend(self.build_info.collect());
        metrics
    }
}
