//! The ends of a stream: how many entries were ever added, and how old the oldest is.

use super::look::answer;
use crate::admin::seen::{Ends, Told};
use crate::redis::{LinkError, RedisLink};

/// `XINFO STREAM` has the first entry with its payload, which nobody wants here.
const ENDS: &str = r"
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
    if string.find(info.err, 'no such key', 1, true) then return {0, 0, false} end
    return info
end
local added, length, first = false, 0, false
for at = 1, #info, 2 do
    if info[at] == 'entries-added' then added = info[at + 1] end
    if info[at] == 'length' then length = info[at + 1] end
    if info[at] == 'first-entry' and info[at + 1] then first = info[at + 1][1] end
end
return {added, length, first}";

pub(super) async fn of(link: &mut RedisLink, stream: &str) -> Result<Told<Ends>, LinkError> {
    let mut command = redis::cmd("EVAL");
    command.arg(ENDS).arg(1).arg(stream);
    let answered = answer::<(Option<u64>, u64, Option<String>)>(link, &command).await?;
    Ok(answered.map(|(added, length, first)| Ends {
        gone: added.map(|added| added.saturating_sub(length)),
        added,
        oldest_ms: first.and_then(|id| id.split_once('-')?.0.parse().ok()),
    }))
}
