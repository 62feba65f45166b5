//! `Date.parse` of JavaScript (V8, time zone UTC), as far as recorded datetimes show it.
//!
//! The first reading is the ISO 8601 profile of ECMAScript. The second stands for V8's reading of everything else,
//! of which only dates in numbers occur. No datetime that the record validator accepts needs the second, except
//! where a round bracket stands in place of a separator; those come out as unreadable here.
//!
//! Only the reading is of this file; the calendar is that of `rsky_common::clock`.

use rsky_common::clock::days_to_month;

/// Milliseconds since 1970, or `None` for an invalid date.
pub(super) fn parse(text: &str) -> Option<i64> {
    // V8 takes U+0000 for the end of its input.
    let text = text.split('\0').next().unwrap_or_default();
    parse_iso(text).or_else(|| parse_numeric(text))
}

/// `YYYY-MM-DDTHH:mm[:ss[.fraction]][zone]`; a day beyond the end of its month runs over into the next.
fn parse_iso(text: &str) -> Option<i64> {
    let mut input = Input(text.as_bytes());
    let date = (input.fixed(4)?, input.after(b"-")?.fixed(2)?, input.after(b"-")?.fixed(2)?);
    let (hour, minute) = (input.after(b"Tt")?.fixed(2)?, input.after(b":")?.fixed(2)?);
    let (second, milli) = match input.after(b":") {
        None => (0, 0),
        Some(input) => (input.fixed(2)?, input.fraction()?),
    };
    let zone = input.zone(true)?;
    Some(moment(date, (hour, minute, second, milli))? - zone * 60_000)
}

/// Year, month and day (or month and day of 2001) in numbers of any length, then `H:mm:ss[.fraction][zone]`.
fn parse_numeric(text: &str) -> Option<i64> {
    let mut input = Input(text.as_bytes());
    input.after(b"-");
    let mut numbers = [input.number()?, 0, 0, 0];
    let mut count = 1;
    while input.peek() != Some(b':') {
        input.after(b"- ")?;
        *numbers.get_mut(count)? = input.number()?;
        count += 1;
    }
    let (date, hour) = match (count, numbers) {
        (4, [year, month, day, hour]) => ((year, month, day), hour),
        (3, [month, day, hour, _]) => ((2001, month, day), hour),
        _ => return None,
    };
    let (minute, second) = (input.after(b":")?.number()?, input.after(b":")?.number()?);
    let milli = input.fraction()?;
    let zone = input.zone(false)?;
    Some(moment(date, (hour, minute, second, milli))? - zone * 60_000)
}

fn moment(
    (year, month, day): (i64, i64, i64),
    (hour, minute, second, milli): (i64, i64, i64, i64),
) -> Option<i64> {
    let is_midnight = hour == 24 && minute == 0 && second == 0 && milli == 0;
    let is_time = (hour <= 23 || is_midnight) && minute <= 59 && second <= 59;
    // The last year that a JavaScript date can have is 275760.
    if !is_time || year > 275_760 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The last day of a month that is shorter than `day` is left behind by the difference.
    let days = days_to_month(year, month)? + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli)
}

/// The rest of the text. Every method takes what it describes or answers `None`.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// One of `symbols`.
    fn after(&mut self, symbols: &[u8]) -> Option<&mut Self> {
        let (first, rest) = self.0.split_first()?;
        if !symbols.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(self)
    }

    /// A run of digits: its value, of which nine significant digits are read, and its length.
    fn digits(&mut self) -> Option<(i64, usize)> {
        let len = self.0.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at_checked(len).filter(|(run, _)| !run.is_empty())?;
        self.0 = rest;
        let significant = run.iter().skip_while(|&&b| b == b'0').take(9);
        Some((significant.fold(0, |value, b| value * 10 + i64::from(b - b'0')), len))
    }

    fn number(&mut self) -> Option<i64> {
        self.digits().map(|(value, _)| value)
    }

    /// A run of exactly `expected` digits.
    fn fixed(&mut self, expected: usize) -> Option<i64> {
        self.digits().filter(|&(_, len)| len == expected).map(|(value, _)| value)
    }

    /// Milliseconds, cut off after the third digit; 0 if there is no fraction.
    fn fraction(&mut self) -> Option<i64> {
        if self.after(b".").is_none() {
            return Some(0);
        }
        let (value, len) = self.digits()?;
        // V8 takes the value for one of nine digits however long it was, even when leading zeros were passed over.
        Some(match len.min(9) {
            1 => value * 100,
            2 => value * 10,
            len => value / 10_i64.pow(u32::try_from(len - 3).ok()?),
        })
    }

    /// Minutes east of Greenwich up to the end of the text; 0 if nothing is left. Hours and minutes have two digits
    /// each. Other offsets are errors in the ISO form and 0 in the other: the reference puts a `Z` behind what it
    /// does not know for an offset, and the last zone named counts.
    fn zone(&mut self, is_iso: bool) -> Option<i64> {
        let Some(first) = self.peek() else { return Some(0) };
        self.after(b"Zz+-")?;
        if matches!(first, b'Z' | b'z') {
            return self.0.is_empty().then_some(0);
        }
        let (value, len) = self.digits()?;
        let minutes = match self.after(b":").map(Input::digits) {
            None if len == 4 => Some((value / 100, value % 100)),
            None => None,
            Some(minutes) => {
                minutes.filter(|&(_, minutes_len)| len == 2 && minutes_len == 2).map(|(m, _)| (value, m))
            }
        };
        let offset = match minutes {
            Some((hours, minutes)) if minutes <= 59 && (hours <= 23 || !is_iso) => hours * 60 + minutes,
            None if !is_iso => 0,
            _ => return None,
        };
        self.0.is_empty().then_some(if first == b'-' { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("1970-01-01T00:00", Some(0)),
            ("1970-01-01T00:00:01,5Z", None),
            ("1970-01-01T00:00:00.0019+00:00", Some(1)),
            ("1970-01-01t24:00:00z", Some(86_400_000)),
            ("1970-01-01T24:00:00.1Z", None),
            ("1970-01-01T00:00:00+0100", Some(-3_600_000)),
            ("1970-01-01T00:00:00-23:59", Some(86_340_000)),
            ("1970-01-01T00:00:00+24:00", None),
            ("1970-01-01 0:00:00+24:00", Some(-86_400_000)),
            ("1970-02-31T00:00:00Z", Some(61 * 86_400_000)),
            ("1970-01-01 0:0:1", Some(1000)),
            ("1970-01-01T0:00:00Z", None),
            ("1-1-0:00:00Z", Some(978_307_200_000)),
            ("1-1-1-1-1:0:0", None),
            ("999999999999999999999-01-01 0:00:00Z", None),
            ("1970-01-01 0:00:00+1", Some(0)),
            ("", None),
        ] {
            assert_eq!(parse(text), ms, "{text}");
        }
    }
}
