//! What can become of a repository, and what is done about it: one table, in which every class has its row.
//!
//! The rule behind the table: only what cannot be anything but the entry's own fault is buried. What a host, a proxy or a
//! directory does is tried again, what is wrong with this machine or the database is waited out, and what a repository
//! contains counts only when a second fetch, later and with a fresh DID document, finds the same.

use std::time::Duration;

use rsky_common::identity::{DocumentError, ResolveError};
use rsky_common::repo::{
    CarStreamError, CommitError, KeyError, MstError, NoDisk, ReceiveError, SignatureError,
};

/// Longest description of a failure, in bytes; it waits with its repository when Redis is full.
const MOST_ERROR: usize = 1024;
/// Longest text of an answer that is no XRPC error that is taken for a message; a page is longer.
const MOST_PLAIN: usize = 256;

/// What is done about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Acknowledged: nothing is left to do.
    Done,
    /// Stays in its host's line, and is tried when the host may be asked again; not counted as an attempt.
    Wait,
    /// Put off until what is wrong here may be mended; not counted as an attempt.
    Later,
    /// Tried again later, a limited number of times, then a dead letter.
    Again,
    /// A dead letter when a later fetch ends in the same class.
    Confirm,
    /// A dead letter at once: trying again cannot give anything else.
    Bury,
}

/// What an outcome says of the host that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// It answered as a host should.
    For,
    /// Several in a row mean that it is in trouble: it is set aside, and its repositories are kept.
    Against,
    /// Nothing: it is not the host's doing.
    Neither,
    /// It asks to be left alone.
    Asks,
}

/// Who hears of an outcome, beside the metric that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nobody: it is what is expected.
    Nobody,
    /// Whoever reads dead letters, once it is given up.
    Letter,
    /// The operator now: a warning, and readiness.
    Readiness,
}

/// What the table says of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The `class` of the metric and the `reason` of dead letters.
    pub name: &'static str,
    /// What is done.
    pub action: Action,
    /// What it says of the host.
    pub speaks: Speaks,
    /// Who hears of it.
    pub told: Told,
    /// What it means and what can be done, for the operator.
    pub sentence: &'static str,
}

macro_rules! classes {
    ($($class:ident, $name:literal, $action:ident, $speaks:ident, $told:ident, $sentence:literal;)*) => {
        /// A kind of outcome.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Class {
            $(#[doc = $sentence] $class),*
        }

        impl Class {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$class),*];

            /// Their names, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Its row of the table.
            pub fn row(self) -> Row {
                match self {
                    $(Self::$class => Row {
                        name: $name,
                        action: Action::$action,
                        speaks: Speaks::$speaks,
                        told: Told::$told,
                        sentence: $sentence,
                    }),*
                }
            }
        }
    };
}

