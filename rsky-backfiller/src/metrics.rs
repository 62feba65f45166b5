//! What the backfiller counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rsky_common::runtime::Rounds;

use crate::outcome::{Action, Class};

/// Repositories by outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabel {
    /// See [`Class`].
    pub class: &'static str,
}

/// Everything the backfiller counts. What is computed when it is asked for is in [`crate::observed`].
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Outcomes of tries, by class.
    pub outcomes: Family<ClassLabel, Counter>,
    /// Repositories that are done with.
    pub processed: Counter,
    /// Tries that failed.
    pub failed: Counter,
    /// Repositories that became dead letters.
    pub dead: Counter,
    /// Repositories put off for another try.
    pub retries: Counter,
    /// Repositories put off because others could be served meanwhile.
    pub parked: Counter,
    /// Records queued.
    pub records: Counter,
    /// Records of other collections.
    pub filtered: Counter,
    /// Deletes of records that are no longer there.
    pub deletes: Counter,
    /// Records that could not be converted.
    pub bad_records: Counter,
    /// Bytes of CARs received whole.
    pub bytes: Counter,
    /// Entries taken over from other consumers.
    pub claimed: Counter,
    /// The bound on memory, which is set once.
    pub memory_bound: Gauge,
    /// Rounds of the dispatcher; for the watchdog, not scraped.
    pub rounds: Rounds,
}

impl Metrics {
    /// Makes and registers all of them, so that every series is there from the start.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let m = Self::default();
        for class in Class::ALL {
            drop(m.outcomes.get_or_create(&ClassLabel { class: class.name() }));
        }
        registry.register("backfiller_outcomes", "Outcomes of tries", m.outcomes.clone());
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("backfiller_{name}"), help, counter.clone());
        };
        counter("repos_processed", "Repositories that are done with", &m.processed);
        counter("repos_failed", "Tries that failed", &m.failed);
        counter("repos_dead_lettered", "Repositories that became dead letters", &m.dead);
        counter("retries_attempted", "Repositories put off for another try", &m.retries);
        counter("repos_parked", "Repositories put off so that other hosts can be served", &m.parked);
        counter("records_extracted", "Records queued", &m.records);
        counter("records_filtered", "Records of collections that are not queued", &m.filtered);
        counter(
            "records_deleted",
            "Deletes of records that resynchronised repositories no longer have",
            &m.deletes,
        );
        counter("records_bad", "Records that could not be converted", &m.bad_records);
        counter("car_bytes", "Bytes of repositories received whole", &m.bytes);
        counter("claimed", "Entries taken over from other consumers", &m.claimed);
        registry.register(
            "backfiller_memory_bound_bytes",
            "Most memory the process takes, from its settings",
            m.memory_bound.clone(),
        );
        Arc::new(m)
    }

    /// Counts an outcome.
    pub fn outcome(&self, class: Class) {
        self.outcomes.get_or_create(&ClassLabel { class: class.name() }).inc();
        match class.action() {
            Action::Done => drop(self.processed.inc()),
            Action::Wait | Action::Later => {}
            Action::Again | Action::Confirm | Action::Bury => drop(self.failed.inc()),
        }
    }
}
