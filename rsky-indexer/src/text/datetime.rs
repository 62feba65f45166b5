//! The lexicon format `datetime` and the `createdAt` that is stored for it.
//!
//! The reference decides with regular expressions into which it pastes the separators found in the value. That makes
//! for a language of its own (VALIDATION 4.1): compact dates and odd separators pass, `hh:mm` alone does not, and
//! the offsets are a fixed list. One thing is not imitated: a vertical bar for a separator, which makes alternatives of the
//! reference's expression and nearly everything a datetime, is a separator like others here.

use std::borrow::Cow;

use rsky_common::clock::iso;

use super::js_date;

/// What is stored for a datetime that names no moment between the years 10 and 9999.
pub const EPOCH: &str = "1970-01-01T00:00:00.000Z";

/// 0010-01-01T00:00:00.000Z; earlier years are not valid in atproto.
const EARLIEST_MS: i64 = -61_851_600_000_000;
/// 9999-12-31T23:59:59.999Z.
const LATEST_MS: i64 = 253_402_300_799_999;

/// Whether the lexicon format `datetime` accepts `text`.
pub fn is_valid_datetime(text: &str) -> bool {
    let mut parts = text.split('T');
    let date = parts.next().unwrap_or_default();
    // What follows a second `T` is not looked at.
    let time = parts.next().unwrap_or_default();
    is_date(date) && is_zoned_time(time)
}

/// Milliseconds since 1970 as JavaScript's `Date.parse` has them; `None` for what it cannot read.
pub fn epoch_millis(text: &str) -> Option<i64> {
    js_date::parse(text)
}

/// The stored `createdAt`: always `YYYY-MM-DDTHH:mm:ss.sssZ` (INDEXING 3). Text that JavaScript's `Date` cannot read,
/// or reads as a year before 10 or after 9999, gives [`EPOCH`].
pub fn normalize_datetime(text: &str) -> Cow<'_, str> {
    match js_date::parse(text) {
        Some(ms) if (EARLIEST_MS..=LATEST_MS).contains(&ms) => {
            if is_normal(text) {
                Cow::Borrowed(text)
            } else {
                Cow::Owned(iso(ms))
            }
        }
        _ => Cow::Borrowed(EPOCH),
    }
}

/// Whether a readable datetime is written as it is stored: `dddd-dd-ddTdd:dd:dd.dddZ`, with a day and an hour that exist.
fn is_normal(text: &str) -> bool {
    const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    text.len() == SHAPE.len()
        && text
            .bytes()
            .zip(SHAPE)
            .all(|(b, &shape)| if shape == b'0' { b.is_ascii_digit() } else { b == shape })
        && is_valid_datetime(text)
        && !text.contains("T24")
}

/// What stands between the parts of a date, a time or an offset.
#[derive(Clone, Copy)]
enum Separator {
    None,
    Literal(char),
    /// A full stop, which in the reference's expression stands for any character.
    Any,
}

impl Separator {
    /// `None` for the characters that make the reference's expression malformed or one that never matches.
    fn new(found: Option<char>) -> Option<Self> {
        match found {
            None => Some(Separator::None),
            Some('.') => Some(Separator::Any),
            Some('*' | '+' | '?' | '(' | ')' | '[' | '\\' | '^' | '$') => None,
            // The reference works on UTF-16 units, so half a pair is followed by the other half and never by a digit.
            Some(c) if u32::from(c) > 0xffff => None,
            Some(c) => Some(Separator::Literal(c)),
        }
    }
}

/// Reads a text from the left; every method takes what it describes or answers `None`.
#[derive(Clone, Copy)]
struct Scanner<'a>(&'a str);

