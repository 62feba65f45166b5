//! The writer's loop.

use std::panic::resume_unwind;
use std::time::Duration;

use rsky_common::redis::{LinkError, Outcome};
use rsky_common::runtime::CancellationToken;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Job, Sink};
use crate::backlog::{Backlog, Cut, MAX_SEQ, Rules, is_through};
use crate::cursor_keys::Values;
use crate::decode::{Chunk, Decoded};
use crate::report;
use crate::resyncs::Put;
use crate::sequence::Sequence;

/// Time between two looks around while nothing comes.
const TICK: Duration = Duration::from_secs(1);

/// What is done with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are written.
    Write,
    /// They are dropped until the reader starts elsewhere: they come again.
    Drop,
    /// Their numbers are looked at only: the host does not know this cursor.
    Probe(i64),
}

pub(super) struct Writing {
    pub(super) sink: Sink,
    pub(super) backlog: Backlog,
    /// The cursor in Redis, as far as we wrote it.
    pub(super) cursor: Option<i64>,
    /// The highest sequence number written or passed over.
    pub(super) seen: Option<i64>,
    /// Before the first frame of this process: where to begin when Redis has lost everything.
    pub(super) began: Option<i64>,
    /// Whether this process has written anything.
    pub(super) wrote: bool,
    /// Whether the reader has been told where to begin.
    pub(super) settled: bool,
    pub(super) mode: Mode,
    /// Another ingester has written what comes after the first number, up to the second.
    pub(super) written_elsewhere: Option<(i64, i64)>,
    /// Tells the reader that what it reads is of no use any more.
    pub(super) over: CancellationToken,
    pub(super) sequence: Sequence,
    /// Since when cursors have been waiting for entries to travel with.
    pub(super) waiting_since: Option<Instant>,
    pub(super) last_look: Instant,
    pub(super) last_complaint: Option<Instant>,
}

