//! What the backfiller counts.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::delayed::Seen;
use crate::hosts::HostState;
use crate::outcome::{Action, Class};

/// Repositories by outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabel {
    /// See [`Class`].
    pub class: &'static str,
}

/// Hosts by state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// See [`HostState`].
    pub state: &'static str,
}

/// Everything the backfiller counts.
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
    /// Repositories in work.
    pub running: Gauge,
    /// Repositories taken and waiting.
    pub waiting: Gauge,
    /// Repositories put off.
    pub delayed: Arc<Seen>,
    /// Hosts by state.
    pub hosts: Family<StateLabel, Gauge>,
    /// The bound on memory.
    pub memory_bound: Gauge,
}

impl Metrics {
    /// Makes and registers all of them, so that every series is there from the start.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let m = Self::default();
        for class in Class::ALL {
            drop(m.outcomes.get_or_create(&ClassLabel { class: class.name() }));
        }
        for state in HostState::ALL {
            drop(m.hosts.get_or_create(&StateLabel { state: state.name() }));
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
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(format!("backfiller_{name}"), help, gauge.clone());
        };
        gauge("repos_running", "Repositories in work", &m.running);
        gauge("repos_waiting", "Repositories taken and waiting", &m.waiting);
        gauge("memory_bound_bytes", "Most memory the process takes, from its settings", &m.memory_bound);
        registry.register("backfiller_hosts", "Hosts by state", m.hosts.clone());
        registry.register_collector(Box::new(Delayed(Arc::clone(&m.delayed))));
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

/// `backfiller_repos_delayed`, absent while it is not known.
#[derive(Debug)]
struct Delayed(Arc<Seen>);

impl Collector for Delayed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(delayed) = self.0.get() else { return Ok(()) };
        let gauge = ConstGauge::new(i64::try_from(delayed).unwrap_or(i64::MAX));
        let name = "backfiller_repos_delayed";
        gauge.encode(encoder.encode_descriptor(name, "Repositories put off", None, gauge.metric_type())?)
    }
}
