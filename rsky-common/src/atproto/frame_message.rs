//! What a frame of subscribeRepos says, and what can be wrong with one.

use thiserror::Error;

use crate::cbor::CborError;

/// A decoded frame of `com.atproto.sync.subscribeRepos`, borrowing from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<'a> {
    /// `#commit`.
    Commit(Commit<'a>),
    /// `#identity`.
    Identity(Identity<'a>),
    /// `#account`.
    Account(Account<'a>),
    /// `#sync`.
    Sync(Sync<'a>),
    /// `#info`: a note about the subscription itself.
    Info {
        /// Such as `OutdatedCursor`.
        name: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// An error frame (`op` -1); the server closes after it.
    Error {
        /// Such as `FutureCursor` or `ConsumerTooSlow`.
        error: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// Any other type, or none.
    Other {
        /// The type of the header, empty if absent.
        t: &'a str,
    },
}

/// A `#commit`.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account (`repo` on the wire).
    pub did: &'a str,
    /// Bytes of the commit's CID.
    pub commit: &'a [u8],
    /// Revision of the repository.
    pub rev: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// The commit did not fit into a frame: its operations are missing.
    pub too_big: bool,
    /// The operations in order.
    pub ops: Vec<Op<'a>>,
    /// The CAR.
    pub blocks: &'a [u8],
}

/// One operation of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// `create`, `update`, `delete` or something to ignore.
    pub action: &'a str,
    /// `collection/rkey`, unchecked.
    pub path: &'a str,
    /// Bytes of the record's CID; `None` for deletes.
    pub cid: Option<&'a [u8]>,
}

/// An `#identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// A hint that is never trusted.
    pub handle: Option<&'a str>,
}

/// An `#account`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// Whether the account's content may be shown.
    pub active: bool,
    /// Why it is not active, verbatim.
    pub status: Option<&'a str>,
}

/// A `#sync`: the repository was replaced, operations are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// The revision that it now has.
    pub rev: Option<&'a str>,
}

/// Why a frame cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameErrorKind {
    /// Not CBOR, or not exactly two items.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The header is not a map with `op` 1 or -1.
    #[error("bad header")]
    BadHeader,
    /// The body is not a map.
    #[error("body is not a map")]
    BodyNotAMap,
    /// A field of a type or range that it must not have.
    #[error("field {0} has an unexpected value")]
    BadField(&'static str),
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    MissingField(&'static str),
}

/// A frame that cannot be decoded, with what could be read of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("undecodable frame: {kind}")]
pub struct FrameError {
    /// What is wrong.
    #[source]
    pub kind: FrameErrorKind,
    /// The type of the header, if it was read.
    pub t: Option<String>,
    /// The sequence number, if it was read.
    pub seq: Option<i64>,
    /// The account, if it was read.
    pub did: Option<String>,
}
