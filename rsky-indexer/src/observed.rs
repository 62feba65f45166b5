//! What is computed from the state it names, at the moment it is asked for: how much is in memory, how far behind this
//! consumer is, how long a lane has been at its batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rsky_common::admin::{Gauge, Registry};
use rsky_common::clock::now_ms;
use rsky_common::redis::RedisFigures;
use rsky_common::runtime::budget::ByteBudget;

use crate::acks::Source;
use crate::connections::Connections;
use crate::identity::Handover;
use crate::metrics::declared;
use crate::progress::Progress;

/// Entries in memory. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<AtomicU64>);

impl Held {
    /// Counts one more, until it is dropped.
    pub fn one(&self) -> Option<One> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(One(Arc::clone(&self.0)))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of the entries in memory.
#[derive(Debug)]
pub struct One(Arc<AtomicU64>);

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the stages leave for those who look. Clones share it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Bytes in memory.
    pub budget: ByteBudget,
    /// Entries in memory.
    pub held: Held,
    /// What was last seen of Redis.
    pub figures: RedisFigures,
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
    lanes: Arc<Mutex<Vec<(String, Progress)>>>,
    set_aside: Arc<Mutex<Vec<Gauge>>>,
    handover: Arc<OnceLock<Handover>>,
}

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observed {
    /// Nothing is read yet.
    pub fn new(budget: ByteBudget, figures: RedisFigures) -> Self {
        Self {
            budget,
            held: Held::default(),
            figures,
            sources: Arc::default(),
            lanes: Arc::default(),
            set_aside: Arc::default(),
            handover: Arc::default(),
        }
    }

    /// The streams that are read.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        locked(&self.sources).clone()
    }

    /// A stream is read from now on.
    pub fn add(&self, source: &Arc<Source>) {
        locked(&self.sources).push(Arc::clone(source));
    }

    /// Somebody writes from now on.
    pub fn add_lane(&self, name: &str, progress: Progress) {
        locked(&self.lanes).push((name.to_owned(), progress));
    }

    /// A number of entries that are set aside, which is part of all that are.
    pub fn set_aside(&self) -> Gauge {
        let part = Gauge::default();
        locked(&self.set_aside).push(part.clone());
        part
    }

    /// The work beside the lanes has begun.
    pub fn add_handover(&self, handover: &Handover) {
        // It begins once.
        drop(self.handover.set(handover.clone()));
    }

    /// Registers what is computed when it is asked for. `memory_bound`: most memory the process takes, in bytes, as planned.
    pub fn register(&self, registry: &mut Registry, connections: &Connections, memory_bound: Option<u64>) {
        let seen = self.clone();
        declared::ENTRIES_IN_MEMORY.asked(registry, move || Some(seen.held.count() as f64));
        let (used, total) = (self.budget.clone(), self.budget.clone());
        declared::BYTES_IN_MEMORY.asked(registry, move || Some(used.bytes() as f64));
        declared::BYTES_BOUND.asked(registry, move || Some(total.total() as f64));
        declared::MEMORY_BOUND.asked(registry, move || Some(memory_bound? as f64));
        let (used, total) = (connections.clone(), connections.clone());
        declared::CONNECTIONS.asked(registry, move || Some(used.busy() as f64));
        declared::CONNECTIONS_BOUND.asked(registry, move || Some(total.most() as f64));
        let seen = self.clone();
        declared::LAG.asked_by(registry, move || {
            let now = now_ms();
            let lag = |source: &Arc<Source>| {
                (source.labels.values().map(str::to_owned).to_vec(), source.lag_seconds(now))
            };
            locked(&seen.sources).iter().map(lag).collect()
        });
        let seen = self.clone();
        declared::LANE_AGE.asked_by(registry, move || {
            let now = Instant::now();
            let age = |(name, progress): &(String, Progress)| {
                let age = progress.working_for(now).unwrap_or_default();
                (vec![name.clone()], age.as_secs_f64())
            };
            locked(&seen.lanes).iter().map(age).collect()
        });
        let seen = self.clone();
        declared::FORMER_TASKS.asked(registry, move || {
            let now = Instant::now();
            let at_work = |(_, progress): &&(String, Progress)| progress.working_for(now).is_some();
            Some(locked(&seen.lanes).iter().filter(at_work).count() as f64)
        });
        let seen = self.clone();
        declared::SET_ASIDE.asked(registry, move || {
            Some(locked(&seen.set_aside).iter().map(|part| part.get() as f64).sum())
        });
        let seen = self.clone();
        declared::HANDLE_ENTRIES
            .asked(registry, move || Some(seen.handover.get().map_or(0, |handover| handover.held()) as f64));
        let seen = self.clone();
        declared::HANDLE_BOUND
            .asked(registry, move || Some(seen.handover.get().map_or(0, |handover| handover.bound()) as f64));
        let seen = self.clone();
        declared::DELETIONS_HELD_UP.asked(registry, move || {
            Some(seen.handover.get().map_or(0, |handover| handover.held_up()) as f64)
        });
        let seen = self.clone();
        declared::FORMER_PENDING.asked(registry, move || {
            let pending = |source: &Arc<Source>| {
                // Without a stream there is no group yet.
                seen.figures.pending(&source.consumer.stream, &source.consumer.group).unwrap_or(0.0)
            };
            seen.figures.is_known().then(|| locked(&seen.sources).iter().map(pending).sum())
        });
    }
}
