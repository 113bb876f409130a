//! The health of reals: what checks, or checkers of others, have found. Pure.
//!
//! What the operator wants (weight and state) and what checks find stay apart. [`VipSpec`] combines both into the
//! members of the ring and the reals that may keep flows.
//!
//! [`VipSpec`]: crate::model::vip_table::VipSpec

pub(crate) mod flapping;
pub(crate) mod judge;
pub(crate) mod policies;
pub(crate) mod slow_start;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Whether a real does well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Health {
    /// Nobody has checked it yet. It is used.
    #[default]
    Unknown,
    /// It does well.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// What has been found about a real of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealHealth {
    /// Whether it does well.
    pub state: Health,
    /// The part of its weight that counts, in percent: it starts slowly, or asks for less. 0: no new flows.
    pub share: u8,
    /// Whether somebody else said so, not a check of the VIP (`lbctl real health`).
    pub told: bool,
}

impl Default for RealHealth {
    fn default() -> Self {
        Self { state: Health::Unknown, share: Self::FULL, told: false }
    }
}

/// How long nobody has checked, at the least, before somebody is told.
const OVERDUE: Duration = Duration::from_secs(30);

/// The bit of the raw state that says [`RealHealth::told`].
const TOLD: u8 = 1 << 7;

impl RealHealth {
    /// All of the weight.
    pub const FULL: u8 = 100;

    /// Whether it may take new flows.
    pub fn takes_flows(self) -> bool {
        self.state != Health::Unhealthy && self.share > 0
    }

    /// The bytes of the record: the state, and what is missing from the full share. Both are 0 if nothing is known.
    pub(crate) fn raw(self) -> (u8, u8) {
        let state = match self.state {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
        };
        let told = if self.told { TOLD } else { 0 };
        (state | told, Self::FULL.saturating_sub(self.share))
    }

    /// The reverse of [`Self::raw`]. Values that no build writes count as unknown.
    pub(crate) fn from_raw(state: u8, missing: u8) -> Self {
        let told = state & TOLD != 0;
        let state = match state & !TOLD {
            1 => Health::Healthy,
            2 => Health::Unhealthy,
            _ => Health::Unknown,
        };
        Self { state, share: Self::FULL.saturating_sub(missing), told }
    }
}

/// Whether checks that are to be run every so often are not run, though the last one was then, in seconds since 1970.
/// Whoever checks says so with each result, or about every second. A result may take as long as the shortest interval.
pub(crate) fn is_overdue(
    intervals: impl IntoIterator<Item = Duration>,
    last_check: Option<u64>,
    now: u64,
) -> bool {
    let Some(shortest) = intervals.into_iter().min() else { return false };
    let pause = (shortest * 3).max(OVERDUE).as_secs();
    last_check.is_none_or(|last| last.saturating_add(pause) < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_overdue_after_some_intervals() {
        let seconds = |seconds: &[u64]| {
            seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect::<Vec<_>>()
        };
        assert!(!is_overdue([], None, 1000), "nothing is to be checked");
        assert!(is_overdue(seconds(&[5]), None, 1000));
        assert!(!is_overdue(seconds(&[5]), Some(970), 1000));
        assert!(is_overdue(seconds(&[5, 60]), Some(969), 1000));
        assert!(!is_overdue(seconds(&[60]), Some(820), 1000));
        assert!(is_overdue(seconds(&[60]), Some(819), 1000));
        assert!(!is_overdue(seconds(&[60]), Some(2000), 1000), "the clock went back");
    }

    #[test]
    fn records_say_what_was_found() {
        assert_eq!(RealHealth::default().raw(), (0, 0));
        for state in [Health::Unknown, Health::Healthy, Health::Unhealthy] {
            for (share, told) in [(0, false), (25, true), (100, false)] {
                let health = RealHealth { state, share, told };
                let (state, missing) = health.raw();
                assert_eq!(RealHealth::from_raw(state, missing), health);
            }
        }
    }
}
