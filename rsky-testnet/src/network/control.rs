//! What a test does to a stream endpoint while it runs, and what it can see of it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::script::{Log, Script};

/// Query strings that are remembered, oldest dropped first.
pub(super) const REMEMBERED: usize = 10_000;
/// Commands a socket may fall behind before it misses the oldest.
const COMMANDS: usize = 64;
/// How often [`Control::wait_until`] looks.
const POLL: Duration = Duration::from_millis(2);

/// Whether a socket sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    #[default]
    Sending,
    Stalled,
    Silent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) flow: Flow,
    /// Frames a second and socket; `None` is as fast as they are read.
    pub(super) rate: Option<NonZeroU32>,
}

/// What every socket that is open now is told to do.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Close { code: u16, reason: String },
    Reset,
    Send(Message),
}

/// How a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The connection is closed without an answer.
    Hangup,
    /// An HTTP status instead of 101.
    Status(u16),
}

struct Refusing {
    how: Refusal,
    until: Option<Instant>,
}

/// A handle on one stream endpoint; clones are the same endpoint.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    log: Log,
    from_end: bool,
    mode: watch::Sender<Mode>,
    commands: broadcast::Sender<Command>,
    refusing: Mutex<Option<Refusing>>,
    queries: Mutex<VecDeque<String>>,
    counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) frames_sent: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) pongs: AtomicU64,
    pub(super) open: AtomicUsize,
}

impl Control {
    pub(super) fn new(script: Script, from_end: bool, rate: Option<NonZeroU32>) -> Self {
        Self(Arc::new(Shared {
            log: Log::new(script),
            from_end,
            mode: watch::Sender::new(Mode { flow: Flow::Sending, rate }),
            commands: broadcast::Sender::new(COMMANDS),
            refusing: Mutex::new(None),
            queries: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// Closes every open socket with a close frame: 1000 is a clean end, see RFC 6455 section 7.4 for others.
    pub fn close_all(&self, code: u16, reason: &str) {
        self.tell(Command::Close { code, reason: reason.to_owned() });
    }

    /// Ends every open socket with a TCP reset.
    pub fn reset_all(&self) {
        self.tell(Command::Reset);
    }

    /// Stops sending; pings are still answered.
    pub fn stall(&self) {
        self.set_flow(Flow::Stalled);
    }

    /// Neither sends nor reads: a peer that is gone without a word. A socket the client gives up stays counted as open
    /// until [`resume`](Self::resume).
    pub fn go_silent(&self) {
        self.set_flow(Flow::Silent);
    }

    /// Sends and answers again after [`stall`](Self::stall) or [`go_silent`](Self::go_silent).
    pub fn resume(&self) {
        self.set_flow(Flow::Sending);
    }

    /// Limits every socket to `rate` frames a second, from now on; `None` lifts the limit.
    pub fn set_rate(&self, rate: Option<NonZeroU32>) {
        self.0.mode.send_modify(|mode| mode.rate = rate);
    }

    /// Appends a frame to the script; its seq is read from it. After an endless generator it is never reached.
    pub fn push(&self, frame: Bytes) {
        self.0.log.push(frame);
    }

    /// Sends a frame to every open socket at once, past the script: an error frame, garbage.
    pub fn send_now(&self, frame: Bytes) {
        self.send_message(Message::Binary(frame));
    }

    /// Sends any WebSocket message to every open socket at once.
    pub fn send_message(&self, message: Message) {
        self.tell(Command::Send(message));
    }

    /// Refuses new subscriptions from now on, until [`accept`](Self::accept) or for `time`.
    pub fn refuse(&self, how: Refusal, time: Option<Duration>) {
        let until = time.map(|time| Instant::now() + time);
        *lock(&self.0.refusing) = Some(Refusing { how, until });
    }

    /// Ends [`refuse`](Self::refuse).
    pub fn accept(&self) {
        *lock(&self.0.refusing) = None;
    }

    /// Subscriptions ever asked for, refused ones included.
    pub fn connections(&self) -> u64 {
        self.0.counters.connections.load(Ordering::SeqCst)
    }

    /// The query string of each, oldest first; the last 10 000.
    pub fn queries(&self) -> Vec<String> {
        lock(&self.0.queries).iter().cloned().collect()
    }

    /// The `cursor` of each query string; `None` where there was none.
    pub fn cursors(&self) -> Vec<Option<String>> {
        let cursor =
            |query: &String| Some(query.split('&').find_map(|pair| pair.strip_prefix("cursor="))?.to_owned());
        self.queries().iter().map(cursor).collect()
    }

    /// Script frames given to the sockets, all together. At most 32 KiB and one frame of them are still in this process,
    /// per socket.
    pub fn frames_sent(&self) -> u64 {
        self.0.counters.frames_sent.load(Ordering::SeqCst)
    }

    /// Pings received.
    pub fn pings_received(&self) -> u64 {
        self.0.counters.pings.load(Ordering::SeqCst)
    }

    /// Pongs received.
    pub fn pongs_received(&self) -> u64 {
        self.0.counters.pongs.load(Ordering::SeqCst)
    }

    /// Sockets that are open now.
    pub fn open_sockets(&self) -> usize {
        self.0.counters.open.load(Ordering::SeqCst)
    }

    /// Frames in the script, appended ones included.
    pub fn script_length(&self) -> u64 {
        self.0.log.length()
    }

    /// Waits until `condition` holds, at most for `time`; says whether it came true.
    pub async fn wait_until(&self, time: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + time;
        while !condition(self) {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    pub(super) fn log(&self) -> &Log {
        &self.0.log
    }

    pub(super) fn begins_at_end(&self) -> bool {
        self.0.from_end
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn mode(&self) -> watch::Receiver<Mode> {
        self.0.mode.subscribe()
    }

    pub(super) fn commands(&self) -> broadcast::Receiver<Command> {
        self.0.commands.subscribe()
    }

    /// Notes a subscription, and says how it is to be refused.
    pub(super) fn admit(&self, query: &str) -> Option<Refusal> {
        remember(&self.0.queries, query);
        self.0.counters.connections.fetch_add(1, Ordering::SeqCst);
        let mut refusing = lock(&self.0.refusing);
        if refusing
            .as_ref()
            .is_some_and(|refusing| refusing.until.is_some_and(|until| Instant::now() >= until))
        {
            *refusing = None;
        }
        refusing.as_ref().map(|refusing| refusing.how)
    }

    fn set_flow(&self, flow: Flow) {
        self.0.mode.send_modify(|mode| mode.flow = flow);
    }

    fn tell(&self, command: Command) {
        // An error only says that no socket is open.
        drop(self.0.commands.send(command));
    }
}

/// Adds a query string to the remembered ones.
pub(super) fn remember(queries: &Mutex<VecDeque<String>>, query: &str) {
    let mut queries = lock(queries);
    if queries.len() >= REMEMBERED {
        queries.pop_front();
    }
    queries.push_back(query.to_owned());
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream endpoint of a running network.
#[derive(Clone)]
pub struct Feed(pub(super) Control);

impl Feed {
    /// The handle to drive and observe it with.
    pub fn control(&self) -> Control {
        self.0.clone()
    }
}
