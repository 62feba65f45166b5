//! The whole pipeline as Redis sees it, for the pages for people: lengths, groups, lag, pending, dead letters.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use serde_json::{Map, json};

use super::{LinkError, RedisLink};
use crate::admin::Status;
use crate::runtime::backoff::sleep_or_stop;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at `streams` (with their dead letters) every few seconds and puts the result into the status section
/// `redis`, until the link's token stops it. Losing this task loses nothing but the page.
///
/// # Errors
/// An error of Redis that waiting does not cure.
pub async fn watch(mut link: RedisLink, streams: Vec<String>, status: Status) -> Result<(), LinkError> {
    loop {
        match look(&mut link, &streams).await {
            Ok(facts) => {
                link.succeeded();
                status.put("redis", facts);
            }
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => match link.wait_out(error).await {
                Ok(()) => continue,
                Err(LinkError::Stopped) => return Ok(()),
                Err(error) => return Err(error),
            },
        }
        if !sleep_or_stop(EVERY, &link.stop().clone()).await {
            return Ok(());
        }
    }
}

async fn look(link: &mut RedisLink, streams: &[String]) -> Result<serde_json::Value, LinkError> {
    let mut facts = Map::new();
    for stream in streams {
        let length: u64 = link.query(redis::cmd("XLEN").arg(stream)).await?;
        let dead: u64 = link.query(redis::cmd("XLEN").arg(format!("{stream}_dlq"))).await?;
        let groups = groups(link, stream, length).await?;
        facts.insert(stream.clone(), json!({ "length": length, "dead_letters": dead, "groups": groups }));
    }
    let info: String = link.query(redis::cmd("INFO").arg("memory")).await?;
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    facts.insert("used_memory_bytes".to_owned(), json!(field("used_memory")));
    facts.insert("maxmemory_bytes".to_owned(), json!(field("maxmemory")));
    Ok(facts.into())
}

async fn groups(link: &mut RedisLink, stream: &str, length: u64) -> Result<serde_json::Value, LinkError> {
    // XINFO of a stream that is not there yet is an error, not an empty list.
    if length == 0 {
        return Ok(json!({}));
    }
    let listed: Vec<HashMap<String, Value>> =
        link.query(redis::cmd("XINFO").arg("GROUPS").arg(stream)).await?;
    let number = |facts: &HashMap<String, Value>, name: &str| match facts.get(name) {
        Some(Value::Int(number)) => json!(number),
        _ => json!(null),
    };
    let named = listed.iter().map(|facts| {
        let name = match facts.get("name") {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let about = json!({
            "consumers": number(facts, "consumers"),
            "pending": number(facts, "pending"),
            "lag": number(facts, "lag"),
        });
        (name, about)
    });
    Ok(serde_json::Value::Object(named.collect()))
}
