//! The whole pipeline as Redis sees it, for the pages for people: lengths, groups, lag, pending, dead letters.
//!
//! A page never decides anything: what a user of Redis may not look at is shown as the error it gives, and everything else
//! goes on.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};
use serde_json::{Map, json};

use super::{Gate, LinkError, RedisLink};
use crate::admin::Status;
use crate::runtime::backoff::sleep_or_stop;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at `streams` (with their dead letters) every few seconds and puts the result into the status section
/// `redis`, until the link's token stops it. Losing this task loses nothing but the page.
///
/// # Errors
/// None: what cannot be seen is shown as that.
pub async fn watch(link: RedisLink, streams: Vec<String>, status: Status) -> Result<(), LinkError> {
    watch_with_gates(link, streams, status, Vec::new()).await
}

/// As [`watch`]; the gates learn the lengths that are seen, so that a stream nobody writes to now is not shown as it was
/// when somebody did. While nothing can be seen they know none.
///
/// # Errors
/// As [`watch`].
pub async fn watch_with_gates(
    mut link: RedisLink,
    streams: Vec<String>,
    status: Status,
    gates: Vec<Gate>,
) -> Result<(), LinkError> {
    let stop = link.stop().clone();
    loop {
        match look(&mut link, &streams, &gates).await {
            Ok(facts) => {
                link.succeeded();
                status.put("redis", facts);
            }
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => {
                gates.iter().for_each(Gate::note_unknown);
                status.put("redis", json!({ "error": error.to_string() }));
                match link.wait_out(error).await {
                    Ok(()) => continue,
                    Err(LinkError::Stopped) => return Ok(()),
                    // Refused, and by waiting it does not get better: shown, and asked again all the same.
                    Err(LinkError::Redis(_)) => {}
                }
            }
        }
        if !sleep_or_stop(EVERY, &stop).await {
            return Ok(());
        }
    }
}

async fn look(
    link: &mut RedisLink,
    streams: &[String],
    gates: &[Gate],
) -> Result<serde_json::Value, LinkError> {
    let mut facts = Map::new();
    for stream in streams {
        let length = answer::<u64>(link, redis::cmd("XLEN").arg(stream)).await?;
        for gate in gates.iter().filter(|gate| gate.stream() == stream) {
            match &length {
                Ok(length) => gate.note_length(*length),
                Err(_) => gate.note_unknown(),
            }
        }
        let dead = answer::<u64>(link, redis::cmd("XLEN").arg(format!("{stream}_dlq"))).await?;
        // XINFO of a stream that is not there yet is an error, not an empty list.
        let groups = match length {
            Ok(0) => json!({}),
            _ => groups(link, stream).await?,
        };
        facts.insert(
            stream.clone(),
            json!({ "length": shown(length), "dead_letters": shown(dead), "groups": groups }),
        );
    }
    match answer::<String>(link, redis::cmd("INFO").arg("memory")).await? {
        Ok(info) => {
            let field = |name: &str| {
                let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.and_then(|value| value.trim().parse::<u64>().ok())
            };
            facts.insert("used_memory_bytes".to_owned(), json!(field("used_memory")));
            facts.insert("maxmemory_bytes".to_owned(), json!(field("maxmemory")));
        }
        Err(why) => drop(facts.insert("memory".to_owned(), json!({ "error": why }))),
    }
    Ok(facts.into())
}

/// A command's answer, or why the server refuses it. What passes by itself (a lost connection) ends the look.
async fn answer<T: FromRedisValue>(
    link: &mut RedisLink,
    command: &Cmd,
) -> Result<Result<T, String>, LinkError> {
    match link.query(command).await {
        Ok(value) => Ok(Ok(value)),
        Err(error @ LinkError::Redis(_)) if !error.is_transient() && link.is_connected() => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn shown(answer: Result<u64, String>) -> serde_json::Value {
    match answer {
        Ok(number) => json!(number),
        Err(why) => json!({ "error": why }),
    }
}

async fn groups(link: &mut RedisLink, stream: &str) -> Result<serde_json::Value, LinkError> {
    let command = {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(stream);
        command
    };
    let listed = match answer::<Vec<HashMap<String, Value>>>(link, &command).await? {
        Ok(listed) => listed,
        Err(why) => return Ok(json!({ "error": why })),
    };
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
