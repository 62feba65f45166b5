//! Entries that are set aside because somebody else holds rows they need, or because they fail by themselves in a way that
//! nobody foresaw. They stay claimed, so what depends on them waits,
//! and nothing else does.
//!
//! Entries that wait for rows hold the stream up when there are as many of them as may wait: there is somebody who holds these
//! rows, and can be told. What fails by itself may never end, so when room is short it is put back: it stays pending in the
//! stream, nothing is kept of it here, and it is read again like what another consumer has left (`INDEXER_CLAIM_IDLE_MS`). That
//! bounds it and loses nothing; a dead letter would be neither, since only what cannot be anything but the entry's own fault may
//! become one ([`crate::disposition`]), and letters of entries are trimmed. What depends on it goes on without it then, with the
//! order that two processes have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use rsky_common::admin::{Gauge, Readiness, Status};
use rsky_common::clock::now_iso;
use rsky_common::runtime::budget::Charge;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dispatch::{Batch, Pending};
use crate::held_rows::Row;
use crate::kind::Kind;
use crate::order::Entry;

/// Shortest and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The same for what fails in a way that nobody foresaw: a try may be many transactions.
const PAUSES_OF_FAILURES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A row that is held for a shorter time than this is told of in metrics only: lanes and processes meet on counters.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// How long it counts as not ready that entries were put back: by default, until they are read again.
const LOUD: Duration = Duration::from_secs(300);

/// Rows shown on the status page.
const SHOWN: usize = 20;

/// What the outside is told of entries that are set aside.
#[derive(Debug, Clone)]
pub struct Telling {
    /// Not ready while rows are held.
    pub readiness: Readiness,
    /// How many entries are set aside.
    pub entries: Gauge,
    shown: Arc<Mutex<Vec<Shown>>>,
}

#[derive(Debug)]
struct Shown {
    rows: Vec<String>,
    entries: usize,
    since: Instant,
    since_time: String,
}

impl Telling {
    /// On the status page under this name.
    pub fn new(readiness: Readiness, entries: Gauge, status: &Status, name: &str) -> Self {
        readiness.ready();
        let shown: Arc<Mutex<Vec<Shown>>> = Arc::default();
        let source = Arc::clone(&shown);
        status.source(name, move || {
            let shown = source.lock().unwrap_or_else(PoisonError::into_inner);
            Value::from(shown.iter().map(Shown::describe).collect::<Vec<Value>>())
        });
        Self { readiness, entries, shown }
    }
}

impl Shown {
    fn describe(&self) -> Value {
        json!({
            "waiting_for": self.rows,
            "entries": self.entries,
            "since": self.since_time,
            "seconds": self.since.elapsed().as_secs(),
        })
    }
}

/// Entries that wait for the same rows.
struct Group<K: Kind> {
    entries: Vec<Entry<Pending<K::Item>>>,
    held: Held,
    next: Instant,
    /// Bytes of the memory budget.
    charged: u64,
}

/// Rows that somebody holds.
#[derive(Debug, Clone)]
pub struct Held {
    rows: HashSet<Row>,
    /// Since when that is known.
    pub since: Instant,
    since_time: String,
}

/// See the module.
pub struct SetAside<K: Kind> {
    groups: VecDeque<Group<K>>,
    /// Also those of groups that are being tried.
    rows: HashMap<Row, u32>,
    entries: usize,
    /// What was put back of late.
    put_back: Option<PutBack>,
    telling: Telling,
}

/// Entries that were put back.
#[derive(Debug)]
struct PutBack {
    entries: usize,
    why: String,
    since: Instant,
    since_time: String,
    until: Instant,
}

impl<K: Kind> SetAside<K> {
    /// Nothing yet.
    pub fn new(telling: Telling) -> Self {
        Self { groups: VecDeque::new(), rows: HashMap::default(), entries: 0, put_back: None, telling }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing is set aside.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether anything is set aside or being tried.
    pub fn keeps_any(&self) -> bool {
        !self.rows.is_empty() || !self.groups.is_empty()
    }

    /// Sets entries aside that need these rows; `before`: what held them up until now.
    pub fn put(&mut self, entries: Vec<Entry<Pending<K::Item>>>, rows: Vec<Row>, before: Option<&Held>) {
        let now = Instant::now();
        let (since, since_time) =
            before.map_or_else(|| (now, now_iso()), |held| (held.since, held.since_time.clone()));
        let held = Held { rows: rows.into_iter().collect(), since, since_time };
        for row in &held.rows {
            *self.rows.entry(row.clone()).or_default() += 1;
        }
        self.entries += entries.len();
        let (shortest, longest) = if held.fails() { PAUSES_OF_FAILURES } else { PAUSES };
        let pause = (now.duration_since(since) / 4).clamp(shortest, longest);
        let charges = entries.iter().filter_map(|entry| entry.item.job.charge.as_ref());
        let charged = charges.map(Charge::bytes).sum();
        self.groups.push_back(Group { entries, held, next: now + pause, charged });
    }

    /// When the next group is to be tried.
    pub fn next_try(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.next).min()
    }

