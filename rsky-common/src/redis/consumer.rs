//! One consumer of a group: reading new and pending entries, claiming stale ones, acknowledging.
//!
//! The read and acknowledge path uses no command that a full Redis refuses (DECISIONS 29). Blocking reads belong
//! on a connection of their own and are never cut off in the middle: a cancelled XREADGROUP can lose the
//! answer, and with it, until the next claim, the entries.

use std::time::Duration;

use redis::streams::StreamInfoConsumersReply;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd, pipe};

use super::connection::{LinkError, RedisLink};
use super::dead_letters::DeadLetter;
use super::letter_room::trim;
use crate::clock::millis;
use crate::config::LetterBounds;

/// A consumer's place in a group of a stream.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The stream's key.
    pub stream: String,
    /// The group's name.
    pub group: String,
    /// The consumer's name, stable over restarts: it is what makes its pending entries its own.
    pub name: String,
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `<ms>-<n>`
    pub id: String,
    /// Field and value, one after the other; empty for a pending entry whose body was deleted.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The value of a field, taken out of the entry.
    pub fn take_field(&mut self, name: &str) -> Option<Vec<u8>> {
        let (_, value) = self.fields.iter_mut().find(|(field, _)| field == name.as_bytes())?;
        Some(std::mem::take(value))
    }

    /// Bytes of fields and values.
    pub fn size(&self) -> usize {
        self.fields.iter().map(|(field, value)| field.len() + value.len()).sum()
    }

    /// The entry's own clock: milliseconds since the epoch at which it was written.
    pub fn written_ms(&self) -> Option<u64> {
        self.id.split('-').next()?.parse().ok()
    }
}

/// What a claim brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Where the next page starts; `0-0` when the end was reached.
    pub next: String,
    /// The claimed entries, now pending for this consumer.
    pub entries: Vec<Entry>,
}

impl Consumer {
    /// Entries never delivered to the group; waits up to `block` for the first.
    ///
    /// # Errors
    /// Redis' or the connection's; `NOGROUP` when stream or group is gone.
    pub async fn read_new(
        &self,
        link: &mut RedisLink,
        count: usize,
        block: Duration,
    ) -> Result<Vec<Entry>, LinkError> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(&self.name).arg("COUNT").arg(count);
        command.arg("BLOCK").arg(millis(block));
        command.arg("STREAMS").arg(&self.stream).arg(">");
        Ok(one_stream(link.query(&command).await?)?)
    }

    /// This consumer's own pending entries after an id (`0` for the first page).
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn read_pending(
        &self,
        link: &mut RedisLink,
        after: &str,
        count: usize,
    ) -> Result<Vec<Entry>, LinkError> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(&self.name).arg("COUNT").arg(count);
        command.arg("STREAMS").arg(&self.stream).arg(after);
        Ok(one_stream(link.query(&command).await?)?)
    }

    /// Takes over entries that have been pending for longer than `min_idle`, whoever holds them. Ids whose
    /// body is gone are dropped from the pending list by Redis itself.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn claim_stale(
        &self,
        link: &mut RedisLink,
        min_idle: Duration,
        start: &str,
        count: usize,
    ) -> Result<Claimed, LinkError> {
        let mut command = cmd("XAUTOCLAIM");
        command.arg(&self.stream).arg(&self.group).arg(&self.name);
        command.arg(millis(min_idle));
        command.arg(start).arg("COUNT").arg(count);
        let mut reply = items(link.query(&command).await?)?.into_iter();
        let next = text(reply.next().unwrap_or(Value::Nil))?;
        let entries = entries(reply.next().unwrap_or(Value::Nil))?;
        Ok(Claimed { next, entries })
    }

    /// Deletes and acknowledges entries, in this order and in one round trip. No transaction: a full server refuses
    /// every command inside of `MULTI`, also those it takes outside. A crash between the two leaves pending entries
    /// without a body, which the next reader acknowledges; the other order would leave entries that nobody reads
    /// again and that count against the high-water mark for ever.
    ///
    /// # Errors
    /// Redis' or the connection's; the entries may or may not be gone then, asking again is harmless.
    pub async fn acknowledge(&self, link: &mut RedisLink, ids: &[&str]) -> Result<(), LinkError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut both = pipe();
        both.cmd("XDEL").arg(&self.stream).arg(ids).ignore();
        both.cmd("XACK").arg(&self.stream).arg(&self.group).arg(ids).ignore();
        link.pipeline(&both).await
    }
}

