//! What the indexer counts. The names of PIPELINE §7 and §8 are kept; the histogram is in milliseconds, as there, with
//! buckets that fit.

pub mod declared;
mod event_type;
mod former;
mod phases;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rsky_common::admin::{
    Counter, Counters, Declaration, Gauge, Group, Histogram, Histograms, Registry, Series,
};

pub use event_type::{EventType, Place};
pub use former::Former;
pub use phases::{Phase, Phases, Watch};

/// What the indexer declares, beside what every daemon does.
pub static DECLARED: &[Group] = &[
    declared::OF_STREAMS,
    declared::OF_WRITING,
    declared::OF_MEMORY,
    declared::OF_ACCOUNTS,
    declared::FORMER,
];

/// Which stream, read as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLabels {
    /// Stream key.
    pub stream: String,
    /// Consumer group.
    pub group: String,
    /// Consumer name.
    pub consumer: String,
}

impl StreamLabels {
    /// The values of the labels.
    pub fn values(&self) -> [&str; 3] {
        [&self.stream, &self.group, &self.consumer]
    }
}

/// What an entry is, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An entry of an event stream.
    Event(EventType),
    /// An entry of the label stream.
    Labels {
        /// Labels that say something.
        added: u32,
        /// Labels that take something back.
        removed: u32,
    },
}

impl Default for What {
    fn default() -> Self {
        Self::Event(EventType::Unread)
    }
}

/// Counters of one kind of stream (events or labels); the prefix is the reference's.
#[derive(Debug, Clone)]
pub struct ConsumerMetrics {
    processed: Counters,
    failed: Counters,
    waiting: Series<Gauge>,
    running: Series<Gauge>,
    processing_ms: Histograms,
    has_types: bool,
}

/// One stream's share of [`ConsumerMetrics`].
#[derive(Debug, Clone)]
pub struct StreamMetrics {
    /// Entries that are done with, whatever became of them.
    pub processed: Counter,
    /// Entries that were left pending because the process stopped, or because dead letters cannot be written.
    pub failed: Counter,
    /// Entries read and not yet in a batch.
    pub waiting: Gauge,
    /// Entries in a batch that is being written.
    pub running: Gauge,
    labels: StreamLabels,
    processing_ms: Histograms,
    /// The series of each type, looked up once: an entry is no more than an addition.
    by_type: Arc<[OnceLock<Histogram>]>,
    has_types: bool,
}

