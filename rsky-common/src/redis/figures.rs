//! What was last seen of Redis, as metrics: the figures of [`super::overview`], absent when they are old.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use serde_json::Value;

use super::overview::LOOKED_AT;
use crate::admin::{Declaration, Label, gauge};

/// Age from which nobody knows. Redis is looked at every 5 s.
const OLD: Duration = Duration::from_secs(30);

const STREAM: Label = Label::configured("stream", "a stream that this daemon watches");
const GROUP: Label = Label::configured("group", "a consumer group of it, at most 16");
const UNKNOWN: &str = "while Redis cannot be asked";

crate::declare! {
    OF_REDIS, "Redis, as this daemon has seen it in the last seconds";
    SEEN = gauge("rsky_redis_seen", "0 or 1", "1 when Redis has answered in the last 30 s");
    LENGTH = gauge("rsky_stream_length", "entries", "Entries in the stream").by(&[STREAM]).absent(UNKNOWN);
    LETTERS = gauge("rsky_stream_dead_letters", "entries", "Dead letters beside the stream")
        .by(&[STREAM]).absent(UNKNOWN);
    LAG = gauge("rsky_group_lag_entries", "entries", "Entries that the group has not read")
        .by(&[STREAM, GROUP]).absent("while Redis cannot tell, which is so after entries were deleted in between");
    PENDING = gauge("rsky_group_pending_entries", "entries", "Entries that the group has read and not acknowledged")
        .by(&[STREAM, GROUP]).absent(UNKNOWN);
    OLDEST_PENDING = gauge(
        "rsky_group_oldest_pending_seconds",
        "seconds",
        "Time since the oldest entry was written that the group has read and not acknowledged; 0 without any"
    ).by(&[STREAM, GROUP]).absent(UNKNOWN);
    USED = gauge("rsky_redis_used_memory_bytes", "bytes", "Memory that Redis uses").absent(UNKNOWN);
    MOST = gauge("rsky_redis_maxmemory_bytes", "bytes", "maxmemory of Redis; 0: none is set").absent(UNKNOWN);
    APPENDS = gauge("rsky_redis_append_only", "0 or 1", "1 when Redis keeps an append-only file").absent(UNKNOWN);
    APPEND_OK = gauge("rsky_redis_last_append_ok", "0 or 1", "0 when Redis could not write its append-only file")
        .absent(UNKNOWN);
    SAVE_OK = gauge("rsky_redis_last_save_ok", "0 or 1", "0 when Redis could not write its last snapshot")
        .absent(UNKNOWN);
}

/// What was last seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RedisFigures(Arc<Mutex<Option<(Value, Instant)>>>);

impl RedisFigures {
    /// Registers the metrics of what will be seen.
    pub fn register(registry: &mut Registry) -> Self {
        let figures = Self::default();
        let seen = figures.clone();
        SEEN.asked(registry, move || Some(if seen.is_known() { 1.0 } else { 0.0 }));
        for (declared, name) in [(&LENGTH, "length"), (&LETTERS, "dead_letters")] {
            let seen = figures.clone();
            declared.asked_by(registry, move || seen.of_streams(name));
        }
        for (declared, name) in
            [(&LAG, "lag"), (&PENDING, "pending"), (&OLDEST_PENDING, "oldest_pending_seconds")]
        {
            let seen = figures.clone();
            declared.asked_by(registry, move || seen.of_groups(name));
        }
        let of_server: [(&'static Declaration, &'static str); 5] = [
            (&USED, "used_memory_bytes"),
            (&MOST, "maxmemory_bytes"),
            (&APPENDS, "append_only"),
            (&APPEND_OK, "last_append_ok"),
            (&SAVE_OK, "last_save_ok"),
        ];
        for (declared, name) in of_server {
            let seen = figures.clone();
            declared.asked(registry, move || seen.look(|facts| number(facts.get(name)?)));
        }
        figures
    }

    /// This was seen now.
    pub fn note(&self, facts: &Value) {
        self.set(Some((facts.clone(), Instant::now())));
    }

    /// Redis cannot be asked.
    pub fn note_unknown(&self) {
        self.set(None);
    }

    /// Whether Redis has answered of late.
    pub fn is_known(&self) -> bool {
        self.look(|_| Some(())).is_some()
    }

    /// The length of a stream that is watched.
    pub fn length(&self, stream: &str) -> Option<f64> {
        self.look(|facts| number(facts.get(stream)?.get("length")?))
    }

    /// Entries that a group has read and not acknowledged.
    pub fn pending(&self, stream: &str, group: &str) -> Option<f64> {
        self.look(|facts| number(facts.get(stream)?.get("groups")?.get(group)?.get("pending")?))
    }

    fn set(&self, seen: Option<(Value, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    fn look<T>(&self, look: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (facts, at) = seen.as_ref()?;
        if at.elapsed() < OLD { look(facts) } else { None }
    }

    fn of_streams(&self, name: &str) -> Vec<(Vec<String>, f64)> {
        let of = |(stream, facts): (&String, &Value)| Some((vec![stream.clone()], number(facts.get(name)?)?));
        self.look(|facts| Some(facts.as_object()?.iter().filter_map(of).collect())).unwrap_or_default()
    }

    fn of_groups(&self, name: &str) -> Vec<(Vec<String>, f64)> {
        let of = |stream: &String, (group, facts): (&String, &Value)| {
            Some((vec![stream.clone(), group.clone()], number(facts.get(name)?)?))
        };
        let streams = self.look(|facts| {
            let of_stream = |(stream, facts): (&String, &Value)| {
                let groups = facts.get("groups")?.as_object()?;
                let told: Vec<_> =
                    groups.iter().take(LOOKED_AT).filter_map(|about| of(stream, about)).collect();
                Some(told)
            };
            Some(facts.as_object()?.iter().filter_map(of_stream).flatten().collect())
        });
        streams.unwrap_or_default()
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| Some(if value.as_bool()? { 1.0 } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn what_was_seen_is_told_until_it_is_not_known_any_more() {
        let mut registry = Registry::default();
        let figures = RedisFigures::register(&mut registry);
        assert!(text(&registry).contains("rsky_redis_seen 0"), "{}", text(&registry));
        figures.note(&json!({
            "s": {"length": 3, "dead_letters": {"error": "no"}, "groups": {
                "g": {"consumers": 1, "pending": 2, "lag": null, "oldest_pending_seconds": 1.5}}},
            "used_memory_bytes": 7, "maxmemory_bytes": 0, "append_only": true, "last_append_ok": false,
        }));
        let told = text(&registry);
        for line in [
            "rsky_redis_seen 1",
            "rsky_stream_length{stream=\"s\"} 3",
            "rsky_group_pending_entries{stream=\"s\",group=\"g\"} 2",
            "rsky_group_oldest_pending_seconds{stream=\"s\",group=\"g\"} 1.5",
            "rsky_redis_used_memory_bytes 7",
            "rsky_redis_maxmemory_bytes 0",
            "rsky_redis_append_only 1",
            "rsky_redis_last_append_ok 0",
        ] {
            assert!(told.contains(&format!("\n{line}\n")), "{line}: {told}");
        }
        for unknown in ["rsky_stream_dead_letters", "rsky_group_lag_entries", "rsky_redis_last_save_ok"] {
            assert!(!told.contains(unknown), "{told}");
        }
        assert_eq!((figures.length("s"), figures.pending("s", "g")), (Some(3.0), Some(2.0)));
        figures.note_unknown();
        assert!(!text(&registry).contains("stream_length"), "{}", text(&registry));
    }
}
