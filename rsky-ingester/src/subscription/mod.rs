//! The first stage of a subscription: a socket that is kept open.
//!
//! Input: frames of one relay or labeler. Output: chunks of frames, charged to the byte budget, handed to the decoder
//! and queued to the writer in order. While the writer is held up, the queue and the budget fill, nothing is read, and
//! TCP stops the peer. A pause longer than a limit closes the socket rather than have the peer drop us.
//!
//! Every connection starts where the writer says, after it has written everything read before: nothing is read twice
//! within a process, and nothing is skipped.

mod measure;
mod oversized;
mod reader;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rsky_common::admin::Readiness;
use rsky_common::runtime::{Backoff, CancellationToken};

use crate::budgets::SourceBudget;
use crate::config::SocketConfig;
use crate::decode::DecodePool;
use crate::metrics::Metrics;
use crate::place::Place;
use crate::sink::Queue;
use crate::source::Source;

use oversized::Oversized;
pub use reader::CHUNK_BYTES;
use reader::{End, read};

/// The reader of one subscription.
#[derive(Debug)]
pub struct Subscription {
    /// What is read.
    pub source: Arc<Source>,
    /// How the socket is kept.
    pub config: SocketConfig,
    /// To the writer.
    pub queue: Queue,
    /// Where frames are decoded.
    pub pool: DecodePool,
    /// Bytes it may have in memory.
    pub budget: SourceBudget,
    /// Connections, reasons.
    pub metrics: Metrics,
    /// For a look at a frame that is too large.
    pub client: reqwest::Client,
    /// Whether the socket is open.
    pub readiness: Readiness,
    /// The wish to stop.
    pub stop: CancellationToken,
}

impl Subscription {
    /// Reads until we shall stop.
    ///
    /// # Errors
    /// None of the network's: those end a connection, not the stage.
    pub async fn run(self) -> anyhow::Result<()> {
        let (first, cap) = self.config.reconnect;
        let mut backoff = Backoff::new(first, cap);
        let mut oversized = Oversized::default();
        let mut restarts = Restarts::new(first, cap);
        // The size of a frame that was too large, and where its connection began.
        let mut in_the_way: Option<(usize, i64)> = None;
        while !self.stop.is_cancelled() {
            let Some(place) = self.place(restarts.wants_probe()).await else { break };
            let begin = place.after.as_ref().ok().and_then(|after| self.source.begins_at(*after));
            // What was read before it has moved the position, unless it was the first (or came after mere notices).
            if let Some((size, from)) = in_the_way.take()
                && begin == Some(from)
                && let Some(letter) = oversized.met(&self, size, from).await
            {
                if self.queue.send(letter).await.is_err() {
                    break;
                }
                continue;
            }
            let end = match &place.after {
                Ok(_) if place.probe => read(&self, None, &place, &mut backoff).await,
                Ok(_) => {
                    let from = begin.map(|cursor| oversized.adjusted(cursor));
                    read(&self, from, &place, &mut backoff).await
                }
                Err(why) => End::BadCursor(why.clone()),
            };
            self.source.connected(false);
            if matches!(end, End::Stopped) {
                break;
            }
            self.report(&end);
            restarts.ended(&end);
            if end.is_future_cursor() {
                oversized.refused();
            }
            if let (End::Oversized(size), Some(from)) = (&end, begin) {
                in_the_way = Some((*size, from));
            }
            let go_on = match &end {
                // A pause was our own wish; the wait for the writer comes with the next place.
                End::Paused(_) => true,
                End::Over => restarts.backoff.wait(&self.stop).await,
                _ => backoff.wait(&self.stop).await,
            };
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Where to read on, when everything read before is written; `None`: we stop.
    async fn place(&self, probe: bool) -> Option<Place> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            place = self.queue.settle(probe) => place.ok(),
        }
    }

    fn report(&self, end: &End) {
        let name = self.source.name();
        self.metrics.disconnected(&self.source, end.reason());
        if let End::Paused(pause) = end {
            tracing::info!(
                source = name,
                "closed after {pause:.1?} without reading; opened again when there is room"
            );
            self.readiness.not_ready("paused: the gate is shut");
            return;
        }
        if matches!(end, End::Over) {
            // The writer has said why.
            tracing::info!(source = name, "reading starts again elsewhere");
            self.readiness.not_ready(end.to_string());
            return;
        }
        tracing::warn!(source = name, "connection ended: {end}");
        self.readiness.not_ready(end.to_string());
        self.source.note(|state| state.last_error = Some(end.to_string()));
    }
}

/// How often a host says that it does not know our cursor before what it sends is looked at.
const FUTURE_CURSORS: u32 = 3;
/// Quiet time after which starting elsewhere counts as something new.
const CALM: Duration = Duration::from_secs(300);

/// Connections that ended because reading has to start elsewhere.
struct Restarts {
    /// Answers of `FutureCursor` in a row.
    future_cursors: u32,
    /// Grows while reading is sent back again and again, as by a second ingester of another kind.
    backoff: Backoff,
    last: Option<Instant>,
}

impl Restarts {
    fn new(first: Duration, cap: Duration) -> Self {
        Self { future_cursors: 0, backoff: Backoff::new(first, cap), last: None }
    }

    fn wants_probe(&self) -> bool {
        self.future_cursors >= FUTURE_CURSORS
    }

    fn ended(&mut self, end: &End) {
        match end {
            _ if end.is_future_cursor() => {
                self.future_cursors = self.future_cursors.saturating_add(1);
            }
            // A host that cannot be reached says nothing about the cursor.
            End::Unreachable(_) => {}
            _ => self.future_cursors = 0,
        }
        if matches!(end, End::Over) {
            if self.last.is_some_and(|last| last.elapsed() > CALM) {
                self.backoff.reset();
            }
            self.last = Some(Instant::now());
        }
    }
}

/// Time for TCP, TLS and the upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a ping or a close frame to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
