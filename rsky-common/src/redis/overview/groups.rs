//! The consumer groups of a stream.

use std::collections::HashMap;

use redis::Value;

use super::look::answer;
use crate::admin::seen::{Group, Told};
use crate::clock::now_ms;
use crate::redis::{LinkError, RedisLink};

/// Groups of a stream that are looked at one by one; Redis lists them by name. Whoever may create groups cannot make a page ask
/// more than that.
pub(in crate::redis) const LOOKED_AT: usize = 16;

pub(super) async fn of(link: &mut RedisLink, stream: &str) -> Result<Told<Vec<Group>>, LinkError> {
    // XINFO of a stream that is not there is an error, not an empty list.
    match answer::<u64>(link, redis::cmd("EXISTS").arg(stream)).await? {
        Ok(0) => return Ok(Ok(Vec::new())),
        Ok(_) => {}
        Err(why) => return Ok(Err(why)),
    }
    let listed =
        answer::<Vec<HashMap<String, Value>>>(link, redis::cmd("XINFO").arg("GROUPS").arg(stream)).await?;
    let listed = match listed {
        Ok(listed) => listed,
        Err(why) => return Ok(Err(why)),
    };
    let mut groups = Vec::with_capacity(listed.len());
    for (at, facts) in listed.iter().enumerate() {
        let mut group = group(facts);
        if group.pending != Some(0) {
            group.oldest_pending_seconds = if at < LOOKED_AT {
                oldest_pending(link, stream, &group.name).await?
            } else {
                Err(format!("only the first {LOOKED_AT} groups are asked about"))
            };
        }
        groups.push(group);
    }
    Ok(Ok(groups))
}

/// Seconds since the oldest entry was written that a group has read and not acknowledged, by its id.
async fn oldest_pending(link: &mut RedisLink, stream: &str, group: &str) -> Result<Told<f64>, LinkError> {
    type Summary = (u64, Option<String>, Option<String>, Value);
    let summary = answer::<Summary>(link, redis::cmd("XPENDING").arg(stream).arg(group)).await?;
    Ok(summary.map(|(_, oldest, _, _)| {
        let written_ms = oldest.and_then(|id| id.split('-').next()?.parse::<u64>().ok());
        written_ms.map_or(0.0, |written_ms| now_ms().saturating_sub(written_ms) as f64 / 1000.0)
    }))
}

fn group(facts: &HashMap<String, Value>) -> Group {
    let number = |name: &str| match facts.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let name = match facts.get("name") {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::SimpleString(text)) => text.clone(),
        _ => String::new(),
    };
    Group {
        name,
        consumers: number("consumers"),
        pending: number("pending"),
        lag: number("lag"),
        oldest_pending_seconds: Ok(0.0),
    }
}
