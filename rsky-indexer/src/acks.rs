//! The end of an entry: acknowledged and deleted, or copied to the dead letters and then acknowledged.

use std::borrow::Cow;
use std::collections::{BTreeMap, hash_map};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foldhash::HashMap;
use rsky_common::config::LetterBounds;
use rsky_common::redis::consumer::{Consumer, Entry};
use rsky_common::redis::{DeadLetter, LinkError, RedisLink};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::engine::AccountNews;
use crate::identity::{Deferral, EntryId};
use crate::job::{Job, Payload};
use crate::metrics::{Metrics, StreamLabels, StreamMetrics, What};

/// Entries acknowledged in one transaction: bounds the size of a command.
const CHUNK: usize = 1000;

/// Dead letters written in one transaction: each may hold 1 MiB.
const LETTERS: usize = 16;

/// A stream this process reads, and which of its entries are on their way.
#[derive(Debug)]
pub struct Source {
    /// Stream, group and name.
    pub consumer: Consumer,
    /// The field of the payload, for dead letters.
    pub field: &'static str,
    /// Labels of its metrics.
    pub labels: StreamLabels,
    /// Its metrics.
    pub metrics: StreamMetrics,
    /// What the dead-letter stream is kept to.
    pub letters: LetterBounds,
    /// Ids between reading and settling: as many as the memory budget and the lanes' bounds allow. With whether the entry
    /// has been indexed, and waits beside the lanes.
    pub in_flight: Mutex<HashMap<EntryId, bool>>,
    /// Until when everything that was written has been read, in milliseconds since the epoch.
    pub read_until_ms: AtomicU64,
    /// Entries that were put off because the work beside the lanes had no room.
    pub deferral: Deferral,
}

impl Source {
    /// Marks entries as on their way; those that are already are left out.
    pub fn enter(&self, entries: &mut Vec<Entry>) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| match in_flight.entry(entry_id(&entry.id)) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(place) => {
                place.insert(false);
                true
            }
        });
        self.metrics.waiting.inc_by(i64::try_from(entries.len()).unwrap_or(0));
    }

    /// A batch of these entries is being written.
    pub fn started(&self, count: i64) {
        self.metrics.waiting.dec_by(count);
        self.metrics.running.inc_by(count);
    }

    /// Entries of a batch that have to wait for another.
    pub fn not_started(&self, count: i64) {
        self.metrics.waiting.inc_by(count);
        self.metrics.running.dec_by(count);
    }

    /// How old the oldest entry is that has been written and is not indexed, as far as this consumer knows, in seconds:
    /// by the oldest in its hands, or by the moment up to which it has read. Grows while nothing can be read or written.
    pub fn lag_seconds(&self, now_ms: u64) -> f64 {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = in_flight.iter().filter(|(_, indexed)| !**indexed).map(|((ms, _), _)| *ms).min();
        let read_until = self.read_until_ms.load(Ordering::Relaxed);
        let since = oldest.map_or(read_until, |oldest| oldest.min(read_until));
        now_ms.saturating_sub(since) as f64 / 1000.0
    }

    /// Ids of what is on its way, beside the lanes too.
    pub fn on_their_way(&self) -> Vec<String> {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.keys().map(|(ms, n)| format!("{ms}-{n}")).collect()
    }

    /// Whether an entry is indexed and waits beside the lanes.
    pub fn is_beside_the_lanes(&self, id: &str) -> bool {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.get(&entry_id(id)).is_some_and(|indexed| *indexed)
    }

    /// Entries that are indexed and wait beside the lanes: for a handle, or on purpose for the moment when their account may
    /// be asked about again.
    pub fn beside_the_lanes(&self) -> usize {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.values().filter(|indexed| **indexed).count()
    }
}

/// Reads `<ms>-<n>`. Redis writes nothing else; anything else would share one place, which delays it until the next
/// claim.
pub fn entry_id(id: &str) -> EntryId {
    let (ms, n) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), n.parse().unwrap_or(0))
}

