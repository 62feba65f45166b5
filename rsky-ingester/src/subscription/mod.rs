//! The first stage of a subscription: a socket that is kept open.
//!
//! Input: frames of one relay or labeler. Output: chunks of frames, charged to the byte budget, handed to the decoder
//! and queued to the writer in order. While the writer is held up, the queue and the budget fill, nothing is read, and
//! TCP stops the peer. A pause longer than a limit closes the socket rather than have the peer drop us.
//!
//! Every connection starts where the writer says, after it has written everything read before: nothing is read twice
//! within a process, and nothing is skipped.

mod oversized;
mod reader;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::runtime::{Backoff, ByteBudget, CancellationToken};

use crate::config::SocketConfig;
use crate::decode::DecodePool;
use crate::metrics::Metrics;
use crate::sink::Queue;
use crate::source::Source;

use oversized::Oversized;
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
    /// Bytes in memory, over all sources.
    pub budget: ByteBudget,
    /// Connections, reasons.
    pub metrics: Metrics,
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
        // The size of a frame that was too large, and where its connection began.
        let mut in_the_way: Option<(usize, i64)> = None;
        while !self.stop.is_cancelled() {
            let Some(position) = self.position().await else { break };
            let begin = position.as_ref().ok().and_then(|position| self.source.begins_at(*position));
            // What was read before it has moved the position, unless it was the first (or came after mere notices).
            if let Some((size, from)) = in_the_way.take()
                && begin == Some(from)
                && let Some(letter) = oversized.met(&self, size, from)
                && self.queue.send(letter).await.is_err()
            {
                break;
            }
            let end = match position {
                Ok(_) => read(&self, begin.map(|cursor| oversized.adjusted(cursor)), &mut backoff).await,
                Err(why) => End::BadCursor(why),
            };
            self.source.note(|state| state.connected = false);
            if matches!(end, End::Stopped) {
                break;
            }
            self.report(&end);
            if let (End::Oversized(size), Some(from)) = (&end, begin) {
                in_the_way = Some((*size, from));
            }
            // A pause was our own wish; the wait for the writer comes with the next position.
            if !matches!(end, End::Paused(_)) && !backoff.wait(&self.stop).await {
                break;
            }
        }
        Ok(())
    }

    /// Where to read on, when everything read before is written; `None`: we stop.
    async fn position(&self) -> Option<Result<Option<i64>, String>> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            position = self.queue.settle() => position.ok(),
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
        tracing::warn!(source = name, "connection ended: {end}");
        self.readiness.not_ready(end.to_string());
        self.source.note(|state| state.last_error = Some(end.to_string()));
    }
}

/// Time for TCP, TLS and the upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a ping or a close frame to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
