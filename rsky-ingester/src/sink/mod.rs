//! The last stage of a subscription: gate, batch, one transaction of entries and cursor.
//!
//! Input: the handles of decoded chunks, in frame order, from one reader. Output: a Redis stream and a cursor.
//! Guarantee: the cursor in Redis never passes a frame whose entries are not in Redis, and never goes back without a word.
//! A crash at any point re-reads, and so does a Redis that has lost what it had. While the gate is shut or Redis is away,
//! the batch is held and nothing is taken from the queue.

mod recovery;
mod writing;

use std::sync::Arc;

use anyhow::{Context as _, bail};
use rsky_common::redis::{CursorWriter, Gate, LinkError};
use rsky_common::runtime::CancellationToken;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::budgets::SourceBudget;
use crate::config::BatchLimits;
use crate::decode::{Chunk, DecodePool, Decoded};
use crate::duplicates::Duplicates;
use crate::metrics::Metrics;
use crate::place::Place;
use crate::resyncs::Resyncs;
use crate::source::Source;

use writing::Writing;

/// Chunks between reader and writer. A chunk is at most 64 frames or (but for a single frame) 256 KiB, so this is the
/// bound of a source in items; bytes are bounded by [`crate::budgets`].
pub const QUEUE: usize = 8;

/// What travels from the reader to the writer.
#[derive(Debug)]
pub enum Job {
    /// Frames being decoded.
    Frames(JoinHandle<Chunk>),
    /// Something that never became a frame.
    Letter(Box<Decoded>),
    /// Write everything before this, then say where to read on.
    Settle {
        /// Whether what comes from there is to be looked at only: the host does not know our cursor.
        probe: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<Place>,
    },
}

/// The writer of one subscription.
#[derive(Debug)]
pub struct Sink {
    /// Whose frames.
    pub source: Arc<Source>,
    /// From the reader.
    pub jobs: mpsc::Receiver<Job>,
    /// To the stream, over a connection of its own.
    pub writer: CursorWriter,
    /// Where chunks that were not decoded ahead are decoded in their turn.
    pub pool: DecodePool,
    /// Bytes it may have in memory: the turn for what has grown.
    pub budget: SourceBudget,
    /// Before the stream.
    pub gate: Gate,
    /// Repositories to fetch first; `None`: they are not queued.
    pub resyncs: Option<Resyncs>,
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
        match Writing::new(self).run().await {
            Err(LinkError::Stopped) => {
                tracing::info!(source = name, "stopped with frames in hand; they will be read again");
                Ok(())
            }
            outcome => outcome.with_context(|| format!("write what {name} sends")),
        }
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

    /// Waits until everything handed over is in Redis; gives the place to read on from.
    ///
    /// # Errors
    /// The writer is gone: we are stopping.
    pub async fn settle(&self, probe: bool) -> anyhow::Result<Place> {
        let (answer, place) = oneshot::channel();
        self.send(Job::Settle { probe, answer }).await?;
        place.await.context("the writer has stopped")
    }
}