/// Why an entry becomes a dead letter.
#[derive(Debug)]
pub struct Death {
    /// One of a closed set.
    pub reason: &'static str,
    /// For a person.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What became of an entry of a batch.
#[derive(Debug, Default)]
pub enum Fate {
    /// Its effect has committed.
    #[default]
    Indexed,
    /// There was nothing to do.
    Nothing(&'static str),
    /// It will never be indexed.
    Dead(Death),
    /// It was not written because the process stops: it stays pending.
    Abandoned,
    /// Its effect has committed, and this is left to do beside the lanes.
    Left(AccountNews),
    /// It was handed over, to be settled there.
    Handed,
    /// It fails by itself, and there is no room to keep it: it stays pending, to be read again as what was left by others is.
    PutBack,
    /// There was no room for what is left to do, or its domain has its share of it: it stays pending, to be read again.
    Deferred(Option<String>),
}

/// What stays pending for the work beside the lanes.
enum Beside {
    /// It is worked on there.
    Handed,
    /// It waits for room there, or for that of a domain.
    Deferred(Option<String>),
}

impl Beside {
    fn of(fate: &Fate) -> Option<Self> {
        match fate {
            Fate::Handed => Some(Self::Handed),
            Fate::Deferred(domain) => Some(Self::Deferred(domain.clone())),
            _ => None,
        }
    }
}

/// A lane's hand on Redis.
#[derive(Debug)]
pub struct Acks {
    link: RedisLink,
    stop: CancellationToken,
}

/// The entries of one stream in a batch, by fate.
#[derive(Default)]
struct Share<'j> {
    done: Vec<&'j str>,
    /// What those are, and when each was read.
    read: Vec<(What, Instant)>,
    dead: Vec<(&'j Job, Death)>,
    indexed: u64,
    nothing: BTreeMap<&'static str, u64>,
    abandoned: usize,
    put_back: u64,
}

impl Acks {
    /// `link` must not be ended by `stop`: what has committed is still acknowledged then, while Redis answers.
    pub fn new(link: RedisLink, stop: CancellationToken) -> Self {
        Self { link, stop }
    }

    /// Connects before there is anything to acknowledge, so that the admin pages tell whether it could be.
    pub async fn connect(&mut self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            outcome = self.link.connection() => {
                if let Err(error) = outcome {
                    warn!("connect to acknowledge entries: {error}");
                }
            }
        }
    }

    /// Settles a batch. What cannot be acknowledged stays pending and is read again: repeating it is harmless.
    pub async fn settle(&mut self, batch: &[Job], fates: Vec<Fate>, metrics: &Metrics) {
        let mut shares: BTreeMap<&str, (Arc<Source>, Share<'_>)> = BTreeMap::new();
        let beside: Vec<Option<Beside>> = fates.iter().map(Beside::of).collect();
        for (job, fate) in batch.iter().zip(fates) {
            let entry = shares.entry(&job.source.consumer.stream);
            let (_, share) = entry.or_insert_with(|| (Arc::clone(&job.source), Share::default()));
            match fate {
                Fate::Indexed => {
                    share.indexed += 1;
                    share.done.push(&job.id);
                    share.read.push((job.what, job.read_at));
                }
                Fate::Nothing(reason) => {
                    *share.nothing.entry(reason).or_default() += 1;
                    share.done.push(&job.id);
                    share.read.push((job.what, job.read_at));
                }
                Fate::Dead(death) => share.dead.push((job, death)),
                Fate::Abandoned => share.abandoned += 1,
                Fate::PutBack => share.put_back += 1,
                Fate::Left(_) | Fate::Handed | Fate::Deferred(_) => {}
            }
        }
        for (source, share) in shares.into_values() {
            self.settle_share(&source, share, metrics).await;
        }
        for (job, beside) in batch.iter().zip(beside) {
            let mut in_flight = job.source.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Beside::Handed) = beside {
                // It may be settled there already.
                if let Some(indexed) = in_flight.get_mut(&entry_id(&job.id)) {
                    *indexed = true;
                }
                continue;
            }
            in_flight.remove(&entry_id(&job.id));
            drop(in_flight);
            job.source.metrics.running.dec();
            if let Some(Beside::Deferred(domain)) = beside {
                // Once more, now that it is on its way no longer: a reader that came by before has passed over it.
                job.put_off(domain.as_deref());
            }
        }
    }

