//! Dead letters as they stand in their stream, for the tools that list, show, retry and drop them.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd, pipe};

use super::dead_letters::CUT;

/// Letters read at a time: each may hold a whole payload.
pub const PAGE: usize = 50;

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id in the stream of dead letters.
    pub id: String,
    /// Its fields; bytes that are not UTF-8 are replaced, and do not count as a payload.
    pub fields: BTreeMap<String, String>,
    is_text: bool,
}

/// Why a letter is not put back into its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// It has no payload.
    NoPayload,
    /// Its payload is cut.
    Cut,
    /// Its payload is not as it was.
    NotText,
    /// It never was an entry: a frame or a block of the network that could not be made one.
    NotAnEntry,
}

impl Unfit {
    /// For a person.
    pub fn why(self) -> &'static str {
        match self {
            Self::NoPayload => "has no payload",
            Self::Cut => "has only the beginning of its payload",
            Self::NotText => "has a payload that was not text, and is not as it was",
            Self::NotAnEntry => {
                "is no entry of the stream, but bytes of the network that could not be made one"
            }
        }
    }
}

impl Letter {
    /// A field's value, empty where it is absent.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The payload to put back: the first of these fields that is there.
    ///
    /// # Errors
    /// Why it must not be put back: it would only be lost.
    pub fn payload<'l>(&'l self, fields: &[&'static str]) -> Result<(&'static str, &'l str), Unfit> {
        let found = fields.iter().map(|field| (*field, self.field(field)));
        let Some(payload) = found.into_iter().find(|(_, payload)| !payload.is_empty()) else {
            return Err(Unfit::NoPayload);
        };
        if !self.is_text || self.field("reason") == "not_utf8" {
            return Err(Unfit::NotText);
        }
        if self.field("error").contains(CUT) {
            return Err(Unfit::Cut);
        }
        if is_entry_id(self.field("source_id")) { Ok(payload) } else { Err(Unfit::NotAnEntry) }
    }
}

/// `<ms>-<n>`, as Redis makes them.
fn is_entry_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(ms, n)| ms.parse::<u64>().is_ok() && n.parse::<u64>().is_ok())
}

/// The id of the newest letter. A walk that ends there does not meet what is put back and fails again.
///
/// # Errors
/// Redis'.
pub async fn newest(redis: &mut MultiplexedConnection, dead: &str) -> RedisResult<Option<String>> {
    let mut command = cmd("XREVRANGE");
    command.arg(dead).arg("+").arg("-").arg("COUNT").arg(1);
    Ok(letters(redis, &command).await?.into_iter().next().map(|letter| letter.id))
}

/// The next letters: from an id (`-`, or `(` and the last one seen) to another, at most [`PAGE`].
///
/// # Errors
/// Redis'.
pub async fn page(
    redis: &mut MultiplexedConnection,
    dead: &str,
    from: &str,
    to: &str,
) -> RedisResult<Vec<Letter>> {
    let mut command = cmd("XRANGE");
    command.arg(dead).arg(from).arg(to).arg("COUNT").arg(PAGE);
    letters(redis, &command).await
}

async fn letters(redis: &mut MultiplexedConnection, command: &redis::Cmd) -> RedisResult<Vec<Letter>> {
    type Fields = Vec<(Vec<u8>, Vec<u8>)>;
    let entries: Vec<(String, Fields)> = command.query_async(redis).await?;
    let letter = |(id, fields): (String, Fields)| {
        let is_text = fields.iter().all(|(_, value)| std::str::from_utf8(value).is_ok());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        Letter { id, fields, is_text }
    };
    Ok(entries.into_iter().map(letter).collect())
}

/// Puts payloads back into their stream, each as (letter's id, field, payload), and removes their letters: both or
/// neither.
///
/// # Errors
/// Redis'. A full one refuses, and everything is as it was.
pub async fn put_back(
    redis: &mut MultiplexedConnection,
    stream: &str,
    dead: &str,
    payloads: &[(&str, &str, &str)],
) -> RedisResult<()> {
    if payloads.is_empty() {
        return Ok(());
    }
    let mut transaction = pipe();
    transaction.atomic();
    for (id, field, payload) in payloads {
        transaction.cmd("XADD").arg(stream).arg("*").arg(*field).arg(*payload).ignore();
        transaction.cmd("XDEL").arg(dead).arg(*id).ignore();
    }
    transaction.query_async(redis).await
}

/// Removes letters.
///
/// # Errors
/// Redis'.
pub async fn remove(redis: &mut MultiplexedConnection, dead: &str, ids: &[&str]) -> RedisResult<()> {
    if ids.is_empty() { Ok(()) } else { cmd("XDEL").arg(dead).arg(ids).query_async(redis).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(fields: &[(&str, &str)]) -> Letter {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Letter { id: "5-0".to_owned(), fields, is_text: true }
    }

    #[test]
    fn only_a_whole_entry_is_put_back() {
        let whole = letter(&[("event", "{}"), ("source_id", "7-1"), ("reason", "refused_by_postgres")]);
        assert_eq!(whole.payload(&["event", "labels"]), Ok(("event", "{}")));
        let with = |name: &str, value: &str| {
            let mut letter = whole.clone();
            letter.fields.insert(name.to_owned(), value.to_owned());
            letter.payload(&["event", "labels"]).err()
        };
        assert_eq!(with("event", ""), Some(Unfit::NoPayload));
        assert_eq!(with("reason", "not_utf8"), Some(Unfit::NotText));
        assert_eq!(with("source_id", "relay.example@7"), Some(Unfit::NotAnEntry));
        assert_eq!(with("error", "no (payload cut to 3 of 5 bytes)"), Some(Unfit::Cut));
        let not_text = Letter { is_text: false, ..whole };
        assert_eq!(not_text.payload(&["event"]), Err(Unfit::NotText));
    }
}
