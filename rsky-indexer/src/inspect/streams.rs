//! What waits in Redis, is put off, or was given up.

use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use rsky_common::redis::RedisServer;
use rsky_common::redis::consumer::Entry;
use rsky_common::redis::errors::explain;
use rsky_common::redis::search;
use rsky_common::wire::names::{FIELD_EVENT, FIELD_REPO, dead_letter_stream};
use serde_json::Value;

use super::facts::{Found, Kind, Path, Searched};
use super::settings::Settings;

/// Time for one answer of Redis.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most that is shown of what one stream holds; more is counted.
const SHOWN: usize = 10;
/// Time between two lines of progress.
const EVERY: Duration = Duration::from_secs(1);

/// Looks for what is about an account, or one of its records, wherever it may be. What cannot be searched says why.
pub(super) async fn search(
    settings: &Settings,
    did: &str,
    path: Option<&Path>,
    limit: u64,
    to_terminal: bool,
) -> Vec<Searched> {
    let mut places: Vec<(String, Kind, &str)> = Vec::new();
    for stream in &settings.streams {
        places.push((stream.clone(), Kind::Events, &settings.group));
        places.push((dead_letter_stream(stream), Kind::EventLetters, ""));
    }
    for queue in &settings.queues {
        places.push((queue.clone(), Kind::Repositories, &settings.queue_group));
        places.push((dead_letter_stream(queue), Kind::RepositoryLetters, ""));
    }
    let [_, queue] = &settings.queues;
    places.push((format!("{queue}:delayed"), Kind::PutOff, ""));
    let connected = async { Ok(RedisServer::new(&settings.redis_url)?.connect(PATIENCE).await?) };
    let mut redis: Result<MultiplexedConnection, anyhow::Error> = connected.await;
    // As all of us write it: JSON without spaces, and a DID has nothing to escape.
    let text = format!("\"did\":\"{did}\"");
    let mut progress = Progress { to_terminal, told: Instant::now() };
    let mut all = Vec::new();
    for (stream, kind, group) in places {
        let mut searched = Searched { stream, kind, ..Searched::default() };
        let outcome = match &mut redis {
            Ok(redis) if kind == Kind::PutOff => put_off(redis, &mut searched, &text, limit).await,
            Ok(redis) => {
                let look = Look { group, did, path, text: &text, limit };
                look.through(redis, &mut searched, &mut progress).await
            }
            Err(error) => {
                searched.error = Some(format!("{error:#}"));
                Ok(())
            }
        };
        if let Err(error) = outcome {
            searched.error = Some(explain(&error));
        }
        all.push(searched);
    }
    progress.end();
    all
}

struct Look<'a> {
    group: &'a str,
    did: &'a str,
    path: Option<&'a Path>,
    text: &'a str,
    limit: u64,
}

impl Look<'_> {
    async fn through(
        &self,
        redis: &mut MultiplexedConnection,
        searched: &mut Searched,
        progress: &mut Progress,
    ) -> RedisResult<()> {
        searched.length = redis::cmd("XLEN").arg(&searched.stream).query_async(redis).await?;
        let mut from = "-".to_owned();
        // What comes meanwhile is not what was asked about: a busy stream would have no end.
        let until = newest(redis, &searched.stream).await?;
        let Some(until) = until else { return Ok(()) };
        loop {
            let step = search::step(redis, &searched.stream, &from, &until, self.text).await?;
            let before = searched.seen;
            searched.seen = searched.seen.saturating_add(step.seen);
            for entry in &step.found {
                let Some(mut found) = self.read(searched.kind, entry) else { continue };
                searched.count = searched.count.saturating_add(1);
                if searched.found.len() < SHOWN {
                    found.before = before;
                    if !self.group.is_empty() {
                        let delivery =
                            search::delivery(redis, &searched.stream, self.group, &entry.id).await?;
                        found.pending = delivery.map(|delivery| (delivery.consumer, delivery.idle_ms));
                    }
                    searched.found.push(found);
                }
            }
            progress.tell(searched);
            match step.next {
                None => return Ok(()),
                Some(_) if searched.seen >= self.limit => {
                    searched.more = true;
                    return Ok(());
                }
                Some(next) => from = next,
            }
        }
    }

    /// What an entry says, if it is about what was asked.
    fn read(&self, kind: Kind, entry: &Entry) -> Option<Found> {
        let payload = [FIELD_EVENT, FIELD_REPO].iter().find_map(|field| entry.field(field))?;
        let payload: Value = serde_json::from_slice(payload).ok()?;
        let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        // The text may stand in a record that quotes it.
        if text("did").as_deref() != Some(self.did) {
            return None;
        }
        let path = text("collection").zip(text("rkey"));
        let is_asked = match (self.path, &path) {
            (Some(asked), Some((collection, rkey))) => asked.collection == *collection && asked.rkey == *rkey,
            _ => true,
        };
        if !is_asked {
            return None;
        }
        let field = |name: &str| {
            entry.field(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let is_letter = matches!(kind, Kind::EventLetters | Kind::RepositoryLetters);
        Some(Found {
            id: entry.id.clone(),
            what: text("type").unwrap_or_else(|| "repository".to_owned()),
            path: path.map(|(collection, rkey)| format!("{collection}/{rkey}")),
            rev: text("rev").filter(|rev| !rev.is_empty()),
            reason: is_letter.then(|| (field("reason"), field("error"))),
            ..Found::default()
        })
    }
}

async fn newest(redis: &mut MultiplexedConnection, stream: &str) -> RedisResult<Option<String>> {
    // One entry's body at most, and not in this program's memory.
    const NEWEST: &str = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
        return last and last[1] or ''";
    let id: String = redis::cmd("EVAL").arg(NEWEST).arg(1).arg(stream).query_async(redis).await?;
    Ok((!id.is_empty()).then_some(id))
}

/// Repositories that were put off: members of a sorted set, by the time they are due.
async fn put_off(
    redis: &mut MultiplexedConnection,
    searched: &mut Searched,
    text: &str,
    limit: u64,
) -> RedisResult<()> {
    const PAGE: u64 = 500;
    searched.length = redis::cmd("ZCARD").arg(&searched.stream).query_async(redis).await?;
    let mut cursor: u64 = 0;
    loop {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(&searched.stream).arg(cursor).arg("MATCH").arg(format!("*{text}*")).arg("COUNT").arg(PAGE);
        let (next, found): (u64, Vec<(String, f64)>) = scan.query_async(redis).await?;
        searched.seen = searched.seen.saturating_add(PAGE).min(searched.length);
        for (member, due) in found {
            searched.count = searched.count.saturating_add(1);
            if searched.found.len() < SHOWN {
                let tries = member.split('|').nth(1).and_then(|tried| tried.split(',').next()).unwrap_or("");
                searched.found.push(Found {
                    id: format!("{due:.0}"),
                    what: format!("repository, {tries} tries"),
                    ..Found::default()
                });
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
        if searched.seen >= limit {
            searched.more = true;
            return Ok(());
        }
    }
}

/// A line that is rewritten, where somebody sees it.
struct Progress {
    to_terminal: bool,
    told: Instant,
}

impl Progress {
    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    fn tell(&mut self, searched: &Searched) {
        if self.to_terminal && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            eprint!("\r{}: {} of {} entries\x1b[K", searched.stream, searched.seen, searched.length);
        }
    }

    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    fn end(&self) {
        if self.to_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