classes! {
    Queued, "queued", Done, For, Nobody, "All of its records are in the output stream.";
    Unchanged, "unchanged", Done, Neither, Nobody, "Its revision was queued before.";
    Gone, "gone", Done, For, Nobody, "Its host says that there is no such account.";
    Deactivated, "deactivated", Done, For, Nobody, "Its owner has deactivated the account.";
    Suspended, "suspended", Done, For, Nobody, "Its host has suspended the account.";
    TakenDown, "takendown", Done, For, Nobody, "Its host has taken the account down.";

    RateLimited, "rate_limited", Wait, Asks, Nobody, "The host asks to be left alone for a while, and is.";
    KeptWaiting, "kept_waiting", Wait, Neither, Nobody, "The host closed a connection that was not read while memory or the output stream was full.";
    BrokenOff, "broken_off", Wait, Neither, Nobody, "The connection to Redis was lost between its parts, and a Redis that came back may have lost the first: all of it is fetched again.";
    NoDisk, "no_disk", Later, Neither, Readiness, "The temporary files of other repositories fill BACKFILLER_DISK_BYTES: it waits for their room; allow more if that lasts.";
    DirectoryDown, "directory_down", Wait, Against, Readiness, "The PLC directory gives documents of nobody: check PLC_URL and the way there; everything waits for it.";
    Files, "local_failure", Later, Neither, Readiness, "Temporary files cannot be written: make room in BACKFILLER_TEMP_DIR, or name a directory that can be written to.";
    Database, "database", Later, Neither, Readiness, "The AppView's Postgres cannot be read: resynchronisations wait for it; check DATABASE_URL and the rights on record.";

    Overloaded, "overloaded", Again, Asks, Letter, "The host is overloaded; retry when it is not.";
    Unreachable, "unreachable", Again, Against, Letter, "There is no connection to the host; retry when it is back.";
    Timeout, "timeout", Again, Against, Letter, "The host is too slow; retry later, or allow more with BACKFILLER_HTTP_TIMEOUT_SECS, _STALL_ and _TOTAL_.";
    Interrupted, "interrupted", Again, Against, Letter, "The answer broke off; retry later.";
    ServerError, "server_error", Again, Against, Letter, "The host has an error of its own; retry when it is mended.";
    ClientError, "client_error", Again, For, Letter, "The host refuses to give this repository, for a reason we do not know; the letter quotes it.";
    NotXrpc, "not_xrpc", Again, Against, Letter, "The host refuses with a page that is none of a PDS: a proxy or firewall, or another site by now.";
    ContentType, "content_type", Again, Against, Letter, "The host answers with a page instead of a repository: a proxy, or another site by now.";
    BadCar, "bad_car", Again, Against, Letter, "What the host gives is nothing, no CAR file, or a damaged one: a proxy, another site by now, or its own damage.";
    RefusedAddress, "refused_address", Again, Against, Letter, "The account's host leads to an address that may not be contacted; ALLOW_PRIVATE_ADDRESSES=true if it is your own.";
    WebDirectory, "directory_error", Again, Against, Letter, "The host of a did:web gives no DID document; retry when it does.";
    DocumentWithheld, "document_withheld", Again, For, Letter, "The PLC directory fails for this account, though it answers about others; tell its operator, retry later.";
    Internal, "internal_error", Again, Neither, Letter, "A fault of this program with this repository: please report it with the letter.";

    Unresolvable, "unresolvable", Confirm, For, Letter, "Its DID document cannot be used, or names no host, and no host listed it; nothing can be done before it changes.";
    NoKey, "no_signing_key", Confirm, Neither, Letter, "Its DID document has no usable signing key; retry when it has, or set BACKFILLER_VERIFY=false.";
    TooLarge, "too_large", Confirm, For, Letter, "It is larger than BACKFILLER_MAX_REPO_BYTES, or becomes very much more as entries; allow more and retry if it should be.";
    BadCommit, "bad_commit", Confirm, For, Letter, "Its commit is not as the protocol says, twice; tell the operator of the host.";
    WrongDid, "wrong_did", Confirm, For, Letter, "Its host gives the repository of another account, twice; tell the operator of the host.";
    BadSignature, "bad_signature", Confirm, For, Letter, "It is not signed with the account's key, twice; retry when document and host agree.";
    BadTree, "bad_tree", Confirm, For, Letter, "Its tree of records is malformed, twice; tell the operator of the host.";
    MissingBlock, "missing_block", Confirm, For, Letter, "Blocks are missing, twice: the host has lost them, or something cuts its answers.";

    HostGivenUp, "host_given_up", Bury, Neither, Letter, "Its host has given no usable answer for BACKFILLER_HOST_GIVE_UP_SECS; retry if it comes back.";
    UnsupportedDid, "unsupported_did", Bury, Neither, Letter, "A DID that is neither did:plc nor did:web of a host: no host can be found for it.";
    BadEntry, "bad_entry", Bury, Neither, Letter, "The entry names no account; whoever writes to the stream has to be mended.";
}

impl Class {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What is done.
    pub fn action(self) -> Action {
        self.row().action
    }

    /// The class of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }

    /// Whether it may come of an outdated DID document: the account has moved, and this was its host, or has a new key.
    pub fn may_be_outdated(self) -> bool {
        match self {
            Self::Gone
            | Self::Deactivated
            | Self::Suspended
            | Self::TakenDown
            | Self::Unreachable
            | Self::ClientError
            | Self::NotXrpc
            | Self::ContentType
            | Self::BadCar
            | Self::RefusedAddress
            | Self::NoKey
            | Self::BadSignature => true,
            Self::Queued
            | Self::Unchanged
            | Self::RateLimited
            | Self::KeptWaiting
            | Self::BrokenOff
            | Self::NoDisk
            | Self::DirectoryDown
            | Self::Files
            | Self::Database
            | Self::Overloaded
            | Self::Timeout
            | Self::Interrupted
            | Self::ServerError
            | Self::WebDirectory
            | Self::DocumentWithheld
            | Self::Internal
            | Self::Unresolvable
            | Self::TooLarge
            | Self::BadCommit
            | Self::WrongDid
            | Self::BadTree
            | Self::MissingBlock
            | Self::HostGivenUp
            | Self::UnsupportedDid
            | Self::BadEntry => false,
        }
    }
}

/// An outcome other than success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {error}", class.name())]
pub struct Failure {
    /// Its kind.
    pub class: Class,
    /// What happened, for people.
    pub error: String,
    /// How long the host asks to be left alone.
    pub wait: Option<Duration>,
}

impl Failure {
    /// A failure without a wish of the host. Of what happened, as much is kept as people read: it may quote the host.
    pub fn new(class: Class, error: impl Into<String>) -> Self {
        let mut error = error.into();
        error.truncate(error.floor_char_boundary(MOST_ERROR));
        error.shrink_to_fit();
        Self { class, error, wait: None }
    }

    /// A task of ours that did not end as it should: it panicked, or was ended early.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(Class::Internal, error.to_string())
    }
}

/// What a host said instead of giving a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The name of an XRPC error; empty: it was none.
    pub name: String,
    /// Its message, or a short text that is no XRPC error.
    pub message: String,
}

impl Refusal {
    /// Reads the body of an answer. Some hosts answer in plain words.
    pub fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize, Default)]
        struct XrpcError {
            #[serde(default)]
            error: String,
            #[serde(default)]
            message: String,
        }
        if let Ok(said) = serde_json::from_slice::<XrpcError>(body) {
            return Self { name: said.error, message: said.message };
        }
        let plain = str::from_utf8(body).unwrap_or_default().trim();
        let is_page = plain.starts_with(['<', '{', '[']) || plain.len() > MOST_PLAIN;
        Self { name: String::new(), message: if is_page { String::new() } else { plain.to_owned() } }
    }

    /// Whether it says, in the words that hosts have for it, that there is no such account.
    fn says_gone(&self) -> bool {
        const WORDS: &[&str] = &[
            "could not find repo",
            "could not find root for did",
            "could not find account",
            "repo not found",
            "repository not found",
            "account not found",
        ];
        let names = ["RepoNotFound", "AccountNotFound", "NotFound"];
        let said = [self.name.to_ascii_lowercase(), self.message.to_ascii_lowercase()];
        names.contains(&self.name.as_str())
            || WORDS.iter().any(|words| said.iter().any(|text| text.contains(words)))
    }
}

/// The class of an answer that is not 200, by what it says before its status.
pub fn of_answer(status: u16, said: &Refusal) -> Class {
    match (said.name.as_str(), status) {
        (_, 429) => Class::RateLimited,
        ("RepoNotFound" | "AccountNotFound", _) | (_, 410) => Class::Gone,
        ("RepoDeactivated" | "AccountDeactivated", _) => Class::Deactivated,
        ("RepoSuspended" | "AccountSuspended", _) => Class::Suspended,
        ("RepoTakendown" | "RepoTakenDown" | "AccountTakedown" | "AccountTakenDown", _) => Class::TakenDown,
        (_, 400 | 404) if said.says_gone() => Class::Gone,
        // A redirect that was not followed leads to another scheme, or nowhere.
        (_, 300..=399) => Class::RefusedAddress,
        (_, 503) => Class::Overloaded,
        (_, 408 | 500..) => Class::ServerError,
        ("", _) => Class::NotXrpc,
        _ => Class::ClientError,
    }
}

