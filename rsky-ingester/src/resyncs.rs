//! Repositories to fetch because their events do not tell what changed (`#sync`, `tooBig`).
//!
//! Their entries go into a stream of their own, in the transaction of the events around them. That stream may be at its
//! mark for good: where no backfiller reads it, nobody drains it. Live events never wait for it. What finds no room is kept
//! in memory, one wish a repository, and queued when there is room again; beyond a bound, and when the process ends, it is
//! given up, counted and said.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::redis::{Batch, Gate, LinkError, Permit, RedisLink, StreamWriter};
use rsky_common::runtime::CancellationToken;
use rsky_common::runtime::backoff::sleep_or_stop;
use rsky_common::wire::BackfillEvent;
use rsky_common::wire::names::FIELD_REPO;

use crate::duplicates::Duplicates;
use crate::metrics::Metrics;
use crate::source::Source;

/// Repositories that wait for room at most: some 30 MB.
const MOST_WAITING: usize = 100_000;
/// Repositories that are remembered as queued, by account and revision: some 3 MB.
const REMEMBERED: usize = 50_000;
/// Time between two looks whether there is room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The account.
    pub did: String,
    /// The revision it has, if the host told.
    pub rev: Option<String>,
}

/// The wishes of all relays. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Resyncs {
    stream: String,
    gate: Gate,
    known: Duplicates,
    waiting: Arc<Mutex<Waiting>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: HashMap<String, String>,
    order: VecDeque<String>,
    given_up: u64,
    warned: Option<Instant>,
}

impl Resyncs {
    /// Wishes for a stream behind a gate.
    pub fn new(stream: &str, gate: Gate, metrics: Metrics) -> Self {
        Self {
            stream: stream.to_owned(),
            gate,
            known: Duplicates::with_window(REMEMBERED),
            waiting: Arc::default(),
            metrics,
        }
    }

    /// Takes a wish on: relay `number` is going to queue it. `false`: this revision of this repository has been taken on
    /// before. Without a revision nothing can be said.
    pub fn take_on(&self, resync: &Resync, number: usize) -> bool {
        resync.rev.as_ref().is_none_or(|rev| self.known.claim(&resync.did, rev, number))
    }

    /// The permission to queue some now; `None`: there is no room, and no time to wait for it.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn room(&self, link: &mut RedisLink) -> Result<Option<Permit>, LinkError> {
        self.gate.try_pass(link).await
    }

    /// The entries for a batch: stream, field, JSON.
    pub fn entries(&self, host: &str, resyncs: &[Resync]) -> Vec<(String, &'static str, String)> {
        resyncs.iter().map(|resync| (self.stream.clone(), FIELD_REPO, entry(host, resync))).collect()
    }

    /// The events around them are in Redis, and they with them if they were `queued`; otherwise they wait.
    pub fn settle(&self, source: &Source, resyncs: Vec<Resync>, queued: bool) {
        if resyncs.is_empty() {
            return;
        }
        if queued {
            self.gate.note_added(resyncs.len());
            return;
        }
        let host = source.host.in_entries();
        let mut waiting = self.lock();
        for resync in resyncs {
            let entry = entry(&host, &resync);
            if !waiting.add(resync.did, entry) {
                self.metrics.resync_given_up(source);
            }
        }
        self.metrics.resyncs_waiting(waiting.entries.len());
        waiting.warn(&self.stream);
    }

    /// What was queued may have been lost, and is going to be read again.
    pub fn forget(&self) {
        self.known.forget();
    }

    /// Queues what waits whenever there is room.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(self, mut writer: StreamWriter, stop: CancellationToken) -> anyhow::Result<()> {
        let mut goes_on = true;
        while goes_on {
            goes_on = sleep_or_stop(LOOK_EVERY, &stop).await;
            match self.queue_waiting(&mut writer).await {
                Ok(()) => {}
                Err(LinkError::Stopped) => break,
                Err(error) => return Err(error).context("queue repositories to be fetched first"),
            }
        }
        let left = self.lock().entries.len();
        if left > 0 {
            tracing::warn!(
                stream = self.stream,
                repositories = left,
                "given up at the stop: there is no room for repositories to be fetched first"
            );
        }
        Ok(())
    }

    async fn queue_waiting(&self, writer: &mut StreamWriter) -> Result<(), LinkError> {
        while !self.lock().entries.is_empty() {
            let Some(permit) = self.gate.try_pass(writer.link()).await? else { return Ok(()) };
            let next = self.lock().first(permit.entries);
            let entries = next.iter().map(|(_, entry)| entry.clone().into()).collect();
            let length = writer.write(&Batch { field: FIELD_REPO, entries, ..Batch::default() }).await?;
            self.gate.note_length(length);
            let mut waiting = self.lock();
            waiting.remove(&next);
            self.metrics.resyncs_waiting(waiting.entries.len());
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Remembers a wish, which takes the place of an older one for the same account. `false`: there is no room.
    fn add(&mut self, did: String, entry: String) -> bool {
        if let Some(known) = self.entries.get_mut(&did) {
            *known = entry;
            return true;
        }
        if self.entries.len() >= MOST_WAITING {
            self.given_up = self.given_up.saturating_add(1);
            return false;
        }
        self.order.push_back(did.clone());
        self.entries.insert(did, entry);
        true
    }

    fn first(&self, most: usize) -> Vec<(String, String)> {
        let dids = self.order.iter().take(most.max(1));
        dids.filter_map(|did| Some((did.clone(), self.entries.get(did)?.clone()))).collect()
    }

    /// Takes out what was written; a wish that was replaced meanwhile stays, at the end.
    fn remove(&mut self, written: &[(String, String)]) {
        for (did, entry) in written {
            self.order.pop_front();
            if self.entries.get(did) == Some(entry) {
                self.entries.remove(did);
            } else {
                self.order.push_back(did.clone());
            }
        }
    }

    fn warn(&mut self, stream: &str) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        tracing::warn!(
            stream,
            waiting = self.entries.len(),
            given_up = self.given_up,
            "no room for repositories to be fetched first: does a backfiller read this stream? INGESTER_RESYNC=false switches this off"
        );
    }
}

fn entry(host: &str, resync: &Resync) -> String {
    let event = BackfillEvent {
        did: resync.did.as_str().into(),
        host: host.into(),
        rev: resync.rev.as_deref().unwrap_or_default().into(),
        status: None,
        active: None,
    };
    event.to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wish_an_account_and_a_bound() {
        let mut waiting = Waiting::default();
        assert!(waiting.add("a".to_owned(), "1".to_owned()));
        assert!(waiting.add("b".to_owned(), "1".to_owned()));
        assert!(waiting.add("a".to_owned(), "2".to_owned()));
        let first = waiting.first(10);
        assert_eq!(first, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "1".to_owned())]);
        waiting.add("b".to_owned(), "3".to_owned());
        waiting.remove(&first);
        assert_eq!(waiting.first(10), [("b".to_owned(), "3".to_owned())]);
        (0..MOST_WAITING).for_each(|number| {
            waiting.add(number.to_string(), String::new());
        });
        assert_eq!((waiting.entries.len(), waiting.given_up), (MOST_WAITING, 1));
        assert!(waiting.add("b".to_owned(), "4".to_owned()), "it is there already");
    }
}
