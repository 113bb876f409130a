//! How an agent reports its reloads: to Prometheus, to `lbctl reload` and to `lbctl status`.

use std::sync::Arc;

use prometheus::Gauge;
use prometheus::IntGauge;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use super::event::Event;
use super::event::Outcome;
use super::process::made;
use crate::instance::serving::ControlStatus;
use crate::instance::serving::Serving;
use crate::instance::serving::rfc3339;
use crate::kernel::clock::since_1970;
use crate::model::config::Config;
use crate::model::error::Result;

/// A reload begins. A request from here on causes another reload.
pub(super) fn begin(serving: &Serving, mut tell: impl FnMut(Event<'_>)) {
    serving.reload_begins();
    tell(Event::Reloading);
}

/// A reload has ended.
pub(super) fn end(serving: &Serving, outcome: &Outcome, mut tell: impl FnMut(Event<'_>)) {
    // Tell systemd first: when `lbctl reload` returns, systemd must not see a reload in progress any more.
    tell(Event::Reloaded(outcome));
    let failure = outcome.failure();
    let ended = failure.as_deref().map_or(Ok(()), Err);
    serving.reload_ended(ended, outcome.is_applied());
}

/// Whether what runs is what the file says.
#[derive(Clone)]
pub(super) struct Reloads {
    serving: Arc<Serving>,
    success: IntGauge,
    timestamp: Gauge,
    in_sync: IntGauge,
}

impl Reloads {
    /// For a process that has just applied its file.
    pub(super) fn new(serving: Serving) -> Result<Self> {
        let success = made(IntGauge::new(
            "l4lb_reload_success",
            "Whether the file was applied when it was last read, or by another command since then: 1 or 0.",
        ))?;
        let timestamp = made(Gauge::new(
            "l4lb_reload_success_timestamp_seconds",
            "When the file was last applied, in seconds since 1970.",
        ))?;
        let in_sync = made(IntGauge::new(
            "l4lb_config_in_sync",
            "Whether the file on disk is what was applied last: 1 or 0.",
        ))?;
        let reloads = Self { serving: Arc::new(serving), success, timestamp, in_sync };
        reloads.applied();
        Ok(reloads)
    }

    fn applied(&self) {
        self.timestamp.set(since_1970().as_secs_f64());
    }

    /// See [`begin`].
    pub(super) fn begin(&self, tell: impl FnMut(Event<'_>)) {
        begin(&self.serving, tell);
    }

    /// The reload has ended.
    pub(super) fn end(&self, outcome: &Outcome, tell: impl FnMut(Event<'_>)) {
        if outcome.is_applied() {
            self.applied();
        }
        if outcome.is_done() {
            tracing::info!("{outcome}");
        } else {
            tracing::error!("{outcome}");
        }
        end(&self.serving, outcome, tell);
    }

    /// Whether the current reload may remove more than half of the VIPs or reals.
    pub(super) fn is_consented(&self) -> bool {
        self.serving.is_consented()
    }

    /// Records whether the metrics are where the file says.
    pub(super) fn set_metrics(&self, listening: bool) {
        self.serving.set_metrics(listening);
    }

    /// Records where the control API listens.
    pub(super) fn set_control(&self, control: Option<&ControlStatus>) {
        self.serving.set_control(control);
    }

    /// Records what the file says about this process, beside what is applied to the kernel.
    pub(super) fn set_own(&self, config: &Config) {
        self.serving.set_own(config);
    }

    /// Whether a configuration is in force: it is what was applied last, and this process does what it says.
    pub(super) fn is_applied(&self, config: &Config) -> bool {
        self.serving.has_own(config) && self.serving.applied_digest() == config.digest()
    }

    /// Whether a configuration with this digest was applied last, as far as that is known.
    pub(super) fn is_last(&self, digest: u64) -> bool {
        [0, digest].contains(&self.serving.applied_digest())
    }

    /// Records whether the file on disk is what was applied: `None`, or whether it can be applied.
    pub(super) fn set_drift(&self, drift: Option<bool>) {
        self.serving.set_drift(drift);
    }

    /// A note about the last reload, if it failed, or about a file on disk that was not applied.
    pub(super) fn failure(&self) -> Option<String> {
        let Some(reload) = self.serving.failed_reload() else {
            let drift = self.serving.drift()?;
            let valid = if drift.valid { "" } else { ", and cannot be applied" };
            let since = rfc3339(drift.since);
            return Some(format!("the file differs from what was applied, since {since}{valid}"));
        };
        Some(format!("the last reload failed ({}): {}", reload.time(), reload.message))
    }
}

impl Collector for Reloads {
    fn desc(&self) -> Vec<&Desc> {
        [self.success.desc(), self.timestamp.desc(), self.in_sync.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Another command may have applied a file meanwhile.
        self.success.set(self.serving.failed_reload().is_none().into());
        let differs = self.serving.failed_reload().is_some() || self.serving.drift().is_some();
        self.in_sync.set((!differs).into());
        [self.success.collect(), self.timestamp.collect(), self.in_sync.collect()].concat()
    }
}
