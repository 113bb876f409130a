//! The time of day.

use std::time::Duration;
use std::time::SystemTime;

/// Time since 1970; zero if the clock is set to before.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole seconds, as the maps and messages have it.
pub(crate) fn seconds_since_1970() -> u64 {
    since_1970().as_secs()
}
