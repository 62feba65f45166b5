//! What an answer's headers say about how long the host wants to be left alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderMap;

/// Longest wait a host may ask for.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// `Retry-After` in seconds or as a date, else the reset of `RateLimit-*`.
pub(crate) fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text("retry-after").and_then(|value| match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => seconds_until(http_date(value)?),
    });
    after.or_else(|| reset(headers)).map(|wait| wait.min(MOST_WAIT))
}

/// How long to wait when an answer says that it was the last one allowed.
pub(crate) fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let remaining = headers.get("ratelimit-remaining")?.to_str().ok()?.trim().parse::<u64>().ok()?;
    if remaining == 0 { reset(headers).map(|wait| wait.min(MOST_WAIT)) } else { None }
}

/// `RateLimit-Reset`: seconds from now in the drafts, a Unix time from the reference's PDS.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("ratelimit-reset")?.to_str().ok()?.trim().parse::<u64>().ok()?;
    if value > 1_000_000_000 { seconds_until(value) } else { Some(Duration::from_secs(value)) }
}

fn seconds_until(unix: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(unix).saturating_sub(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as Unix time.
fn http_date(text: &str) -> Option<u64> {
    let mut words = text.split([' ', ':']).filter(|word| !word.is_empty());
    let (_, day, month, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (hour, minute, second) = (words.next()?, words.next()?, words.next()?);
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .iter()
        .position(|name| *name == month)?;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 by the civil calendar, years beginning in March.
    let month = i64::try_from(month).ok()? + 1;
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let time: u64 = hour
        .parse::<u64>()
        .ok()?
        .checked_mul(3600)?
        .checked_add(minute.parse::<u64>().ok()?.checked_mul(60)?)?
        .checked_add(second.parse::<u64>().ok()?)?;
    u64::try_from(days).ok()?.checked_mul(86_400)?.checked_add(time)
}

#[cfg(test)]
mod tests {
    use reqwest::header;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn waits_are_read_from_every_form() {
        fn wait(pairs: &[(&'static str, &str)]) -> Option<u64> {
            asked_to_wait(&headers(pairs)).map(|wait| wait.as_secs())
        }
        assert_eq!(wait(&[("retry-after", "17")]), Some(17));
        assert_eq!(wait(&[("retry-after", "99999999")]), Some(3600));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(0));
        assert_eq!(wait(&[("ratelimit-reset", "30")]), Some(30));
        let soon = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100).to_string();
        assert!(wait(&[("ratelimit-reset", soon.as_str())]).is_some_and(|wait| (98..=100).contains(&wait)));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(http_date("nonsense"), None);
        assert_eq!(
            exhausted(&headers(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")])),
            Some(Duration::from_secs(5))
        );
        assert_eq!(exhausted(&headers(&[("ratelimit-remaining", "1"), ("ratelimit-reset", "5")])), None);
    }
}
