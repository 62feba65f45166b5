//! A stream searched for a text, for people who ask where something is.
//!
//! Streams have no index by what is in them, and may hold millions of entries. So they are read in steps, each bounded in
//! entries and in bytes, by a script on the server that gives back only what was found: the server does nothing else for a
//! millisecond or two at a time, and hardly anything travels. Nothing is read in the name of a group, so nothing changes.

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd};

use super::consumer::{Entry, entries};

/// Entries, and bytes of them, after which a step ends.
const STEP_ENTRIES: u32 = 1000;
const STEP_BYTES: u32 = 1 << 20;

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
    let mut command = cmd("EVAL");
    command.arg(STEP).arg(1).arg(stream).arg(from).arg(until).arg(text).arg(STEP_ENTRIES).arg(STEP_BYTES);
    let (next, seen, found): (String, u64, Value) = command.query_async(redis).await?;
    Ok(Step { seen, found: entries(found)?, next: (!next.is_empty()).then_some(next) })
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
    let mut command = cmd("XPENDING");
    command.arg(stream).arg(group).arg(id).arg(id).arg(1);
    match command.query_async::<Vec<(String, String, u64, u64)>>(redis).await {
        Ok(pending) => Ok(pending.into_iter().next().map(|(_, consumer, idle_ms, times)| Delivery {
            consumer,
            idle_ms,
            times,
        })),
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) => Err(error),
    }
}
