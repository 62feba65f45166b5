//! The repositories of a relay: pages of `listRepos` become entries of `repo_backfill`.
//!
//! Input: pages, fetched one ahead of the writing. Output: one entry a repository, and the page's cursor in the same
//! transaction as (the last part of) its entries. A crash repeats at most a page. `!ingester-done` in the cursor key
//! ends a listing; deleting the key, or `INGESTER_RELIST_INTERVAL`, starts another. A Redis that has lost what was listed,
//! and with it the place or the end, is noticed also after the end: the listing goes on from where Redis is.

mod fetch;
pub mod page;
mod remembered;
mod step_over;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{Either, select};
use rsky_common::clock::now_ms;
use rsky_common::redis::{Batch, CursorWriter, DeadLetter, Found, Gate, LinkError, Outcome};
use rsky_common::runtime::CancellationToken;
use rsky_common::runtime::backoff::sleep_or_stop;
use rsky_common::wire::BackfillEvent;
use rsky_common::wire::names::LISTING_DONE;

pub use fetch::{Fetcher, MOST_BYTES as MOST_PAGE_BYTES};
use page::{Page, Repo};
use remembered::Remembered;

use crate::config::ListingConfig;
use crate::cursor_keys::Values;
use crate::metrics::Metrics;
use crate::source::Source;

/// The listing of one relay.
#[derive(Debug)]
pub struct Listing {
    /// The relay.
    pub source: Arc<Source>,
    /// Gets pages.
    pub fetcher: Fetcher,
    /// To the stream, over a connection of its own.
    pub writer: CursorWriter,
    /// Before the stream.
    pub gate: Gate,
    /// Whether and when it is repeated.
    pub config: ListingConfig,
    /// Counted after each page.
    pub metrics: Metrics,
    /// The wish to stop.
    pub stop: CancellationToken,
}

impl Listing {
    /// Runs until the listing has ended (and for ever, when it is to be repeated), or until we shall stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        match self.run_all().await {
            Ok(()) | Err(LinkError::Stopped) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("write what {} gives", self.source.name())),
        }
    }

    async fn run_all(&mut self) -> Result<(), LinkError> {
        let remembered = self.config.interval.map(|_| Remembered::new(&self.source, self.config.memory));
        self.source.cursor_keys().adopt(&mut self.writer, Values::Opaque).await?;
        loop {
            let mut cursor = self.writer.look().await?.stored;
            if cursor.as_deref() == Some(LISTING_DONE) {
                self.note_done();
                if self.wait_for_next().await? == Next::Look {
                    continue;
                }
                cursor = None;
            }
            self.metrics.complete(&self.source, false);
            self.list_from(cursor, remembered.as_ref()).await?;
        }
    }

    /// Lists to the end, or until the stored cursor is not the one that was left there.
    async fn list_from(
        &mut self,
        cursor: Option<String>,
        remembered: Option<&Remembered>,
    ) -> Result<(), LinkError> {
        tracing::info!(source = self.source.name(), cursor, "listing repositories");
        self.source.connected(true);
        self.fetcher.start();
        let mut page = self.fetcher.next(cursor.as_deref()).await?;
        // The next page is fetched while this one is written, and held while the gate is shut.
        while let Some(next) = page.cursor.clone() {
            let writing = write(&mut self.writer, &self.gate, &self.source, &self.stop, page, remembered);
            let fetching = self.fetcher.next(Some(&next));
            // A Redis that refuses ends the listing at once, not when the host has given its next page. A page that is
            // being written when we shall stop is finished all the same.
            let (written, fetched) = match select(pin!(writing), pin!(fetching)).await {
                Either::Left((written, fetching)) => match written? {
                    Written::Page(counts) => (Written::Page(counts), Some(fetching.await)),
                    // The next page is not the next any more.
                    moved => (moved, None),
                },
                Either::Right((fetched, writing)) => (writing.await?, Some(fetched)),
            };
            match (written, fetched) {
                (Written::Page(counts), Some(fetched)) => {
                    self.count(&counts);
                    page = fetched?;
                }
                (Written::Moved(found), _) => {
                    self.note_change(&found);
                    return Ok(());
                }
                (Written::Page(_), None) => return Ok(()),
            }
        }
        match write(&mut self.writer, &self.gate, &self.source, &self.stop, page, remembered).await? {
            Written::Page(counts) => self.count(&counts),
            Written::Moved(found) => self.note_change(&found),
        }
        Ok(())
    }

    fn note_change(&self, found: &Found) {
        let shown = |cursor: &Option<String>| {
            cursor
                .as_deref()
                .map_or_else(|| "none".to_owned(), |cursor| rsky_common::admin::shown(cursor, 100))
        };
        let (stored, ours) = (shown(&found.stored), shown(&found.expected));
        let said = format!(
            "the cursor {} is {stored}, this process left {ours}: Redis may have lost what was written since, or somebody else lists this host; listing again from there",
            self.writer.key()
        );
        tracing::warn!(source = self.source.name(), "{said}");
        self.metrics.cursor_changed(&self.source, if found.is_other() { "changed" } else { "doubtful" });
        self.source.note(|state| state.last_error = Some(said));
    }

    fn count(&self, written: &Counts) {
        self.metrics.page(&self.source, written.fetched, written.queued, written.unchanged);
        (0..written.invalid).for_each(|_| self.metrics.rejected(&self.source, page::INVALID));
        (0..written.unreadable).for_each(|_| self.metrics.rejected(&self.source, page::UNREADABLE));
        self.source.note(|state| {
            state.entries += written.queued;
            state.cursor = Some(written.cursor.clone());
        });
    }

    fn note_done(&self) {
        tracing::info!(source = self.source.name(), "the listing has ended");
        self.fetcher.readiness.ready();
        self.metrics.complete(&self.source, true);
        self.source.note(|state| {
            state.cursor = Some(LISTING_DONE.to_owned());
        });
        self.source.connected(false);
    }

    /// Waits for the time of the next listing, or until the mark of the end is not there any more.
    async fn wait_for_next(&mut self) -> Result<Next, LinkError> {
        let mut left = match self.config.interval {
            None => Duration::MAX,
            Some(interval) => {
                let ended: Option<u64> =
                    self.stored(ended_key(&self.source)).await?.and_then(|text| text.parse().ok());
                // A listing that ended before the interval was configured is repeated at once.
                let since = |ended| Duration::from_millis(now_ms().saturating_sub(ended));
                interval.saturating_sub(ended.map_or(interval, since))
            }
        };
        while !left.is_zero() {
            let now = left.min(LOOK_EVERY);
            if !sleep_or_stop(now, &self.stop).await {
                return Err(LinkError::Stopped);
            }
            left = left.saturating_sub(now);
            if let Some(found) = self.writer.check().await? {
                self.note_change(&found);
                return Ok(Next::Look);
            }
        }
        Ok(Next::Repeat)
    }

    async fn stored(&mut self, key: String) -> Result<Option<String>, LinkError> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.writer.link().retry(&command).await
    }
}

