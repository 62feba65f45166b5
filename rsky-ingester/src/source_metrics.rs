//! Metrics that are read from the sources when they are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use rsky_common::admin::Registry;

use crate::budgets::Budgets;
use crate::metrics::declared;
use crate::source::{Kind, Source};

/// The sources that are read. Cloning gives another handle to the same list.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
    budgets: Budgets,
}

impl SourceMetrics {
    /// No sources yet.
    pub fn new(budgets: Budgets) -> Self {
        Self { sources: Arc::default(), budgets }
    }

    /// Another source.
    pub fn add(&self, source: &Arc<Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(source));
    }

    /// Frames read and not yet in Redis, of all sources.
    pub fn frames(&self) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| source.waiting()).sum()
    }

    /// How many times frames were written or dropped, by all sources: it changes while the work moves.
    pub fn times_done(&self) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| source.times_done()).fold(0, u64::wrapping_add)
    }
}

impl SourceMetrics {
    /// What the sources of a kind have taken in since the start.
    pub fn taken_in(&self, kind: Kind) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().filter(|source| source.kind == kind).map(|source| source.taken_in()).sum()
    }

    /// The sources.
    pub fn all(&self) -> Vec<Arc<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers what is read from the sources when it is asked for; `memory_bound`: most memory the process takes, in
    /// bytes.
    pub fn register(&self, registry: &mut Registry, memory_bound: u64) {
        let all = self.clone();
        declared::LAG.asked_by(registry, move || {
            let sources = all.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let series = |source: &Source| vec![source.stream.clone(), source.host.configured().to_owned()];
            let lags = sources.iter().filter_map(|source| Some((series(source), source.lag_seconds()?)));
            lags.collect()
        });
        let all = self.clone();
        declared::EVENTS_IN_MEMORY.asked(registry, move || Some(all.frames() as f64));
        let (bytes, bound) = (self.budgets.clone(), self.budgets.clone());
        declared::BYTES_IN_MEMORY.asked(registry, move || Some(bytes.bytes() as f64));
        declared::BYTES_BOUND.asked(registry, move || Some(bound.total() as f64));
        declared::MEMORY_BOUND.asked(registry, move || Some(memory_bound as f64));
    }
}
