//! Checks once a minute whether the maps match each other, and fixes those that do not. Also ends a detour of packets that
//! a killed command has left.

use std::time::Duration;

use prometheus::IntCounter;
use prometheus::core::Collector;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::process;
use super::process::blocking;
use crate::control::chain;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::mismatch::Mismatch;

/// Time between two checks. A check takes some ten microseconds for each VIP.
const INTERVAL: Duration = Duration::from_secs(60);

/// How many mismatches the log names one by one.
const NAMED: usize = 10;

/// [`INTERVAL`], or `LBCTL_REPAIR_MS` for tests, which cannot wait that long.
fn every() -> Duration {
    let asked = std::env::var("LBCTL_REPAIR_MS").ok().filter(|_| cfg!(debug_assertions));
    let asked = asked.and_then(|asked| asked.parse().ok()).filter(|asked| *asked > 0);
    asked.map_or(INTERVAL, Duration::from_millis)
}

/// The number of fixed mismatches.
pub(super) struct Repairs {
    made: IntCounter,
    due: Interval,
    /// The last message about what cannot be fixed.
    said: Option<String>,
}

impl Repairs {
    pub(super) fn new() -> Result<Self> {
        let made = process::made(IntCounter::new(
            "l4lb_map_repairs_total",
            "Entries of maps that did not match the rest of the maps, and were written anew.",
        ))?;
        let mut due = interval(every());
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { made, due, said: None })
    }

    pub(super) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.made.clone())
    }

    pub(super) async fn are_due(&mut self) {
        self.due.tick().await;
    }

    pub(super) async fn make(&mut self, instance: &Instance) {
        let (own, instance) = (instance.clone(), instance.clone());
        let detour = blocking(move || chain::end_detours(&own)).await.err();
        // While pins are lost, others say so.
        let detour = detour.filter(|error| !matches!(error, Error::LostPins(_)));
        let detour =
            detour.map(|error| format!("packets take the detour by the root program: {error}"));
        match blocking(move || Balancer::rewrite_mismatches(&instance)).await {
            Ok(repair) => {
                self.made.inc_by(repair.done.len() as u64);
                for mismatch in repair.done.iter().take(NAMED) {
                    tracing::warn!("{mismatch}: written anew");
                }
                if let Some(more @ 1..) = repair.done.len().checked_sub(NAMED) {
                    tracing::warn!("and {more} more maps: written anew");
                }
                let left = repair.left.first().map(|left: &Mismatch| {
                    format!("{left}: run lbctl apply -f FILE, which writes it anew with the rings of its VIPs")
                });
                self.tell(left.or(detour));
            }
            Err(error @ Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
            Err(error) => {
                self.tell(Some(format!("cannot check whether the maps match each other: {error}")));
            }
        }
    }

    /// Logs a message, unless it is the same as the last one.
    fn tell(&mut self, what: Option<String>) {
        if let Some(text) = what.as_ref().filter(|_| what != self.said) {
            tracing::warn!("{text}");
        }
        self.said = what;
    }
}
