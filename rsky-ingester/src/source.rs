//! One source: a host and what is read from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rsky_common::admin::{SHOWN, shown};
use rsky_common::atproto::{CollectionFilter, Converted, convert, convert_labels};
use rsky_common::runtime::Rounds;
use rsky_common::wire::names::{FIELD_EVENT, FIELD_REPO};
use serde::Serialize;

use crate::cursor_keys::CursorKeys;
use crate::host::Host;
use crate::lag::Lag;

/// What is read from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `com.atproto.sync.subscribeRepos`.
    Firehose,
    /// `com.atproto.label.subscribeLabels`.
    Labels,
    /// `com.atproto.sync.listRepos`.
    Listing,
}

/// A host and what is read from it. Shared by the source's stages.
#[derive(Debug)]
pub struct Source {
    /// What is read.
    pub kind: Kind,
    /// Where.
    pub host: Host,
    /// The stream it is written to.
    pub stream: String,
    /// Which relay it is, to tell a commit of another relay from one of the same.
    pub number: usize,
    state: Mutex<State>,
    lag: Mutex<Lag>,
    done: Rounds,
    frames: AtomicU64,
}

/// What the pages say about a source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// Whether its socket is open (or its listing under way).
    pub connected: bool,
    /// The cursor in Redis.
    pub cursor: Option<String>,
    /// How far what is written is behind, in seconds.
    pub lag_seconds: Option<f64>,
    /// Frames read and not yet in Redis.
    pub frames_in_memory: u64,
    /// Entries written since the start.
    pub entries: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl Source {
    /// A source.
    pub fn new(kind: Kind, host: Host, stream: &str, number: usize) -> Arc<Self> {
        Arc::new(Self {
            kind,
            host,
            stream: stream.to_owned(),
            number,
            state: Mutex::default(),
            lag: Mutex::default(),
            done: Rounds::default(),
            frames: AtomicU64::new(0),
        })
    }

    /// The name of its tasks and of its part of the health: kind and host.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Firehose => "firehose",
            Kind::Labels => "labels",
            Kind::Listing => "listRepos",
        };
        format!("{kind} {}", self.host.configured())
    }

    /// Keys of the cursor in Redis (PIPELINE §2).
    pub fn cursor_keys(&self) -> CursorKeys {
        CursorKeys::new(&self.stream, &self.host)
    }

    /// The key of the cursor.
    pub fn cursor_key(&self) -> String {
        self.cursor_keys().key
    }

    /// Field of its entries.
    pub fn field(&self) -> &'static str {
        if self.kind == Kind::Listing { FIELD_REPO } else { FIELD_EVENT }
    }

    /// The cursor to ask for. Without a stored one a relay starts live; a labeler is asked for everything, as in the
    /// reference.
    pub fn begins_at(&self, stored: Option<i64>) -> Option<i64> {
        if self.kind == Kind::Labels { stored.or(Some(0)) } else { stored }
    }

    /// Where the subscription is, from this cursor on; `None`: live.
    pub fn subscription_url(&self, cursor: Option<i64>) -> String {
        self.url(&self.host.socket_url(), cursor)
    }

    /// The same as a request that is upgraded by hand.
    pub fn upgrade_url(&self, cursor: i64) -> String {
        self.url(&self.host.http_url(), Some(cursor))
    }

    fn url(&self, host: &str, cursor: Option<i64>) -> String {
        let method = match self.kind {
            Kind::Labels => "com.atproto.label.subscribeLabels",
            Kind::Firehose | Kind::Listing => "com.atproto.sync.subscribeRepos",
        };
        let query = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
        format!("{host}/xrpc/{method}{query}")
    }

    /// Turns a frame into entries.
    pub fn convert(&self, frame: &[u8], filter: &CollectionFilter) -> Converted {
        match self.kind {
            Kind::Labels => convert_labels(frame),
            Kind::Firehose | Kind::Listing => convert(frame, filter),
        }
    }

    /// The socket was opened or closed.
    pub fn connected(&self, connected: bool) {
        self.note(|state| state.connected = connected);
        self.with_lag(|lag, now| lag.connected(connected, now));
    }

    /// Frames were read.
    pub fn read(&self, frames: usize) {
        let frames = u64::try_from(frames).unwrap_or(u64::MAX);
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.with_lag(|lag, now| lag.read(frames, now));
    }

    /// Frames read since the start; of a listing, repositories queued.
    pub fn taken_in(&self) -> u64 {
        match self.kind {
            Kind::Listing => self.state.lock().unwrap_or_else(PoisonError::into_inner).entries,
            Kind::Firehose | Kind::Labels => self.frames.load(Ordering::Relaxed),
        }
    }

    /// Frames were written, the newest event at an age in seconds, or dropped.
    pub fn done(&self, frames: usize, age: Option<f64>) {
        self.done.one_more();
        self.with_lag(|lag, now| lag.done(u64::try_from(frames).unwrap_or(u64::MAX), age, now));
    }

    /// How many times frames were written or dropped.
    pub fn times_done(&self) -> u64 {
        self.done.count()
    }

    /// How far what is written is behind, in seconds; `None` before the first event.
    pub fn lag_seconds(&self) -> Option<f64> {
        self.with_lag(|lag, now| lag.seconds(now))
    }

    /// Why it is not ready, when it is hours behind.
    pub fn too_old(&self) -> Option<String> {
        self.with_lag(|lag, now| lag.too_old(now))
    }

    /// Frames read and not yet in Redis.
    pub fn waiting(&self) -> u64 {
        self.with_lag(|lag, _| lag.waiting())
    }

    fn with_lag<T>(&self, change: impl FnOnce(&mut Lag, Instant) -> T) -> T {
        change(&mut self.lag.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }

    /// Changes what the pages say. What peers say is made fit for them.
    pub fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if let Some(error) = &mut state.last_error {
            *error = shown(error, SHOWN);
        }
    }

    /// What the pages say.
    pub fn state(&self) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        State { lag_seconds: self.lag_seconds(), frames_in_memory: self.waiting(), ..state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_keys_of_the_reference() {
        let host = Host::parse("http://relay:1/").unwrap();
        let relay = Source::new(Kind::Firehose, host.clone(), "firehose_live", 0);
        assert_eq!(relay.subscription_url(None), "ws://relay:1/xrpc/com.atproto.sync.subscribeRepos");
        assert_eq!(
            relay.subscription_url(Some(7)),
            "ws://relay:1/xrpc/com.atproto.sync.subscribeRepos?cursor=7"
        );
        assert_eq!(relay.cursor_key(), "firehose_live:cursor:relay:1");
        let labels = Source::new(Kind::Labels, host, "label_live", 0);
        assert_eq!(
            labels.subscription_url(labels.begins_at(None)),
            "ws://relay:1/xrpc/com.atproto.label.subscribeLabels?cursor=0"
        );
    }
}