impl Writing {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            backlog: Backlog::new(sink.limits),
            sink,
            cursor: None,
            seen: None,
            began: None,
            wrote: false,
            settled: false,
            mode: Mode::Write,
            written_elsewhere: None,
            over: CancellationToken::new(),
            sequence: Sequence::new(),
            waiting_since: None,
            last_look: Instant::now(),
            last_complaint: None,
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), LinkError> {
        let keys = self.sink.source.cursor_keys();
        keys.adopt(&mut self.sink.writer, Values::Numbers).await?;
        loop {
            match self.next_job().await? {
                Some(Job::Settle { probe, answer }) => {
                    self.write_all().await?;
                    let place = self.place(probe).await?;
                    // A reader that is gone needs no answer.
                    drop(answer.send(place));
                }
                Some(Job::Frames(handle)) => self.take(handle).await?,
                Some(Job::Letter(letter)) => self.pass_over(*letter).await?,
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
                continue;
            }
            let idle = self.backlog.is_empty();
            let until = if idle {
                Instant::now() + TICK
            } else {
                // Only cursors wait: for entries to travel with, or for the timeout.
                *self.waiting_since.get_or_insert_with(Instant::now) + self.sink.limits.timeout
            };
            match tokio::time::timeout_at(until, self.sink.jobs.recv()).await {
                Ok(job) => return Ok(job),
                Err(_) if idle => self.look_around().await?,
                Err(_) => self.write_batch().await?,
            }
        }
    }

    async fn take(&mut self, mut handle: JoinHandle<Chunk>) -> Result<(), LinkError> {
        let mut has_turn = false;
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
            self.judge_sequence().await?;
            let Some((rest, mut charge)) = chunk.rest else { return Ok(()) };
            if self.mode == Mode::Drop {
                self.sink.source.done(rest.len(), None);
                return Ok(());
            }
            // What comes now is large: nothing else shall be in hand, and no other source shall hold such a one.
            self.write_all().await?;
            if !has_turn {
                self.large_turn().await?.into_iter().for_each(|turn| charge.keep(turn));
                has_turn = true;
            }
            handle = self.sink.pool.decode_now(&self.sink.source, rest, charge).await;
        }
    }

    /// Whoever has the turn gives it back when its frames are written, or when it is stopped.
    async fn large_turn(&mut self) -> Result<Option<OwnedSemaphorePermit>, LinkError> {
        let given_up = self.sink.writer.link().stop().clone();
        tokio::select! {
            () = given_up.cancelled() => Err(LinkError::Stopped),
            turn = self.sink.budget.large_turn() => Ok(turn),
        }
    }

    fn push(&mut self, frame: Decoded) {
        if self.mode == Mode::Drop {
            return self.sink.source.done(1, None);
        }
        if let Some(converted) = &frame.converted {
            report::remarkable_frame(&self.sink.source, &self.sink.metrics, converted);
            if let Some(seq) = converted.seq.filter(|seq| *seq <= MAX_SEQ) {
                self.sequence.see(seq, converted.did.as_deref(), converted.rev.as_deref(), Instant::now());
                self.began.get_or_insert(seq.saturating_sub(1));
            }
        }
        let elsewhere = self
            .written_elsewhere
            .is_some_and(|(after, through)| is_through(&frame, through) && !is_through(&frame, after));
        if self.mode == Mode::Write && !elsewhere {
            self.backlog.push(frame);
        } else {
            self.sink.source.done(1, None);
        }
    }

    /// Writes the letter for something that cannot be read.
    async fn pass_over(&mut self, letter: Decoded) -> Result<(), LinkError> {
        self.sink.source.read(1);
        self.push(letter);
        self.write_all().await
    }

    pub(super) async fn write_all(&mut self) -> Result<(), LinkError> {
        while !self.backlog.is_empty() {
            self.write_batch().await?;
        }
        Ok(())
    }

    async fn write_batch(&mut self) -> Result<(), LinkError> {
        let sink = &mut self.sink;
        let asked = Instant::now();
        let permit = sink.gate.pass(sink.writer.link(), &sink.stop).await?;
        let waited = asked.elapsed();
        let rules = Rules {
            source: &sink.source,
            duplicates: sink.duplicates.as_ref(),
            resyncs: sink.resyncs.as_ref(),
        };
        let mut cut = self.backlog.cut(permit.entries, &rules);
        let sink = &mut self.sink;
        // They never wait for room: live events are behind them.
        let put = match &sink.resyncs {
            Some(resyncs) => {
                resyncs.put(sink.writer.link(), &sink.source, &cut.resyncs, &mut cut.batch).await?
            }
            None => Put::default(),
        };
        let moved = cut.cursor.filter(|cursor| self.cursor.is_none_or(|stored| *cursor > stored));
        if !cut.batch.is_empty() || moved.is_some() {
            let cursor = moved.map(|cursor| cursor.to_string());
            let begun = Instant::now();
            match sink.writer.write(&cut.batch, cursor.as_deref()).await? {
                Outcome::Written { length } => sink.gate.note_length(length),
                Outcome::Moved(found) => {
                    sink.source.done(cut.frames, None);
                    self.moved(&found, cut.seen);
                    return Ok(());
                }
            }
            self.wrote = true;
            let (sink, entries) = (&self.sink, cut.batch.entries.len());
            sink.metrics.took(&sink.source, entries, waited.as_secs_f64(), begun.elapsed().as_secs_f64());
        }
        self.cursor = self.cursor.max(moved);
        self.seen = self.seen.max(cut.seen);
        self.waiting_since = None;
        self.last_look = Instant::now();
        self.written(cut, put);
        Ok(())
    }

    /// Everything that follows from a batch being in Redis.
    fn written(&self, cut: Cut, put: Put) {
        let Sink { source, metrics, duplicates, resyncs, .. } = &self.sink;
        if let Some(duplicates) = duplicates {
            cut.commits.iter().for_each(|(did, rev)| duplicates.remember(did, rev, source.number));
        }
        if let Some(resyncs) = resyncs {
            resyncs.written(source, put);
        }
        cut.reasons.iter().for_each(|reason| metrics.rejected(source, reason));
        cut.kinds.iter().for_each(|(kind, count)| metrics.frames(source, kind, *count));
        metrics.batch(source, &cut.written);
        let age = cut.batch.entries.last().and_then(|entry| report::age_seconds(entry.end()));
        metrics.position(source, self.cursor);
        source.note(|state| {
            state.entries += cut.written.entries;
            state.cursor = self.cursor.map(|cursor| cursor.to_string()).or_else(|| state.cursor.take());
        });
        source.done(cut.frames, age);
    }
}
