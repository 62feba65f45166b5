//! What an answer's headers say about how long its host wants to be left alone: the one place that reads them.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

use crate::clock::since_epoch;

/// Longest wait a host may ask for. It comes from outside: a far future would stop us for ever, or be later than a clock
/// can tell.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// `Retry-After` in seconds or as a date, else the reset of `RateLimit-*`; an hour at most. It can be zero: who asks again
/// has to have a pause of its own, which grows.
pub fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text("retry-after").and_then(|value| match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // A date that has passed asks for nothing.
        Err(_) => {
            Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default())
        }
    });
    after.or_else(|| reset(headers)).map(|wait| wait.min(MOST_WAIT))
}

/// How long to wait when an answer says that it was the last one allowed; an hour at most.
pub fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let remaining = headers.get("ratelimit-remaining")?.to_str().ok()?.trim().parse::<u64>().ok()?;
    if remaining == 0 { reset(headers).map(|wait| wait.min(MOST_WAIT)) } else { None }
}

/// `RateLimit-Reset`: seconds from now in the drafts, a Unix time from the reference's PDS.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("ratelimit-reset")?.to_str().ok()?.trim().parse::<u64>().ok()?;
    let named = Duration::from_secs(value);
    Some(if value > 1_000_000_000 { named.saturating_sub(since_epoch()) } else { named })
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
        let soon = (since_epoch().as_secs() + 100).to_string();
        assert!(wait(&[("ratelimit-reset", soon.as_str())]).is_some_and(|wait| (98..=100).contains(&wait)));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
        for far in ["Wed, 21 Oct 2099 07:28:00 GMT", "18446744073709551615"] {
            assert_eq!(wait(&[("retry-after", far)]), Some(3600), "{far}");
        }
        for none in ["", "-1"] {
            assert_eq!(wait(&[("retry-after", none)]), None, "{none}");
        }
        assert_eq!(
            exhausted(&headers(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")])),
            Some(Duration::from_secs(5))
        );
        assert_eq!(exhausted(&headers(&[("ratelimit-remaining", "1"), ("ratelimit-reset", "5")])), None);
    }
}