/// The class of a failure to get a DID document, of the directory that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// The PLC directory, and it answers about no other account either.
    PlcDown,
    /// The PLC directory, and it answers about others.
    PlcOfOthers,
    /// The host of a did:web.
    Web,
}

/// What a failed question for a DID document means.
pub fn of_document(error: &ResolveError, directory: Directory) -> Failure {
    let text = format!("DID document: {error}");
    let fails = match directory {
        Directory::PlcDown => Class::DirectoryDown,
        Directory::PlcOfOthers => Class::DocumentWithheld,
        Directory::Web => Class::WebDirectory,
    };
    let (class, wait) = match error {
        ResolveError::Busy { status: 429, retry_after } => (Class::RateLimited, *retry_after),
        ResolveError::Busy { retry_after, .. } => (fails, *retry_after),
        ResolveError::Unsupported(_) => (Class::UnsupportedDid, None),
        ResolveError::Refused(_) => (Class::RefusedAddress, None),
        ResolveError::Status(_) | ResolveError::Network(_) | ResolveError::NotFound => (fails, None),
        // A page: of the directory's site, of a proxy, of what is at the domain now.
        ResolveError::Document(DocumentError::Malformed(_)) | ResolveError::TooLarge => match directory {
            Directory::PlcDown | Directory::Web => (fails, None),
            Directory::PlcOfOthers => (Class::Unresolvable, None),
        },
        ResolveError::Document(DocumentError::OtherDid(_)) => match directory {
            Directory::PlcDown => (fails, None),
            Directory::PlcOfOthers | Directory::Web => (Class::Unresolvable, None),
        },
    };
    Failure { wait, ..Failure::new(class, text) }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let class = match error {
            ReceiveError::Car(error) => return error.into(),
            ReceiveError::Io(error) => return error.into(),
            ReceiveError::Commit(error) => return error.into(),
            ReceiveError::TooLarge(_) => Class::TooLarge,
            ReceiveError::Root => Class::BadCar,
            ReceiveError::NoCommit => Class::MissingBlock,
            ReceiveError::Revision(_) => Class::BadCommit,
        };
        Self::new(class, error.to_string())
    }
}

impl From<CarStreamError> for Failure {
    fn from(error: CarStreamError) -> Self {
        Self::new(Class::BadCar, error.to_string())
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        Self::new(Class::BadCommit, error.to_string())
    }
}

impl From<SignatureError> for Failure {
    fn from(error: SignatureError) -> Self {
        Self::new(Class::BadSignature, error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Class::NoKey, error.to_string())
    }
}

impl From<MstError> for Failure {
    fn from(error: MstError) -> Self {
        let class = match error {
            MstError::MissingNode | MstError::MissingRecord(_) => Class::MissingBlock,
            MstError::Io(_) => Class::Files,
            MstError::Cbor(_)
            | MstError::NotANode
            | MstError::BadLink
            | MstError::BadKey
            | MstError::Order
            | MstError::Layer
            | MstError::TooDeep
            | MstError::EmptyNode => Class::BadTree,
        };
        Self::new(class, error.to_string())
    }
}

/// How long a host is left alone whose repository found no room on the disk.
const DISK_WAIT: Duration = Duration::from_secs(10);

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match NoDisk::behind(&error) {
            Some(no_disk) if no_disk.is_for_ever() => return Self::new(Class::TooLarge, no_disk.to_string()),
            Some(no_disk) => {
                let wait = Some(DISK_WAIT);
                return Self { wait, ..Self::new(Class::NoDisk, no_disk.to_string()) };
            }
            None => {}
        }
        Self::new(Class::Files, format!("temporary file: {error}"))
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
