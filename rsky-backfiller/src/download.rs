//! One answer of getRepo: asked for, classed, and streamed with limits on time; its size is limited by the reader.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Response};
use rsky_common::net::{Outbound, Refused, refusal};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::outcome::{Class, Failure, of_answer};

/// Less than this within the stall time is no progress.
const PROGRESS: usize = 1024;
/// Bytes of an error's body that are looked at.
const ERROR_BODY: usize = 64 << 10;
/// Longest wait a host may ask for.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// Limits on time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the answer begins.
    pub answer: Duration,
    /// Without progress.
    pub stall: Duration,
    /// In all.
    pub total: Duration,
}

/// The URL of a repository at a host; any path of the host is discarded, as in the reference (PIPELINE 6.5).
///
/// # Errors
/// A host that may not be contacted, or is none.
pub fn repo_url(host: &str, did: &str, outbound: Outbound) -> Result<Url, Failure> {
    let parsed = Url::parse(host).ok().and_then(|url| url.join("/xrpc/com.atproto.sync.getRepo").ok());
    let mut url =
        parsed.ok_or_else(|| Failure::new(Class::RefusedAddress, format!("{host:?} is no URL of a host")))?;
    outbound.check(&url).map_err(refused)?;
    url.query_pairs_mut().clear().append_pair("did", did);
    Ok(url)
}

/// The part of a host's URL that requests are limited by: name and port.
pub fn host_key(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// Asks, and gives the answer if it is a repository; nothing of it has been read.
///
/// # Errors
/// The class of what came instead.
pub async fn ask(client: &Client, url: Url, patience: Patience) -> Result<Response, Failure> {
    let asked = client.get(url).header(header::ACCEPT, "application/vnd.ipld.car").send();
    let answer = match timeout(patience.answer, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreached(&error)),
        Err(_) => {
            return Err(Failure::new(Class::Timeout, format!("no answer within {:?}", patience.answer)));
        }
    };
    if answer.status() != reqwest::StatusCode::OK {
        return Err(refused_answer(answer, patience.stall).await);
    }
    match answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        Some(kind) if !is_car(kind) => {
            Err(Failure::new(Class::ContentType, format!("content type {kind:?}")))
        }
        _ => Ok(answer),
    }
}

/// Sends the pieces of the answer; returns how long the host wants to be left alone, if its headers say so.
///
/// # Errors
/// The answer broke off or took too long. A receiver that hangs up ends the download without an error: it knows why.
pub async fn download(
    mut answer: Response,
    patience: Patience,
    pieces: mpsc::Sender<Bytes>,
) -> Result<Option<Duration>, Failure> {
    let deadline = Instant::now() + patience.total;
    let pace = exhausted(answer.headers());
    let (mut window_end, mut window_bytes) = (Instant::now() + patience.stall, 0_usize);
    loop {
        let piece = match timeout_at(window_end.min(deadline), answer.chunk()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => return Ok(pace),
            Ok(Err(error)) => return Err(Failure::new(Class::Interrupted, shown(&error))),
            Err(_) if deadline <= window_end => return Err(overdue(patience.total)),
            Err(_) => {
                return Err(Failure::new(Class::Timeout, format!("no progress within {:?}", patience.stall)));
            }
        };
        window_bytes += piece.len();
        let waits_from = Instant::now();
        if pieces.send(piece).await.is_err() {
            return Ok(pace);
        }
        // Time in which we did not listen is not the host's.
        window_end += waits_from.elapsed();
        if window_bytes >= PROGRESS {
            (window_end, window_bytes) = (Instant::now() + patience.stall, 0);
        } else if Instant::now() >= window_end {
            return Err(Failure::new(
                Class::Timeout,
                format!("less than {PROGRESS} bytes within {:?}", patience.stall),
            ));
        }
        if Instant::now() >= deadline {
            return Err(overdue(patience.total));
        }
    }
}

fn overdue(total: Duration) -> Failure {
    Failure::new(Class::Timeout, format!("not done within {total:?}"))
}

/// The type of CARs, and what hosts that do not care send.
fn is_car(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/vnd.ipld.car", "application/octet-stream", "binary/octet-stream", ""]
        .iter()
        .any(|car| kind.eq_ignore_ascii_case(car))
}

fn refused(refused: Refused) -> Failure {
    Failure::new(Class::RefusedAddress, refused.to_string())
}

fn unreached(error: &reqwest::Error) -> Failure {
    match refusal(error) {
        Some(why) => refused(why),
        None => Failure::new(Class::Unreachable, shown(error)),
    }
}

/// The error with its causes: the outermost only says that something failed.
fn shown(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() { "no answer".to_owned() } else { text }
}

async fn refused_answer(mut answer: Response, patience: Duration) -> Failure {
    #[derive(Deserialize, Default)]
    struct XrpcError {
        #[serde(default)]
        error: String,
        #[serde(default)]
        message: String,
    }
    let status = answer.status().as_u16();
    let wait = asked_to_wait(answer.headers());
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = answer.chunk().await {
            body.extend_from_slice(piece.get(..piece.len().min(ERROR_BODY)).unwrap_or_default());
            if body.len() >= ERROR_BODY {
                break;
            }
        }
    };
    // What has come by then is what there is to look at.
    let _in_time = timeout(patience, read).await.is_ok();
    let said: XrpcError = serde_json::from_slice(&body).unwrap_or_default();
    let class = of_answer(status, &said.error);
    let error = format!("HTTP {status} {} {}", said.error, said.message);
    Failure { wait, ..Failure::new(class, error.trim_end()) }
}

/// `Retry-After` in seconds or as a date, else the reset of `RateLimit-*`.
fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text("retry-after").and_then(|value| match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => seconds_until(http_date(value)?),
    });
    after.or_else(|| reset(headers)).map(|wait| wait.min(MOST_WAIT))
}

/// How long to wait when an answer says that it was the last one allowed.
fn exhausted(headers: &HeaderMap) -> Option<Duration> {
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

    #[test]
    fn urls_discard_the_path_and_are_checked() {
        let public = Outbound { allow_private: false };
        let url = repo_url("https://pds.example/some/path?x=1", "did:web:a%3A1", public).unwrap();
        assert_eq!(url.as_str(), "https://pds.example/xrpc/com.atproto.sync.getRepo?did=did%3Aweb%3Aa%253A1");
        assert_eq!(host_key(&url), "pds.example");
        for host in [
            "",
            "pds.example",
            "http://pds.example",
            "https://169.254.169.254",
            "https://u:p@pds.example",
            "https://[::ffff:7f00:1]",
        ] {
            assert_eq!(
                repo_url(host, "did:plc:a", public).unwrap_err().class,
                Class::RefusedAddress,
                "{host}"
            );
        }
    }

    #[test]
    fn types_of_cars() {
        for kind in
            ["application/vnd.ipld.car", "application/vnd.ipld.car; version=1", "Application/Octet-Stream"]
        {
            assert!(is_car(kind), "{kind}");
        }
        assert!(!is_car("text/html") && !is_car("application/json"));
    }
}