impl Scanner<'_> {
    fn take(&mut self, matches: impl FnOnce(char) -> bool) -> Option<char> {
        let mut chars = self.0.chars();
        let c = chars.next().filter(|&c| matches(c))?;
        self.0 = chars.as_str();
        Some(c)
    }

    fn digit(&mut self) -> Option<u32> {
        self.take(|c| c.is_ascii_digit())?.to_digit(10)
    }

    fn two_digits(&mut self) -> Option<u32> {
        Some(self.digit()? * 10 + self.digit()?)
    }

    fn separator(&mut self, separator: Separator) -> Option<()> {
        match separator {
            Separator::None => Some(()),
            Separator::Literal(expected) => self.take(|c| c == expected).map(drop),
            Separator::Any => self.take(is_any).map(drop),
        }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// One UTF-16 unit that the `.` of a JavaScript expression matches.
fn is_any(c: char) -> bool {
    u32::from(c) <= 0xffff && !matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_date(text: &str) -> bool {
    scan_date(text).is_some()
}

fn scan_date(text: &str) -> Option<()> {
    let separator = Separator::new(text.chars().find(|c| !c.is_ascii_digit()))?;
    let mut scanner = Scanner(text);
    let year = scanner.two_digits()? * 100 + scanner.two_digits()?;
    scanner.separator(separator)?;
    // `0,` passes for a month of 31 days: the reference lists the months of the first nine as `[1,3-9]`.
    let tens = scanner.digit()?;
    let month = match scanner.take(|c| c.is_ascii_digit() || (c == ',' && tens == 0))? {
        ',' => 1,
        unit => tens * 10 + unit.to_digit(10)?,
    };
    scanner.separator(separator)?;
    let day = scanner.two_digits()?;
    scanner.end()?;
    // The year 0 is no leap year here.
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) && year != 0;
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=last).contains(&day).then_some(())
}

fn is_zoned_time(text: &str) -> bool {
    let Some(separator) = Separator::new(time_separator(text)) else { return false };
    if let Some(time) = text.strip_suffix('Z') {
        // A `Z` does for the character before a fraction, but not if the text ends in another.
        return !time.contains('Z') && is_time(time, separator);
    }
    match text.find(['+', '-']) {
        None => is_time(text, separator),
        Some(at) => {
            let time = text.get(..at).unwrap_or_default();
            // Only the text between the first sign and the second is the offset, but a plus anywhere makes it positive.
            let offset = text.split(['+', '-']).nth(1).unwrap_or_default();
            is_time(time, separator) && is_offset(offset, text.contains('+'))
        }
    }
}

/// The first character that is no digit, sign or `Z` and stands again after the digits that follow it.
fn time_separator(text: &str) -> Option<char> {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let after = rest.as_str();
        let follower = after.trim_start_matches(|d: char| d.is_ascii_digit());
        let is_candidate = !matches!(c, 'Z' | '+' | '-' | '0'..='9') && u32::from(c) <= 0xffff;
        if is_candidate && follower.len() < after.len() && follower.starts_with(c) {
            return Some(c);
        }
    }
    None
}

fn is_time(text: &str, separator: Separator) -> bool {
    scan_time(text, separator).is_some()
}

fn scan_time(text: &str, separator: Separator) -> Option<()> {
    let mut scanner = Scanner(text);
    let hour = scanner.two_digits()?;
    scanner.separator(separator)?;
    let minute = scanner.two_digits()?;
    let is_in_range = minute <= 59 && (hour <= 23 || (hour == 24 && minute == 0));
    // Without seconds `:61` is a fraction of the minute. A separator is only recognised when it occurs twice: `hh:mm`
    // alone has none and fails.
    let with_seconds = scan_seconds(scanner, separator).filter(is_fraction_or_end);
    (is_in_range && (with_seconds.is_some() || is_fraction_or_end(&scanner))).then_some(())
}

fn scan_seconds<'a>(mut scanner: Scanner<'a>, separator: Separator) -> Option<Scanner<'a>> {
    scanner.separator(separator)?;
    (scanner.two_digits()? <= 60).then_some(scanner)
}

/// Nothing, or any one character and one to nine digits.
fn is_fraction_or_end(scanner: &Scanner<'_>) -> bool {
    let mut fraction = *scanner;
    scanner.0.is_empty()
        || (fraction.take(is_any).is_some()
            && (1..=9).contains(&fraction.0.len())
            && fraction.0.bytes().all(|b| b.is_ascii_digit()))
}

fn is_offset(text: &str, is_positive: bool) -> bool {
    scan_offset(text, is_positive).is_some()
}

