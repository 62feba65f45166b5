//! The wall clock and the calendar: numbers since the Unix epoch, and the ISO 8601 text that entries and rows have.
//!
//! The calendar is that of `jiff`, without its time zones: everything here is UTC.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, date};

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// The calendar repeats itself after so many years, which have so many days.
const CYCLE_YEARS: i64 = 400;
const CYCLE_DAYS: i64 = 146_097;

/// Time since the Unix epoch; none for a clock that stands before it.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    millis(since_epoch())
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// Now, as [`iso`] writes it.
pub fn now_iso() -> String {
    iso(now_ms())
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `YYYY-MM-DDThh:mm:ss.sssZ` for milliseconds since the Unix epoch. What lies beyond the year 9999 is its last moment.
pub fn iso(ms: impl TryInto<i64>) -> String {
    let mut text = String::with_capacity(24);
    let moment = EPOCH.saturating_add(SignedDuration::from_millis(ms.try_into().unwrap_or(i64::MAX)));
    // Writing to a String cannot fail.
    write!(text, "{moment:.3}Z").unwrap_or_default();
    text
}

/// Seconds since the Unix epoch of `YYYY-MM-DDThh:mm:ss…`, taken for UTC; fractions are cut off.
pub fn unix_seconds(time: &str) -> Option<i64> {
    let moment: DateTime = time.get(..19)?.parse().ok()?;
    Some(moment.duration_since(EPOCH).as_secs())
}

/// Days from 1970-01-01 to the first day of a month (1 to 12) of a year that may lie outside of those that `jiff` has
/// (-9999 to 9999); `None` for a month that does not exist.
pub fn days_to_month(year: i64, month: i64) -> Option<i64> {
    let year_of_cycle = i16::try_from(year.rem_euclid(CYCLE_YEARS)).ok()?;
    let first = Date::new(year_of_cycle, i8::try_from(month).ok()?, 1).ok()?;
    let days = first.duration_since(EPOCH.date()).as_hours() / 24;
    Some(days + year.div_euclid(CYCLE_YEARS) * CYCLE_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_form_of_the_reference() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (1_795_480_914_002, "2026-11-24T00:41:54.002Z"),
            (-61_851_600_000_000, "0010-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso(ms), text);
        }
        assert_eq!(iso(u64::MAX), iso(i64::MAX));
    }

    #[test]
    fn civil_dates_become_seconds() {
        for (time, seconds) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:00:01Z", 951_825_601),
            ("2025-10-01T00:00:00Z", 1_759_276_800),
        ] {
            assert_eq!(unix_seconds(time), Some(seconds), "{time}");
        }
        for bad in ["", "2025", "yesterday-at-noon-it-was", "éééééééééééééééééééé", "2025-02-30T00:00:00Z"]
        {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn months_follow_each_other_in_years_of_any_number() {
        // 0000-01-01 is 719 528 days before the epoch.
        let mut days = -719_528 - 365;
        for year in -1..10_001_i64 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, len) in (1..).zip([31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
            {
                assert_eq!(days_to_month(year, month), Some(days), "{year}-{month}");
                days += len;
            }
        }
        assert_eq!((days_to_month(1970, 1), days_to_month(1970, 3)), (Some(0), Some(59)));
        // The last month that a JavaScript date can lie in.
        assert_eq!(days_to_month(275_760, 9), Some(100_000_000 - 12));
        assert_eq!(
            (days_to_month(1970, 0), days_to_month(1970, 13), days_to_month(1970, 257)),
            (None, None, None)
        );
    }
}
