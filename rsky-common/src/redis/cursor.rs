//! Batches and the cursor that covers them, written only while the cursor is what this process left.
//!
//! Guarantee: when [`CursorWriter::write`] gives [`Outcome::Written`], Redis holds the whole batch and its cursor; when
//! it gives [`Outcome::Moved`], or does not return (a stop, a crash), the next read from the stored cursor brings the
//! same input again. Input may be written twice (at least once), never half, and never over a hole: a Redis that came
//! back with an older state, and a second process with the same cursor, are seen before anything is written.
//!
//! How: the key is watched (`WATCH`) and looked at before the first batch of a connection, and again right behind every
//! batch, in the same round trip. A transaction does not take effect when the key was touched in between, and a new
//! connection begins with a look. So the guard costs two small commands a batch and no time.

use redis::Value;

use super::writer::{self, Batch, length_of};
use super::{LinkError, RedisLink, errors};
use crate::config::LetterBounds;

/// What came of writing a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in Redis, with its cursor.
    Written {
        /// The stream's length after it, in entries.
        length: u64,
    },
    /// Nothing was written: the cursor may not cover what was written before, or somebody else moved it. Reading has to
    /// start again from what is found.
    Moved(Found),
}

/// A look at the stored cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What this process left there; `None`: nothing, or it has not looked before.
    pub expected: Option<String>,
    /// What is there.
    pub stored: Option<String>,
    /// Whether batches were written that the cursor does not cover, on a connection that is gone: the server may have lost
    /// them without a trace.
    pub doubtful: bool,
}

impl Found {
    /// Whether it is another than this process left there.
    pub fn is_other(&self) -> bool {
        self.expected != self.stored
    }
}

/// Writes batches to one stream, and a cursor.
#[derive(Debug)]
pub struct CursorWriter {
    link: RedisLink,
    stream: String,
    bounds: LetterBounds,
    key: String,
    /// Other keys that get the same value, for those who look there.
    also: Vec<String>,
    /// What this process left in the key.
    ours: Option<String>,
    /// What was in it at the last look.
    found: Option<String>,
    /// The connection on which the key is watched and `found` was read.
    watched_on: Option<u64>,
    /// Whether batches have been written that the cursor does not cover: a new connection cannot tell whether the server
    /// still has them.
    uncovered: bool,
    /// The connection of the last batch.
    written_on: Option<u64>,
}

/// What is known of the attempts to write a batch.
#[derive(Clone, Copy, Default)]
struct Sent {
    /// The reply to one did not come.
    unknown: bool,
    /// An attempt was refused in part: the cursor may have been set without all of the entries.
    refused: bool,
}

impl CursorWriter {
    /// A writer to `stream` over a link of its own, whose cursor is in `key`. The keys `also` get what it gets.
    pub fn new(
        link: RedisLink,
        stream: impl Into<String>,
        bounds: LetterBounds,
        key: impl Into<String>,
        also: Vec<String>,
    ) -> Self {
        Self {
            link,
            stream: stream.into(),
            bounds,
            key: key.into(),
            also,
            ours: None,
            found: None,
            watched_on: None,
            uncovered: false,
            written_on: None,
        }
    }

    /// The link, for other commands on the same connection.
    pub fn link(&mut self) -> &mut RedisLink {
        &mut self.link
    }

    /// The key of the cursor.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Looks at the stored cursor, which from now on is the one to be left alone by others.
    ///
    /// # Errors
    /// `Stopped`, or an error that waiting does not cure.
    pub async fn look(&mut self) -> Result<Found, LinkError> {
        let doubtful = self.watch_anew().await?;
        Ok(self.accept(doubtful))
    }

    /// As [`CursorWriter::look`], but only if there is something to be told: the cursor is not what this process left.
    ///
    /// # Errors
    /// As [`CursorWriter::look`].
    pub async fn check(&mut self) -> Result<Option<Found>, LinkError> {
        let doubtful = self.watch_anew().await?;
        Ok((self.found != self.ours || doubtful).then(|| self.accept(doubtful)))
    }

