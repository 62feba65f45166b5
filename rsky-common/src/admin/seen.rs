//! What Redis said of the pipeline when it was last looked at. Each part has its own answer: what a user of Redis may not
//! look at is an error in its place.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A part's answer, or why there is none.
pub type Told<T> = Result<T, String>;

/// A look at the pipeline.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What was seen; an error: nothing could be.
    pub facts: Told<Facts>,
}

/// What is seen of the pipeline.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The streams by name, in the order of the flow.
    pub streams: Vec<(String, StreamFacts)>,
    /// Repositories that were put off.
    pub put_off: Told<u64>,
    /// What the backfillers that run have done with, together.
    pub backfillers: Told<Backfillers>,
    /// Redis' memory.
    pub memory: Told<RedisMemory>,
    /// What Redis keeps on disk.
    pub persistence: Told<Persistence>,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct StreamFacts {
    /// Entries.
    pub length: Told<u64>,
    /// Dead letters beside it.
    pub dead: Told<u64>,
    /// Its consumer groups.
    pub groups: Told<Vec<Group>>,
    /// Its ends.
    pub ends: Told<Ends>,
    /// Its newest dead letters.
    pub letters: Told<Letters>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Consumers it knows, running or not.
    pub consumers: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: Option<u64>,
    /// Entries not delivered; `None`: the server does not know.
    pub lag: Option<u64>,
    /// Seconds since the oldest entry was written that was delivered and is not acknowledged; 0 without any.
    pub oldest_pending_seconds: Told<f64>,
}

/// The ends of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Entries ever added; `None`: a server before 7.
    pub added: Option<u64>,
    /// Entries that have left it, of the same moment.
    pub gone: Option<u64>,
    /// When the oldest entry was written, in milliseconds since 1970; `None`: the stream is empty.
    pub oldest_ms: Option<u64>,
}

/// The backfillers that have reported of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backfillers {
    /// How many there are.
    pub running: u64,
    /// Repositories they are done with since they started, dead letters included.
    pub done: u64,
}

/// Redis' memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisMemory {
    /// In use.
    pub used: Option<u64>,
    /// `maxmemory`; 0: unlimited.
    pub most: Option<u64>,
}

/// What Redis keeps on disk; `None`: the server does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Whether it keeps an append-only file.
    pub append_only: Option<bool>,
    /// Whether it could write that last time.
    pub last_append_ok: Option<bool>,
    /// Whether it could write its last snapshot.
    pub last_save_ok: Option<bool>,
}

/// The newest dead letters of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Letters {
    /// How many were looked at, the newest first.
    pub looked_at: u64,
    /// How many of these have which reason, the most frequent first.
    pub by_reason: Vec<(String, u64)>,
    /// The newest of each reason.
    pub examples: Vec<Example>,
}

/// One dead letter, without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its id in the stream of dead letters.
    pub id: String,
    /// Why it is there.
    pub reason: String,
    /// What went wrong, cut.
    pub error: String,
    /// Where it came from.
    pub source: String,
}

impl Facts {
    /// A stream by its name.
    pub fn stream(&self, name: &str) -> Option<&StreamFacts> {
        self.streams.iter().find(|(known, _)| known == name).map(|(_, facts)| facts)
    }
}

impl StreamFacts {
    /// Seconds since its oldest entry was written; 0: it is empty, `None`: nobody knows.
    pub fn oldest_seconds(&self, now_ms: u64) -> Option<f64> {
        let oldest = self.ends.as_ref().ok()?.oldest_ms;
        Some(oldest.map_or(0.0, |oldest| now_ms.saturating_sub(oldest) as f64 / 1000.0))
    }
}

fn told<T: Serialize>(told: &Told<T>) -> Value {
    match told {
        Ok(value) => json!(value),
        Err(why) => json!({ "error": why }),
    }
}

impl Seen {
    /// The section `redis` of `/status`.
    pub fn json(&self) -> Value {
        let facts = match &self.facts {
            Ok(facts) => facts,
            Err(why) => return json!({ "error": why }),
        };
        let mut all = Map::new();
        for (name, stream) in &facts.streams {
            let groups = stream.groups.as_ref().map(|groups| {
                let about = |group: &Group| {
                    json!({
                        "consumers": group.consumers,
                        "pending": group.pending,
                        "lag": group.lag,
                        "oldest_pending_seconds": told(&group.oldest_pending_seconds),
                    })
                };
                groups.iter().map(|group| (group.name.clone(), about(group))).collect::<Map<_, _>>()
            });
            let about = json!({
                "length": told(&stream.length),
                "dead_letters": told(&stream.dead),
                "groups": told(&groups.map_err(Clone::clone)),
                "entries_added": told(&stream.ends.as_ref().map(|ends| ends.added).map_err(Clone::clone)),
                "oldest_entry_ms": told(&stream.ends.as_ref().map(|ends| ends.oldest_ms).map_err(Clone::clone)),
                "newest_dead_letters": told(&stream.letters),
            });
            all.insert(name.clone(), about);
        }
        all.insert("repositories_put_off".to_owned(), told(&facts.put_off));
        all.insert("backfillers".to_owned(), told(&facts.backfillers));
        match &facts.memory {
            Ok(memory) => {
                all.insert("used_memory_bytes".to_owned(), json!(memory.used));
                all.insert("maxmemory_bytes".to_owned(), json!(memory.most));
            }
            Err(why) => drop(all.insert("memory".to_owned(), json!({ "error": why }))),
        }
        match &facts.persistence {
            Ok(kept) => {
                all.insert("append_only".to_owned(), json!(kept.append_only));
                all.insert("last_append_ok".to_owned(), json!(kept.last_append_ok));
                all.insert("last_save_ok".to_owned(), json!(kept.last_save_ok));
            }
            Err(why) => drop(all.insert("persistence".to_owned(), json!({ "error": why }))),
        }
        all.into()
    }
}