fn scan_offset(text: &str, is_positive: bool) -> Option<()> {
    let separator = Separator::new(text.chars().find(|c| !c.is_ascii_digit()))?;
    let mut scanner = Scanner(text);
    let hour = scanner.two_digits()?;
    scanner.separator(separator)?;
    let minute = scanner.two_digits()?;
    scanner.end()?;
    let is_known = match (is_positive, minute) {
        (true, 0) => hour <= 14,
        (true, 30) => matches!(hour, 3 | 4 | 5 | 6 | 9 | 10),
        (true, 45) => matches!(hour, 5 | 8 | 12),
        (false, 0) => (1..=12).contains(&hour),
        (false, 30) => matches!(hour, 3 | 9),
        _ => false,
    };
    is_known.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::recordings::golden;

    /// VALIDATION 4.1: `None` is not valid, else what is stored.
    const VECTORS: &[(&str, Option<&str>)] = &[
        ("2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00.000Z")),
        ("2024-01-01T00:00:00.9999Z", Some("2024-01-01T00:00:00.999Z")),
        ("2024-01-01T00:00:00.123456789Z", Some("2024-01-01T00:00:00.123Z")),
        ("2024-01-01T00:00:00.1234567890Z", None),
        ("2024-01-01T00:00:00", Some("2024-01-01T00:00:00.000Z")),
        ("2024-01-01T00:00:00.123", Some("2024-01-01T00:00:00.123Z")),
        ("2024-01-01T00:00Z", None),
        ("2024-01-01T0000Z", Some(EPOCH)),
        ("2024-01-01T000000Z", Some(EPOCH)),
        ("20240101T000000Z", Some(EPOCH)),
        ("20240101T00:00:00Z", Some(EPOCH)),
        ("2024/01/01T00:00:00Z", Some(EPOCH)),
        ("2024.01.01T00:00:00Z", Some(EPOCH)),
        ("2024.01/01T00:00:00Z", Some(EPOCH)),
        ("2024*01*01T00:00:00Z", None),
        ("2024-01/01T00:00:00Z", None),
        ("2024-01-01T00.00.00Z", Some(EPOCH)),
        ("2024-01-01T00:00:00,123Z", Some(EPOCH)),
        ("2024-01-01T00:00:00x123Z", Some(EPOCH)),
        ("2024-01-01T00:00:00001Z", Some(EPOCH)),
        ("2024-01-01T00:00:00ZT", Some(EPOCH)),
        ("2024-01-01T00:00:00TZ", Some(EPOCH)),
        ("2024-01-01T24:00:00Z", Some("2024-01-02T00:00:00.000Z")),
        ("2024-01-01T24:00:00.000Z", Some("2024-01-02T00:00:00.000Z")),
        ("2024-01-01T24:00:01Z", Some(EPOCH)),
        ("2024-01-01T23:59:60Z", Some(EPOCH)),
        ("2024-01-01T23:59:61Z", Some(EPOCH)),
        ("2024-01-01T00:00:5Z", Some(EPOCH)),
        ("2024-01-01T24:01:00Z", None),
        ("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00.000Z")),
        ("2024-02-30T00:00:00Z", None),
        ("2023-02-29T00:00:00Z", None),
        ("2024-04-31T00:00:00Z", None),
        ("1900-02-29T00:00:00Z", None),
        ("2000-02-29T00:00:00Z", Some("2000-02-29T00:00:00.000Z")),
        ("0000-02-29T00:00:00Z", None),
        ("2024-0,-31T00:00:00Z", Some(EPOCH)),
        ("2024-01-01T00:00:00+00:00", Some("2024-01-01T00:00:00.000Z")),
        ("2024-01-01T00:00:00+05:30", Some("2023-12-31T18:30:00.000Z")),
        ("2024-01-01T00:00:00+05:45", Some("2023-12-31T18:15:00.000Z")),
        ("2024-01-01T00:00:00+08:45", Some("2023-12-31T15:15:00.000Z")),
        ("2024-01-01T00:00:00+12:45", Some("2023-12-31T11:15:00.000Z")),
        ("2024-01-01T00:00:00+14:00", Some("2023-12-31T10:00:00.000Z")),
        ("2024-01-01T00:00:00-03:30", Some("2024-01-01T03:30:00.000Z")),
        ("2024-01-01T00:00:00-09:30", Some("2024-01-01T09:30:00.000Z")),
        ("2024-01-01T00:00:00+0530", Some("2023-12-31T18:30:00.000Z")),
        ("2024-01-01T00:00:00-0800", Some("2024-01-01T08:00:00.000Z")),
        ("2024-01-01T00:00:00+05x30", Some(EPOCH)),
        ("2024-01-01T00:00:00-05:00+", Some(EPOCH)),
        ("2024-01-01T00:00:00-00:00", None),
        ("2024-01-01T00:00:00+13:45", None),
        ("2024-01-01T00:00:00+01:30", None),
        ("2024-01-01T00:00:00-13:00", None),
        ("2024-01-01T00:00:00+1", None),
        ("2024-01-01T00:00:00Z5Z", None),
        ("2024-01-01T00:00:00Z+05:30", None),
        ("2024-01-01T00:00:00+05:30Z", None),
        ("0000-01-01T00:00:00Z", Some(EPOCH)),
        ("0000-00-00T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", Some(EPOCH)),
        ("0009-12-31T23:59:59.999Z", Some(EPOCH)),
        ("0010-01-01T00:00:00Z", Some("0010-01-01T00:00:00.000Z")),
        ("9999-12-31T23:59:59.999Z", Some("9999-12-31T23:59:59.999Z")),
        ("9999-12-31T23:59:59-01:00", Some(EPOCH)),
        ("2024-01-01", None),
        ("2024-01-01T", None),
        ("2024-01-01 00:00:00Z", None),
        ("2024-01-01t00:00:00z", None),
        ("2024-01-01T00:00:00z", None),
        ("2024-01-01T00:00:00Z ", None),
        ("2024-01-01T00:00:00GMT", None),
        ("+2024-01-01T00:00:00Z", None),
        ("2024-1-1T00:00:00Z", None),
        ("2024-01-01T0:00:00Z", None),
        ("2024-01-01T00:00:00.Z", None),
        ("2024\u{1f600}01\u{1f600}01T00:00:00Z", None),
        ("", None),
        ("T", None),
    ];

    #[test]
    fn what_is_valid_and_what_is_stored() {
        for &(text, stored) in VECTORS {
            assert_eq!(is_valid_datetime(text), stored.is_some(), "{text}");
            if let Some(stored) = stored {
                assert_eq!(normalize_datetime(text), stored, "{text}");
            }
        }
    }

    #[test]
    fn the_recorded_verdicts() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            value: String,
            valid: bool,
            normalized: String,
        }
        let lines = golden("datetimes");
        let mut valid = 0;
        for line in &lines {
            let recorded: Recorded = serde_json::from_str(line).unwrap();
            assert_eq!(is_valid_datetime(&recorded.value), recorded.valid, "{line}");
            assert_eq!(normalize_datetime(&recorded.value), recorded.normalized, "{line}");
            valid += usize::from(recorded.valid);
        }
        assert_eq!((lines.len(), valid), (4000, 728));
    }

    #[test]
    fn the_list_of_offsets() {
        let valid = |sign: char, hour: i32, minute: i32| {
            is_valid_datetime(&format!("2024-01-01T00:00:00{sign}{hour:02}:{minute:02}"))
        };
        let count = |sign| {
            (0..100).flat_map(|h| (0..100).map(move |m| (h, m))).filter(|&(h, m)| valid(sign, h, m)).count()
        };
        assert_eq!(count('+'), 15 + 6 + 3);
        assert_eq!(count('-'), 12 + 2);
    }

    #[test]
    fn a_normal_datetime_is_not_copied() {
        assert!(matches!(normalize_datetime("2024-01-01T23:00:00.000Z"), Cow::Borrowed(_)));
        // A day that its month does not have is rewritten, though the shape is right.
        assert_eq!(normalize_datetime("2024-02-31T00:00:00.000Z"), "2024-03-02T00:00:00.000Z");
    }
}
