//! The last stage of a subscription: gate, batch, one transaction of entries and cursor.
//!
//! Input: the handles of decoded chunks, in frame order, from one reader. Output: a Redis stream and a cursor.
//! Guarantee: the cursor in Redis never passes a frame whose entries are not in Redis, and never goes back. A crash at
//! any point re-reads. While the gate is shut or Redis is away, the batch is held and nothing is taken from the queue.

use std::panic::resume_unwind;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rsky_common::redis::{Gate, LinkError, StreamWriter};
use rsky_common::runtime::CancellationToken;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backlog::{Backlog, Cut, Rules};
use crate::config::BatchLimits;
use crate::decode::{Chunk, DecodePool, Decoded};
use crate::duplicates::Duplicates;
use crate::metrics::Metrics;
use crate::report;
use crate::source::Source;

/// Chunks between reader and writer. A chunk is at most 64 frames or (but for a single frame) 256 KiB, so this is the
/// bound of a source in items; the byte budget is the bound over all sources.
pub const QUEUE: usize = 8;

/// What travels from the reader to the writer.
#[derive(Debug)]
pub enum Job {
    /// Frames being decoded.
    Frames(JoinHandle<Chunk>),
    /// Something that never became a frame.
    Letter(Box<Decoded>),
    /// Write everything before this, then say where to read on. `Err`: the stored cursor makes no sense.
    Settle(oneshot::Sender<Result<Option<i64>, String>>),
}

/// The writer of one subscription.
#[derive(Debug)]
pub struct Sink {
    /// Whose frames.
    pub source: Arc<Source>,
    /// From the reader.
    pub jobs: mpsc::Receiver<Job>,
    /// To the stream, over a connection of its own.
    pub writer: StreamWriter,
    /// Where chunks that were not decoded ahead are decoded in their turn.
    pub pool: DecodePool,
    /// Before the stream.
    pub gate: Gate,
    /// Before the stream of repositories to fetch first, with its name; `None`: they are not queued.
    pub priority: Option<(String, Gate)>,
    /// What other relays wrote; `None` with one relay.
    pub duplicates: Option<Duplicates>,
    /// Bounds of a batch.
    pub limits: BatchLimits,
    /// Counted after each batch.
    pub metrics: Metrics,
    /// The wish to stop: what is held is written if that needs no waiting.
    pub stop: CancellationToken,
}

impl Sink {
    /// Runs until the reader is gone and everything is written, or until we must stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(self) -> anyhow::Result<()> {
        let name = self.source.name();
        let backlog = Backlog::new(self.limits);
        let mut writing = Writing { sink: self, backlog, cursor: None, seen: None, waiting_since: None };
        match writing.run().await {
            Err(LinkError::Stopped) => {
                tracing::info!(source = name, "stopped with frames in hand; they will be read again");
                Ok(())
            }
            outcome => outcome.with_context(|| format!("write what {name} sends")),
        }
    }
}

struct Writing {
    sink: Sink,
    backlog: Backlog,
    /// The cursor in Redis, as far as we wrote it.
    cursor: Option<i64>,
    /// The highest sequence number written or passed over.
    seen: Option<i64>,
    /// Since when cursors have been waiting for entries to travel with.
    waiting_since: Option<Instant>,
}

impl Writing {
    async fn run(&mut self) -> Result<(), LinkError> {
        loop {
            let job = self.next_job().await?;
            match job {
                Some(Job::Settle(answer)) => {
                    self.write_all().await?;
                    let position = self.position().await?;
                    // A reader that is gone needs no answer.
                    drop(answer.send(position));
                }
                Some(Job::Frames(handle)) => self.take(handle).await?,
                Some(Job::Letter(letter)) => self.push(*letter),
                None => return self.write_all().await,
            }
        }
    }

