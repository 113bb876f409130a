//! Metrics of the running checks. Their series are bounded by the kinds of checks and the VIPs; none is by real.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use prometheus::GaugeVec;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::Opts;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use super::super::process::made;
use super::change::Change;
use super::job::Id;
use crate::model::address::Vip;
use crate::model::config::CheckKind;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::model::vip_table::config_name;
use crate::probe::Outcome;
use crate::probe::Report;

/// From what passes on one network to the longest timeouts that people set.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The most lines a second about VIPs that this host cannot check.
const LOCAL_LINES: usize = 10;

/// The metrics of [`Checks`](super::Checks), for a registry. Clones are the same metrics.
#[derive(Clone)]
pub struct CheckMetrics(Arc<Metrics>);

struct Metrics {
    results: IntCounterVec,
    durations: HistogramVec,
    lateness: Histogram,
    late: IntCounter,
    running: IntGauge,
    targets: IntGauge,
    jobs: IntGauge,
    changes: IntCounterVec,
    age: GaugeVec,
    certificates: GaugeVec,
    seen: Mutex<BTreeMap<Vip, Seen>>,
    /// Whether there ever was something to check. Without that, there are no series.
    used: AtomicBool,
}

/// What was last seen of a VIP.
#[derive(Debug, Default)]
struct Seen {
    /// The last result that says something about a real.
    result: Option<Instant>,
    /// When each real's certificate expires.
    certificates: BTreeMap<IpAddr, SystemTime>,
    /// Why this host cannot check it; and whether the log says so.
    local: Option<String>,
    logged: bool,
}

impl fmt::Debug for CheckMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckMetrics").finish_non_exhaustive()
    }
}

