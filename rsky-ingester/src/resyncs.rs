//! Repositories to fetch because their events do not tell what changed (`#sync`, `tooBig`).
//!
//! Their entries go into a stream of their own, in the transaction of the events around them. That stream may be at its
//! mark for good: where no backfiller reads it, nobody drains it. Live events never wait for it. What finds no room goes, in
//! the same transaction, into a set beside the stream, from where it is queued when there is room again; it is there after
//! the process has ended as well, since the cursor has passed the events. Beyond a bound wishes are given up, counted and
//! said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::redis::{Batch, Gate, LinkError, Permit, RedisLink, StreamWriter};
use rsky_common::runtime::CancellationToken;
use rsky_common::runtime::backoff::sleep_or_stop;
use rsky_common::wire::BackfillEvent;
use rsky_common::wire::names::FIELD_REPO;

use crate::duplicates::Duplicates;
use crate::metrics::Metrics;
use crate::source::Source;

/// Repositories that wait for room at most (and what relays add at the same moment): some 30 MB of Redis, 250 MB if all
/// have the longest name that is accepted.
const MOST_WAITING: usize = 100_000;
/// Repositories that are remembered as queued, by account and revision: some 3 MB.
const REMEMBERED: usize = 50_000;
/// Time between two looks whether there is room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The account.
    pub did: String,
    /// The revision it has, if the host told.
    pub rev: Option<String>,
}

/// What a batch holds of wishes; to be kept until it is written.
#[derive(Debug, Default)]
pub struct Put {
    /// Into the stream, with the permission for it.
    queued: Option<(usize, Permit)>,
    /// Wishes for which there was no room at all.
    given_up: usize,
}

/// The wishes of all relays. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Resyncs {
    stream: Arc<str>,
    gate: Gate,
    known: Duplicates,
    given_up: Arc<AtomicU64>,
    /// Whether the user of Redis may not touch the set of what waits.
    forbidden: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Resyncs {
    /// Wishes for a stream behind a gate.
    pub fn new(stream: &str, gate: Gate, metrics: Metrics) -> Self {
        let known = Duplicates::with_window(REMEMBERED);
        Self {
            stream: stream.into(),
            gate,
            known,
            given_up: Arc::default(),
            forbidden: Arc::default(),
            metrics,
        }
    }

    /// Takes a wish on: relay `number` is going to queue it. `false`: this revision of this repository has been taken on
    /// before. Without a revision nothing can be said.
    pub fn take_on(&self, resync: &Resync, number: usize) -> bool {
        resync.rev.as_ref().is_none_or(|rev| self.known.claim(&resync.did, rev, number))
    }

    /// The set of entries that wait for room.
    fn waiting_key(&self) -> String {
        format!("{}:waiting", self.stream)
    }

    /// Adds wishes to the batch of the events around them: into their stream if that has room, and else to what waits.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn put(
        &self,
        link: &mut RedisLink,
        source: &Source,
        resyncs: &[Resync],
        batch: &mut Batch,
    ) -> Result<Put, LinkError> {
        if resyncs.is_empty() {
            return Ok(Put::default());
        }
        let host = source.host.in_entries();
        let entries = resyncs.iter().map(|resync| entry(&host, resync));
        if let Some(permit) = self.gate.try_pass(link).await? {
            batch.elsewhere = entries.map(|entry| (self.stream.to_string(), FIELD_REPO, entry)).collect();
            return Ok(Put { queued: Some((resyncs.len(), permit)), given_up: 0 });
        }
        let room = self.count_waiting(link).await?.map_or(0, |there| MOST_WAITING.saturating_sub(there));
        if room > 0 {
            let mut add = redis::cmd("SADD");
            add.arg(self.waiting_key());
            add.arg(entries.take(room).collect::<Vec<_>>());
            batch.also.push(add);
        }
        Ok(Put { queued: None, given_up: resyncs.len().saturating_sub(room) })
    }

    /// The batch is in Redis, with what was put into it.
    pub fn written(&self, source: &Source, put: Put) {
        if let Some((count, _permit)) = put.queued {
            self.gate.note_added(count);
        }
        (0..put.given_up).for_each(|_| self.metrics.resync_given_up(source));
        self.given_up.fetch_add(u64::try_from(put.given_up).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was queued may have been lost, and is going to be read again.
    pub fn forget(&self) {
        self.known.forget();
    }

    /// Queues what waits whenever there is room.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(self, mut writer: StreamWriter, stop: CancellationToken) -> anyhow::Result<()> {
        let mut warned: Option<Instant> = None;
        while sleep_or_stop(LOOK_EVERY, &stop).await {
            match self.queue_waiting(&mut writer, &stop).await {
                Ok(0) => {}
                Ok(waiting) if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) => {
                    warned = Some(Instant::now());
                    self.warn(waiting);
                }
                Ok(_) => {}
                Err(LinkError::Stopped) => break,
                Err(error) => return Err(error).context("queue repositories to be fetched first"),
            }
        }
        Ok(())
    }

    /// Queues what there is room for; how many still wait.
    async fn queue_waiting(
        &self,
        writer: &mut StreamWriter,
        stop: &CancellationToken,
    ) -> Result<usize, LinkError> {
        loop {
            let waiting = self.count_waiting(writer.link()).await?.unwrap_or(0);
            if waiting == 0 || stop.is_cancelled() {
                return Ok(waiting);
            }
            let Some(permit) = self.gate.try_pass(writer.link()).await? else { return Ok(waiting) };
            let mut some = redis::cmd("SRANDMEMBER");
            some.arg(self.waiting_key()).arg(permit.entries);
            let next: Vec<String> = writer.link().retry(&some).await?;
            let mut done = redis::cmd("SREM");
            done.arg(self.waiting_key()).arg(&next);
            let entries = next.into_iter().map(Into::into).collect();
            let batch = Batch { field: FIELD_REPO, entries, also: vec![done], ..Batch::default() };
            let length = writer.write(&batch).await?;
            self.gate.note_length(length);
        }
    }

    /// How many wait; `None`: our user of Redis may not know, so none can be put there.
    async fn count_waiting(&self, link: &mut RedisLink) -> Result<Option<usize>, LinkError> {
        if self.forbidden.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match link.retry(redis::cmd("SCARD").arg(self.waiting_key())).await {
            Ok(waiting) => {
                self.metrics.resyncs_waiting(waiting);
                Ok(Some(waiting))
            }
            Err(error) if error.is_forbidden() => {
                self.forbidden.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "{error}: repositories to be fetched first cannot wait in {}, and are given up where their stream has no room",
                    self.waiting_key()
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn warn(&self, waiting: usize) {
        tracing::warn!(
            stream = &*self.stream,
            waiting,
            given_up = self.given_up.load(Ordering::Relaxed),
            "no room for repositories to be fetched first: does a backfiller read this stream? INGESTER_RESYNC=false switches this off"
        );
    }
}

fn entry(host: &str, resync: &Resync) -> String {
    let event = BackfillEvent {
        did: resync.did.as_str().into(),
        host: host.into(),
        rev: resync.rev.as_deref().unwrap_or_default().into(),
        status: None,
        active: None,
    };
    event.to_json()
}
