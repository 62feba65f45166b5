//! The whole pipeline as Redis sees it, for the pages for people: lengths, groups, lag, pending, dead letters.
//!
//! A page never decides anything: what a user of Redis may not look at is shown as the error it gives, and everything else
//! goes on.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Cmd, FromRedisValue, Value};
use serde_json::{Map, json};

use super::figures::RedisFigures;
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
pub async fn watch(
    link: RedisLink,
    streams: Vec<String>,
    status: Status,
    figures: RedisFigures,
) -> Result<(), LinkError> {
    watch_with_gates(link, streams, status, figures, Vec::new()).await
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
    figures: RedisFigures,
    gates: Vec<Gate>,
) -> Result<(), LinkError> {
    let stop = link.stop().clone();
    loop {
        match look(&mut link, &streams, &gates).await {
            Ok(facts) => {
                link.succeeded();
                figures.note(&facts);
                status.put("redis", facts);
            }
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => {
                gates.iter().for_each(Gate::note_unknown);
                figures.note_unknown();
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
        let mut groups = groups(link, stream).await?;
        // XINFO of a stream that is not there yet is an error, not an empty list.
        if length == Ok(0) && groups.get("error").is_some() {
            groups = json!({});
        }
        facts.insert(
            stream.clone(),
            json!({ "length": shown(length), "dead_letters": shown(dead), "groups": groups }),
        );
    }
    for (section, fields) in [("memory", MEMORY), ("persistence", PERSISTENCE)] {
        match answer::<String>(link, redis::cmd("INFO").arg(section)).await? {
            Ok(info) => fields.iter().for_each(|(name, told_as)| {
                let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                facts.insert(
                    (*told_as).to_owned(),
                    value.map_or(json!(null), |value| plain(name, value.trim())),
                );
            }),
            Err(why) => drop(facts.insert(section.to_owned(), json!({ "error": why }))),
        }
    }
    Ok(facts.into())
}

/// Fields of INFO, and what they are told as.
type Fields = &'static [(&'static str, &'static str)];
const MEMORY: Fields = &[("used_memory", "used_memory_bytes"), ("maxmemory", "maxmemory_bytes")];
const PERSISTENCE: Fields = &[
    ("aof_enabled", "append_only"),
    ("aof_last_write_status", "last_append_ok"),
    ("rdb_last_bgsave_status", "last_save_ok"),
];

fn plain(name: &str, value: &str) -> serde_json::Value {
    if name.ends_with("_status") {
        json!(value == "ok")
    } else if name.ends_with("_enabled") {
        json!(value == "1")
    } else {
        json!(value.parse::<u64>().ok())
    }
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
    let mut told = Map::new();
    for facts in &listed {
        let name = match facts.get("name") {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let pending = number(facts, "pending");
        let oldest = if pending == json!(0) { json!(0) } else { oldest_pending(link, stream, &name).await? };
        let about = json!({
            "consumers": number(facts, "consumers"),
            "pending": pending,
            "lag": number(facts, "lag"),
            "oldest_pending_seconds": oldest,
        });
        told.insert(name, about);
    }
    Ok(told.into())
}

/// Seconds since the oldest entry was written that a group has read and not acknowledged, by its id.
async fn oldest_pending(
    link: &mut RedisLink,
    stream: &str,
    group: &str,
) -> Result<serde_json::Value, LinkError> {
    type Summary = (u64, Option<String>, Option<String>, Value);
    let mut command = redis::cmd("XPENDING");
    command.arg(stream).arg(group);
    let summary = match answer::<Summary>(link, &command).await? {
        Ok(summary) => summary,
        Err(why) => return Ok(json!({ "error": why })),
    };
    let Some(written_ms) = summary.1.and_then(|id| id.split('-').next()?.parse::<u128>().ok()) else {
        return Ok(json!(0));
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Ok(json!(now_ms.saturating_sub(written_ms) as f64 / 1000.0))
}
