//! Reads one stream and passes its entries on, in order.
//!
//! Order of reading: this consumer's own pending entries (what an earlier life left), then new ones; entries that
//! other consumers have held for too long are claimed now and then. An entry that is already on its way is not
//! passed on twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::clock::now_ms;
use rsky_common::redis::consumer::Entry;
use rsky_common::redis::page::{Most, Page, Pages, STEP};
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
use crate::metrics::{Metrics, What};
use crate::observed::Held;
use crate::supply::Share;

/// Most entries of a page. More is not faster.
pub const COUNT: usize = 500;

/// Bytes that an entry takes beside what it says: its id, its place in tables, what it claims, and each of its fields.
const OVERHEAD: usize = 512;

/// How much a page holds. It is in memory before it can be charged to the budget.
pub const PAGE: Most = Most { entries: COUNT, bytes: 4 << 20 };

/// How long a read waits for the first entry: also the longest that a stop waits for the reader.
pub const BLOCK: Duration = Duration::from_millis(500);

/// A consumer of our name that was heard of this recently may be a second process.
const RECENT_MS: u64 = 1500;

/// What an entry is charged from when it is read until it is done with, in bytes: as it was read, taken apart, and beside.
pub(crate) fn charge_of<K: Kind>(entry: &Entry) -> usize {
    let fields = entry.fields.len().max(1);
    K::COPIES.saturating_mul(entry.size()).saturating_add(OVERHEAD.saturating_mul(fields))
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
    /// Its pages.
    pub pages: Pages,
    /// Connection of its own: its reads block.
    pub link: RedisLink,
    /// Where entries go.
    pub feed: Feed,
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
        let found = self.read_pending::<K>("0".to_owned(), usize::MAX, None).await?;
        if found > 0 {
            info!(stream = self.source.consumer.stream, entries = found, "took up entries left pending");
        }
        let pause = (self.claim_idle / 2).clamp(Duration::from_millis(100), Duration::from_secs(60));
        let mut claim_at = Instant::now();
        // Where the claims go on, while they have not reached the end.
        let mut claims: Option<String> = None;
        let mut full = true;
        while !self.stop.is_cancelled() {
            if claims.is_some() || claim_at <= Instant::now() {
                claims = self.claim_stale::<K>(claims).await?;
                claim_at = Instant::now() + pause;
            }
            self.read_deferred::<K>().await?;
            let page = if full || claims.is_some() {
                self.pages.read(&mut self.link, ">").await?
            } else {
                self.wait().await?
            };
            full = page.full;
            self.link.succeeded();
            self.note_read(page.entries.last());
            self.deal::<K>(page, false).await?;
        }
        Ok(())
    }

    /// Waits for the first few entries. What has come with them goes with them.
    async fn wait(&mut self) -> Result<Page, LinkError> {
        let entries = self.source.consumer.read_new(&mut self.link, STEP, BLOCK).await?;
        let mut page = Page { entries, full: false };
        if page.entries.len() >= STEP {
            let more = self.pages.read(&mut self.link, ">").await?;
            page.entries.extend(more.entries);
            page.full = more.full;
        }
        Ok(page)
    }

    /// Reads this consumer's own pending entries after an id, until there are no more, or so many were not on their way already.
    /// Gives how many. `domain`: only what was put off of it is read for.
    async fn read_pending<K: Kind>(
        &mut self,
        mut after: String,
        enough: usize,
        domain: Option<&str>,
    ) -> Result<usize, LinkError> {
        let mut found = 0;
        while !self.stop.is_cancelled() {
            let page = self.pages.read(&mut self.link, &after).await?;
            let Some(last) = page.entries.last() else { break };
            last.id.clone_into(&mut after);
            found += self.deal::<K>(page, true).await?;
            if found >= enough {
                self.source.deferral.interrupt(domain, entry_id(&after));
                break;
            }
        }
        Ok(found)
    }

    /// Reads entries again that were put off, once there is room for a good part of them.
    async fn read_deferred<K: Kind>(&mut self) -> Result<(), LinkError> {
        let Some(handover) = self.handover.clone() else { return Ok(()) };
        let Some(room) = handover.room() else { return Ok(()) };
        if let Some((ms, n)) = self.source.deferral.next_round() {
            self.read_pending::<K>(format!("{ms}-{n}"), room, None).await?;
        }
        let next = self.source.deferral.next_round_of(|domain| handover.has_room_for(domain));
        if let Some((domain, (ms, n))) = next {
            let room = handover.room_of_domain();
            self.read_pending::<K>(format!("{ms}-{n}"), room, Some(&domain)).await?;
        }
        Ok(())
    }

    /// Takes over what others have held for too long, a few at a time: they may be large. After a page of them new entries have
    /// their turn; gives where to go on then, `None` at the end of the pending list.
    async fn claim_stale<K: Kind>(&mut self, from: Option<String>) -> Result<Option<String>, LinkError> {
        let source = Arc::clone(&self.source);
        let (mut next, mut count) = (Some(from.unwrap_or_else(|| "0-0".to_owned())), 0);
        while let Some(start) = next.take_if(|_| count < COUNT && !self.stop.is_cancelled()) {
            let claimed = source.consumer.claim_stale(&mut self.link, self.claim_idle, &start, STEP).await?;
            if !claimed.entries.is_empty() {
                // Among them are this process's own that take long: on their way already, and not dealt again.
                let page = Page { entries: claimed.entries, full: false };
                count += self.deal::<K>(page, true).await?;
            }
            next = Some(claimed.next).filter(|next| next != "0-0");
        }
        if count > 0 {
            self.metrics.claimed(&source.labels, count);
            info!(stream = source.consumer.stream, entries = count, "took over stale entries");
        }
        Ok(next)
    }

    /// Passes everything on that was read, also while the process stops: what is read and not passed on would stay pending.
    /// What follows goes on until the channel is closed, so this ends. `again`: it was delivered before. Gives how many were not on their way already.
    async fn deal<K: Kind>(&mut self, page: Page, again: bool) -> Result<usize, LinkError> {
        let Page { mut entries, full } = page;
        self.source.enter(&mut entries);
        if entries.is_empty() {
            self.feed.share.set(false);
            return Ok(0);
        }
        let size = entries.iter().map(|entry| charge_of::<K>(entry)).sum();
        // Without room for these nothing comes until lanes have written what they have.
        self.feed.share.set(full && self.feed.budget.has_room(size));
        let mut charge = self.feed.budget.charge(size).await;
        let count = entries.len();
        let read_at = Instant::now();
        let round = self.source.deferral.round();
        let mut page = Vec::with_capacity(count);
        for mut entry in entries {
            let (own, rest) = charge.split(charge_of::<K>(&entry));
            charge = rest;
            let payload = Payload::of(K::FIELDS, &mut entry);
            let (source, charge) = (Arc::clone(&self.source), Some(own));
            page.push(Job {
                source,
                id: entry.id,
                payload,
                what: What::default(),
                again,
                read_at,
                round,
                charge,
                held: self.feed.held.one(),
            });
        }
        drop(charge);
        if self.feed.pages.send(page).await.is_err() {
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
