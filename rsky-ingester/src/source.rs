//! One source: a host and what is read from it.

use std::sync::{Arc, Mutex, PoisonError};

use rsky_common::atproto::{CollectionFilter, Converted, convert, convert_labels};
use rsky_common::wire::names::{self, FIELD_EVENT, FIELD_REPO};
use serde::Serialize;

use crate::host::Host;

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
}

/// What the pages say about a source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// Whether its socket is open (or its listing under way).
    pub connected: bool,
    /// The cursor in Redis.
    pub cursor: Option<String>,
    /// Age of the newest event when it was written, in seconds.
    pub lag_seconds: Option<f64>,
    /// Entries written since the start.
    pub entries: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl Source {
    /// A source.
    pub fn new(kind: Kind, host: Host, stream: &str, number: usize) -> Arc<Self> {
        Arc::new(Self { kind, host, stream: stream.to_owned(), number, state: Mutex::default() })
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

    /// Key of the cursor in Redis (PIPELINE §2).
    pub fn cursor_key(&self) -> String {
        names::cursor_key(&self.stream, self.host.configured())
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

    /// Where the subscription is, from this cursor on.
    pub fn subscription_url(&self, cursor: Option<i64>) -> String {
        let method = match self.kind {
            Kind::Labels => "com.atproto.label.subscribeLabels",
            Kind::Firehose | Kind::Listing => "com.atproto.sync.subscribeRepos",
        };
        let query = self.begins_at(cursor).map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
        format!("{}/xrpc/{method}{query}", self.host.socket_url())
    }

    /// Turns a frame into entries.
    pub fn convert(&self, frame: &[u8], filter: &CollectionFilter) -> Converted {
        match self.kind {
            Kind::Labels => convert_labels(frame),
            Kind::Firehose | Kind::Listing => convert(frame, filter),
        }
    }

    /// Changes what the pages say.
    pub fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What the pages say.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        assert_eq!(relay.cursor_key(), "firehose_live:cursor:relay:1/");
        let labels = Source::new(Kind::Labels, host, "label_live", 0);
        assert_eq!(
            labels.subscription_url(None),
            "ws://relay:1/xrpc/com.atproto.label.subscribeLabels?cursor=0"
        );
    }
}