    /// Writes a batch and the cursor that covers it (`None`: the cursor stays), trying until it is in or until the
    /// cursor turns out to be another than the one this process left.
    ///
    /// Any refused command makes the whole batch count as not written; `EXEC` of Redis does not undo the others, so
    /// the repetition may write entries twice.
    ///
    /// # Errors
    /// `Stopped`, or a refusal that waiting does not cure.
    pub async fn write(&mut self, batch: &Batch, cursor: Option<&str>) -> Result<Outcome, LinkError> {
        writer::make_room(&mut self.link, &self.stream, self.bounds, batch).await?;
        let transaction = self.transaction(batch, cursor);
        let look = self.look_command();
        let mut sent = Sent::default();
        loop {
            if let Some(outcome) = self.before_attempt(cursor, sent).await? {
                return Ok(outcome);
            }
            let on = self.link.connections();
            let (written, seen) =
                self.link.pipeline_then::<Vec<Value>, (Value, Option<String>)>(&transaction, &look).await;
            // A look that failed leaves the key unwatched; the next attempt begins with another.
            self.watched_on = seen.is_ok().then_some(on);
            if let Ok((_, found)) = seen {
                self.found = found;
            }
            match written {
                Ok(Some(replies)) => {
                    self.link.wrote();
                    self.written_on = Some(on);
                    match cursor {
                        Some(cursor) => (self.ours, self.uncovered) = (Some(cursor.to_owned()), false),
                        None => self.uncovered = true,
                    }
                    writer::keep_room(&mut self.link, &self.stream, self.bounds, batch).await;
                    return Ok(Outcome::Written { length: length_of(&replies) });
                }
                // The key was touched: nothing was written. What it holds now decides; it may have been an earlier attempt
                // of ours that came late.
                Ok(None) => {}
                Err(error) => {
                    sent = self.learn(&error, sent, cursor);
                    self.link.wait_out(error).await?;
                }
            }
        }
    }

    /// Makes sure that the key is watched and holds what we left; otherwise gives what came of the batch.
    async fn before_attempt(
        &mut self,
        cursor: Option<&str>,
        sent: Sent,
    ) -> Result<Option<Outcome>, LinkError> {
        let watched = self.link.is_connected() && self.watched_on == Some(self.link.connections());
        let doubtful = !watched && self.watch_anew().await?;
        if self.found == self.ours {
            return Ok(doubtful.then(|| Outcome::Moved(self.accept(true))));
        }
        let ours_after_all =
            sent.unknown && !sent.refused && cursor.is_some() && self.found.as_deref() == cursor;
        if !ours_after_all {
            return Ok(Some(Outcome::Moved(self.accept(doubtful))));
        }
        tracing::info!(stream = self.stream, "the batch was written before the connection was lost");
        (self.ours, self.uncovered) = (self.found.clone(), false);
        self.link.wrote();
        let mut command = redis::cmd("XLEN");
        command.arg(&self.stream);
        Ok(Some(Outcome::Written { length: self.link.retry(&command).await? }))
    }

    fn learn(&mut self, error: &LinkError, mut sent: Sent, cursor: Option<&str>) -> Sent {
        let LinkError::Redis(error) = error else { return sent };
        if errors::is_reply_lost(error) {
            sent.unknown = true;
        } else if !errors::is_abort(error) {
            sent.refused = true;
            // Refused in part, with the cursor set: it is ours, and the whole is repeated.
            if cursor.is_some() && self.watched_on.is_some() && self.found.as_deref() == cursor {
                self.ours.clone_from(&self.found);
            }
        }
        sent
    }

    /// Watches and looks; whether what was written without a cursor may be lost with the server it was written to.
    async fn watch_anew(&mut self) -> Result<bool, LinkError> {
        let before = self.written_on;
        self.watch().await?;
        Ok(self.uncovered && before != self.watched_on)
    }

    /// From now on what is stored is what must not change.
    fn accept(&mut self, doubtful: bool) -> Found {
        let found = Found { expected: self.ours.take(), stored: self.found.clone(), doubtful };
        self.ours.clone_from(&found.stored);
        self.uncovered = false;
        found
    }

    async fn watch(&mut self) -> Result<(), LinkError> {
        let look = self.look_command();
        loop {
            match self.link.pipeline::<(Value, Option<String>)>(&look).await {
                Ok((_, found)) => {
                    self.link.succeeded();
                    self.found = found;
                    self.watched_on = Some(self.link.connections());
                    return Ok(());
                }
                Err(error) => self.link.wait_out(error).await?,
            }
        }
    }

    fn look_command(&self) -> redis::Pipeline {
        let mut look = redis::Pipeline::with_capacity(2);
        look.cmd("WATCH").arg(&self.key);
        look.cmd("GET").arg(&self.key);
        look
    }

    fn transaction(&self, batch: &Batch, cursor: Option<&str>) -> redis::Pipeline {
        let mut pipeline = writer::transaction(&self.stream, batch);
        if let Some(cursor) = cursor {
            for key in std::iter::once(&self.key).chain(&self.also) {
                pipeline.cmd("SET").arg(key).arg(cursor);
            }
        }
        pipeline.cmd("XLEN").arg(&self.stream);
        pipeline
    }
}
