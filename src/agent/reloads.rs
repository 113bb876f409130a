//! What `lbctl serve` tells of its reloads: to systemd, to Prometheus, to `lbctl reload` and `lbctl status`.

use std::sync::Arc;
use std::time::SystemTime;

use l4lb::serving::Serving;
use prometheus::Gauge;
use prometheus::IntGauge;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use crate::daemon::made;
use crate::daemon::notify_ready;
use crate::daemon::notify_reloading;

/// How a reload ended.
pub(super) enum Outcome {
    /// The file is in force.
    Done,
    /// So it is, but metrics are not where it says.
    MetricsElsewhere(l4lb::Error),
    /// What was applied before is in force.
    Failed(l4lb::Error),
}

/// Whether the file is what runs.
#[derive(Clone)]
pub(super) struct Reloads {
    serving: Arc<Serving>,
    success: IntGauge,
    timestamp: Gauge,
}

impl Reloads {
    /// Of a process that has just applied its file.
    pub(super) fn new(serving: Serving) -> l4lb::Result<Self> {
        let success = made(IntGauge::new(
            "l4lb_reload_success",
            "Whether the file was applied when it was last read, or by another command since then: 1 or 0.",
        ))?;
        let timestamp = made(Gauge::new(
            "l4lb_reload_success_timestamp_seconds",
            "When the file was last applied, in seconds since 1970.",
        ))?;
        let reloads = Self { serving: Arc::new(serving), success, timestamp };
        reloads.applied();
        Ok(reloads)
    }

    fn applied(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.timestamp.set(now.unwrap_or_default().as_secs_f64());
    }

    /// A reload begins. Whoever asks for one from here on gets another.
    pub(super) fn begin(&self) {
        self.serving.reload_begins();
        notify_reloading();
    }

    /// It has ended.
    pub(super) fn end(&self, outcome: &Outcome) {
        let (text, applied) = match outcome {
            Outcome::Done => ("reloaded".to_owned(), true),
            Outcome::MetricsElsewhere(error) => {
                (format!("reloaded, but for the metrics: {error}"), true)
            }
            Outcome::Failed(error) => (format!("not reloaded: {error}"), false),
        };
        if applied {
            self.applied();
        }
        let ended = match outcome {
            Outcome::Done => {
                tracing::info!("{text}");
                Ok(())
            }
            Outcome::MetricsElsewhere(error) | Outcome::Failed(error) => {
                tracing::error!("{text}");
                Err(error.to_string())
            }
        };
        // Before who has asked for it hears the outcome: then systemd has no reload under way any more.
        notify_ready(if ended.is_ok() { "serving" } else { &text });
        self.serving.reload_ended(ended.as_ref().copied().map_err(String::as_str), applied);
    }

    /// Notes whether the metrics are where the file says.
    pub(super) fn set_metrics(&self, listening: bool) {
        self.serving.set_metrics(listening);
    }

    /// What to say of the last reload, if it failed.
    pub(super) fn failure(&self) -> Option<String> {
        let reload = self.serving.failed_reload()?;
        Some(format!("the last reload failed ({}): {}", reload.time(), reload.message))
    }
}

impl Collector for Reloads {
    fn desc(&self) -> Vec<&Desc> {
        [self.success.desc(), self.timestamp.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Another command may have applied a file meanwhile.
        self.success.set(self.serving.failed_reload().is_none().into());
        [self.success.collect(), self.timestamp.collect()].concat()
    }
}
