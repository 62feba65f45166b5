//! Entries, dead letters and the cursor that covers them, in one transaction.
//!
//! Guarantee: when [`StreamWriter::write`] returns, Redis holds the whole batch and its cursor; when it does not
//! return (a stop, a crash), Redis holds either all of it or nothing, so the next start reads the same input again and
//! nothing is skipped. Input may be written twice (at least once), never half.

use redis::{Cmd, ToRedisArgs, Value};

use super::dead_letters::DeadLetter;
use super::letter_room::{trim, wait_for_room};
use super::{LinkError, RedisLink};
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
    /// The cursor key and its new value.
    pub cursor: Option<(String, String)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.dead_letters.is_empty()
            && self.elsewhere.is_empty()
            && self.also.is_empty()
            && self.cursor.is_none()
    }
}

/// Writes batches to one stream.
#[derive(Debug)]
pub struct StreamWriter {
    link: RedisLink,
    stream: String,
    dlq_max_len: u64,
    /// The cursor value this writer knows to be stored, to recognise a batch that is there already.
    stored_cursor: Option<String>,
}

impl StreamWriter {
    /// A writer to `stream` over a link of its own.
    pub fn new(link: RedisLink, stream: impl Into<String>, dlq_max_len: u64) -> Self {
        Self { link, stream: stream.into(), dlq_max_len, stored_cursor: None }
    }

    /// The link, for reading cursors and lengths on the same connection.
    pub fn link(&mut self) -> &mut RedisLink {
        &mut self.link
    }

    /// The stream that is written.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The value of the cursor that this writer wrote last.
    pub fn stored_cursor(&self) -> Option<&str> {
        self.stored_cursor.as_deref()
    }

    /// Writes a batch, trying until it is in, and gives the stream's length after it.
    ///
    /// Any refused command makes the whole batch count as not written; `EXEC` of Redis does not undo the others, so
    /// the repetition may write entries twice.
    ///
    /// # Errors
    /// `Stopped`, or a refusal that waiting does not cure.
    pub async fn write(&mut self, batch: &Batch) -> Result<u64, LinkError> {
        if batch.dead_letters.iter().any(DeadLetter::is_of_repository) {
            let stop = self.link.stop().clone();
            wait_for_room(&mut self.link, &self.stream, self.dlq_max_len, &stop).await?;
        }
        let transaction = self.transaction(batch);
        loop {
            let error = match self.link.pipeline::<Vec<Value>>(&transaction).await {
                Ok(replies) => {
                    self.link.succeeded();
                    if let Some((_, value)) = &batch.cursor {
                        self.stored_cursor = Some(value.clone());
                    }
                    if batch.dead_letters.iter().any(|letter| !letter.is_of_repository()) {
                        trim(&mut self.link, &self.stream, self.dlq_max_len).await;
                    }
                    return Ok(length(&replies));
                }
                Err(error) => error,
            };
            let unknown =
                matches!(&error, LinkError::Redis(error) if super::errors::breaks_connection(error));
            self.link.wait_out(error).await?;
            if unknown && self.is_stored(batch).await? {
                tracing::info!(stream = self.stream, "the batch was written before the connection was lost");
                return self.length().await;
            }
        }
    }

    /// The stream's length now.
    ///
    /// # Errors
    /// `Stopped`, or an error that waiting does not cure.
    pub async fn length(&mut self) -> Result<u64, LinkError> {
        let mut command = redis::cmd("XLEN");
        command.arg(&self.stream);
        self.link.retry(&command).await
    }

    fn transaction(&self, batch: &Batch) -> redis::Pipeline {
        let others = batch.dead_letters.len() + batch.elsewhere.len() + batch.also.len();
        let mut pipeline = redis::Pipeline::with_capacity(batch.entries.len() + others + 2);
        pipeline.atomic();
        for entry in &batch.entries {
            pipeline.add_command(xadd(&self.stream, batch.field, entry, entry.len()));
        }
        for (stream, field, entry) in &batch.elsewhere {
            pipeline.add_command(xadd(stream, field, entry.as_str(), entry.len()));
        }
        for letter in &batch.dead_letters {
            letter.append(&mut pipeline, &self.stream);
        }
        for command in &batch.also {
            pipeline.add_command(command.clone());
        }
        if let Some((key, value)) = &batch.cursor {
            pipeline.cmd("SET").arg(key).arg(value);
        }
        pipeline.cmd("XLEN").arg(&self.stream);
        pipeline
    }

    /// Whether the batch's cursor is in Redis: the transaction went through although its reply did not.
    async fn is_stored(&mut self, batch: &Batch) -> Result<bool, LinkError> {
        let Some((key, value)) = &batch.cursor else { return Ok(false) };
        if self.stored_cursor.as_ref() == Some(value) {
            // The batch does not move the cursor, so the cursor cannot tell.
            return Ok(false);
        }
        let mut command = redis::cmd("GET");
        command.arg(key);
        let found: Option<String> = self.link.retry(&command).await?;
        if found.as_ref() == Some(value) {
            self.stored_cursor = Some(value.clone());
            return Ok(true);
        }
        Ok(false)
    }
}

/// `length`: bytes of the entry.
fn xadd(stream: &str, field: &str, entry: impl ToRedisArgs, length: usize) -> Cmd {
    let mut command = Cmd::with_capacity(5, 16 + stream.len() + field.len() + length);
    command.arg("XADD").arg(stream).arg("*").arg(field).arg(entry);
    command
}

fn length(replies: &[Value]) -> u64 {
    match replies.last() {
        Some(Value::Int(length)) => u64::try_from(*length).unwrap_or(0),
        _ => 0,
    }
}
