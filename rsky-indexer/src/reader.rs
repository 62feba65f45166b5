//! Reads one stream and passes its entries on, in order.
//!
//! Order of reading: this consumer's own pending entries (what an earlier life left), then new ones; entries that
//! other consumers have held for too long are claimed now and then. An entry that is already on its way is not
//! passed on twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::redis::consumer::Entry;
use rsky_common::redis::startup::ensure_group;
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::budget::ByteBudget;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acks::{Source, entry_id};
use crate::identity::Handover;
use crate::job::{Job, Payload};
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::observed::Held;
use crate::supply::Share;
use crate::text::clock::now_ms;

/// Most entries of a read. More is not faster.
pub const COUNT: usize = 500;

/// How often an entry stands in memory on its way: as it was read, and taken apart.
const COPIES: usize = 2;
/// Bytes that an entry takes beside: its id, its place in tables, what it claims.
const OVERHEAD: usize = 512;

/// Bytes that a read aims at. What is read is in memory before it can be charged to the budget.
const PAGE_BYTES: usize = 4 << 20;

/// How long a read waits for the first entry: also the longest that a stop waits for the reader.
pub const BLOCK: Duration = Duration::from_millis(500);

/// A consumer of our name that was heard of this recently may be a second process.
const RECENT_MS: u64 = 1500;

/// How many entries the next read asks for: fewer at once when they are large, more again step by step.
#[derive(Debug)]
pub struct Page(usize);

impl Default for Page {
    fn default() -> Self {
        Self(32)
    }
}

impl Page {
    fn learn(&mut self, entries: &[Entry]) {
        let bytes: usize = entries.iter().map(Entry::size).sum();
        let Some(average) = bytes.checked_div(entries.len()) else { return };
        let fitting = PAGE_BYTES.checked_div(average).unwrap_or(COUNT);
        self.0 = fitting.min(self.0.saturating_mul(2)).clamp(1, COUNT);
    }
}

/// The way on from a reader.
pub struct Feed {
    /// Pages of entries.
    pub pages: mpsc::Sender<Vec<Job>>,
    /// Tells those who make batches that more is to come.
    pub share: Share,
    /// Bytes of entries on their way, over all streams.
    pub budget: ByteBudget,
    /// How many entries that is.
    pub held: Held,
}