    async fn settle_share(&mut self, source: &Source, share: Share<'_>, metrics: &Metrics) {
        for (ids, read) in share.done.chunks(CHUNK).zip(share.read.chunks(CHUNK)) {
            if !self.acknowledge(source, ids, metrics).await {
                return;
            }
            metrics.acknowledged(&source.metrics, read);
        }
        let stream = &source.consumer.stream;
        metrics.ended(stream, "indexed", "", share.indexed);
        for (reason, count) in share.nothing {
            metrics.ended(stream, "nothing", reason, count);
        }
        if share.put_back > 0 {
            metrics.ended(stream, "put_back", "fails_unforeseen", share.put_back);
        }
        let failed = &source.metrics.failed;
        failed.inc_by(u64::try_from(share.abandoned).unwrap_or(0));
        for dead in share.dead.chunks(LETTERS) {
            if !self.bury(source, dead).await {
                failed.inc_by(u64::try_from(dead.len()).unwrap_or(0));
                continue;
            }
            for (_, death) in dead {
                metrics.ended(stream, "dead_letter", death.reason, 1);
                source.metrics.processed.inc();
            }
        }
    }

    async fn acknowledge(&mut self, source: &Source, ids: &[&str], metrics: &Metrics) -> bool {
        loop {
            match source.consumer.acknowledge(&mut self.link, ids).await {
                Ok(()) => {
                    self.link.succeeded();
                    return true;
                }
                Err(error) => {
                    metrics.former.ack_failures.inc();
                    if !self.wait_out(error, "acknowledge entries").await {
                        return false;
                    }
                }
            }
        }
    }

    /// Copies to the dead letters and acknowledges. A full Redis refuses the copies: the entries stay pending until
    /// there is room (DECISIONS 29), and everything else goes on.
    async fn bury(&mut self, source: &Source, dead: &[(&Job, Death)]) -> bool {
        let Some(left) = self.payloads_in_stream(source, dead).await else { return false };
        let letters: Vec<(&str, DeadLetter)> = dead
            .iter()
            .map(|(job, death)| {
                let payload = match left.get(job.id.as_str()) {
                    Some(left) => Cow::Borrowed(left.as_str()),
                    None => job.payload.legible(),
                };
                debug!(
                    stream = source.consumer.stream,
                    id = job.id,
                    reason = death.reason,
                    "dead letter: {}",
                    death.error
                );
                let letter = DeadLetter::new(source.field, &payload, death.reason, &death.error, &job.id);
                (job.id.as_str(), letter.attempts(death.attempts))
            })
            .collect();
        loop {
            match source.consumer.bury(&mut self.link, &letters, source.letters).await {
                Ok(()) => {
                    self.link.succeeded();
                    return true;
                }
                Err(LinkError::Redis(error)) if error.to_string().contains("OOM") => {
                    warn!(
                        entries = letters.len(),
                        "Redis is full: dead letters stay pending until there is room"
                    );
                    return false;
                }
                Err(error) => {
                    if !self.wait_out(error, "write dead letters").await {
                        return false;
                    }
                }
            }
        }
    }

    /// Reads what was left in the stream; `None` when Redis cannot be asked. An entry that is gone leaves an empty
    /// payload.
    async fn payloads_in_stream<'j>(
        &mut self,
        source: &Source,
        dead: &[(&'j Job, Death)],
    ) -> Option<HashMap<&'j str, String>> {
        let mut payloads = HashMap::default();
        for (job, _) in dead.iter().filter(|(job, _)| matches!(job.payload, Payload::InStream)) {
            let found = loop {
                match source.consumer.entry(&mut self.link, &job.id).await {
                    Ok(found) => break found,
                    Err(error) => {
                        if !self.wait_out(error, "read an entry again").await {
                            return None;
                        }
                    }
                }
            };
            let payload = found.map_or(Payload::Gone, |mut entry| Payload::of(&[source.field], &mut entry));
            payloads.insert(job.id.as_str(), payload.legible().into_owned());
        }
        Some(payloads)
    }

    /// Tells Redis that these entries are being worked on, so that no other consumer takes them over. Best effort: one
    /// that is taken over is done twice, which is harmless.
    pub async fn hold(&mut self, source: &Source, ids: &[&str]) {
        for ids in ids.chunks(CHUNK) {
            if let Err(error) = source.consumer.hold(&mut self.link, ids).await {
                debug!(stream = source.consumer.stream, "hold entries: {error}");
                return;
            }
        }
    }

    /// Pauses after a failure that passes; `false` when it does not, or when the process stops.
    async fn wait_out(&mut self, error: LinkError, what: &str) -> bool {
        if self.stop.is_cancelled() {
            warn!("{what}: {error}; the entries stay pending and are done again after the next start");
            return false;
        }
        match self.link.wait_out(error).await {
            Ok(()) => true,
            Err(error) => {
                warn!("{what}: {error}; the entries stay pending");
                false
            }
        }
    }
}
