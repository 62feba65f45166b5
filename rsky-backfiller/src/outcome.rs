//! What can become of a repository, and what is done about it: one table.

use std::time::Duration;

use rsky_common::repo::{CarStreamError, CommitError, KeyError, MstError, NoDisk, SignatureError};

/// Longest description of a failure, in bytes; it waits with its repository when Redis is full.
const MOST_ERROR: usize = 1024;

/// What is done about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Acknowledged: nothing is left to do.
    Done,
    /// Tried again when the host allows; not counted as an attempt.
    Wait,
    /// Tried again later, a limited number of times, then a dead letter.
    Retry,
    /// A dead letter at once: trying again would give the same.
    Bury,
}

/// A kind of outcome: the `class` of the metric and the `reason` of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table says it")]
pub enum Class {
    Queued,
    Unchanged,
    Gone,
    Deactivated,
    Suspended,
    TakenDown,
    RateLimited,
    KeptWaiting,
    NoDisk,
    Overloaded,
    Unreachable,
    Timeout,
    Interrupted,
    ServerError,
    ClientError,
    ContentType,
    Directory,
    LocalFailure,
    HostGivenUp,
    RefusedAddress,
    Unresolvable,
    NoKey,
    TooLarge,
    BadCar,
    BadCommit,
    WrongDid,
    BadSignature,
    BadTree,
    MissingBlock,
    BadEntry,
}

/// Every class: its name, what is done, whether it speaks against the host.
pub const TABLE: &[(Class, &str, Action, bool)] = &[
    (Class::Queued, "queued", Action::Done, false),
    (Class::Unchanged, "unchanged", Action::Done, false),
    (Class::Gone, "gone", Action::Done, false),
    (Class::Deactivated, "deactivated", Action::Done, false),
    (Class::Suspended, "suspended", Action::Done, false),
    (Class::TakenDown, "takendown", Action::Done, false),
    (Class::RateLimited, "rate_limited", Action::Wait, false),
    (Class::KeptWaiting, "kept_waiting", Action::Wait, false),
    (Class::NoDisk, "no_disk", Action::Wait, false),
    (Class::Overloaded, "overloaded", Action::Retry, true),
    (Class::Unreachable, "unreachable", Action::Retry, true),
    (Class::Timeout, "timeout", Action::Retry, true),
    (Class::Interrupted, "interrupted", Action::Retry, true),
    (Class::ServerError, "server_error", Action::Retry, true),
    (Class::ClientError, "client_error", Action::Retry, false),
    (Class::ContentType, "content_type", Action::Retry, false),
    (Class::Directory, "directory_error", Action::Retry, true),
    (Class::LocalFailure, "local_failure", Action::Retry, false),
    (Class::HostGivenUp, "host_given_up", Action::Bury, false),
    (Class::RefusedAddress, "refused_address", Action::Bury, false),
    (Class::Unresolvable, "unresolvable", Action::Bury, false),
    (Class::NoKey, "no_signing_key", Action::Bury, false),
    (Class::TooLarge, "too_large", Action::Bury, false),
    (Class::BadCar, "bad_car", Action::Bury, false),
    (Class::BadCommit, "bad_commit", Action::Bury, false),
    (Class::WrongDid, "wrong_did", Action::Bury, false),
    (Class::BadSignature, "bad_signature", Action::Bury, false),
    (Class::BadTree, "bad_tree", Action::Bury, false),
    (Class::MissingBlock, "missing_block", Action::Bury, false),
    (Class::BadEntry, "bad_entry", Action::Bury, false),
];

impl Class {
    fn row(self) -> (&'static str, Action, bool) {
        let row = TABLE.iter().find(|row| row.0 == self);
        row.map_or(("unknown", Action::Retry, false), |row| (row.1, row.2, row.3))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What is done.
    pub fn action(self) -> Action {
        self.row().1
    }

    /// Whether several of it in a row mean that the host is in trouble.
    pub fn blames_host(self) -> bool {
        self.row().2
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
}

/// The class of an answer that is not 200, by its XRPC error name and status.
pub fn of_answer(status: u16, error_name: &str) -> Class {
    match (error_name, status) {
        (_, 429) => Class::RateLimited,
        ("RepoNotFound" | "AccountNotFound", _) | (_, 410) => Class::Gone,
        ("RepoDeactivated" | "AccountDeactivated", _) => Class::Deactivated,
        ("RepoSuspended" | "AccountSuspended", _) => Class::Suspended,
        ("RepoTakendown" | "RepoTakenDown" | "AccountTakedown" | "AccountTakenDown", _) => Class::TakenDown,
        // A redirect that was not followed leads to another scheme, or nowhere.
        (_, 300..=399) => Class::RefusedAddress,
        (_, 503) => Class::Overloaded,
        (_, 408 | 500..) => Class::ServerError,
        _ => Class::ClientError,
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
            MstError::Io(_) => Class::LocalFailure,
            _ => Class::BadTree,
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
        Self::new(Class::LocalFailure, format!("temporary file: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_row_and_one_name() {
        let mut names: Vec<&str> = TABLE.iter().map(|row| row.1).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        for (class, name, ..) in TABLE {
            assert_eq!(class.name(), *name);
        }
    }

    #[test]
    fn what_hosts_say_is_kept_in_bounds() {
        let failure = Failure::new(Class::WrongDid, "é".repeat(1 << 20));
        assert!(failure.error.len() <= 1024 && failure.error.starts_with('é'), "{}", failure.error.len());
    }

    #[test]
    fn answers_are_classed_by_name_before_status() {
        for (status, name, class) in [
            (400, "RepoNotFound", Class::Gone),
            (404, "RepoNotFound", Class::Gone),
            (400, "RepoDeactivated", Class::Deactivated),
            (400, "RepoSuspended", Class::Suspended),
            (400, "RepoTakendown", Class::TakenDown),
            (429, "RateLimitExceeded", Class::RateLimited),
            (429, "RepoNotFound", Class::RateLimited),
            (503, "", Class::Overloaded),
            (500, "InternalServerError", Class::ServerError),
            (502, "", Class::ServerError),
            (404, "", Class::ClientError),
            (302, "", Class::RefusedAddress),
            (410, "", Class::Gone),
        ] {
            assert_eq!(of_answer(status, name), class, "{status} {name}");
        }
        assert_eq!(Class::RateLimited.action(), Action::Wait);
    }
}