impl Consumer {
    /// Copies entries of an event stream to the dead-letter stream, acknowledges and deletes them, in one transaction.
    /// Afterwards the letters are trimmed to about the bounds.
    ///
    /// # Errors
    /// Redis' or the connection's. A full Redis refuses the copies and with them the whole: the entries stay pending.
    pub async fn bury(
        &self,
        link: &mut RedisLink,
        letters: &[(&str, DeadLetter)],
        bounds: LetterBounds,
    ) -> Result<(), LinkError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut transaction = pipe();
        transaction.atomic();
        for (_, letter) in letters {
            letter.append(&mut transaction, &self.stream);
        }
        let ids: Vec<&str> = letters.iter().map(|(id, _)| *id).collect();
        for command in self.ending(&ids) {
            transaction.add_command(command);
        }
        link.pipeline::<Value>(&transaction).await?;
        let written = letters.iter().map(|(_, letter)| letter.size() as u64).fold(0, u64::saturating_add);
        trim(link, &self.stream, bounds, written).await;
        Ok(())
    }

    /// The commands that acknowledge and delete entries, for the transaction of what they ended in. Not for none.
    pub fn ending(&self, ids: &[&str]) -> [Cmd; 2] {
        let (mut acknowledged, mut deleted) = (cmd("XACK"), cmd("XDEL"));
        acknowledged.arg(&self.stream).arg(&self.group).arg(ids);
        deleted.arg(&self.stream).arg(ids);
        [acknowledged, deleted]
    }

    /// One entry of the stream, `None` if it is gone.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn entry(&self, link: &mut RedisLink, id: &str) -> Result<Option<Entry>, LinkError> {
        let mut command = cmd("XRANGE");
        command.arg(&self.stream).arg(id).arg(id);
        Ok(entries(link.query(&command).await?)?.into_iter().next())
    }

    /// Starts the clock anew by which entries of this consumer count as stale.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn hold(&self, link: &mut RedisLink, ids: &[&str]) -> Result<(), LinkError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = cmd("XCLAIM");
        command.arg(&self.stream).arg(&self.group).arg(&self.name).arg(0).arg(ids).arg("JUSTID");
        link.query::<Value>(&command).await.map(drop)
    }

    /// How long ago a consumer of this name was heard of, in milliseconds; `None` if the group knows none. A small
    /// figure at start means a very recent predecessor, or a second process under the same name.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn idle_ms(&self, link: &mut RedisLink) -> Result<Option<u64>, LinkError> {
        let mut command = cmd("XINFO");
        command.arg("CONSUMERS").arg(&self.stream).arg(&self.group);
        let known: StreamInfoConsumersReply = link.query(&command).await?;
        let own = known.consumers.iter().find(|consumer| consumer.name == self.name);
        Ok(own.and_then(|consumer| u64::try_from(consumer.idle).ok()))
    }
}

// Entries are not read by the crate's own types: these copy the reply, which may be large, keep fields in maps, refuse a name
// that is not text, and know no pending entry whose body is gone.

fn shape(what: &'static str) -> RedisError {
    RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "unexpected reply to a stream command",
        what.to_owned(),
    ))
}

pub(super) fn items(value: Value) -> RedisResult<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(shape("not a list")),
    }
}

pub(super) fn text(value: Value) -> RedisResult<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| shape("an id that is not text")),
        Value::SimpleString(text) => Ok(text),
        _ => Err(shape("not text")),
    }
}

/// XREADGROUP or XREAD of one stream: nil, or one pair of stream and entries.
pub(super) fn one_stream(reply: Value) -> RedisResult<Vec<Entry>> {
    match reply {
        Value::Map(streams) => streams.into_iter().next().map_or(Ok(Vec::new()), |(_, list)| entries(list)),
        other => match items(other)?.into_iter().next() {
            None => Ok(Vec::new()),
            Some(stream) => entries(items(stream)?.into_iter().nth(1).unwrap_or(Value::Nil)),
        },
    }
}

pub(super) fn entries(list: Value) -> RedisResult<Vec<Entry>> {
    let mut entries = Vec::new();
    for item in items(list)? {
        // Before version 7, XAUTOCLAIM answers nil for an entry whose body is gone.
        if matches!(item, Value::Nil) {
            continue;
        }
        let mut pair = items(item)?.into_iter();
        let id = text(pair.next().unwrap_or(Value::Nil))?;
        entries.push(Entry { id, fields: fields(pair.next().unwrap_or(Value::Nil))? });
    }
    Ok(entries)
}

/// Fields and values in turn; none of a body that is gone.
pub(super) fn fields(list: Value) -> RedisResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut values = items(list)?.into_iter();
    let mut fields = Vec::with_capacity(values.len() / 2);
    while let (Some(field), Some(value)) = (values.next(), values.next()) {
        if let (Value::BulkString(field), Value::BulkString(value)) = (field, value) {
            fields.push((field, value));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_pending_entry_whose_body_is_gone_has_no_fields() {
        let list = Value::Array(vec![
            Value::Array(vec![bulk("5-1"), Value::Nil]),
            Value::Array(vec![bulk("6-0"), Value::Array(vec![bulk("event"), bulk("{}")])]),
        ]);
        let entries = one_stream(Value::Array(vec![Value::Array(vec![bulk("s"), list])])).unwrap();
        assert_eq!(entries[0], Entry { id: "5-1".into(), fields: Vec::new() });
        assert_eq!(entries[1].field("event"), Some(b"{}".as_slice()));
        assert_eq!(entries[1].written_ms(), Some(6));
    }

    #[test]
    fn an_empty_read_is_nil() {
        assert_eq!(one_stream(Value::Nil).unwrap(), Vec::new());
    }
}
