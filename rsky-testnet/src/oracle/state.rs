//! What the model knows: the tables, in a form that is easy to reason about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::network::cbor_out::Cbor;

use super::rules::Typed;
use crate::servers::Generation;

/// A row of `record`.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) did: String,
    /// Empty for a tombstone.
    pub(super) cid: String,
    /// `None` for a tombstone.
    pub(super) record: Option<Cbor>,
    pub(super) rev: String,
    pub(super) indexed: String,
}

/// A row of a typed table.
#[derive(Clone, Debug)]
pub(super) struct TypedRow {
    pub(super) cid: String,
    pub(super) creator: String,
    pub(super) indexed: String,
    pub(super) typed: Typed,
}

/// A row of `post`, with what hangs on it.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) cid: String,
    pub(super) creator: String,
    pub(super) created: String,
    pub(super) indexed: String,
    pub(super) record: Cbor,
    /// Root and parent: uri and cid.
    pub(super) reply: Option<[(String, String); 2]>,
    /// The quoted record: uri and cid.
    pub(super) embedded: Option<(String, String)>,
    pub(super) invalid: bool,
    pub(super) gated: bool,
    /// The gate that it was judged by.
    pub(super) judged_by: Option<Cbor>,
    /// Whether a gate came that did not judge it.
    pub(super) gate_came_later: bool,
    pub(super) detached: bool,
    pub(super) thread_gate: Option<bool>,
    pub(super) post_gate: Option<bool>,
    /// Whether its create told those whom it concerns.
    pub(super) told: bool,
}

impl Post {
    pub(super) fn sorted(&self) -> &str {
        self.created.as_str().min(self.indexed.as_str())
    }

    pub(super) fn root(&self) -> Option<&str> {
        self.reply.as_ref().map(|[root, _]| root.0.as_str())
    }

    pub(super) fn parent(&self) -> Option<&str> {
        self.reply.as_ref().map(|[_, parent]| parent.0.as_str())
    }

    /// The post that it quotes: uri and cid.
    pub(super) fn quoted(&self) -> Option<&(String, String)> {
        self.embedded.as_ref().filter(|(uri, _)| super::value::parts(uri).1 == "app.bsky.feed.post")
    }
}

/// A row of `feed_item`.
#[derive(Clone, Debug)]
pub(super) struct FeedItem {
    pub(super) cid: String,
    pub(super) kind: &'static str,
    pub(super) post: String,
    pub(super) originator: String,
    pub(super) sorted: String,
}

/// A row of `quote`, by the uri of the quoting post.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) subject: String,
    pub(super) subject_cid: String,
}

/// A row of `duplicate_record`.
#[derive(Clone, Debug)]
pub(super) struct Duplicate {
    pub(super) cid: String,
    pub(super) of: String,
    pub(super) indexed: String,
}

/// A row of `notification`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Notice {
    pub(super) to: String,
    pub(super) uri: String,
    pub(super) cid: String,
    pub(super) author: String,
    pub(super) reason: &'static str,
    pub(super) subject: Option<String>,
    pub(super) sorted: String,
}

/// A row of `actor`, apart from the handle.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) indexed: String,
    pub(super) status: Option<String>,
    /// Whether the handle was looked at.
    pub(super) resolved: bool,
    /// Whether it led back to the account when it was looked at last.
    pub(super) found: bool,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The schema whose rows these are.
    pub(super) generation: Generation,
    pub(super) records: BTreeMap<String, Stored>,
    pub(super) typed: BTreeMap<String, TypedRow>,
    /// Which row has a key of a table.
    pub(super) keys: HashMap<(&'static str, String), String>,
    pub(super) posts: BTreeMap<String, Post>,
    /// Replies by parent, quoting posts by what they quote, replies by root.
    pub(super) by_parent: HashMap<String, BTreeSet<String>>,
    pub(super) by_quoted: HashMap<String, BTreeSet<String>>,
    pub(super) by_root: HashMap<String, BTreeSet<String>>,
    pub(super) items: BTreeMap<String, FeedItem>,
    pub(super) quotes: BTreeMap<String, Quote>,
    pub(super) duplicates: BTreeMap<String, Duplicate>,
    pub(super) notices: Vec<Notice>,
    pub(super) actors: BTreeMap<String, Actor>,
    /// Commit and revision of each account.
    pub(super) synced: BTreeMap<String, (String, String)>,
    /// Quotes of each uri with a row in `post_agg`, as they were counted last.
    pub(super) counted: BTreeMap<String, usize>,
    /// Accounts with a row in `profile_agg`.
    pub(super) profiles: BTreeSet<String>,
    pub(super) labels: BTreeMap<[String; 4], crate::network::world::Label>,
    /// Replies by which an author goes on with a thread, by root and uri: the parent, and whether the reply was deleted.
    pub(super) own_threads: BTreeMap<(String, String), (String, bool)>,
    /// By account, the times at which its handle may have been looked at, where every commit is a reason to.
    pub(super) looks: BTreeMap<String, BTreeSet<String>>,
}

impl State {
    /// The record of a uri; tombstones are none.
    pub(super) fn record(&self, uri: &str) -> Option<&Cbor> {
        self.records.get(uri)?.record.as_ref()
    }

    /// Makes sure that a post's counters have a row.
    pub(super) fn touch(&mut self, uri: &str) {
        self.counted.entry(uri.to_owned()).or_default();
    }

    /// Counts the quotes of a version of a post.
    pub(super) fn count_quotes(&mut self, subject: &str, cid: &str) {
        let of = |quote: &&Quote| quote.subject == subject && quote.subject_cid == cid;
        let count = self.quotes.values().filter(of).count();
        self.counted.insert(subject.to_owned(), count);
    }
}