    /// When the outside is to be told that what was put back is old news.
    pub fn next_word(&self) -> Option<Instant> {
        self.put_back.as_ref().map(|put_back| put_back.until)
    }

    /// How many entries of it fail by themselves, and what the memory budget is charged for them, in bytes.
    pub fn failing(&self) -> (usize, u64) {
        let failing = self.groups.iter().filter(|group| group.held.fails());
        failing.fold((0, 0), |(entries, bytes), group| (entries + group.entries.len(), bytes + group.charged))
    }

    /// Takes what fails by itself out, to be put back. What is being tried at the moment is left.
    pub fn take_failing(&mut self) -> Vec<Entry<Pending<K::Item>>> {
        let (failing, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.groups).into_iter().partition(|group| group.held.fails());
        self.groups = others;
        let mut entries = Vec::new();
        for group in failing {
            self.tried(&group.held);
            self.note_put_back(&group);
            entries.extend(group.entries);
        }
        self.entries = self.entries.saturating_sub(entries.len());
        entries
    }

    fn note_put_back(&mut self, group: &Group<K>) {
        let put_back = self.put_back.get_or_insert_with(|| PutBack {
            entries: 0,
            why: String::new(),
            since: group.held.since,
            since_time: group.held.since_time.clone(),
            until: group.held.since,
        });
        put_back.entries += group.entries.len();
        put_back.why = group.show().rows.join(", ");
        put_back.until = Instant::now() + LOUD;
    }

    /// A group whose time has come. Its rows count as held until [`Self::tried`].
    pub fn due(&mut self, now: Instant) -> Option<Batch<K>> {
        let at = self.groups.iter().position(|group| group.next <= now)?;
        let group = self.groups.remove(at)?;
        self.entries = self.entries.saturating_sub(group.entries.len());
        Some(Batch { entries: group.entries, held: Some(group.held) })
    }

    /// A group has been tried.
    pub fn tried(&mut self, held: &Held) {
        for row in &held.rows {
            if let Some(count) = self.rows.get_mut(row) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.rows.remove(row);
                }
            }
        }
    }

    /// Whether an item needs a row that is held.
    pub fn is_needed(&self, item: &K::Item) -> bool {
        let is_held = |row: &Row| self.rows.contains_key(row) || self.rows.contains_key(&row.whole_table());
        !self.rows.is_empty() && K::rows(item).iter().any(is_held)
    }

    /// Tells the outside how it stands.
    pub fn tell(&mut self) {
        let now = Instant::now();
        let loud = self.put_back.is_some();
        drop(self.put_back.take_if(|put_back| put_back.until <= now));
        let was = usize::try_from(self.telling.entries.get()).unwrap_or(0);
        if was == 0 && self.groups.is_empty() && self.rows.is_empty() && !loud {
            return;
        }
        self.telling.entries.set(i64::try_from(self.entries).unwrap_or(i64::MAX));
        let put_back = self.put_back.iter().map(PutBack::show);
        let shown: Vec<Shown> = put_back.chain(self.groups.iter().map(Group::show)).take(SHOWN).collect();
        *self.telling.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        if let Some(PutBack { entries, why, since_time, .. }) = &self.put_back {
            self.telling.readiness.not_ready(format!(
                "more entries fail by themselves than may wait: {entries} were left pending since {since_time}, to be read \
                 again after INDEXER_CLAIM_IDLE_MS, and {} are set aside: {why}",
                self.entries
            ));
            return;
        }
        let oldest = self.groups.iter().min_by_key(|group| group.held.since);
        match oldest.filter(|group| group.held.since.elapsed() >= WORTH_TELLING) {
            Some(group) => self.telling.readiness.not_ready(format!(
                "{} entries are set aside and tried again, the oldest since {}: {}",
                self.entries,
                group.held.since_time,
                group.show().rows.join(", ")
            )),
            None if self.rows.is_empty() => self.telling.readiness.ready(),
            None => {}
        }
    }

    /// Tells the outside that what was put back is old news, once it is.
    pub fn tell_in_time(&mut self) {
        if self.put_back.as_ref().is_some_and(|put_back| put_back.until <= Instant::now()) {
            self.tell();
        }
    }

    /// All of them.
    pub fn drain(&mut self) -> impl Iterator<Item = Entry<Pending<K::Item>>> + '_ {
        self.entries = 0;
        self.groups.drain(..).flat_map(|group| group.entries)
    }
}

impl Held {
    /// Whether it is not rows of others that are waited for.
    fn fails(&self) -> bool {
        self.rows.iter().any(Row::is_failure)
    }
}

impl PutBack {
    fn show(&self) -> Shown {
        Shown {
            rows: vec![format!("left pending, read again after INDEXER_CLAIM_IDLE_MS: {}", self.why)],
            entries: self.entries,
            since: self.since,
            since_time: self.since_time.clone(),
        }
    }
}

impl<K: Kind> Group<K> {
    fn show(&self) -> Shown {
        let mut rows: Vec<String> = self.held.rows.iter().map(Row::describe).collect();
        rows.sort_unstable();
        rows.truncate(3);
        Shown {
            rows,
            entries: self.entries.len(),
            since: self.held.since,
            since_time: self.held.since_time.clone(),
        }
    }
}
