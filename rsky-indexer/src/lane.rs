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

use rsky_common::redis::consumer::Entry;
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
    /// What it says.
    pub payload: Payload,
    /// When it was read.
    pub read_at: Instant,
    /// The memory budget's charge for everything that was read with it, given back with the last of it.
    pub charge: Arc<Charge>,
}

/// What an entry says.
#[derive(Debug)]
pub enum Payload {
    /// The text of its payload field.
    Text(String),
    /// Bytes that are not UTF-8, made legible: not JSON, and not to be taken for it.
    NotText(String),
    /// It has fields, and none of them is the payload; their names.
    NoField(String),
    /// A pending entry whose body was deleted: nothing is left of it.
    Gone,
}

impl Payload {
    /// Takes the payload out of an entry: the first of these fields that it has.
    pub fn of(fields: &[&str], entry: &mut Entry) -> Self {
        if entry.fields.is_empty() {
            return Self::Gone;
        }
        match fields.iter().find_map(|field| entry.take_field(field)).map(String::from_utf8) {
            Some(Ok(text)) => Self::Text(text),
            Some(Err(error)) => Self::NotText(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            None => {
                let names = entry.fields.iter().take(NAMES).map(|(name, _)| String::from_utf8_lossy(name));
                Self::NoField(names.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The text that can be read as an entry.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::NotText(_) | Self::NoField(_) | Self::Gone => None,
        }
    }

    /// What a dead letter shows of it.
    pub fn legible(&self) -> &str {
        match self {
            Self::Text(text) | Self::NotText(text) => text,
            Self::NoField(_) | Self::Gone => "",
        }
    }

    fn read<K: Kind>(&self) -> Intake<K::Item> {
        let rejected = |reason, error| Intake::Rejected { reason, error };
        match self {
            Self::Text(text) => K::read(text),
            Self::NotText(_) => rejected("not_utf8", "the payload is not UTF-8".to_owned()),
            Self::NoField(names) => {
                rejected("missing_field", format!("no field {}; there is: {names}", K::FIELDS.join(" or ")))
            }
            Self::Gone => Intake::Nothing("no_payload"),
        }
    }
}

/// Field names shown of an entry without payload.
const NAMES: usize = 20;

/// A lane and what it needs.
pub struct Lane {
    /// Its entries, in order, in parts of one read.
    pub jobs: mpsc::Receiver<Vec<Job>>,
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
        self.acks.connect().await;
        let mut waiting: Vec<Job> = Vec::with_capacity(self.batch_size);
        loop {
            if waiting.is_empty() {
                let Some(part) = self.jobs.recv().await else { return Ok(()) };
                waiting.extend(part);
            }
            // What is there goes along; nothing is waited for.
            while waiting.len() < self.batch_size {
                let Ok(part) = self.jobs.try_recv() else { break };
                waiting.extend(part);
            }
            let rest = waiting.split_off(waiting.len().min(self.batch_size));
            let batch = std::mem::replace(&mut waiting, rest);
            self.process::<K>(&batch).await;
        }
    }

    async fn process<K: Kind>(&mut self, batch: &[Job]) {
        let mut fates: Vec<Fate> = Vec::with_capacity(batch.len());
        let mut items: Vec<K::Item> = Vec::with_capacity(batch.len());
        let mut job_of_item: Vec<usize> = Vec::with_capacity(batch.len());
        for (at, job) in batch.iter().enumerate() {
            job.source.started(1);
            let fate = match job.payload.read::<K>() {
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
