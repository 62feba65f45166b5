//! Entries, dead letters and what belongs to them, in one transaction.
//!
//! Guarantee: when [`StreamWriter::write`] returns, Redis holds the whole batch; when it does not return (a stop, a
//! crash), it holds either all of it or nothing. It may be written twice (at least once), never half. Writers with a
//! cursor: [`super::cursor`].

use redis::{Cmd, ToRedisArgs, Value};

use super::dead_letters::DeadLetter;
use super::letter_room::{trim, wait_for_room};
use super::{LinkError, RedisLink};
use crate::config::LetterBounds;
use crate::wire::Entry;

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// The field of the entries (`event`, `repo`).
    pub field: &'static str,
    /// The entries' JSON, in order.
    pub entries: Vec<Entry>,
    /// What could not be turned into entries.
    pub dead_letters: Vec<DeadLetter>,
    /// Entries of other streams: (stream, field, JSON).
    pub elsewhere: Vec<(String, &'static str, String)>,
    /// Other writes that belong to the batch.
    pub also: Vec<Cmd>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.dead_letters.is_empty()
            && self.elsewhere.is_empty()
            && self.also.is_empty()
    }
}

/// A batch that is in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The stream's length after it, in entries.
    pub length: u64,
    /// The connection it went over ([`RedisLink::connections`]): what goes over the same one later is in Redis only if this is.
    pub connection: u64,
}

/// Writes batches to one stream.
#[derive(Debug)]
pub struct StreamWriter {
    link: RedisLink,
    stream: String,
    bounds: LetterBounds,
}

impl StreamWriter {
    /// A writer to `stream` over a link of its own.
    pub fn new(link: RedisLink, stream: impl Into<String>, bounds: LetterBounds) -> Self {
        Self { link, stream: stream.into(), bounds }
    }

    /// The link, for reading lengths on the same connection.
    pub fn link(&mut self) -> &mut RedisLink {
        &mut self.link
    }

    /// The stream that is written.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Writes a batch, trying until it is in, and gives the stream's length after it.
    ///
    /// Any refused command makes the whole batch count as not written; `EXEC` of Redis does not undo the others, so
    /// the repetition may write entries twice.
    ///
    /// # Errors
    /// `Stopped`, or a refusal that waiting does not cure.
    pub async fn write(&mut self, batch: &Batch) -> Result<u64, LinkError> {
        loop {
            if let Some(written) = self.write_after(batch, None).await? {
                return Ok(written.length);
            }
        }
    }

    /// As [`StreamWriter::write`], for what is only to be there if what went over the connection `after` is. `None`: that
    /// connection is gone, and a server that came back with an older state may have lost it. The batch may be in Redis all
    /// the same then, if it was sent while the connection lasted.
    ///
    /// # Errors
    /// As [`StreamWriter::write`].
    pub async fn write_after(
        &mut self,
        batch: &Batch,
        after: Option<u64>,
    ) -> Result<Option<Written>, LinkError> {
        make_room(&mut self.link, &self.stream, self.bounds, batch).await?;
        let mut transaction = transaction(&self.stream, batch);
        transaction.cmd("XLEN").arg(&self.stream);
        loop {
            self.link.connection().await?;
            let connection = self.link.connections();
            if after.is_some_and(|after| after != connection) {
                return Ok(None);
            }
            match self.link.pipeline::<Vec<Value>>(&transaction).await {
                Ok(replies) => {
                    self.link.wrote();
                    keep_room(&mut self.link, &self.stream, self.bounds, batch).await;
                    return Ok(Some(Written { length: length_of(&replies), connection }));
                }
                Err(error) => self.link.wait_out(error).await?,
            }
        }
    }
}

/// A transaction of everything in a batch.
pub(super) fn transaction(stream: &str, batch: &Batch) -> redis::Pipeline {
    let others = batch.dead_letters.len() + batch.elsewhere.len() + batch.also.len();
    let mut pipeline = redis::Pipeline::with_capacity(batch.entries.len() + others + 2);
    pipeline.atomic();
    for entry in &batch.entries {
        pipeline.add_command(xadd(stream, batch.field, entry, entry.len()));
    }
    for (stream, field, entry) in &batch.elsewhere {
        pipeline.add_command(xadd(stream, field, entry.as_str(), entry.len()));
    }
    for letter in &batch.dead_letters {
        letter.append(&mut pipeline, stream);
    }
    for command in &batch.also {
        pipeline.add_command(command.clone());
    }
    pipeline
}

/// Before a batch is written: letters of repositories wait until there is room for them.
///
/// # Errors
/// As [`wait_for_room`].
pub(super) async fn make_room(
    link: &mut RedisLink,
    stream: &str,
    bounds: LetterBounds,
    batch: &Batch,
) -> Result<(), LinkError> {
    if !batch.dead_letters.iter().any(DeadLetter::is_of_repository) {
        return Ok(());
    }
    let stop = link.stop().clone();
    wait_for_room(link, stream, bounds, &stop).await
}

/// After a batch was written: letters of entries are not to become too many.
pub(super) async fn keep_room(link: &mut RedisLink, stream: &str, bounds: LetterBounds, batch: &Batch) {
    let of_entries = batch.dead_letters.iter().filter(|letter| !letter.is_of_repository());
    let written = of_entries.map(|letter| letter.size() as u64).fold(0, u64::saturating_add);
    if written > 0 {
        trim(link, stream, bounds, written).await;
    }
}

/// `length`: bytes of the entry.
fn xadd(stream: &str, field: &str, entry: impl ToRedisArgs, length: usize) -> Cmd {
    let mut command = Cmd::with_capacity(5, 16 + stream.len() + field.len() + length);
    command.arg("XADD").arg(stream).arg("*").arg(field).arg(entry);
    command
}

/// The stream's length, from the replies of a transaction that ends with `XLEN`.
pub(super) fn length_of(replies: &[Value]) -> u64 {
    match replies.last() {
        Some(Value::Int(length)) => u64::try_from(*length).unwrap_or(0),
        _ => 0,
    }
}