    /// The next job; while the queue is empty (or a batch is full), what waits is written first.
    async fn next_job(&mut self) -> Result<Option<Job>, LinkError> {
        loop {
            if self.backlog.is_full() {
                self.write_batch().await?;
                continue;
            }
            match self.sink.jobs.try_recv() {
                Ok(job) => return Ok(Some(job)),
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            if self.backlog.has_output() {
                self.write_batch().await?;
            } else if self.backlog.is_empty() {
                return Ok(self.sink.jobs.recv().await);
            } else {
                // Only cursors wait: for entries to travel with, or for the timeout.
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                let until = since + self.sink.limits.timeout;
                match tokio::time::timeout_at(until, self.sink.jobs.recv()).await {
                    Ok(job) => return Ok(job),
                    Err(_) => self.write_batch().await?,
                }
            }
        }
    }

    async fn take(&mut self, mut handle: JoinHandle<Chunk>) -> Result<(), LinkError> {
        loop {
            let chunk = match handle.await {
                Ok(chunk) => chunk,
                Err(error) => match error.try_into_panic() {
                    // Decoding catches panics frame by frame. Without this chunk, the next cursor would pass its frames.
                    Ok(panic) => resume_unwind(panic),
                    // The runtime is going down.
                    Err(_) => return Err(LinkError::Stopped),
                },
            };
            chunk.frames.into_iter().for_each(|frame| self.push(frame));
            let Some((rest, charge)) = chunk.rest else { return Ok(()) };
            // What comes now is large: nothing else shall be in hand.
            self.write_all().await?;
            handle = self.sink.pool.decode_now(&self.sink.source, rest, charge).await;
        }
    }

    fn push(&mut self, frame: Decoded) {
        if let Some(converted) = &frame.converted {
            report::remarkable_frame(&self.sink.source, &self.sink.metrics, converted);
        }
        self.backlog.push(frame);
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        while !self.backlog.is_empty() {
            self.write_batch().await?;
        }
        Ok(())
    }

    async fn write_batch(&mut self) -> Result<(), LinkError> {
        let sink = &mut self.sink;
        let permit = sink.gate.pass(sink.writer.link(), &sink.stop).await?;
        let rules = Rules {
            source: &sink.source,
            duplicates: sink.duplicates.as_ref(),
            priority: sink.priority.as_ref().map(|(stream, _)| stream.as_str()),
        };
        let mut cut = self.backlog.cut(permit.entries, &rules);
        let _elsewhere = match &sink.priority {
            Some((_, gate)) if !cut.batch.elsewhere.is_empty() => {
                Some(gate.pass(sink.writer.link(), &sink.stop).await?)
            }
            _ => None,
        };
        let moved = cut.cursor.filter(|cursor| self.cursor.is_none_or(|stored| *cursor > stored));
        cut.batch.cursor = moved.map(|cursor| (sink.source.cursor_key(), cursor.to_string()));
        if !cut.batch.is_empty() {
            let length = sink.writer.write(&cut.batch).await?;
            sink.gate.note_length(length);
        }
        self.cursor = self.cursor.max(moved);
        self.seen = self.seen.max(cut.seen);
        self.waiting_since = None;
        self.written(&cut);
        Ok(())
    }

    /// Everything that follows from a batch being in Redis.
    fn written(&self, cut: &Cut) {
        let Sink { source, metrics, duplicates, .. } = &self.sink;
        if let Some(duplicates) = duplicates {
            cut.commits.iter().for_each(|(did, rev)| duplicates.remember(did, rev, source.number));
        }
        cut.reasons.iter().for_each(|reason| metrics.rejected(source, reason));
        cut.kinds.iter().for_each(|(kind, count)| metrics.frames(source, kind, *count));
        metrics.batch(source, &cut.written);
        let lag = cut.batch.entries.last().and_then(|entry| report::age_seconds(entry.end()));
        metrics.position(source, self.cursor, lag);
        source.note(|state| {
            state.entries += cut.written.entries;
            state.cursor = self.cursor.map(|cursor| cursor.to_string()).or_else(|| state.cursor.take());
            state.lag_seconds = lag.or(state.lag_seconds);
        });
    }

    /// Where to read on. The cursor in Redis decides if somebody else changed it (the other implementation, an
    /// operator); otherwise what was seen, which frames that do not move the cursor may have brought further.
    async fn position(&mut self) -> Result<Result<Option<i64>, String>, LinkError> {
        let key = self.sink.source.cursor_key();
        let mut command = redis::cmd("GET");
        command.arg(&key);
        let stored: Option<String> = self.sink.writer.link().retry(&command).await?;
        let parsed = match stored.as_deref().map(str::parse::<i64>) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(_)) => {
                let shown: String = stored.unwrap_or_default().chars().take(40).collect();
                return Ok(Err(format!("{key} holds \"{}\", which is no cursor", shown.escape_debug())));
            }
        };
        let ours = parsed == self.cursor;
        self.cursor = parsed;
        if !ours {
            self.seen = None;
        }
        self.sink.source.note(|state| state.cursor = parsed.map(|cursor| cursor.to_string()));
        Ok(Ok(parsed.max(self.seen.filter(|_| ours))))
    }
}

/// The reader's end of the queue.
#[derive(Clone, Debug)]
pub struct Queue(mpsc::Sender<Job>);

impl Queue {
    /// A queue of [`QUEUE`] chunks.
    pub fn new() -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Hands a job over, waiting for room.
    ///
    /// # Errors
    /// The writer is gone: we are stopping.
    pub async fn send(&self, job: Job) -> anyhow::Result<()> {
        if self.0.send(job).await.is_err() {
            bail!("the writer has stopped");
        }
        Ok(())
    }

    /// Waits until everything handed over is in Redis; gives the position to read on from.
    ///
    /// # Errors
    /// The writer is gone: we are stopping.
    pub async fn settle(&self) -> anyhow::Result<Result<Option<i64>, String>> {
        let (answer, position) = oneshot::channel();
        self.send(Job::Settle(answer)).await?;
        position.await.context("the writer has stopped")
    }
}
