//! What the indexer counts. The names of PIPELINE §7 are kept; the histogram is in milliseconds, as there, with
//! buckets that fit.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Which stream, read as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// Stream key.
    pub stream: String,
    /// Consumer group.
    pub group: String,
    /// Consumer name.
    pub consumer: String,
}

/// A stream's entries by what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// Stream key.
    pub stream: String,
    /// `indexed`, `nothing` or `dead_letter`.
    pub outcome: &'static str,
    /// Why, for the last two: a closed set.
    pub reason: &'static str,
}

/// Retries of batches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    /// `transient`, `again`, `unknown`, `locked` or `split`.
    pub cause: &'static str,
}

/// Work for handles and deleted accounts by what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandleLabels {
    /// `not_needed`, `resolved`, `none`, `directory_failed`, `failed`, `given_up`, `deleted` or `kept`.
    pub outcome: &'static str,
}

/// Counters of one kind of stream (events or labels); the prefix is the reference's.
#[derive(Debug, Clone, Default)]
pub struct ConsumerMetrics {
    /// Entries that are done with, whatever became of them.
    pub processed: Family<StreamLabels, Counter>,
    /// Entries that were left pending because the process stopped, or became dead letters.
    pub failed: Family<StreamLabels, Counter>,
    /// Entries read and not yet in a batch.
    pub waiting: Family<StreamLabels, Gauge>,
    /// Entries in a batch that is being written.
    pub running: Family<StreamLabels, Gauge>,
}

/// One stream's share of [`ConsumerMetrics`].
#[derive(Debug, Clone)]
pub struct StreamMetrics {
    /// See [`ConsumerMetrics::processed`].
    pub processed: Counter,
    /// See [`ConsumerMetrics::failed`].
    pub failed: Counter,
    /// See [`ConsumerMetrics::waiting`].
    pub waiting: Gauge,
    /// See [`ConsumerMetrics::running`].
    pub running: Gauge,
}

impl ConsumerMetrics {
    /// A stream's series, which are there from now on.
    pub fn of_stream(&self, labels: &StreamLabels) -> StreamMetrics {
        StreamMetrics {
            processed: self.processed.get_or_create_owned(labels),
            failed: self.failed.get_or_create_owned(labels),
            waiting: self.waiting.get_or_create_owned(labels),
            running: self.running.get_or_create_owned(labels),
        }
    }
}

/// Everything the indexer counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Event streams.
    pub events: ConsumerMetrics,
    /// Label stream.
    pub labels: ConsumerMetrics,
    /// Milliseconds from reading an entry to its acknowledgement, one observation a batch and stream.
    pub processing_ms: Family<StreamLabels, Histogram>,
    /// Entries by outcome and reason.
    pub outcomes: Family<OutcomeLabels, Counter>,
    /// Entries taken over from other consumers.
    pub claimed: Family<StreamLabels, Counter>,
    /// Retries of batches by cause.
    pub retries: Family<RetryLabels, Counter>,
    /// Rows written or deleted.
    pub rows: Counter,
    /// Entries per transaction.
    pub batch_entries: Histogram,
    /// Seconds per transaction.
    pub batch_seconds: Histogram,
    /// Entries set aside because somebody else holds rows they need, or because they fail by themselves.
    pub set_aside: Gauge,
    /// Entries that wait for a handle or for the end of a deleted account, in this process.
    pub handle_entries: Gauge,
    /// Entries that were put off because there was no room for them there.
    pub handle_deferred: Counter,
    /// Accounts looked at, by what came of it.
    pub handles: Family<HandleLabels, Counter>,
}

/// See [`HandleLabels::outcome`].
const HANDLE_OUTCOMES: [&str; 8] =
    ["not_needed", "resolved", "none", "directory_failed", "failed", "given_up", "deleted", "kept"];

fn milliseconds() -> Histogram {
    Histogram::new([
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 60_000.0,
    ])
}

impl Metrics {
    /// Makes a stream's series, so that they are there before the first entry.
    pub fn touch(&self, labels: &StreamLabels) {
        drop(self.processing_ms.get_or_create(labels));
        drop(self.claimed.get_or_create(labels));
    }

    /// Makes and registers all of them, so that every series is there from the start.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            events: ConsumerMetrics::default(),
            labels: ConsumerMetrics::default(),
            processing_ms: Family::new_with_constructor(milliseconds as fn() -> Histogram),
            outcomes: Family::default(),
            claimed: Family::default(),
            retries: Family::default(),
            rows: Counter::default(),
            batch_entries: Histogram::new([
                1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
            ]),
            batch_seconds: Histogram::new([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]),
            set_aside: Gauge::default(),
            handle_entries: Gauge::default(),
            handle_deferred: Counter::default(),
            handles: Family::default(),
        };
        for (prefix, consumer) in [("stream_indexer", &metrics.events), ("label_indexer", &metrics.labels)] {
            let mut register = |name: &str, help: &str, metric: Family<StreamLabels, Counter>| {
                registry.register(format!("{prefix}_{name}"), help, metric);
            };
            register("messages_processed", "Entries that are done with", consumer.processed.clone());
            register("messages_failed", "Entries that failed", consumer.failed.clone());
            let mut register = |name: &str, help: &str, metric: Family<StreamLabels, Gauge>| {
                registry.register(format!("{prefix}_{name}"), help, metric);
            };
            register(
                "messages_waiting_count",
                "Entries read and not yet in a batch",
                consumer.waiting.clone(),
            );
            register("messages_running_count", "Entries in a batch", consumer.running.clone());
        }
        registry.register(
            "stream_indexer_message_processing_time",
            "Milliseconds from reading entries to their acknowledgement",
            metrics.processing_ms.clone(),
        );
        registry.register("indexer_entries", "Entries by outcome and reason", metrics.outcomes.clone());
        registry.register(
            "indexer_claimed",
            "Entries taken over from other consumers",
            metrics.claimed.clone(),
        );
        registry.register("indexer_batch_retries", "Retries of batches by cause", metrics.retries.clone());
        registry.register("indexer_rows", "Rows written or deleted", metrics.rows.clone());
        registry.register("indexer_batch_entries", "Entries per transaction", metrics.batch_entries.clone());
        registry.register_with_unit(
            "indexer_batch",
            "Duration of transactions",
            Unit::Seconds,
            metrics.batch_seconds.clone(),
        );
        registry.register(
            "indexer_entries_set_aside",
            "Entries that wait for rows which another session holds, or that fail by themselves in a way nobody foresaw",
            metrics.set_aside.clone(),
        );
        registry.register(
            "indexer_handle_entries",
            "Entries that wait for a handle or for the end of a deleted account",
            metrics.handle_entries.clone(),
        );
        registry.register(
            "indexer_handle_deferred",
            "Entries put off, to be read again, because there was no room for them to wait",
            metrics.handle_deferred.clone(),
        );
        registry.register("indexer_handles", "Accounts looked at by outcome", metrics.handles.clone());
        for outcome in HANDLE_OUTCOMES {
            drop(metrics.handles.get_or_create(&HandleLabels { outcome }));
        }
        Arc::new(metrics)
    }
}
