//! `status`: the queue as Redis sees it, its rate, and how long it will take.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::Duration;

use clap::Args;
use redis::Value;
use rsky_common::clock::now_ms;
use rsky_common::wire::names::REPORT_STALE_MS;

use super::Redis;
use crate::config::Config;
use crate::hosts::HostState;
use crate::report::key;

/// Shows the queue.
#[derive(Debug, Args)]
pub struct Status {
    /// Seconds over which rates are measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// What is seen of the queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look {
    /// Stream, entries, pending, dead letters.
    streams: Vec<(String, u64, u64, u64)>,
    output: u64,
    delayed: u64,
    /// Entries ever added to the streams.
    added: u64,
}

impl Look {
    fn left(&self) -> u64 {
        self.streams.iter().map(|stream| stream.1).sum::<u64>().saturating_add(self.delayed)
    }

    fn settled(&self) -> u64 {
        self.added.saturating_sub(self.left())
    }
}

impl Status {
    pub(super) async fn run(
        self,
        config: &Config,
        redis: &mut Redis,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let before = look(config, redis).await?;
        let seconds = self.seconds.clamp(1, 3600);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let now = look(config, redis).await?;
        for (stream, length, pending, dead) in &now.streams {
            writeln!(out, "{stream}: {length} repositories, {pending} of them in work, {dead} dead letters")?;
        }
        writeln!(out, "{}: {} put off", config.delayed_key(), now.delayed)?;
        writeln!(out, "{}: {} entries, writing pauses at {}", config.output, now.output, config.mark)?;
        reports(config, redis, out).await?;
        let rate = now.settled().saturating_sub(before.settled()) as f64 / seconds as f64;
        writeln!(out, "rate: {rate:.1} repositories a second")?;
        writeln!(out, "time left: {}", time_left(now.left(), rate))?;
        Ok(())
    }
}

/// What each backfiller says of itself.
async fn reports(config: &Config, redis: &mut Redis, out: &mut impl Write) -> anyhow::Result<()> {
    let reports: BTreeMap<String, String> = redis::cmd("HGETALL").arg(key(config)).query_async(redis).await?;
    for (consumer, report) in reports {
        let report: serde_json::Value = serde_json::from_str(&report).unwrap_or_default();
        let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let age = now_ms().saturating_sub(number("/at"));
        if age > REPORT_STALE_MS {
            writeln!(out, "backfiller {consumer}: not heard of for {} s", age / 1000)?;
            continue;
        }
        let (running, waiting) = (number("/repositories_running"), number("/repositories_waiting"));
        write!(out, "backfiller {consumer}: {running} repositories in work, {waiting} waiting; hosts:")?;
        for state in HostState::ALL {
            write!(
                out,
                " {} {}",
                number(&format!("/hosts/{}", state.name())),
                state.name().replace('_', " ")
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn time_left(left: u64, rate: f64) -> String {
    if left == 0 {
        return "nothing is left".to_owned();
    }
    if rate <= 0.0 {
        return format!("unknown: {left} left, none finished meanwhile");
    }
    let seconds = (left as f64 / rate) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("about {days} d {hours} h {minutes} min {} s for what is queued now", seconds % 60)
}

async fn look(config: &Config, redis: &mut Redis) -> anyhow::Result<Look> {
    let mut look = Look::default();
    for stream in &config.streams {
        let length: u64 = redis::cmd("XLEN").arg(stream).query_async(redis).await?;
        let dead: u64 = redis::cmd("XLEN").arg(format!("{stream}_dlq")).query_async(redis).await?;
        let (mut pending, mut added) = (0, 0);
        if length > 0 {
            // Of a stream or group that is not there yet, XINFO is an error.
            let groups: Vec<HashMap<String, Value>> =
                redis::cmd("XINFO").arg("GROUPS").arg(stream).query_async(redis).await.unwrap_or_default();
            let ours = |facts: &&HashMap<String, Value>| matches!(facts.get("name"), Some(Value::BulkString(name)) if name == config.group.as_bytes());
            pending = groups.iter().find(ours).map_or(0, |facts| number(facts.get("pending")));
        }
        if let Ok(facts) =
            redis::cmd("XINFO").arg("STREAM").arg(stream).query_async::<HashMap<String, Value>>(redis).await
        {
            added = number(facts.get("entries-added"));
        }
        look.added = look.added.saturating_add(added);
        look.streams.push((stream.clone(), length, pending, dead));
    }
    look.output = redis::cmd("XLEN").arg(&config.output).query_async(redis).await?;
    look.delayed = redis::cmd("ZCARD").arg(config.delayed_key()).query_async(redis).await?;
    Ok(look)
}

fn number(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_said_in_words() {
        assert_eq!(time_left(0, 0.0), "nothing is left");
        assert!(time_left(5, 0.0).starts_with("unknown"));
        assert_eq!(time_left(90_061, 1.0), "about 1 d 1 h 1 min 1 s for what is queued now");
    }
}
