//! A stream searched for a text, for people who ask where something is.
//!
//! Streams have no index by what is in them, and may hold millions of entries. So they are read in steps, each bounded in
//! entries and in bytes, by a script on the server that gives back only what was found: the server does nothing else for a
//! millisecond or two at a time, and hardly anything travels. Nothing is read in the name of a group, so nothing changes.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value, cmd};

use super::connection::{LinkError, RedisLink};
use super::consumer::{Consumer, Entry, entries};
use super::page::refuses_scripts;
use super::tail;

/// Entries, and bytes of them, after which a step ends.
const STEP_ENTRIES: u32 = 1000;
const STEP_BYTES: u32 = 1 << 20;

/// Entries of a step without a script: each may have megabytes.
const FEW: u32 = 10;

/// A few entries at a time, since each may have megabytes.
const STEP: &str = r"
local from, seen, bytes, found = ARGV[1], 0, 0, {}
while seen < tonumber(ARGV[4]) and bytes < tonumber(ARGV[5]) do
    local page = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 10)
    if #page == 0 then return {'', seen, found} end
    for _, entry in ipairs(page) do
        local holds = false
        for _, text in ipairs(entry[2]) do
            bytes = bytes + #text
            holds = holds or string.find(text, ARGV[3], 1, true)
        end
        if holds then found[#found + 1] = entry end
    end
    seen = seen + #page
    from = '(' .. page[#page][1]
end
return {from, seen, found}";

/// What a step brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Entries looked at.
    pub seen: u64,
    /// Those that hold the text in one of their fields.
    pub found: Vec<Entry>,
    /// Where the next step starts; `None` at the end of the stream.
    pub next: Option<String>,
}

/// Looks through some of a stream: from an id (`-` for its beginning, or what the last step gave) to another (`+` for its end).
///
/// # Errors
/// Redis'; `NOPERM` where scripts may not be run.
pub async fn step(
    redis: &mut MultiplexedConnection,
    stream: &str,
    from: &str,
    until: &str,
    text: &str,
) -> RedisResult<Step> {
    Step::read(step_command(stream, from, until, text).query_async(redis).await?)
}

/// What [`Step::read`] reads the reply of. Every entry holds the empty text.
pub(super) fn step_command(stream: &str, from: &str, until: &str, text: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(STEP).arg(1).arg(stream).arg(from).arg(until).arg(text).arg(STEP_ENTRIES).arg(STEP_BYTES);
    command
}

impl Step {
    pub(super) fn read((next, seen, found): (String, u64, Value)) -> RedisResult<Self> {
        Ok(Self { seen, found: entries(found)?, next: (!next.is_empty()).then_some(next) })
    }
}

/// As [`step`], for a daemon. Where the server lets no scripts run, a few entries are read and looked through here.
///
/// # Errors
/// Redis' or the connection's.
pub async fn step_over(
    link: &mut RedisLink,
    stream: &str,
    from: &str,
    until: &str,
    text: &str,
) -> Result<Step, LinkError> {
    match link.query(&step_command(stream, from, until, text)).await {
        Ok(reply) => return Ok(Step::read(reply)?),
        Err(LinkError::Redis(error)) if refuses_scripts(&error) => {}
        Err(error) => return Err(error),
    }
    let mut command = cmd("XRANGE");
    command.arg(stream).arg(from).arg(until).arg("COUNT").arg(FEW);
    let mut found = entries(link.query(&command).await?)?;
    let (seen, last) = (found.len() as u64, found.last().map(|entry| format!("({}", entry.id)));
    let holds = |value: &[u8]| value.windows(text.len().max(1)).any(|part| part == text.as_bytes());
    found.retain(|entry| entry.fields.iter().any(|(_, value)| holds(value)));
    Ok(Step { seen, found, next: last })
}

/// To whom an entry was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The consumer.
    pub consumer: String,
    /// Since when it has it, in milliseconds.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub times: u64,
}

/// Whether an entry is pending in a group, and with whom; `None`: it was not delivered, or there is no such group.
///
/// # Errors
/// Redis'.
pub async fn delivery(
    redis: &mut MultiplexedConnection,
    stream: &str,
    group: &str,
    id: &str,
) -> RedisResult<Option<Delivery>> {
    match delivery_command(stream, group, id).query_async(redis).await {
        Ok(pending) => Ok(Delivery::read(pending)),
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) => Err(error),
    }
}

type Pending = Vec<(String, String, u64, u64)>;

fn delivery_command(stream: &str, group: &str, id: &str) -> Cmd {
    let mut command = cmd("XPENDING");
    command.arg(stream).arg(group).arg(id).arg(id).arg(1);
    command
}

impl Delivery {
    fn read(pending: Pending) -> Option<Self> {
        pending.into_iter().next().map(|(_, consumer, idle_ms, times)| Self { consumer, idle_ms, times })
    }
}

impl Consumer {
    /// As [`delivery`], for a daemon, in this consumer's group.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn delivery(&self, link: &mut RedisLink, id: &str) -> Result<Option<Delivery>, LinkError> {
        match link.query(&delivery_command(&self.stream, &self.group, id)).await {
            Ok(pending) => Ok(Delivery::read(pending)),
            Err(LinkError::Redis(error)) if error.code() == Some("NOGROUP") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id up to which the group has been given entries; `None` where there is no such group or stream.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn given_until(&self, link: &mut RedisLink) -> Result<Option<String>, LinkError> {
        tail::delivered(link, &self.stream, &self.group).await
    }
}
