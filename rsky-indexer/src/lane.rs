//! A lane: takes what is waiting for it, writes it in one transaction, acknowledges it.
//!
//! ```text
//! reader ─► bounded channel ─► [Job, Job, …] ─ read (parse, validate) ─ Writer ─ XACK + XDEL, dead letters
//! ```
//!
//! An entry is acknowledged only after the transaction that holds its effect has committed, or together with its
//! copy in the dead-letter stream. A crash anywhere in between repeats work that is guarded against repetition.

use std::sync::Arc;
use std::time::Instant;

use rsky_common::runtime::budget::Charge;
use tokio::sync::mpsc;

use crate::acks::{Acks, Death, Fate, Source};
use crate::intake::Intake;
use crate::isolate::Writer;
use crate::kind::Kind;
use crate::metrics::Metrics;

/// An entry on its way to the database.
#[derive(Debug)]
pub struct Job {
    /// The stream it comes from.
    pub source: Arc<Source>,
    /// Its id in the stream.
    pub id: String,
    /// The payload; `None` when the entry has no such field.
    pub payload: Option<String>,
    /// When it was read.
    pub read_at: Instant,
    /// Its share of the memory budget, given back when it is done with.
    pub charge: Charge,
}

/// A lane and what it needs.
pub struct Lane {
    /// Its entries, in order.
    pub jobs: mpsc::Receiver<Job>,
    /// Its hand on Postgres.
    pub writer: Writer,
    /// Its hand on Redis.
    pub acks: Acks,
    /// Most entries of one transaction.
    pub batch_size: usize,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Lane {
    /// Runs until the channel is closed and empty. What fails on the way stays pending or becomes a dead letter.
    ///
    /// # Errors
    /// None.
    pub async fn run<K: Kind>(mut self) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(self.batch_size);
        while self.jobs.recv_many(&mut batch, self.batch_size).await > 0 {
            self.process::<K>(&batch).await;
            batch.clear();
        }
        Ok(())
    }

    async fn process<K: Kind>(&mut self, batch: &[Job]) {
        let mut fates: Vec<Fate> = Vec::with_capacity(batch.len());
        let mut items: Vec<K::Item> = Vec::with_capacity(batch.len());
        let mut job_of_item: Vec<usize> = Vec::with_capacity(batch.len());
        for (at, job) in batch.iter().enumerate() {
            job.source.metrics.waiting.get_or_create(&job.source.labels).dec();
            job.source.metrics.running.get_or_create(&job.source.labels).inc();
            let fate = match job.payload.as_deref().map(K::read) {
                Some(Intake::Work(item)) => {
                    items.push(item);
                    job_of_item.push(at);
                    Fate::Indexed
                }
                Some(Intake::Nothing(reason)) => Fate::Nothing(reason),
                Some(Intake::Rejected { reason, error }) => Fate::Dead(Death { reason, error, attempts: 1 }),
                // Nothing is left that could be kept: a pending entry whose body was deleted.
                None => Fate::Nothing("no_payload"),
            };
            fates.push(fate);
        }
        let started = Instant::now();
        let written = self.writer.write::<K>(&items.iter().collect::<Vec<_>>()).await;
        self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.batch_entries.observe(items.len() as f64);
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
        self.acks.settle(batch, fates, &self.metrics).await;
        if let Some(oldest) = batch.first() {
            let labels = &oldest.source.labels;
            let elapsed = oldest.read_at.elapsed().as_secs_f64() * 1000.0;
            self.metrics.processing_ms.get_or_create(labels).observe(elapsed);
        }
    }
}
