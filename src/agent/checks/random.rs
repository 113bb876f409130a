//! When checks start, as far as chance decides.
//!
//! A thousand balancers may be started together, by one deployment or one power cut, and all of them check the same
//! reals. Without chance, a real would meet a thousand checks at the same instant, every interval, for ever. So the
//! **first** start of a check is at a random time, and each interval is shorter by a random part: starts that meet once
//! drift apart. Intervals become shorter only, because a failure is to be found within `fall` intervals.

use std::time::Duration;

/// The most time until the first start. A longer interval must not leave a new real unchecked for long.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// The part of an interval by which it may be shorter.
const JITTER: f64 = 0.1;

/// How long until the first start.
pub(super) fn first(interval: Duration) -> Duration {
    interval.min(FIRST_WITHIN).mul_f64(fastrand::f64())
}

/// How long from the first start to the second. Starts that [`first`] put close together spread over the interval.
pub(super) fn second(interval: Duration) -> Duration {
    if interval <= FIRST_WITHIN {
        return next(interval);
    }
    interval.mul_f64(JITTER + (1.0 - JITTER) * fastrand::f64())
}

/// How long from one start to the next.
pub(super) fn next(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER * fastrand::f64())
}
