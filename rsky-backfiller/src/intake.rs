//! Reads the two repository streams: this consumer's own pending entries first, then new ones, the priority stream before
//! the other. What others have held for too long is taken over, what this process holds is kept from being taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redis::Value;
use rsky_common::atproto::syntax::is_did;
use rsky_common::clock::{millis, now_ms};
use rsky_common::redis::consumer::{Consumer, Entry};
use rsky_common::redis::dead_letters::cut_note;
use rsky_common::redis::page::{Most, Pages, STEP};
use rsky_common::redis::startup::ensure_group;
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::backoff::jittered;
use rsky_common::wire::names::FIELD_REPO;
use rsky_common::wire::parse_backfill;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::job::{InFlight, Job, QUEUES, Queue};
use crate::known::Known;
use crate::ledger::{Death, Ledger, Until, Verdict};
use crate::metrics::Metrics;
use crate::outcome::Class;
use crate::put_off::Tried;
use crate::sizes::MOST_PAYLOAD;

/// How much is read at a time. Those who write to the stream may be others, and their entries of any size.
pub const PAGE: Most = Most { entries: 250, bytes: 1 << 20 };
/// How long a read waits for the first entry; the longest that the priority stream is not looked at.
pub const BLOCK: Duration = Duration::from_millis(200);
/// For how long an entry is put off while its account is on its way with another.
const SAME_ACCOUNT: Duration = Duration::from_secs(3);
/// A consumer of our name that was heard of this recently may be a second process.
const RECENT_MS: u64 = 1500;

/// The reader of both streams.
pub struct Intake {
    /// A connection of its own: its reads block.
    pub link: RedisLink,
    /// The consumer on each stream: priority, normal.
    pub consumers: [Consumer; 2],
    /// Their pages.
    pub pages: [Pages; 2],
    /// Places for jobs of each.
    pub places: [Arc<Semaphore>; 2],
    /// The dispatcher.
    pub jobs: mpsc::Sender<Job>,
    /// For what needs no fetching.
    pub ledger: Ledger,
    /// Entries on their way.
    pub in_flight: InFlight,
    /// Accounts on their way.
    pub accounts: InFlight,
    /// What need not be fetched.
    pub known: Known,
    /// Age at which others' entries are taken over.
    pub claim_idle: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The wish to stop.
    pub stop: CancellationToken,
}

