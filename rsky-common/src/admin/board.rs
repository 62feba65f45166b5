//! What a daemon shows of itself, typed: `/` draws it, `/status` has it as JSON.

use serde::Serialize;

use crate::redis::gate::GateStatus;
use crate::wire::names;

/// How much a fact should trouble whoever looks. The order is that of urgency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    #[default]
    Fine,
    /// Good to know.
    Info,
    /// To be looked at, not tonight.
    Look,
    /// Something does not work now.
    Bad,
}

/// One thing to know about a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How urgent it is.
    pub level: Level,
    /// What it is about.
    pub part: String,
    /// What is so, and what helps.
    pub text: String,
}

impl Note {
    /// A note.
    pub fn new(level: Level, part: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level, part: part.into(), text: text.into() }
    }
}

/// How far something is behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lag {
    /// What is behind: a stream, or a source.
    pub of: String,
    /// Seconds; `None`: nobody knows yet.
    pub seconds: Option<f64>,
    /// What belongs to the figure: entries put off on purpose, which are no lag.
    pub note: Option<String>,
}

/// Something that is bounded, and how much of it is used. Both in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// What.
    pub of: String,
    /// Bytes in use; `None`: nobody knows.
    pub used_bytes: Option<u64>,
    /// Bytes it may take; `None`: no bound is known.
    pub most_bytes: Option<u64>,
}

/// A host that gives trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostTrouble {
    /// Its name, from the network.
    pub host: String,
    /// In a word or two.
    pub state: String,
    /// What waits for it.
    pub waiting: u64,
    /// What it said, or since when, or until when it is left alone.
    pub why: String,
}

/// The hosts that give trouble: the worst of them by name, the rest by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hosts {
    /// Hosts nothing is known against.
    pub fine: u64,
    /// Hosts in trouble.
    pub in_trouble: u64,
    /// Those that most waits for: at most [`Hosts::SHOWN`].
    pub worst: Vec<HostTrouble>,
}

impl Hosts {
    /// Hosts shown by name.
    pub const SHOWN: usize = 20;
}

/// The names of the streams, as this daemon is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamNames {
    /// Live events.
    pub live: String,
    /// Labels.
    pub labels: String,
    /// Repositories to be fetched.
    pub repos: String,
    /// Repositories to be fetched first.
    pub priority: String,
    /// Records of fetched repositories.
    pub backfill: String,
}

impl Default for StreamNames {
    fn default() -> Self {
        Self {
            live: names::FIREHOSE_LIVE.to_owned(),
            labels: names::LABEL_LIVE.to_owned(),
            repos: names::REPO_BACKFILL.to_owned(),
            priority: names::REPO_BACKFILL_PRIORITY.to_owned(),
            backfill: names::FIREHOSE_BACKFILL.to_owned(),
        }
    }
}

impl StreamNames {
    /// All of them, in the order of the flow.
    pub fn all(&self) -> [&str; 5] {
        [&self.live, &self.labels, &self.priority, &self.repos, &self.backfill].map(String::as_str)
    }

    /// Whether it fills up to its mark in the course of things: whoever writes to it is faster than who reads it.
    pub(super) fn fills_as_a_rule(&self, stream: &str) -> bool {
        [&self.repos, &self.priority, &self.backfill].iter().any(|name| *name == stream)
    }
}

/// What a daemon shows of itself at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Board {
    /// What it has to say beside what follows from the rest.
    pub notes: Vec<Note>,
    /// How far what is behind.
    pub lags: Vec<Lag>,
    /// The streams it writes to.
    pub gates: Vec<GateStatus>,
    /// What is bounded.
    pub bounds: Vec<Bound>,
    /// Hosts; `None`: it deals with none.
    pub hosts: Option<Hosts>,
}
