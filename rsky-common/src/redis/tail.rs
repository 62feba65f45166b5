//! A stream that is read beside its groups, in nobody's name: nothing changes by it, and nobody can tell.
//!
//! What others have done with, they delete. So the end of the stream is waited at in a blocking read, which is served by the
//! command that brings an entry, before anybody can have deleted it; and how many were missed all the same is told by what the
//! server counts ([`state`]).

use std::time::Duration;

use redis::{FromRedisValue, Value, cmd};

use super::connection::{LinkError, RedisLink};
use super::consumer::{Entry, entries, one_stream};
use super::page::{STEP, refuses_scripts};
use super::search::{self, Step};
use crate::clock::millis;
use crate::doctor::reply::{Facts, number, text};

/// The place before every entry.
pub const BEGINNING: &str = "0-0";

/// A place in a stream that moves on.
#[derive(Debug)]
pub struct Tail {
    stream: String,
    after: String,
    may_run_scripts: bool,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Caught {
    /// In stream order; about a mebibyte at most, and ten entries.
    pub entries: Vec<Entry>,
    /// Whether there was nothing behind them when they were read.
    pub at_end: bool,
}

impl Tail {
    /// Reads what comes after an id.
    pub fn new(stream: impl Into<String>, after: impl Into<String>) -> Self {
        Self { stream: stream.into(), after: after.into(), may_run_scripts: true }
    }

    /// The last entry that was read, or where the reading began.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// Goes on from the beginning: the stream is another.
    pub fn rewind(&mut self) {
        BEGINNING.clone_into(&mut self.after);
    }

    /// The next entries; at the end of the stream, waits up to `block` for some. May be dropped while it waits: then nothing
    /// was read.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn read(&mut self, link: &mut RedisLink, block: Duration) -> Result<Caught, LinkError> {
        let mut caught = self.step(link).await?;
        if caught.entries.is_empty() {
            let mut command = cmd("XREAD");
            // So many may be large; the rest comes with the next step.
            command.arg("COUNT").arg(STEP).arg("BLOCK").arg(millis(block).max(1));
            command.arg("STREAMS").arg(&self.stream).arg(&self.after);
            let entries = one_stream(link.query(&command).await?)?;
            caught = Caught { at_end: entries.is_empty(), entries };
        }
        if let Some(last) = caught.entries.last() {
            self.after.clone_from(&last.id);
        }
        Ok(caught)
    }

    async fn step(&mut self, link: &mut RedisLink) -> Result<Caught, LinkError> {
        let from = format!("({}", self.after);
        if self.may_run_scripts {
            match link.query(&search::step_command(&self.stream, &from, "+", "")).await {
                Ok(reply) => {
                    let step = Step::read(reply)?;
                    return Ok(Caught { at_end: step.next.is_none(), entries: step.found });
                }
                Err(LinkError::Redis(error)) if refuses_scripts(&error) => self.may_run_scripts = false,
                Err(error) => return Err(error),
            }
        }
        let mut command = cmd("XRANGE");
        command.arg(&self.stream).arg(from).arg("+").arg("COUNT").arg(STEP);
        let entries = entries(link.query(&command).await?)?;
        Ok(Caught { at_end: entries.len() < STEP, entries })
    }
}

/// How a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The id of the newest entry there ever was.
    pub last: String,
    /// Entries that were ever added; servers before version 7 do not count them.
    pub added: Option<u64>,
    /// The newest entry that was deleted; [`BEGINNING`] for none. Unknown before version 7.
    pub deleted: Option<String>,
}

/// # Errors
/// Redis' or the connection's. A stream that is not there is none: `None`.
pub async fn state(link: &mut RedisLink, stream: &str) -> Result<Option<StreamState>, LinkError> {
    let Some(facts) = info::<Facts>(link, "STREAM", stream).await? else { return Ok(None) };
    let deleted = text(&facts, "max-deleted-entry-id");
    Ok(Some(StreamState {
        last: text(&facts, "last-generated-id"),
        added: number(&facts, "entries-added"),
        deleted: (!deleted.is_empty()).then_some(deleted),
    }))
}

/// The newest entry that was delivered to a group; `None`: there is no such group, or no such stream.
///
/// # Errors
/// Redis' or the connection's.
pub async fn delivered(link: &mut RedisLink, stream: &str, group: &str) -> Result<Option<String>, LinkError> {
    let groups = info::<Vec<Facts>>(link, "GROUPS", stream).await?.unwrap_or_default();
    let meant = groups.iter().find(|facts| text(facts, "name") == group);
    Ok(meant.map(|facts| text(facts, "last-delivered-id")))
}

/// Ids between two (both included) that a group has pending, in order, `most` of them at most.
///
/// # Errors
/// Redis' or the connection's; `NOGROUP` where stream or group is gone.
pub async fn pending(
    link: &mut RedisLink,
    stream: &str,
    group: &str,
    between: (&str, &str),
    most: usize,
) -> Result<Vec<String>, LinkError> {
    let mut command = cmd("XPENDING");
    command.arg(stream).arg(group).arg(between.0).arg(between.1).arg(most);
    let pending: Vec<(String, Value, Value, Value)> = link.query(&command).await?;
    Ok(pending.into_iter().map(|(id, ..)| id).collect())
}

/// `XINFO`; `None` where there is no such key.
async fn info<T: FromRedisValue>(
    link: &mut RedisLink,
    what: &str,
    stream: &str,
) -> Result<Option<T>, LinkError> {
    match link.query(cmd("XINFO").arg(what).arg(stream)).await {
        Ok(facts) => Ok(Some(facts)),
        // It has no code of its own.
        Err(LinkError::Redis(error)) if error.to_string().contains("no such key") => Ok(None),
        Err(error) => Err(error),
    }
}
