//! One look at everything.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue};
use serde::Deserialize;

use super::{ends, groups, letters};
use crate::admin::StreamNames;
use crate::admin::seen::{Backfillers, Facts, Letters, Persistence, RedisMemory, StreamFacts, Told};
use crate::clock::now_ms;
use crate::redis::{Gate, LinkError, RedisLink};
use crate::wire::names;

/// Time between two looks into the same dead letters.
const LETTERS_EVERY: Duration = Duration::from_secs(30);
/// Reports of backfillers that are read; each is some hundred bytes.
const MOST_REPORTS: u64 = 1000;

/// What is remembered between two looks.
pub(super) struct Look {
    names: StreamNames,
    gates: Vec<Gate>,
    /// By stream: how many letters there were when they were looked into, when, and what was found.
    letters: HashMap<String, (u64, Instant, Told<Letters>)>,
}

impl Look {
    pub(super) fn new(names: StreamNames, gates: Vec<Gate>) -> Self {
        Self { names, gates, letters: HashMap::new() }
    }

    /// Nobody can say how long the streams are.
    pub(super) fn nothing_is_known(&self) {
        self.gates.iter().for_each(Gate::note_unknown);
    }

    pub(super) async fn look(&mut self, link: &mut RedisLink) -> Result<Facts, LinkError> {
        let mut streams = Vec::new();
        for stream in self.names.all().map(str::to_owned) {
            let facts = self.stream(link, &stream).await?;
            streams.push((stream, facts));
        }
        let put_off = names::put_off_key(&self.names.repos);
        Ok(Facts {
            streams,
            put_off: answer(link, redis::cmd("ZCARD").arg(put_off)).await?,
            backfillers: backfillers(link, &names::reports_key(&self.names.repos)).await?,
            memory: memory(link).await?,
            persistence: persistence(link).await?,
        })
    }

    async fn stream(&mut self, link: &mut RedisLink, stream: &str) -> Result<StreamFacts, LinkError> {
        let length = answer::<u64>(link, redis::cmd("XLEN").arg(stream)).await?;
        for gate in self.gates.iter().filter(|gate| gate.stream() == stream) {
            match &length {
                Ok(length) => gate.note_length(*length),
                Err(_) => gate.note_unknown(),
            }
        }
        let dead = answer::<u64>(link, redis::cmd("XLEN").arg(names::dead_letter_stream(stream))).await?;
        Ok(StreamFacts {
            groups: groups::of(link, stream).await?,
            ends: ends::of(link, stream).await?,
            letters: self.letters(link, stream, &dead).await?,
            length,
            dead,
        })
    }

    /// Letters are looked into when their number has changed, and not all the time.
    async fn letters(
        &mut self,
        link: &mut RedisLink,
        stream: &str,
        dead: &Told<u64>,
    ) -> Result<Told<Letters>, LinkError> {
        let count = match dead {
            Ok(0) => return Ok(Ok(Letters::default())),
            Ok(count) => *count,
            Err(why) => return Ok(Err(why.clone())),
        };
        if let Some((known, at, found)) = self.letters.get(stream)
            && (*known == count || at.elapsed() < LETTERS_EVERY)
        {
            return Ok(found.clone());
        }
        let found = letters::newest(link, stream).await?;
        self.letters.insert(stream.to_owned(), (count, Instant::now(), found.clone()));
        Ok(found)
    }
}

/// What a backfiller reports of itself, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    at: u64,
    #[serde(default)]
    repositories_processed: u64,
    #[serde(default)]
    repositories_dead: u64,
}

async fn backfillers(link: &mut RedisLink, key: &str) -> Result<Told<Backfillers>, LinkError> {
    match answer::<u64>(link, redis::cmd("HLEN").arg(key)).await? {
        Ok(count) if count > MOST_REPORTS => return Ok(Err(format!("{count} reports are too many to read"))),
        Ok(_) => {}
        Err(why) => return Ok(Err(why)),
    }
    let reports = answer::<Vec<String>>(link, redis::cmd("HVALS").arg(key)).await?;
    Ok(reports.map(|reports| sum(&reports, now_ms())))
}

fn sum(reports: &[String], now: u64) -> Backfillers {
    let reports = reports.iter().filter_map(|report| serde_json::from_str::<Report>(report).ok());
    let alive = reports.filter(|report| now.saturating_sub(report.at) < names::REPORT_STALE_MS);
    alive.fold(Backfillers::default(), |sum, report| Backfillers {
        running: sum.running.saturating_add(1),
        done: sum.done.saturating_add(report.repositories_processed).saturating_add(report.repositories_dead),
    })
}

async fn memory(link: &mut RedisLink) -> Result<Told<RedisMemory>, LinkError> {
    let info = answer::<String>(link, redis::cmd("INFO").arg("memory")).await?;
    let number = |info: &str, name| field(info, name)?.parse::<u64>().ok();
    Ok(info.map(|info| RedisMemory { used: number(&info, "used_memory"), most: number(&info, "maxmemory") }))
}

async fn persistence(link: &mut RedisLink) -> Result<Told<Persistence>, LinkError> {
    let info = answer::<String>(link, redis::cmd("INFO").arg("persistence")).await?;
    let is = |info: &str, name, yes| field(info, name).map(|value| value == yes);
    Ok(info.map(|info| Persistence {
        append_only: is(&info, "aof_enabled", "1"),
        last_append_ok: is(&info, "aof_last_write_status", "ok"),
        last_save_ok: is(&info, "rdb_last_bgsave_status", "ok"),
    }))
}

/// A field of what INFO says.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A command's answer, or why the server refuses it. What passes by itself (a lost connection) ends the look.
pub(super) async fn answer<T: FromRedisValue>(
    link: &mut RedisLink,
    command: &Cmd,
) -> Result<Told<T>, LinkError> {
    match link.query(command).await {
        Ok(value) => Ok(Ok(value)),
        Err(error @ LinkError::Redis(_)) if !error.is_transient() && link.is_connected() => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_those_that_ended_and_what_is_none_do_not_count() {
        let report =
            |at: u64| format!(r#"{{"at":{at},"repositories_processed":5,"repositories_dead":2,"x":[]}}"#);
        let reports = [report(990_000), report(980_000), report(1), "{}".to_owned(), "nonsense".to_owned()];
        assert_eq!(sum(&reports, 1_000_000), Backfillers { running: 2, done: 14 });
    }
}
