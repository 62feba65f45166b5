//! Everything that is shown at one moment, for the page and for `/status` alike.

use serde_json::{Map, Value, json};

use super::backfill::Backfill;
use super::board::{Board, Bound, Lag, StreamNames};
use super::samples::{EVERY, History};
use super::seen::{Facts, Told};
use super::verdict::{ANOTHER_TIME, Verdict, judge};
use crate::clock::now_ms;
use crate::config::Shown;

/// Everything that is shown.
pub(super) struct View {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) uptime_seconds: u64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) not_ready: Vec<(String, String)>,
    pub(super) standing_still: Vec<(String, String)>,
    pub(super) board: Board,
    pub(super) names: StreamNames,
    /// `None`: nobody has looked yet.
    pub(super) seen: Option<Told<Facts>>,
    pub(super) histories: Vec<History>,
    pub(super) settings: Vec<Shown>,
    /// The sections of the daemon.
    pub(super) sections: Map<String, Value>,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl View {
    /// Adds what is bounded for every daemon: its own memory first, Redis' last.
    pub(super) fn bounded(mut self) -> Self {
        let plan = |field: &str| self.sections.get("memory_plan")?.get(field)?.as_u64();
        let own = Bound {
            of: "this process".to_owned(),
            used_bytes: self.resident_bytes,
            most_bytes: plan("needed_bytes").or_else(|| plan("usable_bytes")),
        };
        self.board.bounds.insert(0, own);
        if let Some(Ok(facts)) = &self.seen
            && let Ok(memory) = &facts.memory
        {
            let most_bytes = memory.most.filter(|most| *most > 0);
            self.board.bounds.push(Bound { of: "Redis".to_owned(), used_bytes: memory.used, most_bytes });
        }
        self.now_ms = now_ms();
        self
    }

    pub(super) fn history(&self, key: &str) -> Option<&History> {
        self.histories.iter().find(|history| history.key == key)
    }

    /// How many a second now.
    pub(super) fn rate(&self, key: &str) -> Option<f32> {
        self.history(key)?.now()
    }

    pub(super) fn facts(&self) -> Option<&Facts> {
        self.seen.as_ref()?.as_ref().ok()
    }

    pub(super) fn verdict(&self) -> Verdict {
        judge(self)
    }

    pub(super) fn backfill(&self) -> Option<Backfill> {
        Backfill::of(self.facts()?, &self.names, &self.histories)
    }

    /// `/status`.
    pub(super) fn json(self) -> Value {
        let mut all = Map::new();
        let not_ready: Map<_, _> =
            self.not_ready.iter().map(|(part, why)| (part.clone(), json!(why))).collect();
        all.insert("daemon".to_owned(), json!(self.name));
        all.insert("version".to_owned(), json!(self.version));
        all.insert("uptime_seconds".to_owned(), json!(self.uptime_seconds));
        all.insert("resident_memory_bytes".to_owned(), json!(self.resident_bytes));
        all.insert("ready".to_owned(), json!(not_ready.is_empty()));
        all.insert("not_ready".to_owned(), not_ready.into());
        all.insert("verdict".to_owned(), json!(self.verdict()));
        all.insert("lags".to_owned(), json!(self.board.lags));
        all.insert("gates".to_owned(), json!(self.board.gates));
        all.insert("bounds".to_owned(), json!(self.board.bounds));
        all.insert("hosts_in_trouble".to_owned(), json!(self.board.hosts));
        all.insert("backfill".to_owned(), json!(self.backfill()));
        let figures = self.histories.iter().map(|history| (history.key.clone(), figure(history)));
        all.insert("last_half_hour".to_owned(), Value::Object(figures.collect()));
        let settings = self.settings.iter().map(|shown| (shown.name.to_owned(), json!(shown)));
        all.insert("settings".to_owned(), Value::Object(settings.collect()));
        all.extend(self.sections);
        Value::Object(all)
    }

    /// The largest of the lags that are known, and are lags.
    pub(super) fn worst_lag(&self) -> Option<&Lag> {
        let known =
            self.board.lags.iter().filter(|lag| lag.seconds.is_some_and(|seconds| seconds < ANOTHER_TIME));
        known.max_by(|left, right| {
            left.seconds.partial_cmp(&right.seconds).unwrap_or(std::cmp::Ordering::Equal)
        })
    }
}

/// A figure of `/status`: rates are per second.
fn figure(history: &History) -> Value {
    let rounded = |value: f32| (f64::from(value) * 10.0).round() / 10.0;
    let values: Vec<Option<f64>> = history.values.iter().map(|value| value.map(rounded)).collect();
    json!({
        "label": history.label,
        "per_second": history.is_rate,
        "every_seconds": EVERY.as_secs(),
        "values": values,
    })
}