impl Intake {
    /// Reads until told to stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        match self.read_all().await {
            Ok(()) | Err(LinkError::Stopped) => Ok(()),
            Err(error) => Err(error).context("read the repository streams"),
        }
    }

    async fn read_all(&mut self) -> Result<(), LinkError> {
        self.ensure_groups().await?;
        self.warn_of_namesake().await;
        while !self.stop.is_cancelled() {
            let Err(error) = self.read_until_error().await else { return Ok(()) };
            match &error {
                LinkError::Redis(redis) if redis.code() == Some("NOGROUP") => {
                    tracing::warn!("the consumer group is gone (was Redis emptied?)");
                    self.ensure_groups().await?;
                }
                _ => self.link.wait_out(error).await?,
            }
        }
        Ok(())
    }

    async fn ensure_groups(&mut self) -> Result<(), LinkError> {
        for consumer in &self.consumers {
            ensure_group(&mut self.link, &consumer.stream, &consumer.group).await?;
        }
        Ok(())
    }

    async fn read_until_error(&mut self) -> Result<(), LinkError> {
        for queue in QUEUES {
            self.read_own_pending(queue).await?;
        }
        let (mut claim_at, mut keep_at) = (Instant::now(), Instant::now());
        while !self.stop.is_cancelled() {
            if keep_at <= Instant::now() {
                self.keep_what_is_ours().await?;
                keep_at = Instant::now() + self.claim_idle / 4;
            }
            if claim_at <= Instant::now() {
                self.claim_stale().await?;
                claim_at = Instant::now() + (self.claim_idle / 2).min(Duration::from_secs(60));
            }
            let urgent = self.read_new(Queue::Priority, Duration::from_millis(1)).await?;
            let block = if urgent > 0 { Duration::from_millis(1) } else { BLOCK };
            let others = self.read_new(Queue::Normal, block).await?;
            self.link.succeeded();
            if urgent + others == 0 && self.free(Queue::Normal) == 0 {
                // No place: nothing was asked for.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    fn consumer(&self, queue: Queue) -> Consumer {
        queue.of(&self.consumers).clone()
    }

    fn places(&self, queue: Queue) -> &Arc<Semaphore> {
        queue.of(&self.places)
    }

    fn free(&self, queue: Queue) -> usize {
        self.places(queue).available_permits().min(PAGE.entries)
    }

    async fn wait_for_place(&self, queue: Queue) -> Result<usize, LinkError> {
        tokio::select! {
            () = self.stop.cancelled() => Err(LinkError::Stopped),
            place = self.places(queue).acquire() => {
                drop(place);
                Ok(self.free(queue).max(1))
            }
        }
    }

    async fn read_new(&mut self, queue: Queue, block: Duration) -> Result<usize, LinkError> {
        let count = self.free(queue);
        if count == 0 {
            return Ok(0);
        }
        let mut entries = self.read(queue, ">", count).await?;
        if entries.is_empty() {
            entries = self.consumer(queue).read_new(&mut self.link, STEP.min(count), block).await?;
        }
        self.deal(queue, entries).await
    }

    async fn read(&mut self, queue: Queue, after: &str, room: usize) -> Result<Vec<Entry>, LinkError> {
        let [priority, normal] = &mut self.pages;
        let pages = match queue {
            Queue::Priority => priority,
            Queue::Normal => normal,
        };
        Ok(pages.read_at_most(&mut self.link, after, room).await?.entries)
    }

    async fn read_own_pending(&mut self, queue: Queue) -> Result<(), LinkError> {
        let consumer = self.consumer(queue);
        let (mut after, mut found) = ("0".to_owned(), 0);
        loop {
            let count = self.wait_for_place(queue).await?;
            let entries = self.read(queue, &after, count).await?;
            let Some(last) = entries.last() else { break };
            last.id.clone_into(&mut after);
            found += entries.len();
            self.deal(queue, entries).await?;
        }
        if found > 0 {
            tracing::info!(stream = consumer.stream, entries = found, "took up entries left pending");
        }
        Ok(())
    }

    async fn claim_stale(&mut self) -> Result<(), LinkError> {
        for queue in QUEUES {
            let consumer = self.consumer(queue);
            let mut start = "0-0".to_owned();
            while !self.stop.is_cancelled() && self.free(queue) > 0 {
                let count = self.free(queue).min(STEP);
                let claimed = consumer.claim_stale(&mut self.link, self.claim_idle, &start, count).await?;
                let dealt = self.deal(queue, claimed.entries).await?;
                self.metrics.claimed.inc_by(u64::try_from(dealt).unwrap_or(0));
                if claimed.next == "0-0" {
                    break;
                }
                start = claimed.next;
            }
        }
        Ok(())
    }

    /// Says of everything in flight that it is being worked on: a large repository may take longer than the time after
    /// which entries are taken over.
    async fn keep_what_is_ours(&mut self) -> Result<(), LinkError> {
        for queue in QUEUES {
            let consumer = self.consumer(queue);
            for ids in self.in_flight.of(queue).chunks(500) {
                let mut command = redis::cmd("XCLAIM");
                command
                    .arg(&consumer.stream)
                    .arg(&consumer.group)
                    .arg(&consumer.name)
                    .arg(0)
                    .arg(ids)
                    .arg("JUSTID");
                self.link.query::<Value>(&command).await?;
            }
        }
        Ok(())
    }

    /// Hands entries to the dispatcher, those that need no fetching to the ledger; gives how many were new to us.
    async fn deal(&mut self, queue: Queue, entries: Vec<Entry>) -> Result<usize, LinkError> {
        let mut jobs: Vec<(Job, String)> = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let Some(mark) = self.in_flight.enter(queue, &entry.id) else { continue };
            // There is a place for each: no more were asked for, and nobody else takes places.
            let place =
                Arc::clone(self.places(queue)).acquire_owned().await.map_err(|_| LinkError::Stopped)?;
            let Tried { attempts, suspected, read_up_to } = Tried::of(&entry);
            let has_body = !entry.fields.is_empty();
            let mut payload = entry.take_field(FIELD_REPO).unwrap_or_default();
            let size = payload.len();
            // What is kept of one that is none waits until there is room for its letter.
            payload.truncate(MOST_PAYLOAD);
            payload.shrink_to_fit();
            let mut job = Job {
                queue,
                id: entry.id,
                payload: String::from_utf8_lossy(&payload).into_owned(),
                did: String::new(),
                listed_by: String::new(),
                attempts,
                suspected,
                read_up_to,
                account: None,
                document: None,
                // What failed before is judged by the document of now.
                fresh: attempts > 0,
                left: None,
                followed: 0,
                held: (mark, place),
            };
            if !has_body {
                // Deleted while it was pending: there is nothing left to do (trap 29).
                self.ledger.settle(job, Verdict::Done).await;
                continue;
            }
            if size > MOST_PAYLOAD {
                let cut = cut_note(MOST_PAYLOAD, size);
                self.bury(job, format!("an entry of {size} bytes{cut}")).await;
                continue;
            }
            let payload = job.payload.clone();
            match parse_backfill(&payload) {
                Ok(event) if is_did(&event.did) => {
                    job.did = event.did.into_owned();
                    job.listed_by = event.host.into_owned();
                    jobs.push((job, event.rev.into_owned()));
                }
                Ok(event) => self.bury(job, format!("{:?} is not a DID", event.did)).await,
                Err(error) => self.bury(job, error.to_string()).await,
            }
        }
        let known = self.known(queue, &jobs).await?;
        let dealt = jobs.len();
        for ((mut job, _), known) in jobs.into_iter().zip(known) {
            if known && job.read_up_to.is_none() {
                self.metrics.outcome(Class::Unchanged);
                self.ledger.settle(job, Verdict::Done).await;
                continue;
            }
            job.account = self.accounts.enter(queue, &job.did);
            if job.account.is_none() {
                // Several relays tell of the same. When the one that is on its way has been written, this one is known.
                let due = now_ms().saturating_add(millis(jittered(SAME_ACCOUNT)));
                self.ledger.settle(job, Verdict::Later(Until::Due(due))).await;
            } else if self.jobs.send(job).await.is_err() {
                return Err(LinkError::Stopped);
            }
        }
        Ok(dealt)
    }

    async fn bury(&self, job: Job, error: String) {
        self.metrics.outcome(Class::BadEntry);
        self.metrics.buried(Class::BadEntry);
        let death = Death { reason: Class::BadEntry.name(), error };
        self.ledger.settle(job, Verdict::Dead(death)).await;
    }

    /// Which of them need not be fetched.
    async fn known(&mut self, queue: Queue, jobs: &[(Job, String)]) -> Result<Vec<bool>, LinkError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let listed: Vec<(&str, &str)> =
            jobs.iter().map(|(job, rev)| (job.did.as_str(), rev.as_str())).collect();
        self.known.among(&mut self.link, queue, &listed).await
    }

    async fn warn_of_namesake(&mut self) {
        let consumer = self.consumer(Queue::Normal);
        if let Ok(Some(idle)) = consumer.idle_ms(&mut self.link).await
            && idle < RECENT_MS
        {
            tracing::warn!(
                stream = consumer.stream,
                consumer = consumer.name,
                "a consumer of this name was active {idle} ms ago: if that was not this process before its restart, \
                 give every backfiller its own BACKFILLER_CONSUMER"
            );
        }
    }
}
