//! The health of all reals in a few numbers.

use std::time::Duration;

use serde::Serialize;

use crate::kernel::clock::seconds_since_1970;
use crate::kernel::clock::time_in_words;
use crate::model::health::Health;
use crate::model::health::is_overdue;
use crate::observe::vips::VipStatus;

/// The health of all reals together, and whether somebody checks them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthSummary {
    /// How many VIPs have a check, and reals.
    pub checked_vips: usize,
    /// How many VIPs have reals and no check, and nobody told how these do.
    pub unchecked_vips: usize,
    /// How many VIPs use all reals because too few are healthy.
    pub failing_open_vips: usize,
    /// How many reals of VIPs are healthy. A real counts once for each VIP.
    pub healthy: usize,
    /// How many are unhealthy.
    pub unhealthy: usize,
    /// How many nobody has checked yet, of VIPs that have a check.
    pub unknown: usize,
    /// When checks were last run, in seconds since 1970.
    pub last_check: Option<u64>,
    /// Whether VIPs have checks that nobody runs.
    pub nobody_checks: bool,
}

impl HealthSummary {
    pub(crate) fn new(vips: &[VipStatus], last_check: Option<u64>) -> Self {
        let intervals: Vec<Duration> = vips.iter().filter_map(|vip| vip.check_interval).collect();
        let count = |state, of: fn(&VipStatus) -> bool| {
            let reals = vips.iter().filter(|vip| of(vip)).flat_map(|vip| &vip.reals);
            reals.filter(|real| real.health.state == state).count()
        };
        Self {
            checked_vips: intervals.len(),
            unchecked_vips: vips.iter().filter(|vip| vip.is_unchecked()).count(),
            failing_open_vips: vips.iter().filter(|vip| vip.fails_open).count(),
            healthy: count(Health::Healthy, |_| true),
            unhealthy: count(Health::Unhealthy, |_| true),
            unknown: count(Health::Unknown, |vip| vip.check.is_some()),
            last_check,
            nobody_checks: is_overdue(intervals, last_check, seconds_since_1970()),
        }
    }

    /// Whether there is anything to tell.
    pub fn is_of_interest(&self) -> bool {
        self.checked_vips != 0
            || self.unchecked_vips != 0
            || self.healthy != 0
            || self.unhealthy != 0
    }

    /// When somebody last checked, in the local time zone: `last check 12:03:11`.
    pub fn last_check_in_words(&self) -> String {
        self.last_check.map_or_else(|| "never".to_owned(), time_in_words)
    }
}