/// Time between two looks at the mark of the end.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How it goes on after the end of a listing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is time for another listing.
    Repeat,
    /// The mark of the end is gone.
    Look,
}

/// What came of writing a page.
enum Written {
    /// It is in Redis.
    Page(Counts),
    /// It is not: the cursor is another.
    Moved(Found),
}

/// What became of a page.
struct Counts {
    fetched: u64,
    queued: u64,
    unchanged: u64,
    invalid: usize,
    unreadable: usize,
    cursor: String,
}

/// Writes a page in as many transactions as the gate asks for; the cursor comes with the last.
async fn write(
    writer: &mut CursorWriter,
    gate: &Gate,
    source: &Source,
    stop: &CancellationToken,
    page: Page,
    remembered: Option<&Remembered>,
) -> Result<Written, LinkError> {
    let fetched = page.repos.len();
    let known = match remembered {
        Some(remembered) => remembered.known(writer.link(), &page.repos).await?,
        None => vec![false; fetched],
    };
    let changed: Vec<&Repo> =
        page.repos.iter().zip(known).filter_map(|(repo, known)| (!known).then_some(repo)).collect();
    let host = source.host.in_entries();
    let cursor = page.cursor.clone().unwrap_or_else(|| LISTING_DONE.to_owned());
    let (invalid, unreadable) = (page.invalid.len(), page.passed_over.len());
    let mut letters: Vec<DeadLetter> = page.letters(source);
    let mut left = changed.as_slice();
    loop {
        let permit = gate.pass(writer.link(), stop).await?;
        let (now, later) = left.split_at(permit.entries.min(left.len()));
        let mut batch = Batch {
            field: source.field(),
            entries: now.iter().map(|repo| entry(repo, &host).into()).collect(),
            also: remembered.map(|remembered| remembered.remember(now)).unwrap_or_default(),
            ..Batch::default()
        };
        let last = later.is_empty();
        if last {
            batch.dead_letters = std::mem::take(&mut letters);
            if page.cursor.is_none() {
                let mut ended = redis::cmd("SET");
                ended.arg(ended_key(source)).arg(now_ms());
                batch.also.extend(remembered.map(|_| ended));
            }
        }
        match writer.write(&batch, last.then_some(cursor.as_str())).await? {
            Outcome::Written { length } => gate.note_length(length),
            Outcome::Moved(found) => return Ok(Written::Moved(found)),
        }
        left = later;
        if left.is_empty() {
            break;
        }
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let queued = changed.len();
    let unchanged = fetched.saturating_sub(queued);
    Ok(Written::Page(Counts {
        fetched: count(fetched),
        queued: count(queued),
        unchanged: count(unchanged),
        invalid,
        unreadable,
        cursor,
    }))
}

fn entry(repo: &Repo, host: &str) -> String {
    let event = BackfillEvent {
        did: repo.did.as_str().into(),
        host: host.into(),
        rev: repo.rev.as_str().into(),
        status: repo.status.as_deref().map(Into::into),
        active: repo.active,
    };
    event.to_json()
}

/// When the last listing ended, in milliseconds since the Unix epoch; only kept when listings are repeated.
fn ended_key(source: &Source) -> String {
    format!("{}:ended", source.cursor_key())
}
