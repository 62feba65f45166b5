//! One connection, from opening to its end.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use rsky_common::runtime::Backoff;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::socket::{Socket, open};
use super::{SEND_TIMEOUT, Subscription};
use crate::decode::{error_of, reserve};
use crate::metrics::Connected;
use crate::place::Place;
use crate::sink::Job;

/// Frames per chunk: what one hop between tasks is shared by.
const CHUNK_FRAMES: usize = 64;
/// Bytes per chunk; a chunk may exceed it by its last frame.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// We shall stop.
    Stopped,
    /// It could not be opened.
    Unreachable(String),
    /// The stored cursor is no number.
    BadCursor(String),
    /// The peer closed it, or it broke.
    Lost(String),
    /// The peer sent an error frame.
    Refused { error: String, message: String },
    /// No data for too long.
    Idle(Duration),
    /// No answer to a ping.
    NoPong,
    /// A frame larger than allowed, in bytes.
    Oversized(usize),
    /// We could not read for too long.
    Paused(Duration),
    /// The writer wants to have something else.
    Over,
}

impl End {
    /// Whether the host does not know the cursor that was asked for.
    pub(super) fn is_future_cursor(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error == "FutureCursor")
    }

    /// A word from a closed set, for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Unreachable(_) => "unreachable",
            Self::BadCursor(_) => "bad_cursor",
            Self::Lost(_) => "lost",
            Self::Refused { error, .. } => match error.as_str() {
                "FutureCursor" => "future_cursor",
                "ConsumerTooSlow" => "consumer_too_slow",
                _ => "error_frame",
            },
            Self::Idle(_) => "idle",
            Self::NoPong => "no_pong",
            Self::Oversized(_) => "oversized_frame",
            Self::Paused(_) => "paused",
            Self::Over => "starts_elsewhere",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Unreachable(why) => write!(f, "not reachable: {why}"),
            Self::BadCursor(why) => f.write_str(why),
            Self::Lost(why) => f.write_str(why),
            Self::Refused { message, .. } if self.is_future_cursor() => write!(
                f,
                "FutureCursor {message}: our cursor is ahead of the host, which has probably been reset. If it stays so, what it sends is looked at, and followed if its numbers are lower"
            ),
            Self::Refused { error, message } => write!(f, "error frame {error} {message}"),
            Self::Idle(time) => write!(f, "no data for {time:.1?}"),
            Self::NoPong => f.write_str("no answer to a ping"),
            Self::Oversized(size) => write!(f, "a frame of {size} bytes"),
            Self::Paused(time) => write!(f, "paused for {time:.1?}"),
            Self::Over => f.write_str("reading has to start elsewhere"),
        }
    }
}

/// What came of waiting for a message.
enum Received {
    Frame(Bytes),
    Nothing,
    End(End),
}

/// One open connection.
struct Reader<'a> {
    subscription: &'a Subscription,
    place: &'a Place,
    /// Gone once a pause lasted too long.
    socket: Option<Socket>,
    /// The socket in the gauge.
    connected: Option<Connected>,
    chunk: Vec<Bytes>,
    chunk_bytes: usize,
    next_ping: Instant,
    /// Whether anything came since the last ping.
    heard: bool,
    last_data: Instant,
}

/// Opens a connection at `cursor` (`None`: live) and reads it to its end, or until the writer has given up the place.
/// `backoff` starts over with the first good frame.
pub(super) async fn read(
    subscription: &Subscription,
    cursor: Option<i64>,
    place: &Place,
    backoff: &mut Backoff,
) -> End {
    let source = &subscription.source;
    let url = source.subscription_url(cursor);
    let socket = match open(&url, subscription.config.max_frame, &subscription.stop).await {
        None => return End::Stopped,
        Some(Err(why)) => return End::Unreachable(why),
        Some(Ok(socket)) => socket,
    };
    tracing::info!(source = source.name(), cursor, "connected");
    let connected = Some(subscription.metrics.connected(source));
    if place.probe {
        subscription.readiness.not_ready("the host does not know our cursor: looking at what it sends");
    } else {
        subscription.readiness.ready();
    }
    source.connected(true);
    let now = Instant::now();
    let mut reader = Reader {
        subscription,
        place,
        socket: Some(socket),
        connected,
        chunk: Vec::new(),
        chunk_bytes: 0,
        next_ping: now,
        heard: true,
        last_data: now,
    };
    let end = reader.run(backoff).await;
    if let Some(socket) = reader.socket.take()
        && !matches!(end, End::Lost(_) | End::Stopped)
    {
        say_goodbye(socket).await;
    }
    end
}

async fn next_message(socket: &mut Option<Socket>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => None,
    }
}

/// Closes and drops a socket. The close frame is politeness: the peer may be gone, or stuck in sending.
async fn say_goodbye(mut socket: Socket) {
    drop(tokio::time::timeout(Duration::from_millis(200), socket.close(None)).await);
}

