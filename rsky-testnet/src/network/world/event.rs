//! What happens in a world, one thing at a time.

use bytes::Bytes;
use cid::Cid;

use super::super::cbor_out::Cbor;
use super::super::frames;
use super::trouble::Trouble;

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// Another version takes its place.
    Update,
    /// It goes.
    Delete,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What is done.
    pub action: Action,
    /// `collection/rkey`.
    pub path: String,
    /// The record and its CID; `None` when it goes.
    pub record: Option<(Cbor, Cid)>,
    /// The version before; `None` when it is new.
    pub prev: Option<Cid>,
}

/// A commit as it is announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Revision of the repository.
    pub rev: String,
    /// The revision before; `None` for the first commit.
    pub since: Option<String>,
    /// The signed commit object.
    pub cid: Cid,
    /// Root of the tree before; `None` for the first commit.
    pub prev_data: Option<Cid>,
    /// What was done, in this order.
    pub operations: Vec<Operation>,
    /// CAR of the commit, the new blocks of the tree, those that prove what was before, and the records.
    pub blocks: Bytes,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Records came or went.
    Commit(Box<Commit>),
    /// Handle, host or key may have changed; the DID document says what they are.
    Identity {
        /// The handle of the document.
        handle: String,
    },
    /// The host says how the account stands.
    Account {
        /// Whether its content is to be shown.
        active: bool,
        /// Why not.
        status: Option<&'static str>,
    },
}

/// One event, as the relay numbers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place among all events of the world, from 1 on. The relay's number is this and a constant.
    pub number: u64,
    /// When the relay saw it: RFC 3339 with milliseconds.
    pub time: String,
    /// The account.
    pub did: String,
    /// What happened.
    pub what: What,
    /// What is wrong with it, on purpose.
    pub wrong: Option<Trouble>,
}

impl Event {
    /// The frame of subscribeRepos.
    pub fn frame(&self, seq: u64) -> Bytes {
        match &self.what {
            What::Identity { handle } => frames::identity(seq, &self.did, &self.time, Some(handle)),
            What::Account { active, status } => frames::account(seq, &self.did, &self.time, *active, *status),
            What::Commit(commit) => commit.frame(seq, &self.did, &self.time),
        }
    }
}

impl Commit {
    fn frame(&self, seq: u64, did: &str, time: &str) -> Bytes {
        let operations = self.operations.iter().map(|operation| {
            let cid = operation.record.as_ref().map_or(Cbor::Null, |(_, cid)| Cbor::Link(*cid));
            let mut members = vec![
                ("action", Cbor::text(operation.action.name())),
                ("path", Cbor::text(operation.path.as_str())),
                ("cid", cid),
            ];
            members.extend(operation.prev.map(|prev| ("prev", Cbor::Link(prev))));
            Cbor::map(members)
        });
        let mut members = vec![
            ("ops", Cbor::List(operations.collect())),
            ("rev", Cbor::text(self.rev.as_str())),
            ("seq", Cbor::Int(seq as i64)),
            ("repo", Cbor::text(did)),
            ("time", Cbor::text(time)),
            ("blobs", Cbor::List(Vec::new())),
            ("since", self.since.as_deref().map_or(Cbor::Null, Cbor::text)),
            ("blocks", Cbor::Bytes(self.blocks.to_vec())),
            ("commit", Cbor::Link(self.cid)),
            ("rebase", Cbor::Bool(false)),
            ("tooBig", Cbor::Bool(false)),
        ];
        members.extend(self.prev_data.map(|data| ("prevData", Cbor::Link(data))));
        frames::typed("#commit", Cbor::map(members))
    }
}
