//! What was found, as it is judged and shown.

use serde::Serialize;
use serde_json::Value;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) did: String,
    /// The record that was asked about; `None`: the account.
    pub(super) path: Option<Path>,
    pub(super) pds: Asked<Pds>,
    pub(super) tables: Asked<Tables>,
    pub(super) streams: Vec<Searched>,
    /// How long an entry may be with a consumer before somebody should look, in milliseconds.
    #[serde(skip)]
    pub(super) long_ms: u64,
}

/// A record's place in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Path {
    pub(super) collection: String,
    pub(super) rkey: String,
}

impl Path {
    /// The record's uri.
    pub(super) fn uri(&self, did: &str) -> String {
        format!("at://{did}/{}/{}", self.collection, self.rkey)
    }
}

/// What came of a question.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Asked<T> {
    /// The answer.
    Known(T),
    /// Why there is none.
    Unknown { error: String },
}

impl<T> Asked<T> {
    pub(super) fn of(outcome: anyhow::Result<T>) -> Self {
        match outcome {
            Ok(answer) => Self::Known(answer),
            Err(error) => Self::Unknown { error: format!("{error:#}") },
        }
    }

    pub(super) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(answer) => Some(answer),
            Self::Unknown { .. } => None,
        }
    }
}

/// What the PDS says.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Pds {
    pub(super) host: String,
    pub(super) account: Hosted,
    /// The record, if one was asked about.
    pub(super) record: Option<Held>,
}

/// What the PDS says of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hosted {
    /// It has the repository, at this revision.
    Active { rev: Option<String> },
    /// It does not give it out: a word of the network (`deactivated`, `suspended`, `takendown`).
    Inactive { status: String },
    /// It does not have it.
    Gone,
    /// It does not say.
    Unknown { error: String },
}

/// What the PDS says of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Held {
    /// It has it; `invalid` says why no AppView of this generation takes it.
    Has { cid: String, invalid: Option<String> },
    /// It does not have it.
    Gone,
    /// It does not say.
    Unknown { error: String },
}

/// What stands in the tables. Rows are what Postgres makes of them, so they have whatever columns there are.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Tables {
    /// The generation of the schema, for people.
    pub(super) schema: String,
    /// Row of `actor`.
    pub(super) actor: Option<Value>,
    /// `actor_sync."repoRev"`.
    pub(super) rev: Option<String>,
    pub(super) record: Option<RecordRows>,
    /// For an account: live records by collection.
    pub(super) records: Vec<(String, i64)>,
    /// Whether there are more than were counted.
    pub(super) more_records: bool,
}

/// Rows of one record.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct RecordRows {
    /// Whether the indexer has a rule for the collection, and a place for it in this database.
    pub(super) has_rule: bool,
    /// Row of `record`, without its json.
    pub(super) record: Option<Value>,
    /// Whether that is a record, and not what its deletion left.
    pub(super) live: bool,
    /// The table of the collection, if it has one.
    pub(super) table: Option<&'static str>,
    /// Whether a record with this key gets a row in it.
    pub(super) typed_expected: bool,
    /// Its row.
    pub(super) typed: Option<Value>,
    /// Another record that says the same and has the row.
    pub(super) duplicate_of: Option<String>,
    /// Posts that this one answers and that are not there.
    pub(super) missing: Vec<String>,
}

/// What a stream, or a set beside it, was found to hold.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Searched {
    pub(super) stream: String,
    pub(super) kind: Kind,
    /// Entries there are.
    pub(super) length: u64,
    /// Entries looked at, from the oldest.
    pub(super) seen: u64,
    /// Whether there is more that was not looked at.
    pub(super) more: bool,
    /// The first of what was found.
    pub(super) found: Vec<Found>,
    /// How much was found.
    pub(super) count: u64,
    /// Why it could not be searched.
    pub(super) error: Option<String>,
}

/// What is in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Events for the indexers.
    #[default]
    Events,
    /// Repositories for the backfillers.
    Repositories,
    /// Repositories that were put off.
    PutOff,
    /// Events that were given up.
    EventLetters,
    /// Repositories that were given up.
    RepositoryLetters,
}

/// An entry that is about what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub(super) id: String,
    /// `create`, `account`, …
    pub(super) what: String,
    /// `collection/rkey` of a record.
    pub(super) path: Option<String>,
    pub(super) rev: Option<String>,
    /// Entries before it, of those that are left in the stream.
    pub(super) before: u64,
    /// Who has it: consumer, and for how many milliseconds.
    pub(super) pending: Option<(String, u64)>,
    /// Why it was given up: a word and a sentence.
    pub(super) reason: Option<(String, String)>,
}
