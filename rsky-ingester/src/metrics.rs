//! The metrics of the ingester. Names of the reference (PIPELINE §7) and of old rsky (§8) are kept where they mean the
//! same; the encoder appends `_total` to counters.

use rsky_common::admin::prometheus_client::metrics::counter::Counter;
use rsky_common::admin::prometheus_client::metrics::family::Family;
use rsky_common::admin::prometheus_client::metrics::gauge::Gauge;
use rsky_common::admin::prometheus_client::registry::Registry;
use rsky_common::atproto::OpCounts;

use crate::source::{Kind, Source};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// Every metric of the daemon, all registered at start.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    firehose_incoming: Counters,
    firehose_written: Counters,
    labeler_incoming: Counters,
    labeler_written: Counters,
    frames: Counters,
    operations: Counters,
    rejected: Counters,
    duplicates: Counters,
    disconnects: Counters,
    connections: Family<Labels, Gauge>,
    cursor: Family<Labels, Gauge>,
    outdated: Counters,
    skips: Counters,
    resyncs: Counters,
    resyncs_repeated: Counters,
    resyncs_given_up: Counters,
    resyncs_waiting: Gauge,
    memory_bound: Gauge,
    cursor_changes: Counters,
    sequence_restarts: Counters,
    repos_fetched: Counters,
    repos_written: Counters,
    repos_unchanged: Counters,
    fetch_errors: Counters,
    complete: Family<Labels, Gauge>,
}

