//! A lane: takes what is waiting for it, writes it in one transaction, acknowledges it.
//!
//! ```text
//! reader ─► bounded channel ─► prepare (parse, validate) ─► write (one transaction) ─► settle (XDEL + XACK, dead letters)
//! ```
//!
//! The three stages work on three batches at a time, one each, so that Postgres does not wait for parsing or for
//! Redis; between two stages waits at most one more. An entry is acknowledged only after the transaction that holds
//! its effect has committed, or together with its copy in the dead-letter stream. A crash anywhere in between repeats
//! work that is guarded against repetition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::acks::{Acks, Death, Fate};
use crate::identity::Handover;
use crate::intake::Intake;
use crate::isolate::Writer;
use crate::job::Job;
use crate::kind::Kind;
use crate::lexicon::Edition;
use crate::metrics::Metrics;
use crate::supply::Supply;

/// Most bytes of one transaction, unless its only entry is larger. On their way into the database they stand in
/// memory about four times (payload, record, statement, connection), once a lane; what merely waits stands there once.
const BATCH_BYTES: usize = 4 << 20;

/// How long a lane waits for a full batch while more is about to come. Not long: what is to come may be another lane's.
const PATIENCE: Duration = Duration::from_millis(100);

/// Entries that wait for their batch.
#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, part: Vec<Job>) {
        self.bytes = part.iter().map(size).fold(self.bytes, usize::saturating_add);
        self.jobs.extend(part);
    }

    /// Whether there is a batch of so many entries, or of as many bytes as may be.
    fn is_full(&self, most: usize) -> bool {
        self.jobs.len() >= most || self.bytes > BATCH_BYTES
    }

    /// The next batch: the first entry at least, as many as may be, and not more bytes than may be.
    fn take(&mut self, most: usize) -> Vec<Job> {
        let mut bytes = 0_usize;
        let over = self.jobs.iter().take(most).position(|job| {
            bytes = bytes.saturating_add(size(job));
            bytes > BATCH_BYTES
        });
        let rest = self
            .jobs
            .split_off(over.unwrap_or_else(|| self.jobs.len().min(most)).max(1).min(self.jobs.len()));
        self.bytes = rest.iter().map(size).fold(0, usize::saturating_add);
        std::mem::replace(&mut self.jobs, rest)
    }
}

fn size(job: &Job) -> usize {
    job.payload.legible().len()
}

/// A batch whose entries have been read.
#[derive(Debug)]
pub struct Prepared<K: Kind> {
    jobs: Vec<Job>,
    fates: Vec<Fate>,
    items: Vec<K::Item>,
    job_of_item: Vec<usize>,
}

/// A batch with the fate of each entry.
#[derive(Debug)]
pub struct Written {
    jobs: Vec<Job>,
    fates: Vec<Fate>,
}

/// Collects batches and reads their entries, until the channel is closed and empty.
///
/// # Errors
/// None.
pub async fn prepare<K: Kind>(
    mut jobs: mpsc::Receiver<Vec<Job>>,
    batch_size: usize,
    edition: Edition,
    supply: Supply,
    next: mpsc::Sender<Prepared<K>>,
) -> anyhow::Result<()> {
    let mut waiting = Waiting::default();
    loop {
        // Only when the next stage can take a batch: until then what waits may become a larger one.
        let Ok(place) = next.reserve().await else { return Ok(()) };
        if waiting.jobs.is_empty() {
            let Some(part) = jobs.recv().await else { return Ok(()) };
            waiting.add(part);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !waiting.is_full(batch_size) {
            let part = match jobs.try_recv() {
                Ok(part) => part,
                Err(_) if !supply.is_ample() => break,
                Err(_) => match tokio::time::timeout_at(deadline, jobs.recv()).await {
                    Ok(Some(part)) => part,
                    Ok(None) | Err(_) => break,
                },
            };
            waiting.add(part);
        }
        place.send(read(edition, waiting.take(batch_size)));
    }
}

fn read<K: Kind>(edition: Edition, jobs: Vec<Job>) -> Prepared<K> {
    let mut fates: Vec<Fate> = Vec::with_capacity(jobs.len());
    let mut items: Vec<K::Item> = Vec::with_capacity(jobs.len());
    let mut job_of_item: Vec<usize> = Vec::with_capacity(jobs.len());
    for (at, job) in jobs.iter().enumerate() {
        job.source.started(1);
        let fate = match job.payload.read::<K>(edition) {
            Intake::Work(item) => {
                items.push(item);
                job_of_item.push(at);
                Fate::Indexed
            }
            Intake::Nothing(reason) => Fate::Nothing(reason),
            Intake::Rejected { reason, error } => Fate::Dead(Death { reason, error, attempts: 1 }),
        };
        fates.push(fate);
    }
    Prepared { jobs, fates, items, job_of_item }
}

/// Writes batches into Postgres. What fails stays pending or becomes a dead letter.
///
/// # Errors
/// None.
pub async fn write<K: Kind>(
    mut batches: mpsc::Receiver<Prepared<K>>,
    mut writer: Writer,
    next: mpsc::Sender<Written>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    while let Some(Prepared { jobs, mut fates, items, job_of_item }) = batches.recv().await {
        let started = Instant::now();
        let written = writer.write::<K>(&items.iter().collect::<Vec<_>>()).await;
        metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_entries.observe(items.len() as f64);
        let mut decide = |item: usize, fate: Fate| {
            if let Some(place) = job_of_item.get(item).and_then(|at| fates.get_mut(*at)) {
                *place = fate;
            }
        };
        for (item, error, attempts) in written.refused {
            decide(item, Fate::Dead(Death { reason: "refused_by_postgres", error, attempts }));
        }
        for item in written.abandoned {
            decide(item, Fate::Abandoned);
        }
        for (at, item) in job_of_item.into_iter().zip(items) {
            if let Some(news) = K::left_to_do(item)
                && let Some(place @ Fate::Indexed) = fates.get_mut(at)
            {
                *place = Fate::Left(news);
            }
        }
        if next.send(Written { jobs, fates }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Acknowledges batches and keeps dead letters. What is left to do beside the lanes is handed over, without waiting.
///
/// # Errors
/// None: what cannot be acknowledged stays pending.
pub async fn settle(
    mut batches: mpsc::Receiver<Written>,
    mut acks: Acks,
    handover: Option<Handover>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    acks.connect().await;
    while let Some(Written { jobs, mut fates }) = batches.recv().await {
        for (job, fate) in jobs.iter().zip(&mut fates) {
            if let Fate::Left(news) = fate {
                let news = news.clone();
                *fate = handover.as_ref().map_or(Fate::Indexed, |handover| handover.hand(job, news));
            }
        }
        acks.settle(&jobs, fates, &metrics).await;
        if let Some(oldest) = jobs.first() {
            let elapsed = oldest.read_at.elapsed().as_secs_f64() * 1000.0;
            metrics.processing_ms.get_or_create(&oldest.source.labels).observe(elapsed);
        }
    }
    Ok(())
}
