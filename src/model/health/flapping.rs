//! A real that fails too often stays out for a time that grows.
//!
//! A real **flaps** if it fails more often than `failures` times within `window`. It is then held out for `hold`, whatever
//! its checks say, and each further hold is twice as long, up to `hold_at_most`. The failures before a hold stay in the
//! window: a real that comes back from a hold and fails again at once is held again at once. The growth is forgotten
//! after a **quiet time** without a failure: the window, or as long as the last hold was, if that is more, counted from
//! the end of the hold.
//!
//! Times are wall clock, since 1970, because they outlive the process. A clock that is set backwards must not hold a real
//! for ever: a hold that ends later than `hold_at_most` from now is cut to that once, and failures in the future are
//! forgotten.

use std::time::Duration;

use crate::model::config::Flapping;

/// The most failures that are remembered; more than [`Flapping::failures`] can be.
const MAX_REMEMBERED: u16 = 1024;

/// What is known about the failures of a real, for as long as it is in its VIP. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlapHistory {
    /// When it failed within the window, the oldest first.
    failed: Vec<u32>,
    /// How often it was held out since it was quiet.
    holds: u32,
    /// When the last hold ends; 0: there was none.
    until: u32,
}

/// A history as the real's record has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlapSummary {
    /// How often it failed since [`Self::since`].
    pub(crate) failures: u32,
    /// When it failed first within the window, in seconds since 1970.
    pub(crate) since: u64,
    /// How often it was held out since it was quiet.
    pub(crate) holds: u32,
    /// When the last hold ends, in seconds since 1970; 0: there was none.
    pub(crate) until: u64,
}

/// Why a real stays out, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// How often it failed.
    pub(crate) failures: u32,
    /// Within this time.
    pub(crate) window: Duration,
    /// When it may come back, since 1970.
    pub(crate) until: Duration,
}

impl FlapHistory {
    /// A history from the record. The record has only the first of the failures and their number, so they count as spread
    /// evenly up to `last`, the time of the real's last change.
    pub(crate) fn restore(summary: &FlapSummary, last: Duration) -> Self {
        let first = u32::try_from(summary.since).unwrap_or(u32::MAX);
        let number = summary.failures.min(MAX_REMEMBERED.into());
        let gap = seconds(last).saturating_sub(first) / number.saturating_sub(1).max(1);
        Self {
            failed: (0..number).map(|i| first.saturating_add(gap * i)).collect(),
            holds: summary.holds,
            until: u32::try_from(summary.until).unwrap_or(u32::MAX),
        }
    }

    /// What the record keeps.
    pub(crate) fn summary(&self) -> FlapSummary {
        FlapSummary {
            failures: u32::try_from(self.failed.len()).unwrap_or(u32::MAX),
            since: self.failed.first().copied().unwrap_or(0).into(),
            holds: self.holds,
            until: self.until.into(),
        }
    }

    /// The real has failed. Returns whether it is held out from now on.
    pub(crate) fn fails(&mut self, policy: &Flapping, now: Duration) -> bool {
        self.forget(policy, now);
        self.failed.push(seconds(now));
        if self.failed.len() > usize::from(MAX_REMEMBERED) {
            self.failed.remove(0);
        }
        let most = (policy.failures as usize).min(usize::from(MAX_REMEMBERED) - 1);
        if self.failed.len() <= most || self.hold(policy, now).is_some() {
            return false;
        }
        self.holds = self.holds.saturating_add(1);
        self.until = seconds(now.saturating_add(self.last_hold(policy)));
        true
    }

    /// How long the last hold was. It is a whole number of seconds, and never none.
    fn last_hold(&self, policy: &Flapping) -> Duration {
        let doubled = policy.hold.saturating_mul(1 << self.holds.saturating_sub(1).min(20));
        Duration::from_secs(seconds_up(doubled.min(policy.hold_at_most)).max(1).into())
    }

    /// Why and how long the real stays out now; `None`: its checks decide.
    pub(crate) fn hold(&mut self, policy: &Flapping, now: Duration) -> Option<Hold> {
        // The clock may have been set back, and the policy may allow less than it did. The end is kept: one that each look
        // counts from its own time would never come nearer.
        self.until = self.until.min(seconds_up(now.saturating_add(policy.hold_at_most)));
        (seconds(now) < self.until).then(|| Hold {
            failures: u32::try_from(self.failed.len()).unwrap_or(u32::MAX),
            window: policy.window,
            until: Duration::from_secs(self.until.into()),
        })
    }