impl ConsumerMetrics {
    fn register(registry: &mut Registry, declared: [&'static Declaration; 5], has_types: bool) -> Self {
        let [processed, failed, waiting, running, processing_ms] = declared;
        Self {
            processed: processed.many(registry),
            failed: failed.many(registry),
            waiting: waiting.many(registry),
            running: running.many(registry),
            processing_ms: processing_ms.many(registry),
            has_types,
        }
    }

    /// A stream's series, which are there from now on.
    pub fn of_stream(&self, labels: &StreamLabels) -> StreamMetrics {
        let values = &labels.values();
        if !self.has_types {
            drop(self.processing_ms.with(values));
        }
        StreamMetrics {
            processed: self.processed.with(values),
            failed: self.failed.with(values),
            waiting: self.waiting.with(values),
            running: self.running.with(values),
            labels: labels.clone(),
            processing_ms: self.processing_ms.clone(),
            by_type: (0..EventType::count()).map(|_| OnceLock::new()).collect(),
            has_types: self.has_types,
        }
    }
}

impl StreamMetrics {
    /// An entry was acknowledged that was read at this time.
    fn took(&self, what: What, read_at: Instant) {
        let [stream, group, consumer] = self.labels.values();
        let kind = match what {
            What::Event(kind) if self.has_types => kind,
            What::Event(_) | What::Labels { .. } => EventType::default(),
        };
        let series = || {
            if self.has_types {
                self.processing_ms.with(&[stream, group, consumer, &kind.label()])
            } else {
                self.processing_ms.with(&[stream, group, consumer])
            }
        };
        if let Some(place) = self.by_type.get(kind.index()) {
            place.get_or_init(series).observe(read_at.elapsed().as_secs_f64() * 1000.0);
        }
    }
}

/// Everything the indexer counts. What is computed when it is asked for is in [`crate::observed`].
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Event streams.
    pub events: ConsumerMetrics,
    /// Label stream.
    pub labels: ConsumerMetrics,
    outcomes: Counters,
    claimed: Counters,
    retries: Counters,
    /// Rows that were written.
    pub rows: Counter,
    /// Entries per batch.
    pub batch_entries: Histogram,
    /// Seconds per batch.
    pub batch_seconds: Histogram,
    /// Where the time of a transaction goes.
    pub phases: Phases,
    /// Entries that were put off because there was no room for them to wait for a handle.
    pub handle_deferred: Counter,
    handles: Counters,
    /// Names of the former rsky indexer.
    pub former: Former,
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        use declared as of;
        let of_events = [&of::PROCESSED, &of::FAILED, &of::WAITING, &of::RUNNING, &of::PROCESSING_TIME];
        let of_labels = [
            &of::LABELS_PROCESSED,
            &of::LABELS_FAILED,
            &of::LABELS_WAITING,
            &of::LABELS_RUNNING,
            &of::LABEL_PROCESSING_TIME,
        ];
        let metrics = Self {
            events: ConsumerMetrics::register(registry, of_events, true),
            labels: ConsumerMetrics::register(registry, of_labels, false),
            outcomes: of::ENTRIES.many(registry),
            claimed: of::CLAIMED.many(registry),
            retries: of::RETRIES.many(registry),
            rows: of::ROWS.one(registry),
            batch_entries: of::BATCH_ENTRIES.one(registry),
            batch_seconds: of::BATCH_SECONDS.one(registry),
            phases: Phases::register(registry),
            handle_deferred: of::HANDLE_DEFERRED.one(registry),
            handles: of::HANDLES.many(registry),
            former: Former::register(registry),
        };
        metrics.retries.introduce(&[]);
        metrics.handles.introduce(&[]);
        Arc::new(metrics)
    }

    /// Makes a stream's series, so that they are there before the first entry.
    pub fn touch(&self, labels: &StreamLabels) {
        drop(self.claimed.with(&labels.values()));
        for (outcome, reason) in declared::ends() {
            drop(self.outcomes.with(&[&labels.stream, outcome, reason]));
        }
    }

    /// Entries were taken over from other consumers.
    pub fn claimed(&self, labels: &StreamLabels, entries: usize) {
        self.claimed.with(&labels.values()).inc_by(u64::try_from(entries).unwrap_or(0));
    }

    /// A batch is done again.
    pub fn retried(&self, cause: &'static str) {
        self.retries.with(&[cause]).inc();
        if cause == "unknown" {
            self.former.unexpected(1);
        }
    }

    /// Rows were written or deleted.
    pub fn wrote(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(0);
        self.rows.inc_by(rows);
        self.former.rows(rows);
    }

    /// An account was looked at.
    pub fn looked_at(&self, outcome: &'static str) {
        self.handles.with(&[outcome]).inc();
    }

    /// Entries of a stream came to this end.
    pub fn ended(&self, stream: &str, outcome: &'static str, reason: &'static str, entries: u64) {
        self.outcomes.with(&[stream, outcome, reason]).inc_by(entries);
        match outcome {
            "dead_letter" => self.former.expected(entries),
            "put_back" => self.former.unexpected(entries),
            _ => {}
        }
    }

    /// Entries of a stream were acknowledged: what they are, and when each was read.
    pub fn acknowledged(&self, stream: &StreamMetrics, entries: &[(What, Instant)]) {
        stream.processed.inc_by(u64::try_from(entries.len()).unwrap_or(0));
        for (what, read_at) in entries {
            stream.took(*what, *read_at);
            self.former.done(*what);
        }
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::admin::metrics_faults;

    use super::*;

    #[test]
    fn declarations_and_their_documentation_agree() {
        let file = include_str!("../../../docs/METRICS.md");
        assert_eq!(metrics_faults(file, crate::pipeline::NAME, DECLARED), Vec::<String>::new());
    }
}
