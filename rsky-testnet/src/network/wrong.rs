//! Answers over HTTP that go wrong, made of the right ones.

use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Response, header};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::http::{self, Hangup};

/// How long an answer fails to come, before its connection ends: longer than any patience with an answer, and bounded.
const SILENCE: Duration = Duration::from_secs(120);
/// Time between two bytes of an answer that trickles.
const DRIP: Duration = Duration::from_millis(100);
/// Time for the first part of an answer to leave before its connection ends.
const CUT: Duration = Duration::from_millis(20);
/// Seconds that a busy server asks for.
const PATIENCE: HeaderValue = HeaderValue::from_static("1");

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Wrong {
    /// An error of the server's own: 500.
    Error,
    /// 429, and a wish to be left alone for a second.
    Busy,
    /// A page for people, and 200.
    Page,
    /// The body ends in its middle, and the connection with it.
    Cut,
    /// Nothing, for two minutes; then the connection ends.
    Silence,
    /// The right answer, ten bytes a second.
    Trickle,
    /// The right answer, with another value of this member.
    Member(&'static str, Value),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The document of a DID.
    Document(&'a str),
    /// The DID of a handle.
    Handle(&'a str),
    /// The page of listRepos that begins with the repository of this number, after this cursor.
    Page(usize, Option<&'a str>),
}

/// Who asks, by the `User-Agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asker {
    /// The ingester.
    Ingester,
    /// The backfiller.
    Backfiller,
    /// The indexer.
    Indexer,
    /// Anybody else.
    Other,
}

impl Asker {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        match agent.split('/').next() {
            Some("rsky-ingester") => Self::Ingester,
            Some("rsky-backfiller") => Self::Backfiller,
            Some("rsky-indexer") => Self::Indexer,
            _ => Self::Other,
        }
    }
}

impl Wrong {
    /// What is sent instead of the right answer.
    pub(super) async fn instead_of(self, right: Response<Body>) -> Response<Body> {
        match self {
            Self::Error => return http::error(500, "InternalServerError", "on purpose"),
            Self::Busy => {
                let mut busy = http::error(429, "RateLimitExceeded", "on purpose");
                busy.headers_mut().insert(header::RETRY_AFTER, PATIENCE);
                return busy;
            }
            Self::Page => {
                let page = Bytes::from_static(b"<!doctype html><title>Maintenance</title>");
                return http::respond(200, "text/html", page);
            }
            Self::Silence => {
                tokio::time::sleep(SILENCE).await;
                return Hangup::response();
            }
            Self::Cut | Self::Trickle | Self::Member(..) => {}
        }
        let (mut parts, body) = right.into_parts();
        // It is in memory as a whole already.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        if let Self::Member(name, value) = self {
            let mut json: Value = serde_json::from_slice(&body).unwrap_or_default();
            if let Some(member) = json.get_mut(name) {
                *member = value;
            }
            return Response::from_parts(parts, json.to_string().into());
        }
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
        let body = if self == Self::Cut { cut(&body) } else { trickle(body) };
        Response::from_parts(parts, body)
    }
}

fn cut(body: &Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    let end = stream::once(async {
        tokio::time::sleep(CUT).await;
        Err(io::Error::other("cut on purpose"))
    });
    Body::from_stream(stream::once(async { Ok(half) }).chain(end))
}

fn trickle(body: Bytes) -> Body {
    Body::from_stream(stream::unfold(body, |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(DRIP).await;
        let byte = rest.split_to(1);
        Some((Ok::<_, io::Error>(byte), rest))
    }))
}
