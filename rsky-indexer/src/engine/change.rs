//! What one stream entry asks of the database, with everything that needs no database already worked out.

use super::accounts::AccountNews;
use crate::collections::{Collection, Flags, Parts, RecordContext, Row};
use crate::metrics::EventType;

/// One record event, validated and taken apart.
#[derive(Debug, Clone)]
pub struct Change {
    /// `at://did/collection/rkey`
    pub uri: String,
    /// The repository.
    pub did: String,
    /// The declaration that rules the record.
    pub collection: &'static Collection,
    /// The record key.
    pub rkey: String,
    /// The repository's revision that carries the event.
    pub rev: String,
    /// The event's time, verbatim: every `indexedAt`.
    pub time: String,
    /// Whether it happened just now; a backfill tells what happened long ago.
    pub live: bool,
    /// What happened.
    pub action: Action,
}

/// What happened to the record.
#[derive(Debug, Clone)]
pub enum Action {
    /// It was created, here or in a backfill.
    Create(Content),
    /// It was replaced.
    Update(Content),
    /// It was deleted.
    Delete,
}

/// The record itself.
#[derive(Debug, Clone)]
pub struct Content {
    /// The record's CID.
    pub cid: String,
    /// The record as JSON text, as received.
    pub json: String,
    /// The typed row; `None` where the collection or the record key has none.
    pub row: Option<Row>,
    /// What hangs on the record beside its row.
    pub parts: Parts,
}

impl Change {
    /// The content of a create or update.
    pub fn content(&self) -> Option<&Content> {
        match &self.action {
            Action::Create(content) | Action::Update(content) => Some(content),
            Action::Delete => None,
        }
    }

    /// What a row takes from the event around the record.
    pub fn context<'a>(&'a self, content: &'a Content) -> RecordContext<'a> {
        RecordContext {
            uri: &self.uri,
            cid: &content.cid,
            did: &self.did,
            rkey: &self.rkey,
            time: &self.time,
            flags: Flags::default(),
        }
    }

    /// The values of the duplicate key, where the row has one.
    pub fn duplicate_key(&self) -> Option<Vec<&str>> {
        let table = self.collection.table?;
        let content = self.content()?;
        let row = content.row.as_ref()?;
        if table.duplicate_key.is_empty() {
            return None;
        }
        let context = self.context(content);
        table.duplicate_key.iter().map(|column| row.value(*column, &context)).collect()
    }
}

/// "The pipeline has seen this commit of this repository": what moves `actor_sync` (INDEXING §8).
#[derive(Debug, Clone)]
pub struct SeenCommit {
    /// The repository.
    pub did: String,
    /// The commit's CID.
    pub commit: String,
    /// The commit's rev.
    pub rev: String,
}

/// One stream entry's share of a batch.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// The record event, if it is one that writes rows.
    pub change: Option<Change>,
    /// The commit to note once the change has taken effect.
    pub seen: Option<SeenCommit>,
    /// What it says of the account.
    pub account: Option<AccountNews>,
    /// Whether it was delivered before: who had it may have ended between its commit and its second look.
    pub again: bool,
    /// Whether Postgres may refuse it for what it says ([`super::doubt`]).
    pub is_doubtful: bool,
    /// What it was, for the metrics.
    pub event: EventType,
}

impl Work {
    /// The account it is about.
    pub fn did(&self) -> Option<&str> {
        let change = self.change.as_ref().map(|change| change.did.as_str());
        let seen = self.seen.as_ref().map(|seen| seen.did.as_str());
        change.or(seen).or(self.account.as_ref().map(|account| account.did.as_str()))
    }
}
