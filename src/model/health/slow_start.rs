//! A real that comes back gets its share in steps.
//!
//! The steps are of 10 %, from 10 % when the real is healthy again to 100 % when `slow_start` has passed. Each step makes
//! the VIP's ring anew, and so moves as few flows as Maglev can; finer steps would only do that more often.

use std::time::Duration;

/// The share that takes no part away.
pub(crate) const WHOLE: u8 = 100;

/// A step, and the first share.
const STEP: u8 = 10;

/// How many steps follow the first share.
const STEPS: u32 = (WHOLE / STEP) as u32 - 1;

/// The share, in percent, of a real that came back `ago`.
pub(crate) fn share(slow_start: Duration, ago: Duration) -> u8 {
    let passed = (1..=STEPS).take_while(|step| step_at(slow_start, *step) <= ago).count();
    STEP + STEP * u8::try_from(passed).unwrap_or(u8::MAX / STEP - 1)
}

/// How long until the share of a real that came back `ago` grows; `None`: it is whole.
pub(crate) fn next_step(slow_start: Duration, ago: Duration) -> Option<Duration> {
    (1..=STEPS).map(|step| step_at(slow_start, step)).find(|at| *at > ago)?.checked_sub(ago)
}

/// When a step is due, after the real came back.
fn step_at(slow_start: Duration, step: u32) -> Duration {
    slow_start / STEPS * step
}

/// Two shares together: of a slow start, and of what the real says of itself. A real that has a share by both has one.
pub(crate) fn both(one: u8, other: u8) -> u8 {
    let (one, other) = (u32::from(one.min(WHOLE)), u32::from(other.min(WHOLE)));
    let product = one * other / u32::from(WHOLE);
    u8::try_from(product.max(u32::from(one > 0 && other > 0))).unwrap_or(WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minute_has_ten_shares() {
        let minute = Duration::from_secs(60);
        let shares: Vec<_> =
            (0..=60).map(|second| share(minute, Duration::from_secs(second))).collect();
        let mut steps = shares.clone();
        steps.dedup();
        assert_eq!(steps, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(
            (shares[0], shares[6], shares[7], shares[59], shares[60]),
            (10, 10, 20, 90, 100)
        );
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 100);
    }

    #[test]
    fn shares_multiply_and_leave_something() {
        for (one, other, together) in [
            (100, 100, 100),
            (10, 25, 2),
            (10, 5, 1),
            (1, 1, 1),
            (0, 100, 0),
            (100, 0, 0),
            (255, 50, 50),
        ] {
            assert_eq!(both(one, other), together);
        }
    }

    proptest! {
        #[test]
        fn the_share_grows_when_the_next_step_is_due(slow_start in 1_u64..1_000_000, ago in 0_u64..1_100_000) {
            let (slow_start, ago) = (Duration::from_millis(slow_start), Duration::from_millis(ago));
            let now = share(slow_start, ago);
            prop_assert!((10..=100).contains(&now));
            prop_assert_eq!(now == 100, next_step(slow_start, ago).is_none());
            if let Some(wait) = next_step(slow_start, ago) {
                prop_assert!(share(slow_start, ago + wait) > now);
                prop_assert_eq!(share(slow_start, ago + wait.saturating_sub(Duration::from_nanos(1))), now);
                prop_assert!(wait <= slow_start);
            }
        }
    }
}
