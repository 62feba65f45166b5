//! What `/status` tells, by section, and what `/` draws.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};

use super::board::{Board, StreamNames};
use super::samples::{Kind, Reading, Samples};
use super::seen::{Facts, Seen, StreamFacts};

type Source = Box<dyn Fn() -> Value + Send + Sync>;
type BoardSource = Box<dyn Fn() -> Board + Send + Sync>;

/// The sections of the status. Cloning gives another handle to the same ones.
#[derive(Clone, Default)]
pub struct Status {
    sections: Arc<Mutex<BTreeMap<String, Section>>>,
    board: Arc<Mutex<Option<BoardSource>>>,
    names: Arc<Mutex<StreamNames>>,
    seen: Arc<Mutex<Option<Seen>>>,
    /// Figures that are plotted.
    pub samples: Samples,
}

enum Section {
    Asked(Source),
    Told(Value),
}

impl Status {
    /// No sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// A section that is asked for at each request. The source must answer from memory, at once.
    pub fn source(&self, name: impl Into<String>, source: impl Fn() -> Value + Send + Sync + 'static) {
        self.set(name.into(), Section::Asked(Box::new(source)));
    }

    /// A section as last measured.
    pub fn put(&self, name: impl Into<String>, value: Value) {
        self.set(name.into(), Section::Told(value));
    }

    /// What the daemon shows of itself, asked for at each request. The source must answer from memory, at once.
    pub fn board(&self, source: impl Fn() -> Board + Send + Sync + 'static) {
        *lock(&self.board) = Some(Box::new(source));
    }

    /// The streams of the pipeline, which have plots of their own from now on.
    pub fn streams(&self, names: StreamNames) {
        for stream in names.all() {
            self.plot_stream(format!("in {stream}"), stream, Kind::Counter, |facts| {
                facts.ends.as_ref().ok()?.added
            });
            self.plot_stream(format!("out {stream}"), stream, Kind::Counter, |facts| {
                facts.ends.as_ref().ok()?.gone
            });
            self.plot_stream(format!("length {stream}"), stream, Kind::Gauge, |facts| {
                facts.length.as_ref().ok().copied()
            });
            self.plot_stream(format!("dead {stream}"), stream, Kind::Gauge, |facts| {
                facts.dead.as_ref().ok().copied()
            });
        }
        let seen = Arc::clone(&self.seen);
        self.samples.figure(DONE, "repositories done", Kind::Counter, move |_| {
            read(&seen, |facts| Some(facts.backfillers.as_ref().ok()?.done))
        });
        *lock(&self.names) = names;
    }

    fn plot_stream(&self, key: String, stream: &str, kind: Kind, figure: fn(&StreamFacts) -> Option<u64>) {
        let (seen, stream, label) = (Arc::clone(&self.seen), stream.to_owned(), key.clone());
        self.samples.figure(key, label, kind, move |_| read(&seen, |facts| figure(facts.stream(&stream)?)));
    }

    /// What Redis said of the pipeline just now; gives the section that tells of it.
    pub fn seen(&self, facts: Result<Facts, String>) -> Value {
        let seen = Seen { at: Instant::now(), facts };
        let section = seen.json();
        self.put("redis", section.clone());
        *lock(&self.seen) = Some(seen);
        section
    }

    pub(super) fn last_seen(&self) -> Option<Seen> {
        lock(&self.seen).clone()
    }

    pub(super) fn read_board(&self) -> Board {
        lock(&self.board).as_ref().map(|source| source()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> StreamNames {
        lock(&self.names).clone()
    }

    /// All sections.
    pub fn read(&self) -> Map<String, Value> {
        let sections = lock(&self.sections);
        let told = |section: &Section| match section {
            Section::Asked(source) => source(),
            Section::Told(value) => value.clone(),
        };
        sections.iter().map(|(name, section)| (name.clone(), told(section))).collect()
    }

    fn set(&self, name: String, section: Section) {
        lock(&self.sections).insert(name, section);
    }
}

/// Key of what the backfillers are done with.
pub(super) const DONE: &str = "repositories_done";

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(seen: &Mutex<Option<Seen>>, figure: impl Fn(&Facts) -> Option<u64>) -> Option<Reading> {
    let seen = lock(seen);
    let seen = seen.as_ref()?;
    Some(Reading { value: figure(seen.facts.as_ref().ok()?)? as f64, at: seen.at })
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Status")
    }
}
