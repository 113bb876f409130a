//! The time of day.

use std::time::Duration;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Time since 1970; zero if the clock is set to before.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole seconds, as the maps and messages have it.
pub(crate) fn seconds_since_1970() -> u64 {
    since_1970().as_secs()
}

/// A time in seconds since 1970, as all texts for people have it: in the local time zone, the time of day, with the date if
/// that is not today's. `12:03:11`, `2026-11-26 12:03:11`.
pub fn time_in_words(seconds: u64) -> String {
    time_at(seconds, seconds_since_1970(), &TimeZone::system())
}

/// The same, in a time zone, if it is `now`.
pub(crate) fn time_at(seconds: u64, now: u64, zone: &TimeZone) -> String {
    let zoned = |seconds: u64| {
        let seconds = i64::try_from(seconds).ok()?;
        Some(Timestamp::from_second(seconds).ok()?.to_zoned_datetime(zone.clone()))
    };
    match (zoned(seconds), zoned(now)) {
        (Some(time), Some(now)) if time.date() == now.date() => {
            time.strftime("%H:%M:%S").to_string()
        }
        (Some(time), _) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        (None, _) => "a time that no calendar has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27 12:10:00 UTC.
    const NOW: u64 = 1_795_781_400;

    #[test]
    fn a_time_has_a_date_unless_that_is_todays() {
        let at = |seconds| time_at(seconds, NOW, &TimeZone::UTC);
        assert_eq!(at(NOW - 409), "12:03:11");
        assert_eq!(at(NOW - 86_400), "2026-11-26 12:10:00");
        assert_eq!(at(u64::MAX), "a time that no calendar has");
    }
}