    /// Forgets what is over.
    fn forget(&mut self, policy: &Flapping, now: Duration) {
        let last_failure = self.failed.last().copied().unwrap_or(0);
        let quiet_since = Duration::from_secs(last_failure.max(self.until).into());
        let quiet = policy.window.max(self.last_hold(policy));
        if now >= quiet_since.saturating_add(quiet) {
            self.holds = 0;
        }
        let now = seconds(now);
        let window = seconds_up(policy.window).max(1);
        self.failed.retain(|at| *at <= now && now - at < window);
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn seconds_up(time: Duration) -> u32 {
    seconds(time.saturating_add(Duration::from_millis(999)))
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(START + seconds)
    }

    fn until(history: &mut FlapHistory, policy: &Flapping, now: u64) -> Option<u64> {
        history.hold(policy, at(now)).map(|hold| hold.until.as_secs() - START)
    }

    #[test]
    fn each_hold_is_twice_as_long_and_a_quiet_time_forgets_that() {
        let policy = Flapping::default();
        let mut history = FlapHistory::default();
        for second in 0..5 {
            assert!(!history.fails(&policy, at(second * 10)));
        }
        assert!(history.fails(&policy, at(50)));
        assert_eq!(until(&mut history, &policy, 50), Some(110));
        assert_eq!(history.hold(&policy, at(50)).unwrap().failures, 6);
        // It goes on failing while it is held out: that alone makes no longer hold.
        assert!(!history.fails(&policy, at(60)));
        assert_eq!(until(&mut history, &policy, 109), Some(110));
        assert_eq!(until(&mut history, &policy, 110), None);
        // Back and gone again.
        assert!(history.fails(&policy, at(120)));
        assert_eq!(until(&mut history, &policy, 120), Some(240));
        assert!(history.fails(&policy, at(250)));
        assert_eq!(until(&mut history, &policy, 250), Some(490));
        // A quiet time later it is as new.
        for second in 0..5 {
            assert!(!history.fails(&policy, at(2000 + second)));
        }
        assert!(history.fails(&policy, at(2005)));
        assert_eq!(until(&mut history, &policy, 2005), Some(2065));
    }

    #[test]
    fn no_hold_is_longer_than_the_longest() {
        let policy = Flapping { failures: 1, ..Flapping::default() };
        let mut history = FlapHistory::default();
        let (mut now, mut longest) = (0, 0);
        for _ in 0..40 {
            history.fails(&policy, at(now));
            let end = until(&mut history, &policy, now).unwrap_or(now);
            longest = longest.max(end - now);
            now = end + 1;
        }
        assert_eq!(Duration::from_secs(longest), policy.hold_at_most);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_hold_for_ever() {
        let policy = Flapping { failures: 0, ..Flapping::default() };
        let mut history = FlapHistory::default();
        assert!(history.fails(&policy, at(1_000_000)));
        let longest = policy.hold_at_most.as_secs();
        for second in 0..longest {
            assert_eq!(until(&mut history, &policy, second), Some(longest));
        }
        assert_eq!(until(&mut history, &policy, longest), None);
    }

    proptest! {
        #[test]
        fn a_real_is_held_only_if_it_failed_too_often(
            gaps in collection::vec(0_u64..400, 1..60),
            failures in 0_u32..8,
            window in 1_u64..1200,
            hold in 1_u64..100,
        ) {
            let policy = Flapping {
                failures,
                window: Duration::from_secs(window),
                hold: Duration::from_secs(hold),
                hold_at_most: Duration::from_secs(hold * 8),
            };
            let mut history = FlapHistory::default();
            let (mut now, mut times) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                times.push(now);
                let was_held = until(&mut history, &policy, now).is_some();
                let begins = history.fails(&policy, at(now));
                let within = times.iter().filter(|time| now - **time < window).count();
                prop_assert_eq!(begins, !was_held && within > failures as usize);
                if let Some(until) = until(&mut history, &policy, now) {
                    prop_assert!(until > now && until - now <= hold * 8);
                }
                prop_assert!(history.failed.len() <= usize::from(MAX_REMEMBERED));
                // The record keeps what decides.
                let mut restored = FlapHistory::restore(&history.summary(), at(now));
                prop_assert_eq!(restored.summary(), history.summary());
                prop_assert_eq!(restored.hold(&policy, at(now)), history.hold(&policy, at(now)));
                prop_assert!(restored.failed.is_sorted());
            }
        }
    }
}