impl CheckMetrics {
    pub(super) fn new() -> Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let gauge = |name: &str, help: &str| made(IntGauge::new(name, help));
        Ok(Self(Arc::new(Metrics {
            results: made(IntCounterVec::new(
                opts("l4lb_checks_total", "Results of checks, by the kind of check and of result."),
                &["type", "result"],
            ))?,
            durations: made(HistogramVec::new(
                HistogramOpts::new(
                    "l4lb_check_duration_seconds",
                    "How long checks took, by their kind.",
                )
                .buckets(BUCKETS.to_vec()),
                &["type"],
            ))?,
            lateness: made(Histogram::with_opts(
                HistogramOpts::new(
                    "l4lb_check_lateness_seconds",
                    "How long after they were due checks began.",
                )
                .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0]),
            ))?,
            late: made(IntCounter::new(
                "l4lb_checks_late_total",
                "Checks that began later than a tenth of their interval, and than 0.1 s, after they were due.",
            ))?,
            running: gauge("l4lb_checks_running", "Checks that are being run.")?,
            targets: gauge(
                "l4lb_check_targets",
                "Reals of VIPs that are to be checked, each VIP for itself.",
            )?,
            jobs: gauge(
                "l4lb_check_jobs",
                "Different checks: equal ones of several VIPs run once.",
            )?,
            changes: made(IntCounterVec::new(
                opts(
                    "l4lb_health_changes_total",
                    "Reals of a VIP that became healthy or unhealthy.",
                ),
                &["vip", "to"],
            ))?,
            age: made(GaugeVec::new(
                opts(
                    "l4lb_check_result_age_seconds",
                    "Time since a check last said something about a real of the VIP.",
                ),
                &["vip"],
            ))?,
            certificates: made(GaugeVec::new(
                opts(
                    "l4lb_check_certificate_days",
                    "Days until the first certificate of a VIP's reals expires; below 0: it has expired.",
                ),
                &["vip"],
            ))?,
            seen: Mutex::default(),
            used: AtomicBool::new(false),
        })))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vip, Seen>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check begins.
    pub(super) fn started(&self, late: Duration, is_late: bool) {
        self.0.lateness.observe(late.as_secs_f64());
        self.0.late.inc_by(is_late.into());
    }

    pub(super) fn running(&self, running: usize) {
        self.0.running.set(number(running));
    }

    pub(super) fn targets(&self, targets: usize, jobs: usize) {
        self.0.used.fetch_or(targets > 0, Ordering::Relaxed);
        self.0.targets.set(number(targets));
        self.0.jobs.set(number(jobs));
    }

    /// A check has ended.
    pub(super) fn ended(&self, kind: CheckKind, members: &[Id], report: &Report) {
        let kind = config_name(&kind);
        self.0.results.with_label_values(&[&*kind, report.class.name()]).inc();
        self.0.durations.with_label_values(&[&*kind]).observe(report.took.as_secs_f64());
        let now = Instant::now();
        let mut seen = self.seen();
        for (vip, real) in members {
            let seen = seen.entry(*vip).or_default();
            if report.outcome == Outcome::Unknown {
                seen.local = Some(report.reason.clone());
            } else {
                seen.result = Some(now);
                seen.local = None;
            }
            if let Some(expires) = report.certificate_expires {
                seen.certificates.insert(*real, expires);
            }
        }
    }

    /// Reals have changed.
    pub(super) fn changed(&self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.new != Health::Unknown) {
            let (vip, to) = (change.vip.to_string(), change.new.to_string());
            self.0.changes.with_label_values(&[&*vip, &*to]).inc();
        }
    }

    /// Forgets all reals of VIPs but these.
    pub(super) fn retain(&self, ids: &HashSet<Id>) {
        let vips: BTreeSet<Vip> = ids.iter().map(|(vip, _)| *vip).collect();
        self.seen().retain(|vip, seen| {
            seen.certificates.retain(|real, _| ids.contains(&(*vip, *real)));
            let stays = vips.contains(vip);
            let label = vip.to_string();
            if !stays {
                for to in [Health::Healthy, Health::Unhealthy] {
                    let _ = self.0.changes.remove_label_values(&[&*label, &*to.to_string()]);
                }
                let _ = self.0.age.remove_label_values(&[&*label]);
            }
            if seen.certificates.is_empty() {
                let _ = self.0.certificates.remove_label_values(&[&*label]);
            }
            stays
        });
    }

    /// Logs which VIPs this host cannot check any more, and which it can check again.
    pub(super) fn report_local(&self) {
        let mut seen = self.seen();
        let changed = seen.iter_mut().filter(|(_, seen)| seen.logged != seen.local.is_some());
        for (vip, seen) in changed.take(LOCAL_LINES) {
            seen.logged = seen.local.is_some();
            if let Some(why) = &seen.local {
                tracing::error!(
                    "{vip}: this host cannot check its reals: {why}; what was known of them stays in force"
                );
            } else {
                tracing::info!("{vip}: its reals can be checked again");
            }
        }
    }

    /// How many checks began, and how many of them late.
    pub fn starts(&self) -> (u64, u64) {
        (self.0.lateness.get_sample_count(), self.0.late.get())
    }

    /// How many checks ended with a result of this class.
    pub fn results(&self, kind: CheckKind, class: crate::probe::Class) -> u64 {
        self.0.results.with_label_values(&[&*config_name(&kind), class.name()]).get()
    }
}

fn number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Collector for CheckMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let all = &*self.0;
        [
            all.results.desc(),
            all.durations.desc(),
            all.lateness.desc(),
            all.late.desc(),
            all.running.desc(),
            all.targets.desc(),
            all.jobs.desc(),
            all.changes.desc(),
            all.age.desc(),
            all.certificates.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = &*self.0;
        if !all.used.load(Ordering::Relaxed) {
            return Vec::new();
        }
        for (vip, seen) in &*self.seen() {
            let vip = vip.to_string();
            if let Some(result) = seen.result {
                all.age.with_label_values(&[&*vip]).set(result.elapsed().as_secs_f64());
            }
            if let Some(first) = seen.certificates.values().min() {
                all.certificates.with_label_values(&[&*vip]).set(days_until(*first));
            }
        }
        [
            all.results.collect(),
            all.durations.collect(),
            all.lateness.collect(),
            all.late.collect(),
            all.running.collect(),
            all.targets.collect(),
            all.jobs.collect(),
            all.changes.collect(),
            all.age.collect(),
            all.certificates.collect(),
        ]
        .concat()
    }
}

fn days_until(time: SystemTime) -> f64 {
    const DAY: f64 = 86_400.0;
    match time.duration_since(SystemTime::now()) {
        Ok(left) => left.as_secs_f64() / DAY,
        Err(error) => -error.duration().as_secs_f64() / DAY,
    }
}
