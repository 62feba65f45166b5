//! What is computed from the state it names, at the moment it is asked for: how much is in memory, how far behind this
//! consumer is, how long a lane has been at its batch.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use rsky_common::clock::now_ms;
use rsky_common::runtime::budget::ByteBudget;

use crate::acks::Source;

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

/// The streams that are read, and the budget of what was read. Clones share them.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Bytes in memory.
    pub budget: ByteBudget,
    /// Entries in memory.
    pub held: Held,
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
}

impl Observed {
    /// Nothing is read yet.
    pub fn new(budget: ByteBudget) -> Self {
        Self { budget, held: Held::default(), sources: Arc::default() }
    }

    /// A stream is read from now on.
    pub fn add(&self, source: &Arc<Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(source));
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let in_memory = [
            (
                "indexer_bytes_in_memory",
                "Bytes of entries held between Redis and Postgres",
                self.budget.bytes(),
            ),
            ("indexer_entries_in_memory", "Entries held between Redis and Postgres", self.held.count()),
        ];
        for (name, help, value) in in_memory {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let help =
            "Age of the oldest entry that was written and is not indexed, as far as this consumer knows";
        let mut family = encoder.encode_descriptor("indexer_lag_seconds", help, None, MetricType::Gauge)?;
        let now = now_ms();
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ConstGauge::new(source.lag_seconds(now)).encode(family.encode_family(&source.labels)?)?;
        }
        Ok(())
    }
}
