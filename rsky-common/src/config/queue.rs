//! Where repositories wait: backfillers read it, and tools of other daemons look into it.

use super::Variable;
use crate::wire::names;

/// The stream of repositories to fetch.
pub const BACKFILLER_BACKFILL_STREAM: Variable = Variable {
    name: "BACKFILLER_BACKFILL_STREAM",
    alias: None,
    expects: "a stream name",
    default: Some(names::REPO_BACKFILL),
    help: "Stream of the repositories to fetch. Delayed ones are in the sorted set <stream>:delayed.",
};
/// The stream of repositories to fetch before the others.
pub const BACKFILLER_PRIORITY_STREAM: Variable = Variable {
    name: "BACKFILLER_PRIORITY_STREAM",
    alias: None,
    expects: "a stream name",
    default: Some(names::REPO_BACKFILL_PRIORITY),
    help: "Stream that is read first.",
};
/// The group that reads both.
pub const BACKFILLER_GROUP: Variable = Variable {
    name: "BACKFILLER_GROUP",
    alias: None,
    expects: "a group name",
    default: Some(names::REPO_BACKFILL_GROUP),
    help: "Consumer group on the repository streams. All backfillers share it.",
};