/// What became of one batch of a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Frames that count as events (PIPELINE §7).
    pub incoming: u64,
    /// Entries.
    pub entries: u64,
    /// Operations of commits.
    pub ops: OpCounts,
    /// Commits another relay had brought.
    pub duplicates: u64,
    /// Repositories queued for a full fetch.
    pub resyncs: u64,
    /// Those of which the same revision had been queued.
    pub resyncs_repeated: u64,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut counter =
            |name: &str, help: &str, family: &Counters| registry.register(name, help, family.clone());
        counter(
            "firehose_ingester_incoming_events",
            "Accepted frames whose entries are in Redis",
            &metrics.firehose_incoming,
        );
        counter("firehose_ingester_stream_events", "Entries written", &metrics.firehose_written);
        counter(
            "labeler_ingester_incoming_events",
            "Frames of labelers, informational ones included",
            &metrics.labeler_incoming,
        );
        counter("labeler_ingester_stream_events", "Labels written", &metrics.labeler_written);
        counter("ingester_frames", "Frames decoded, by kind", &metrics.frames);
        counter("ingester_operations", "Operations of commits, by what became of them", &metrics.operations);
        counter("ingester_rejected", "What was dead-lettered, by reason", &metrics.rejected);
        counter("ingester_duplicate_commits", "Commits that another relay had brought", &metrics.duplicates);
        counter("ingester_disconnects", "Connections that ended, by reason", &metrics.disconnects);
        counter(
            "ingester_outdated_cursors",
            "Times a host said our cursor is older than what it keeps",
            &metrics.outdated,
        );
        counter(
            "ingester_cursor_skips",
            "Times a cursor was moved past something that cannot be read",
            &metrics.skips,
        );
        counter(
            "ingester_resyncs",
            "Repositories queued because their events did not tell what changed",
            &metrics.resyncs,
        );
        counter(
            "ingester_resyncs_repeated",
            "Repositories not queued again because this revision of them had been queued",
            &metrics.resyncs_repeated,
        );
        counter(
            "ingester_resyncs_given_up",
            "Repositories that could not be queued: their stream has no room, and too many wait for it",
            &metrics.resyncs_given_up,
        );
        counter(
            "ingester_cursor_changes",
            "Times the cursor in Redis was not what this process had left there: back, ahead or in doubt",
            &metrics.cursor_changes,
        );
        counter(
            "ingester_sequence_restarts",
            "Times a host's sequence numbers began anew and were followed",
            &metrics.sequence_restarts,
        );
        counter("ingester_backfill_repos_fetched", "Repositories listed", &metrics.repos_fetched);
        counter("ingester_backfill_repos_written", "Repositories queued", &metrics.repos_written);
        counter(
            "ingester_backfill_repos_unchanged",
            "Repositories not queued again",
            &metrics.repos_unchanged,
        );
        counter("ingester_backfill_fetch_errors", "Pages that could not be fetched", &metrics.fetch_errors);
        registry.register(
            "ingester_resyncs_waiting",
            "Repositories that wait in Redis for room in their stream",
            metrics.resyncs_waiting.clone(),
        );
        registry.register(
            "ingester_memory_bound_bytes",
            "Most memory the process takes, from its settings",
            metrics.memory_bound.clone(),
        );
        registry.register("ingester_websocket_connections", "Open sockets", metrics.connections.clone());
        registry.register("ingester_cursor", "Cursor in Redis", metrics.cursor.clone());
        registry.register(
            "ingester_backfill_complete",
            "1 when the listing has ended",
            metrics.complete.clone(),
        );
        metrics
    }

    /// Makes every series of a source exist before anything happened.
    pub fn introduce(&self, source: &Source) {
        let host = labels(source);
        drop(self.connections.get_or_create(&host));
        match source.kind {
            Kind::Firehose | Kind::Labels => self.batch(source, &Written::default()),
            Kind::Listing => {
                for family in
                    [&self.repos_fetched, &self.repos_written, &self.repos_unchanged, &self.fetch_errors]
                {
                    drop(family.get_or_create(&host));
                }
                drop(self.complete.get_or_create(&host));
            }
        }
    }

    /// A batch is in Redis.
    pub fn batch(&self, source: &Source, written: &Written) {
        let series = labels(source);
        let (incoming, entries) = match source.kind {
            Kind::Labels => (&self.labeler_incoming, &self.labeler_written),
            Kind::Firehose | Kind::Listing => (&self.firehose_incoming, &self.firehose_written),
        };
        incoming.get_or_create(&series).inc_by(written.incoming);
        entries.get_or_create(&series).inc_by(written.entries);
        self.duplicates.get_or_create(&series).inc_by(written.duplicates);
        self.resyncs.get_or_create(&series).inc_by(written.resyncs);
        self.resyncs_repeated.get_or_create(&series).inc_by(written.resyncs_repeated);
        let ops = &written.ops;
        let by_fate = [
            ("create", ops.creates),
            ("update", ops.updates),
            ("delete", ops.deletes),
            ("filtered", ops.filtered),
            ("missing_block", ops.missing),
            ("unknown_action", ops.unknown),
        ];
        for (fate, count) in by_fate.into_iter().filter(|_| source.kind == Kind::Firehose) {
            self.operations.get_or_create(&and(&series, "action", fate)).inc_by(count.into());
        }
    }

    /// Frames were decoded.
    pub fn frames(&self, source: &Source, kind: &'static str, count: u64) {
        self.frames.get_or_create(&and(&labels(source), "kind", kind)).inc_by(count);
    }

    /// Something was dead-lettered.
    pub fn rejected(&self, source: &Source, reason: &str) {
        self.rejected.get_or_create(&and(&labels(source), "reason", reason)).inc();
    }

    /// A connection ended.
    pub fn disconnected(&self, source: &Source, reason: &'static str) {
        self.disconnects.get_or_create(&and(&labels(source), "reason", reason)).inc();
    }

    /// A host does not keep what our cursor asks for.
    pub fn outdated_cursor(&self, source: &Source) {
        self.outdated.get_or_create(&labels(source)).inc();
    }

    /// A cursor was moved past something that cannot be read.
    pub fn cursor_skip(&self, source: &Source) {
        self.skips.get_or_create(&labels(source)).inc();
    }

    /// A repository to be fetched was given up.
    pub fn resync_given_up(&self, source: &Source) {
        self.resyncs_given_up.get_or_create(&labels(source)).inc();
    }

    /// Repositories that wait for room.
    pub fn resyncs_waiting(&self, waiting: usize) {
        self.resyncs_waiting.set(waiting.try_into().unwrap_or(i64::MAX));
    }

    /// Most memory the process takes, in bytes.
    pub fn memory_bound(&self, bytes: u64) {
        self.memory_bound.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    /// The cursor in Redis was not what this process had left there.
    pub fn cursor_changed(&self, source: &Source, direction: &'static str) {
        self.cursor_changes.get_or_create(&and(&labels(source), "direction", direction)).inc();
    }

    /// A host's sequence numbers began anew.
    pub fn sequence_began_anew(&self, source: &Source) {
        self.sequence_restarts.get_or_create(&labels(source)).inc();
    }

    /// The cursor in Redis.
    pub fn position(&self, source: &Source, cursor: Option<i64>) {
        if let Some(cursor) = cursor {
            self.cursor.get_or_create(&labels(source)).set(cursor);
        }
    }

    /// An open socket; dropping it says that it is closed.
    pub fn connected(&self, source: &Source) -> Connected {
        let gauge = self.connections.get_or_create_owned(&labels(source));
        gauge.inc();
        Connected(gauge)
    }

    /// A page of a listing is in Redis.
    pub fn page(&self, source: &Source, fetched: u64, written: u64, unchanged: u64) {
        let series = labels(source);
        self.repos_fetched.get_or_create(&series).inc_by(fetched);
        self.repos_written.get_or_create(&series).inc_by(written);
        self.repos_unchanged.get_or_create(&series).inc_by(unchanged);
    }

    /// A page could not be fetched.
    pub fn fetch_error(&self, source: &Source) {
        self.fetch_errors.get_or_create(&labels(source)).inc();
    }

    /// Whether a listing has ended.
    pub fn complete(&self, source: &Source, complete: bool) {
        self.complete.get_or_create(&labels(source)).set(complete.into());
    }
}

/// One open socket in the gauge.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn labels(source: &Source) -> Labels {
    vec![("stream", source.stream.clone()), ("host", source.host.configured().to_owned())]
}

fn and(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}
