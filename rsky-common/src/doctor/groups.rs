//! A stream, and the groups that read it: whether anybody does, and whether something is left that nobody will read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, cmd, pipe};

use super::Finding;
use super::reply::{Facts, id, number, of_value, text};
use crate::redis::errors::explain;
use crate::wire::names::dead_letter_stream;

/// Pending entries whose bodies are looked for.
const LOOKED_AT: usize = 100;
/// Age at which a consumer that has nothing counts as gone.
const GONE_MS: u64 = 86_400_000;

/// A stream, and who should read it.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// Its key.
    pub stream: &'a str,
    /// The group whose work it is.
    pub group: &'a str,
    /// The daemon that reads it: `indexer`.
    pub reader: &'a str,
    /// The length at which its writers stop, where that is known.
    pub mark: Option<u64>,
    /// Age at which entries of others are taken over.
    pub claim_idle: Duration,
    /// Command that lists its dead letters.
    pub letters: &'a str,
}

impl Watched<'_> {
    /// Looks at it.
    pub async fn look(&self, redis: &mut MultiplexedConnection) -> Vec<Finding> {
        match self.try_look(redis).await {
            Ok(findings) => findings,
            Err(error) => vec![self.unseen(&error)],
        }
    }

    fn unseen(&self, error: &RedisError) -> Finding {
        Finding::look(
            self.stream,
            format!("it may not be looked at, or cannot be: {}", explain(error)),
            "give the user +type +xlen +xinfo +xpending +xrange on it",
        )
    }

    async fn try_look(&self, redis: &mut MultiplexedConnection) -> RedisResult<Vec<Finding>> {
        let kind: String = cmd("TYPE").arg(self.stream).query_async(redis).await?;
        match kind.as_str() {
            "stream" => {}
            "none" => {
                return Ok(vec![Finding::fine(self.stream, "it is not there yet: nothing was written")]);
            }
            other => {
                return Ok(vec![Finding::broken(
                    self.stream,
                    format!("a key of that name is a {other}"),
                    "correct the name of the stream, or the database in REDIS_URL",
                )]);
            }
        }
        let stream: Facts = cmd("XINFO").arg("STREAM").arg(self.stream).query_async(redis).await?;
        let groups: Vec<Facts> = cmd("XINFO").arg("GROUPS").arg(self.stream).query_async(redis).await?;
        let mut findings = vec![self.length(&stream)];
        for group in groups.iter().filter(|group| text(group, "name") != self.group) {
            findings.push(self.other_group(redis, group).await?);
        }
        match groups.iter().find(|group| text(group, "name") == self.group) {
            Some(group) => {
                findings.extend(self.readers(redis, group, &stream).await?);
                findings.extend(self.position(group, &stream));
                findings.extend(self.stranded(redis, group, &stream).await?);
                findings.extend(self.bodies(redis).await?);
            }
            None => findings.push(Finding::look(
                self.stream,
                format!("nobody reads it: there is no group {}", self.group),
                format!("start {} (it makes the group), or correct the name of the group", a(self.reader)),
            )),
        }
        findings.extend(self.dead(redis).await?);
        Ok(findings)
    }

    fn length(&self, stream: &Facts) -> Finding {
        let length = number(stream, "length").unwrap_or(0);
        let oldest = first_id(stream).map(|oldest| age(&oldest)).unwrap_or_default();
        let since = if oldest.is_empty() { String::new() } else { format!(", the oldest for {oldest}") };
        match self.mark {
            Some(mark) if length >= mark => Finding::look(
                self.stream,
                format!("{length} entries{since}: at its mark ({mark}), so its writers wait"),
                format!("see that {}s run and keep up; more of them, or a higher mark", self.reader),
            ),
            Some(mark) => Finding::fine(self.stream, format!("{length} entries{since} (mark {mark})")),
            None => Finding::fine(self.stream, format!("{length} entries{since}")),
        }
    }

    /// A group beside ours. What either has done with is deleted from the stream, read by the other or not.
    async fn other_group(&self, redis: &mut MultiplexedConnection, group: &Facts) -> RedisResult<Finding> {
        let name = text(group, "name");
        let consumers = self.consumers(redis, &name).await?;
        let is_read = consumers.iter().any(|consumer| self.is_alive(consumer));
        let destroy = format!("redis-cli XGROUP DESTROY {} {name}", self.stream);
        Ok(if is_read {
            Finding::broken(
                self.stream,
                format!(
                    "a second group, {name}, reads it as well: what either has done with is deleted, so the other misses it"
                ),
                format!("let all {}s use the group {}, then {destroy}", self.reader, self.group),
            )
        } else {
            Finding::look(
                self.stream,
                format!(
                    "the group {name} is read by nobody, and has {} pending",
                    number(group, "pending").unwrap_or(0)
                ),
                format!("if nobody misses it: {destroy}"),
            )
        })
    }

    fn is_alive(&self, consumer: &Facts) -> bool {
        let idle = number(consumer, "idle").unwrap_or(u64::MAX);
        idle < u64::try_from(self.claim_idle.as_millis()).unwrap_or(u64::MAX)
    }

    async fn consumers(&self, redis: &mut MultiplexedConnection, group: &str) -> RedisResult<Vec<Facts>> {
        cmd("XINFO").arg("CONSUMERS").arg(self.stream).arg(group).query_async(redis).await
    }

    /// Who reads, and what those have that do not any more.
    async fn readers(
        &self,
        redis: &mut MultiplexedConnection,
        group: &Facts,
        stream: &Facts,
    ) -> RedisResult<Vec<Finding>> {
        let consumers = self.consumers(redis, self.group).await?;
        let (alive, gone): (Vec<&Facts>, Vec<&Facts>) =
            consumers.iter().partition(|consumer| self.is_alive(consumer));
        let has = |consumer: &&&Facts| number(consumer, "pending").unwrap_or(0) > 0;
        let has_work = number(stream, "length").unwrap_or(0) > 0 || number(group, "pending").unwrap_or(0) > 0;
        let about = format!("{} {}", self.stream, self.group);
        let mut findings = Vec::new();
        match (alive.is_empty(), has_work) {
            (false, _) => {
                let names: Vec<String> =
                    alive.iter().map(|consumer| text(consumer, "name")).take(20).collect();
                let pending = number(group, "pending").unwrap_or(0);
                findings.push(Finding::fine(
                    self.stream,
                    format!("{} reads it as {}, {pending} pending", self.group, names.join(", ")),
                ));
            }
            (true, true) => findings.push(Finding::broken(
                self.stream,
                format!(
                    "nobody of {about} has been heard of for {}, and there is work",
                    plain(self.claim_idle)
                ),
                format!("start {}", a(self.reader)),
            )),
            (true, false) => findings.push(Finding::look(
                self.stream,
                format!("nobody of {about} has been heard of for {}; it is empty", plain(self.claim_idle)),
                format!("start {}", a(self.reader)),
            )),
        }
        for consumer in gone.iter().filter(has).take(20) {
            let (name, pending) = (text(consumer, "name"), number(consumer, "pending").unwrap_or(0));
            let since = plain(Duration::from_millis(number(consumer, "idle").unwrap_or(0)));
            findings.push(Finding::look(
                self.stream,
                format!("{name} has {pending} entries and has not been heard of for {since}"),
                format!(
                    "nothing, if {} runs: it takes them over; do not delete {name} before",
                    a(self.reader)
                ),
            ));
        }
        let idle = |consumer: &&&Facts| !has(consumer) && number(consumer, "idle").unwrap_or(0) > GONE_MS;
        let idle: Vec<String> = gone.iter().filter(idle).map(|consumer| text(consumer, "name")).collect();
        if !idle.is_empty() {
            let shown: Vec<&str> = idle.iter().take(10).map(String::as_str).collect();
            findings.push(Finding::fine(
                self.stream,
                format!(
                    "{} names of readers that are gone and have nothing, which is harmless ({})",
                    idle.len(),
                    shown.join(", ")
                ),
            ));
        }
        Ok(findings)
    }

    /// Where the group stands, beside where the stream begins and ends.
    fn position(&self, group: &Facts, stream: &Facts) -> Option<Finding> {
        let delivered = text(group, "last-delivered-id");
        let (last, deleted) = (text(stream, "last-generated-id"), text(stream, "max-deleted-entry-id"));
        let set = |to: &str| format!("redis-cli XGROUP SETID {} {} {to}", self.stream, self.group);
        if id(&delivered) > id(&last) {
            return Some(Finding::broken(
                self.stream,
                format!(
                    "{} stands at {delivered}, behind the end of the stream ({last}): nothing new is read",
                    self.group
                ),
                set("0"),
            ));
        }
        // What is deleted by id is remembered, what is trimmed shows only in the counts (since Redis 7).
        let counts = number(stream, "entries-added").zip(number(group, "entries-read"));
        let length = number(stream, "length").unwrap_or(0);
        let lost = counts.map_or(0, |(added, read)| added.saturating_sub(read).saturating_sub(length));
        (lost > 0 || id(&deleted) > id(&delivered)).then(|| {
            Finding::look(
                self.stream,
                format!(
                    "entries were deleted that {} had not read (it stands at {delivered}): trimmed, deleted by hand, or by \
                     another group",
                    self.group
                ),
                "see who does that; what was lost comes back with a backfill (indexer verify --sample tells how much)",
            )
        })
    }

    /// Entries that were delivered and are pending with nobody.
    async fn stranded(
        &self,
        redis: &mut MultiplexedConnection,
        group: &Facts,
        stream: &Facts,
    ) -> RedisResult<Option<Finding>> {
        let Some(oldest) = first_id(stream) else { return Ok(None) };
        if id(&oldest) > id(&text(group, "last-delivered-id")) || self.is_pending(redis, &oldest).await? {
            return Ok(None);
        }
        // It may have been done with this very moment.
        let still: Vec<Value> = cmd("XRANGE")
            .arg(self.stream)
            .arg(&oldest)
            .arg(&oldest)
            .arg("COUNT")
            .arg(1)
            .query_async(redis)
            .await?;
        if still.is_empty() || self.is_pending(redis, &oldest).await? {
            return Ok(None);
        }
        let length = number(stream, "length").unwrap_or(0);
        let counted = number(group, "lag").map(|lag| {
            length.saturating_sub(lag).saturating_sub(number(group, "pending").unwrap_or(0)).max(1)
        });
        let many = counted.map_or_else(|| "some".to_owned(), |count| format!("about {count}"));
        Ok(Some(Finding::broken(
            self.stream,
            format!(
                "{many} entries from {oldest} on were delivered and are with nobody: no reader comes back to them, and they \
                 count against the mark"
            ),
            format!(
                "redis-cli XGROUP SETID {} {} 0   (they are read again, which is safe)",
                self.stream, self.group
            ),
        )))
    }

    async fn is_pending(&self, redis: &mut MultiplexedConnection, id: &str) -> RedisResult<bool> {
        let mut command = cmd("XPENDING");
        command.arg(self.stream).arg(self.group).arg(id).arg(id).arg(1);
        Ok(!command.query_async::<Vec<Value>>(redis).await?.is_empty())
    }

    /// Pending entries whose bodies are gone.
    async fn bodies(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<Finding>> {
        let mut command = cmd("XPENDING");
        command.arg(self.stream).arg(self.group).arg("-").arg("+").arg(LOOKED_AT);
        let pending: Vec<(String, String, u64, u64)> = command.query_async(redis).await?;
        if pending.is_empty() {
            return Ok(None);
        }
        // The number of entries of a range of one, without their bodies: those may be large.
        const THERE: &str = "return #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])";
        let mut looks = pipe();
        for (id, ..) in &pending {
            looks.cmd("EVAL").arg(THERE).arg(1).arg(self.stream).arg(id);
        }
        let there: Vec<u64> = looks.query_async(redis).await?;
        let gone = there.iter().filter(|count| **count == 0).count();
        Ok((gone > 0).then(|| {
            Finding::look(
                self.stream,
                format!(
                    "of the first {} pending entries {gone} have no body any more: done with and not acknowledged, or trimmed",
                    pending.len()
                ),
                format!("nothing, if {} runs: it acknowledges them", a(self.reader)),
            )
        }))
    }

    async fn dead(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<Finding>> {
        let dead = dead_letter_stream(self.stream);
        let letters: u64 = cmd("XLEN").arg(&dead).query_async(redis).await?;
        Ok((letters > 0)
            .then(|| Finding::look(dead, format!("{letters} that could not be processed"), self.letters)))
    }
}

/// With its article.
fn a(reader: &str) -> String {
    let article = if reader.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {reader}")
}

/// The id of a stream's first entry.
fn first_id(stream: &Facts) -> Option<String> {
    match stream.get("first-entry")? {
        Value::Array(entry) => entry.first().map(of_value),
        _ => None,
    }
}

fn age(id_text: &str) -> String {
    let (ms, _) = id(id_text);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    plain(now.saturating_sub(Duration::from_millis(ms)))
}

/// A duration for people.
fn plain(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