/// A stream's reader.
pub struct Reader {
    /// The stream.
    pub source: Arc<Source>,
    /// Connection of its own: its reads block.
    pub link: RedisLink,
    /// Where entries go.
    pub feed: Feed,
    /// Size of reads.
    pub page: Page,
    /// Age at which other consumers' entries are claimed.
    pub claim_idle: Duration,
    /// Where the lanes hand on what is left to do beside them.
    pub handover: Option<Handover>,
    /// When to stop.
    pub stop: CancellationToken,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Reader {
    /// Reads until told to stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run<K: Kind>(mut self) -> anyhow::Result<()> {
        let stream = self.source.consumer.stream.clone();
        match self.read_all::<K>().await {
            Ok(()) | Err(LinkError::Stopped) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("read stream {stream}")),
        }
    }

    async fn read_all<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        ensure_group(&mut self.link, &source.consumer.stream, &source.consumer.group).await?;
        self.warn_of_namesake().await;
        while !self.stop.is_cancelled() {
            // A lost connection may have taken entries with it that Redis counts as delivered: own pending first.
            let Err(error) = self.read_until_error::<K>().await else { return Ok(()) };
            match &error {
                LinkError::Redis(redis) if redis.code() == Some("NOGROUP") => {
                    warn!(stream = source.consumer.stream, "the consumer group is gone (was Redis emptied?)");
                    ensure_group(&mut self.link, &source.consumer.stream, &source.consumer.group).await?;
                }
                _ => self.link.wait_out(error).await?,
            }
        }
        Ok(())
    }

    async fn read_until_error<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        let mut after = "0".to_owned();
        let mut found = 0;
        while !self.stop.is_cancelled() {
            let entries = source.consumer.read_pending(&mut self.link, &after, self.page.0).await?;
            let Some(last) = entries.last() else { break };
            last.id.clone_into(&mut after);
            found += entries.len();
            self.deal::<K>(entries).await?;
        }
        if found > 0 {
            info!(stream = source.consumer.stream, entries = found, "took up entries left pending");
        }
        let pause = (self.claim_idle / 2).clamp(Duration::from_millis(100), Duration::from_secs(60));
        let mut claim_at = Instant::now();
        while !self.stop.is_cancelled() {
            if claim_at <= Instant::now() {
                self.claim_stale::<K>().await?;
                claim_at = Instant::now() + pause;
            }
            self.read_deferred::<K>().await?;
            let entries = source.consumer.read_new(&mut self.link, self.page.0, BLOCK).await?;
            self.link.succeeded();
            self.note_read(entries.last());
            self.deal::<K>(entries).await?;
        }
        Ok(())
    }

    /// Reads entries again that were put off, once there is room for a good part of them.
    async fn read_deferred<K: Kind>(&mut self) -> Result<(), LinkError> {
        let Some(room) = self.handover.as_ref().and_then(Handover::room) else { return Ok(()) };
        let source = Arc::clone(&self.source);
        let Some(from) = source.deferral.next_round() else { return Ok(()) };
        let mut after = format!("{}-{}", from.0, from.1);
        let mut found = 0;
        while !self.stop.is_cancelled() {
            let entries = source.consumer.read_pending(&mut self.link, &after, self.page.0).await?;
            let Some(last) = entries.last() else { break };
            last.id.clone_into(&mut after);
            found += usize::try_from(self.deal::<K>(entries).await?).unwrap_or(usize::MAX);
            if found >= room {
                source.deferral.interrupt(entry_id(&after));
                break;
            }
        }
        Ok(())
    }

    /// Takes over what others have held for too long, to the end of the pending list.
    async fn claim_stale<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        let mut start = "0-0".to_owned();
        while !self.stop.is_cancelled() {
            let claimed =
                source.consumer.claim_stale(&mut self.link, self.claim_idle, &start, self.page.0).await?;
            if !claimed.entries.is_empty() {
                // Among them are this process's own that take long: on their way already, and not dealt again.
                let count = self.deal::<K>(claimed.entries).await?;
                if count > 0 {
                    self.metrics.claimed.get_or_create(&source.labels).inc_by(count);
                    info!(stream = source.consumer.stream, entries = count, "took over stale entries");
                }
            }
            if claimed.next == "0-0" {
                break;
            }
            start = claimed.next;
        }
        Ok(())
    }

    /// Passes everything on that was read, also while the process stops: what is read and not passed on would stay pending.
    /// What follows goes on until the channel is closed, so this ends. Gives how many were not on their way already.
    async fn deal<K: Kind>(&mut self, mut entries: Vec<Entry>) -> Result<u64, LinkError> {
        let is_full_page = entries.len() >= self.page.0;
        self.page.learn(&entries);
        self.source.enter(&mut entries);
        if entries.is_empty() {
            self.feed.share.set(false);
            return Ok(0);
        }
        let size = entries.iter().map(|entry| COPIES * entry.size() + OVERHEAD).sum();
        // Without room for these nothing comes until lanes have written what they have.
        self.feed.share.set(is_full_page && self.feed.budget.has_room(size));
        let charge = Arc::new(self.feed.budget.charge(size).await);
        let count = u64::try_from(entries.len()).unwrap_or(0);
        let read_at = Instant::now();
        let round = self.source.deferral.round();
        let page = entries.into_iter().map(|mut entry| {
            let payload = Payload::of(K::FIELDS, &mut entry);
            let (source, charge) = (Arc::clone(&self.source), Some(Arc::clone(&charge)));
            Job { source, id: entry.id, payload, read_at, round, charge, held: self.feed.held.one() }
        });
        if self.feed.pages.send(page.collect()).await.is_err() {
            return Err(LinkError::Stopped);
        }
        Ok(count)
    }

    /// What was read last tells how far everything has been read: to its own time, or to now if there was nothing.
    fn note_read(&self, last: Option<&Entry>) {
        let until = last.and_then(Entry::written_ms).unwrap_or_else(now_ms);
        self.source.read_until_ms.store(until, Ordering::Relaxed);
    }

    async fn warn_of_namesake(&mut self) {
        let consumer = &self.source.consumer;
        if let Ok(Some(idle)) = consumer.idle_ms(&mut self.link).await
            && idle < RECENT_MS
        {
            warn!(
                stream = consumer.stream,
                consumer = consumer.name,
                "a consumer of this name was active {idle} ms ago: if that was not this process before its restart, \
                 give every indexer its own INDEXER_CONSUMER"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shrinks_at_once_and_grows_by_steps() {
        let entries = |count: usize, size: usize| {
            let entry = Entry { id: "1-1".into(), fields: vec![(Vec::new(), vec![0; size])] };
            vec![entry; count]
        };
        let mut page = Page::default();
        page.learn(&entries(32, 100));
        assert_eq!(page.0, 64);
        (0..9).for_each(|_| page.learn(&entries(5, 100)));
        assert_eq!(page.0, COUNT);
        page.learn(&entries(3, 1 << 20));
        assert_eq!(page.0, 4);
        page.learn(&entries(1, 5 << 20));
        assert_eq!(page.0, 1);
        page.learn(&[]);
        page.learn(&entries(1, 0));
        assert_eq!(page.0, 2);
    }
}
