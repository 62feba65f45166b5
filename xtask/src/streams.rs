//! The pipeline's streams, seen from outside.

use anyhow::{Context, Result};
use rsky_testnet::servers::{RespClient, Value};

/// Stream names of PIPELINE section 2.
pub(crate) const FIREHOSE_LIVE: &str = "firehose_live";
pub(crate) const FIREHOSE_BACKFILL: &str = "firehose_backfill";
pub(crate) const LABEL_LIVE: &str = "label_live";
pub(crate) const REPO_BACKFILL: &str = "repo_backfill";
pub(crate) const REPO_BACKFILL_PRIORITY: &str = "repo_backfill_priority";
/// Repositories that the backfiller will try again later.
pub(crate) const REPO_BACKFILL_DELAYED: &str = "repo_backfill:delayed";

/// Number of entries, acknowledged ones not among them: the consumers delete what they are done with.
pub(crate) fn length(redis: &mut RespClient, stream: &str) -> Result<i64> {
    redis.command(&["XLEN", stream])?.as_int().context("XLEN gave no number")
}

/// Entries delivered and not acknowledged, over all groups of the stream; none when the stream does not exist yet.
pub(crate) fn pending(redis: &mut RespClient, stream: &str) -> Result<i64> {
    if redis.command(&["EXISTS", stream])?.as_int() != Some(1) {
        return Ok(0);
    }
    let groups = redis.command(&["XINFO", "GROUPS", stream])?;
    groups.items().iter().map(|group| field(group, "pending")?.as_int().context("no number")).sum()
}

/// Members of a sorted set; 0 when it does not exist.
pub(crate) fn put_off(redis: &mut RespClient, key: &str) -> Result<i64> {
    redis.command(&["ZCARD", key])?.as_int().context("ZCARD gave no number")
}

/// Seconds between the writing of the first and the last entry.
pub(crate) fn written_within(redis: &mut RespClient, stream: &str) -> Result<f64> {
    let info = redis.command(&["XINFO", "STREAM", stream])?;
    let written = |name| -> Result<f64> {
        let entry = field(&info, name)?;
        entry.items().first().and_then(id_millis).with_context(|| format!("{stream} is empty"))
    };
    Ok((written("last-entry")? - written("first-entry")?) / 1000.0)
}

/// The stored position of the ingester at a host; `None` before the first batch.
pub(crate) fn cursor(redis: &mut RespClient, stream: &str, host: &str) -> Result<Option<String>> {
    Ok(redis.command(&["GET", &format!("{stream}:cursor:{host}")])?.as_text())
}

/// Milliseconds since 1970 of an entry's id `<milliseconds>-<n>`.
fn id_millis(id: &Value) -> Option<f64> {
    id.as_text()?.split('-').next()?.parse().ok()
}

/// A member of a reply that lists names and values in turn.
fn field<'a>(reply: &'a Value, name: &str) -> Result<&'a Value> {
    let mut pairs = reply.items().chunks_exact(2);
    let found = pairs.find_map(|pair| match pair {
        [key, value] if key.as_text().as_deref() == Some(name) => Some(value),
        _ => None,
    });
    found.with_context(|| format!("no {name} in the reply of Redis"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsky_testnet::servers::Redis;

    #[test]
    fn sees_lengths_pending_entries_ages_and_cursors() {
        let server = Redis::start().unwrap();
        let mut redis = server.client().unwrap();
        assert_eq!(length(&mut redis, "s").unwrap(), 0);
        assert_eq!(pending(&mut redis, "s").unwrap(), 0);
        assert!(written_within(&mut redis, "s").is_err());

        redis.command(&["XADD", "s", "1000-0", "event", "{}"]).unwrap();
        redis.command(&["XADD", "s", "3500-0", "event", "{}"]).unwrap();
        redis.command(&["XGROUP", "CREATE", "s", "g", "0"]).unwrap();
        redis.command(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"]).unwrap();
        assert_eq!(length(&mut redis, "s").unwrap(), 2);
        assert_eq!(pending(&mut redis, "s").unwrap(), 1);
        assert_eq!(written_within(&mut redis, "s").unwrap(), 2.5);

        assert_eq!(cursor(&mut redis, "s", "h:1").unwrap(), None);
        redis.command(&["SET", "s:cursor:h:1", "77"]).unwrap();
        assert_eq!(cursor(&mut redis, "s", "h:1").unwrap().as_deref(), Some("77"));
    }
}
