//! Entries of the two event streams (PIPELINE 3.1 and 3.2), read in the forms of TypeScript and of old rsky (PIPELINE 8).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::WireError;
use super::text::{Text, read_object, require};

/// One entry of `firehose_live` or `firehose_backfill`, borrowing from its text.
#[derive(Debug, Clone)]
pub enum StreamEvent<'a> {
    /// A new record.
    Create(RecordEvent<'a>),
    /// A new version of a record.
    Update(RecordEvent<'a>),
    /// A record that is gone.
    Delete(DeleteEvent<'a>),
    /// A repository is at this revision.
    Repo(RepoEvent<'a>),
    /// The hosting status of an account.
    Account(AccountEvent<'a>),
    /// The handle or the DID document of an account may have changed.
    Identity(IdentityEvent<'a>),
    /// A type that nobody writes; acknowledged without effect.
    Unknown(Cow<'a, str>),
}

/// A record that exists.
#[derive(Debug, Clone)]
pub struct RecordEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// The collection.
    pub collection: Cow<'a, str>,
    /// The record key.
    pub rkey: Cow<'a, str>,
    /// CID of the record.
    pub cid: Cow<'a, str>,
    /// The record as it is in the entry.
    pub record: &'a RawValue,
    /// CID of the commit.
    pub commit: Cow<'a, str>,
    /// Revision of the commit.
    pub rev: Cow<'a, str>,
    /// Time of the event, verbatim.
    pub time: Cow<'a, str>,
    /// Sequence number; negative for backfill.
    pub seq: Option<i64>,
}

/// A record that is gone.
#[derive(Debug, Clone)]
pub struct DeleteEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// The collection.
    pub collection: Cow<'a, str>,
    /// The record key.
    pub rkey: Cow<'a, str>,
    /// CID of the commit.
    pub commit: Cow<'a, str>,
    /// Revision of the commit.
    pub rev: Cow<'a, str>,
    /// Time of the event, verbatim.
    pub time: Cow<'a, str>,
    /// Sequence number; negative for backfill.
    pub seq: Option<i64>,
}

/// A repository at a revision.
#[derive(Debug, Clone)]
pub struct RepoEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// CID of the commit.
    pub commit: Cow<'a, str>,
    /// Revision of the commit.
    pub rev: Cow<'a, str>,
    /// Time of the event, verbatim; old rsky writes it too.
    pub time: Option<Cow<'a, str>>,
}

/// The hosting status of an account.
#[derive(Debug, Clone)]
pub struct AccountEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// Time of the event, verbatim.
    pub time: Cow<'a, str>,
    /// Whether its content may be shown.
    pub active: bool,
    /// Why not, in lower case (old rsky writes `Deactivated`).
    pub status: Option<Cow<'a, str>>,
    /// Sequence number.
    pub seq: Option<i64>,
}

/// An identity that may have changed.
#[derive(Debug, Clone)]
pub struct IdentityEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// Time of the event, verbatim.
    pub time: Cow<'a, str>,
    /// A hint that is never trusted.
    pub handle: Option<Cow<'a, str>>,
    /// Sequence number.
    pub seq: Option<i64>,
}

impl RecordEvent<'_> {
    /// Whether the record comes from a backfill: TypeScript writes -2, old rsky -1.
    pub fn is_backfill(&self) -> bool {
        self.seq.is_some_and(i64::is_negative)
    }
}

impl DeleteEvent<'_> {
    /// Whether the event comes from a backfill.
    pub fn is_backfill(&self) -> bool {
        self.seq.is_some_and(i64::is_negative)
    }
}

impl StreamEvent<'_> {
    /// The account; `None` for unknown types.
    pub fn did(&self) -> Option<&str> {
        match self {
            Self::Create(event) | Self::Update(event) => Some(&event.did),
            Self::Delete(event) => Some(&event.did),
            Self::Repo(event) => Some(&event.did),
            Self::Account(event) => Some(&event.did),
            Self::Identity(event) => Some(&event.did),
            Self::Unknown(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    did: Option<Text<'a>>,
    #[serde(borrow)]
    collection: Option<Text<'a>>,
    #[serde(borrow)]
    rkey: Option<Text<'a>>,
    #[serde(borrow)]
    cid: Option<Text<'a>>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    #[serde(borrow)]
    commit: Option<Text<'a>>,
    #[serde(borrow)]
    rev: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    seq: Option<i64>,
    active: Option<bool>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    handle: Option<Text<'a>>,
}

/// Reads the value of an entry of an event stream, in any order of its members; unknown members are ignored.
///
/// # Errors
/// What cannot be this kind of entry: to be acknowledged and dead-lettered (PIPELINE 6.3).
pub fn parse(json: &str) -> Result<StreamEvent<'_>, WireError> {
    let members: Members<'_> = read_object(json)?;
    let kind = require("event", "type", members.kind)?;
    Ok(match kind.as_ref() {
        name @ ("create" | "update") => {
            let is_create = name == "create";
            let kind = if is_create { "create" } else { "update" };
            let event = RecordEvent {
                did: require(kind, "did", members.did)?,
                collection: require(kind, "collection", members.collection)?,
                rkey: require(kind, "rkey", members.rkey)?,
                cid: require(kind, "cid", members.cid)?,
                record: members.record.ok_or(WireError::Missing { kind, field: "record" })?,
                commit: require(kind, "commit", members.commit)?,
                rev: require(kind, "rev", members.rev)?,
                time: require(kind, "time", members.time)?,
                seq: members.seq,
            };
            if is_create { StreamEvent::Create(event) } else { StreamEvent::Update(event) }
        }
        "delete" => StreamEvent::Delete(DeleteEvent {
            did: require("delete", "did", members.did)?,
            collection: require("delete", "collection", members.collection)?,
            rkey: require("delete", "rkey", members.rkey)?,
            commit: require("delete", "commit", members.commit)?,
            rev: require("delete", "rev", members.rev)?,
            time: require("delete", "time", members.time)?,
            seq: members.seq,
        }),
        "repo" => StreamEvent::Repo(RepoEvent {
            did: require("repo", "did", members.did)?,
            commit: require("repo", "commit", members.commit)?,
            rev: require("repo", "rev", members.rev)?,
            time: members.time.map(|Text(time)| time),
        }),
        "account" => StreamEvent::Account(AccountEvent {
            did: require("account", "did", members.did)?,
            time: require("account", "time", members.time)?,
            active: members.active.ok_or(WireError::Missing { kind: "account", field: "active" })?,
            status: members.status.map(|Text(status)| lower_case(status)),
            seq: members.seq,
        }),
        "identity" => StreamEvent::Identity(IdentityEvent {
            did: require("identity", "did", members.did)?,
            time: require("identity", "time", members.time)?,
            handle: members.handle.map(|Text(handle)| handle),
            seq: members.seq,
        }),
        _ => StreamEvent::Unknown(kind),
    })
}

fn lower_case(status: Cow<'_, str>) -> Cow<'_, str> {
    if status.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(status.to_ascii_lowercase());
    }
    status
}

#[cfg(test)]
#[path = "stream_event_tests.rs"]
mod tests;