impl Reader<'_> {
    async fn run(&mut self, backoff: &mut Backoff) -> End {
        loop {
            let end = self.fill_chunk().await.err();
            if !self.chunk.is_empty() && !self.place.over.is_cancelled() {
                backoff.reset();
                // What was read before the end is good.
                if let Some(paused) = self.deliver().await {
                    return paused;
                }
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Waits for a frame, then takes what has arrived with it.
    async fn fill_chunk(&mut self) -> Result<(), End> {
        loop {
            self.keep_alive().await?;
            let deadline = self.deadline();
            let stop = &self.subscription.stop;
            let message = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Stopped),
                () = self.place.over.cancelled() => return Err(End::Over),
                message = timeout_at(deadline, next_message(&mut self.socket)) => message,
            };
            // A deadline that passed is looked at by `keep_alive`.
            let Ok(message) = message else { continue };
            if self.accept(message)? {
                break;
            }
        }
        while self.chunk.len() < CHUNK_FRAMES && self.chunk_bytes < CHUNK_BYTES {
            match next_message(&mut self.socket).now_or_never() {
                Some(message) => drop(self.accept(message)?),
                None => break,
            }
        }
        Ok(())
    }

    /// Takes a message; whether it was a frame.
    fn accept(&mut self, message: Option<Result<Message, Error>>) -> Result<bool, End> {
        match self.sort(message) {
            Received::Frame(frame) => {
                self.heard = true;
                self.last_data = Instant::now();
                if let Some((error, message)) = error_of(&self.subscription.source, &frame) {
                    return Err(End::Refused { error, message });
                }
                self.chunk_bytes = self.chunk_bytes.saturating_add(frame.len());
                self.chunk.push(frame);
                Ok(true)
            }
            Received::Nothing => {
                self.heard = true;
                Ok(false)
            }
            Received::End(end) => Err(end),
        }
    }

    fn sort(&self, message: Option<Result<Message, Error>>) -> Received {
        match message {
            Some(Ok(Message::Binary(frame))) => Received::Frame(frame),
            // Not part of the protocol; decoding will say so, and it is kept.
            Some(Ok(Message::Text(text))) => Received::Frame(Bytes::copy_from_slice(text.as_bytes())),
            Some(Ok(Message::Close(frame))) => {
                let why =
                    frame.map(|frame| format!(" with {} {}", frame.code, frame.reason)).unwrap_or_default();
                Received::End(End::Lost(format!("closed by the host{why}")))
            }
            Some(Ok(_)) => Received::Nothing,
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { size, .. }))) => {
                Received::End(End::Oversized(size))
            }
            Some(Err(error)) => Received::End(End::Lost(error.to_string())),
            None => Received::End(End::Lost("closed by the host".to_owned())),
        }
    }

    fn deadline(&self) -> Instant {
        let idle = self.subscription.config.idle.map(|idle| self.last_data + idle);
        idle.map_or(self.next_ping, |idle| idle.min(self.next_ping))
    }

    /// Pings when it is time, and ends a connection that is idle or does not answer.
    async fn keep_alive(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let config = &self.subscription.config;
        if let Some(idle) = config.idle
            && now.duration_since(self.last_data) >= idle
        {
            return Err(End::Idle(now.duration_since(self.last_data)));
        }
        if now < self.next_ping {
            return Ok(());
        }
        // Data proves a live peer as well as a pong, which may be queued behind megabytes of it.
        if !self.heard {
            return Err(End::NoPong);
        }
        self.heard = false;
        self.next_ping = now + config.ping;
        let Some(socket) = &mut self.socket else { return Ok(()) };
        match tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Ping(Bytes::new()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Lost(error.to_string())),
            Err(_) => Err(End::NoPong),
        }
    }

    /// Charges the chunk, starts its decoding and queues it. While the writer is held up this waits, and nothing is
    /// read; the chunk is never given up but to a stop. `Some`: the wait was so long that the socket is to be closed.
    async fn deliver(&mut self) -> Option<End> {
        let Subscription { source, queue, pool, budget, config, readiness, stop, .. } = self.subscription;
        let (frames, bytes) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.chunk_bytes));
        let started = Instant::now();
        source.read(frames.len());
        let hand_over = async {
            let charge = budget.charge(reserve(bytes)).await;
            let decoding = pool.submit(source, frames, charge).await;
            queue.send(Job::Frames(decoding)).await
        };
        let mut hand_over = std::pin::pin!(hand_over);
        let in_time = tokio::select! {
            biased;
            () = stop.cancelled() => return Some(End::Stopped),
            sent = timeout_at(started + config.pause_close, &mut hand_over) => sent,
        };
        match in_time {
            Ok(Ok(())) => {
                self.catch_up(started);
                None
            }
            // The writer ends only when we stop, or when its failure is about to stop us.
            Ok(Err(_)) => Some(End::Stopped),
            Err(_) => {
                // The socket goes now, not when there is room; the chunk is kept.
                if let Some(socket) = self.socket.take() {
                    say_goodbye(socket).await;
                }
                self.connected = None;
                source.connected(false);
                readiness.not_ready("paused: the gate is shut");
                tokio::select! {
                    () = stop.cancelled() => Some(End::Stopped),
                    sent = hand_over => Some(sent.map_or(End::Stopped, |()| End::Paused(started.elapsed()))),
                }
            }
        }
    }

    /// Time in which nothing was read does not count against the peer.
    fn catch_up(&mut self, started: Instant) {
        let paused = started.elapsed();
        if paused > Duration::from_millis(100) {
            self.last_data += paused;
            self.next_ping += paused;
            self.heard = true;
        }
    }
}
