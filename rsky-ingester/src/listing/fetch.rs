//! Getting pages from a host, past what it cannot list.
//!
//! A page that keeps failing is narrowed by smaller limits until the failing spot is one repository (DECISIONS 28).
//! How to get past that one depends on the host's cursors. Where every cursor of this listing has been a growing number,
//! a cursor means "what comes after this number", and there is a way around (`step_over`). Where cursors are opaque there
//! is none: then the page is tried for ever, and health and metrics say so.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::net::asked_to_wait;
use rsky_common::redis::LinkError;
use rsky_common::runtime::backoff::sleep_or_stop;
use rsky_common::runtime::{Backoff, CancellationToken};

use super::page::Page;
use crate::config::ListingConfig;
use crate::http::describe;
use crate::metrics::Metrics;
use crate::source::Source;

/// Repositories per page; the most the protocol allows, and what the reference asks for.
const LIMIT: u32 = 1000;
/// Failures in a row before a page is narrowed.
const ATTEMPTS: u32 = 3;
/// Largest answer in bytes; a page of 1000 has some 200 KB.
pub const MOST_BYTES: usize = 8 << 20;
/// Longest wait a host may ask for.
const MOST_WAIT: Duration = Duration::from_secs(600);

/// Gets the pages of one relay.
#[derive(Debug)]
pub struct Fetcher {
    pub(super) source: Arc<Source>,
    client: reqwest::Client,
    timeout: Duration,
    backoff: Backoff,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) stop: CancellationToken,
    limit: u32,
    /// The last good cursor as a number, and whether all have been growing numbers.
    pub(super) number: Option<u64>,
    pub(super) numeric: bool,
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Failure {
    /// The host is not there, or asks for patience: the page itself may be fine.
    Host { why: String, wait: Option<Duration> },
    /// The host answered with an error for this page.
    Page(String),
}

impl Fetcher {
    /// A fetcher that starts with whole pages.
    pub fn new(
        source: Arc<Source>,
        client: reqwest::Client,
        config: ListingConfig,
        metrics: Metrics,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> Self {
        let (first, cap) = config.retry;
        let backoff = Backoff::new(first, cap);
        let timeout = config.timeout;
        let (limit, number, numeric) = (LIMIT, None, true);
        Self { source, client, timeout, backoff, metrics, readiness, stop, limit, number, numeric }
    }

    /// The page after `cursor`, trying for as long as it takes.
    ///
    /// # Errors
    /// `Stopped` only.
    pub(super) async fn next(&mut self, cursor: Option<&str>) -> Result<Page, LinkError> {
        self.see(cursor);
        let mut failures = 0_u32;
        loop {
            let failure = match self.attempt(cursor, self.limit).await? {
                Ok(page) => {
                    self.limit = self.limit.saturating_mul(10).min(LIMIT);
                    return Ok(self.good(page));
                }
                Err(failure) => failure,
            };
            let narrows = matches!(failure, Failure::Page(_));
            failures = if narrows { failures.saturating_add(1) } else { 0 };
            self.wait_after(&failure, cursor).await?;
            if failures < ATTEMPTS {
                continue;
            }
            failures = 0;
            if self.limit > 1 {
                self.limit = (self.limit / 10).max(1);
                tracing::info!(
                    source = self.source.name(),
                    cursor,
                    limit = self.limit,
                    "asking for a smaller page"
                );
            } else if let Some(page) = self.step_over(cursor).await? {
                return Ok(page);
            }
        }
    }

    pub(super) fn good(&mut self, page: Page) -> Page {
        self.backoff.reset();
        self.readiness.ready();
        page
    }

    /// A listing begins: its cursors tell anew what kind they are.
    pub(super) fn start(&mut self) {
        (self.number, self.numeric) = (None, true);
    }

    /// Learns what kind of cursors the host gives.
    fn see(&mut self, cursor: Option<&str>) {
        let Some(cursor) = cursor else {
            (self.number, self.numeric) = (None, true);
            return;
        };
        let canonical = cursor.parse::<u64>().ok().filter(|number| number.to_string() == cursor);
        self.numeric &= canonical.is_some_and(|number| self.number.is_none_or(|last| number > last));
        self.number = canonical;
    }

    pub(super) async fn wait_after(
        &mut self,
        failure: &Failure,
        cursor: Option<&str>,
    ) -> Result<(), LinkError> {
        let (why, asked) = match failure {
            Failure::Host { why, wait } => (why, *wait),
            Failure::Page(why) => (why, None),
        };
        self.metrics.fetch_error(&self.source);
        self.readiness.not_ready(format!("the page after cursor {cursor:?} cannot be fetched: {why}"));
        self.source.note(|state| state.last_error = Some(why.clone()));
        tracing::warn!(source = self.source.name(), cursor, limit = self.limit, "no page: {why}");
        let wait = self.backoff.next_delay().max(asked.unwrap_or_default().min(MOST_WAIT));
        if sleep_or_stop(wait, &self.stop).await { Ok(()) } else { Err(LinkError::Stopped) }
    }

    pub(super) async fn attempt(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Result<Page, Failure>, LinkError> {
        tokio::select! {
            () = self.stop.cancelled() => Err(LinkError::Stopped),
            outcome = Box::pin(self.request(cursor, limit)) => Ok(outcome),
        }
    }

    async fn request(&self, cursor: Option<&str>, limit: u32) -> Result<Page, Failure> {
        let host = |why: String| Failure::Host { why, wait: None };
        let mut url =
            url::Url::parse(&format!("{}/xrpc/com.atproto.sync.listRepos", self.source.host.http_url()))
                .map_err(|error| host(error.to_string()))?;
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        let mut answer = self.client.get(url).timeout(self.timeout).send().await.map_err(|error| {
            // A host that takes our request and then no time is enough may choke on this very page.
            let why = describe(&error);
            if error.is_timeout() && !error.is_connect() { Failure::Page(why) } else { host(why) }
        })?;
        let status = answer.status();
        if status.as_u16() == 429 || status.as_u16() == 503 {
            let wait = asked_to_wait(answer.headers());
            return Err(Failure::Host { why: format!("HTTP {status}"), wait });
        }
        let mut body = Vec::new();
        while let Some(more) = answer.chunk().await.map_err(|error| Failure::Page(describe(&error)))? {
            if body.len().saturating_add(more.len()) > MOST_BYTES {
                return Err(Failure::Page(format!("more than {MOST_BYTES} bytes")));
            }
            body.extend_from_slice(&more);
        }
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(Failure::Page(format!("HTTP {status} {text}")));
        }
        let page = Page::parse(&body).map_err(|why| Failure::Page(format!("not a page: {why}")))?;
        if page.cursor.is_some() && page.cursor.as_deref() == cursor {
            return Err(Failure::Page("the next cursor is the one that was asked for".to_owned()));
        }
        Ok(page)
    }
}
