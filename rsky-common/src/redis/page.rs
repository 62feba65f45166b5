//! Pages of a stream that are bounded in bytes.
//!
//! `XREADGROUP` is bounded by a number of entries only, and what it answers is in memory before anybody can look at it: 500
//! entries may be 350 KB or 4 GB. So a short script on the server reads a few at a time until there is enough. It delivers
//! entries as the command itself does, and is allowed on a full server, since nothing it runs takes memory.

use redis::{RedisError, RedisResult, Value, cmd};
use tracing::warn;

use super::connection::{LinkError, RedisLink};
use super::consumer::{Consumer, Entry, fields, items, text};

/// Entries that are read at a time: so many may be beyond the bytes of a page.
pub const STEP: usize = 4;

/// How much a page holds.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Entries.
    pub entries: usize,
    /// Bytes of fields and values after which no more are read.
    pub bytes: usize,
}

/// Some entries of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In stream order.
    pub entries: Vec<Entry>,
    /// Whether there may be more.
    pub full: bool,
}

/// Reads pages.
#[derive(Debug)]
pub struct Pages {
    consumer: Consumer,
    most: Most,
    may_run_scripts: bool,
}

/// An error before the first entry is the page's. After some it is left to the next page: these are delivered.
///
/// What it answers is as flat as can be, since the server converts each of its lists and texts: the name of a field, and then of
/// each entry the id, and either the value of its only field, if that has this name, or its fields and values, or nil if it has
/// no body.
const PAGE: &str = r"
local most, room, step, after = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local page, name, count, bytes = { '' }, '', 0, 0
while count < most and bytes < room do
    local some = math.min(step, most - count)
    local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', some, 'STREAMS', KEYS[1], after)
    if read and read.err then
        if count == 0 then return read end
        break
    end
    local found = read and read[1] and read[1][2] or {}
    for i = 1, #found do
        local id, parts = found[i][1], found[i][2]
        for k = 1, parts and #parts or 0 do bytes = bytes + #parts[k] end
        if count == 0 and parts and #parts == 2 then
            name = parts[1]
            page[1] = name
        end
        count = count + 1
        page[2 * count] = id
        page[2 * count + 1] = parts and #parts == 2 and parts[1] == name and parts[2] or parts
        if after ~= '>' then after = id end
    end
    if #found < some then break end
end
return page";

impl Pages {
    /// Pages of so much for this consumer.
    pub fn new(consumer: Consumer, most: Most) -> Self {
        Self { consumer, most, may_run_scripts: true }
    }

    /// Entries never delivered to the group (`after` is `>`), or this consumer's own pending ones after an id. Does not wait for
    /// any. Where the server lets no scripts run a page is [`STEP`] entries.
    ///
    /// # Errors
    /// Redis' or the connection's; `NOGROUP` when stream or group is gone.
    pub async fn read(&mut self, link: &mut RedisLink, after: &str) -> Result<Page, LinkError> {
        self.read_at_most(link, after, self.most.entries).await
    }

    /// As [`Pages::read`], of no more entries than there is room for now, at least one.
    ///
    /// # Errors
    /// As [`Pages::read`].
    pub async fn read_at_most(
        &mut self,
        link: &mut RedisLink,
        after: &str,
        room: usize,
    ) -> Result<Page, LinkError> {
        let room = room.clamp(1, self.most.entries.max(1));
        if self.may_run_scripts {
            match self.by_script(link, after, room).await {
                Err(LinkError::Redis(error)) if refuses_scripts(&error) => {
                    warn!("Redis runs no scripts for us ({error}): {STEP} entries are read at a time");
                    self.may_run_scripts = false;
                }
                read => return read,
            }
        }
        let step = STEP.min(room);
        let entries = self.consumer.read_pending(link, after, step).await?;
        Ok(Page { full: entries.len() >= step, entries })
    }

    async fn by_script(&self, link: &mut RedisLink, after: &str, room: usize) -> Result<Page, LinkError> {
        let mut command = cmd("EVAL");
        command
            .arg(PAGE)
            .arg(1)
            .arg(&self.consumer.stream)
            .arg(&self.consumer.group)
            .arg(&self.consumer.name);
        command.arg(room).arg(self.most.bytes).arg(STEP).arg(after);
        let entries = flat(link.query::<Value>(&command).await?)?;
        let bytes: usize = entries.iter().map(Entry::size).sum();
        Ok(Page { full: entries.len() >= room || bytes >= self.most.bytes, entries })
    }
}

/// The entries of what the script answers.
fn flat(page: Value) -> RedisResult<Vec<Entry>> {
    let mut parts = items(page)?.into_iter();
    let name = match parts.next() {
        Some(Value::BulkString(name)) => name,
        _ => Vec::new(),
    };
    let mut entries = Vec::with_capacity(parts.len() / 2);
    while let (Some(id), Some(body)) = (parts.next(), parts.next()) {
        let fields = match body {
            Value::BulkString(value) => vec![(name.clone(), value)],
            list => fields(list)?,
        };
        entries.push(Entry { id: text(id)?, fields });
    }
    Ok(entries)
}

/// Whether the server has no such command, or not for this user. The first has no code of its own.
pub(super) fn refuses_scripts(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || error.to_string().contains("unknown command")
}
