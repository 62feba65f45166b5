//! The metrics of the ingester. Names of the reference (PIPELINE §7) and of old rsky (§8) are kept where they mean the
//! same.

pub mod declared;
mod former;

use rsky_common::admin::{Counters, Gauge, Group, Histogram, Registry, Series};
use rsky_common::atproto::OpCounts;

pub use former::register_lengths;

use crate::source::{Kind, Source};
use former::Former;

/// What the ingester declares, beside what every daemon does.
pub static DECLARED: &[Group] = &[
    declared::OF_SOURCES,
    declared::OF_WRITING,
    declared::OF_GATES,
    declared::OF_LISTINGS,
    declared::FORMER,
];

/// Every metric that is counted, all registered at start. What is computed when it is asked for is registered by
/// [`crate::source_metrics`].
#[derive(Clone, Debug)]
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
    connections: Series<Gauge>,
    cursor: Series<Gauge>,
    outdated: Counters,
    skips: Counters,
    resyncs: Counters,
    resyncs_repeated: Counters,
    resyncs_given_up: Counters,
    resyncs_waiting: Gauge,
    cursor_changes: Counters,
    sequence_restarts: Counters,
    batch_entries: Series<Histogram>,
    batch_seconds: Series<Histogram>,
    repos_fetched: Counters,
    repos_written: Counters,
    repos_unchanged: Counters,
    fetch_errors: Counters,
    complete: Series<Gauge>,
    former: Former,
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
        Self {
            firehose_incoming: declared::FIREHOSE_INCOMING.many(registry),
            firehose_written: declared::FIREHOSE_WRITTEN.many(registry),
            labeler_incoming: declared::LABELER_INCOMING.many(registry),
            labeler_written: declared::LABELER_WRITTEN.many(registry),
            frames: declared::FRAMES.many(registry),
            operations: declared::OPERATIONS.many(registry),
            rejected: declared::REJECTED.many(registry),
            duplicates: declared::DUPLICATES.many(registry),
            disconnects: declared::DISCONNECTS.many(registry),
            connections: declared::CONNECTIONS.many(registry),
            cursor: declared::CURSOR.many(registry),
            outdated: declared::OUTDATED.many(registry),
            skips: declared::SKIPS.many(registry),
            resyncs: declared::RESYNCS.many(registry),
            resyncs_repeated: declared::RESYNCS_REPEATED.many(registry),
            resyncs_given_up: declared::RESYNCS_GIVEN_UP.many(registry),
            resyncs_waiting: declared::RESYNCS_WAITING.one(registry),
            cursor_changes: declared::CURSOR_CHANGES.many(registry),
            sequence_restarts: declared::SEQUENCE_RESTARTS.many(registry),
            batch_entries: declared::BATCH_ENTRIES.many(registry),
            batch_seconds: declared::BATCH_SECONDS.many(registry),
            repos_fetched: declared::REPOS_FETCHED.many(registry),
            repos_written: declared::REPOS_WRITTEN.many(registry),
            repos_unchanged: declared::REPOS_UNCHANGED.many(registry),
            fetch_errors: declared::FETCH_ERRORS.many(registry),
            complete: declared::COMPLETE.many(registry),
            former: Former::register(registry),
        }
    }

    /// Makes every series of a source exist before anything happened.
    pub fn introduce(&self, source: &Source) {
        let series = &labels(source);
        let common = [&self.rejected, &self.cursor_changes, &self.skips];
        common.iter().for_each(|counters| counters.introduce(series));
        match source.kind {
            Kind::Firehose | Kind::Labels => {
                drop(self.connections.with(series));
                [&self.frames, &self.disconnects, &self.outdated, &self.sequence_restarts]
                    .iter()
                    .for_each(|counters| counters.introduce(series));
                self.batch_entries.introduce(&[&source.stream]);
                self.batch_seconds.introduce(&[&source.stream]);
                if source.kind == Kind::Firehose {
                    [&self.operations, &self.resyncs_given_up]
                        .iter()
                        .for_each(|counters| counters.introduce(series));
                }
                self.batch(source, &Written::default());
            }
            Kind::Listing => {
                [&self.repos_fetched, &self.repos_written, &self.repos_unchanged, &self.fetch_errors]
                    .iter()
                    .for_each(|counters| counters.introduce(series));
                drop(self.complete.with(series));
            }
        }
    }

    /// A batch is in Redis.
    pub fn batch(&self, source: &Source, written: &Written) {
        let series = &labels(source);
        let (incoming, entries) = match source.kind {
            Kind::Labels => (&self.labeler_incoming, &self.labeler_written),
            Kind::Firehose | Kind::Listing => (&self.firehose_incoming, &self.firehose_written),
        };
        incoming.with(series).inc_by(written.incoming);
        entries.with(series).inc_by(written.entries);
        self.former.batch(source, written);
        if source.kind != Kind::Firehose {
            return;
        }
        self.duplicates.with(series).inc_by(written.duplicates);
        self.resyncs.with(series).inc_by(written.resyncs);
        self.resyncs_repeated.with(series).inc_by(written.resyncs_repeated);
        let ops = &written.ops;
        let [stream, host] = *series;
        for (fate, count) in [
            ("create", ops.creates),
            ("update", ops.updates),
            ("delete", ops.deletes),
            ("filtered", ops.filtered),
            ("missing_block", ops.missing),
            ("unknown_action", ops.unknown),
        ] {
            self.operations.with(&[stream, host, fate]).inc_by(count.into());
        }
    }

    /// How large a batch was, and how long it took in seconds: waiting at the gate, being written.
    pub fn took(&self, source: &Source, entries: usize, gate: f64, write: f64) {
        self.batch_entries.with(&[&source.stream]).observe(entries as f64);
        self.batch_seconds.with(&[&source.stream, "gate"]).observe(gate);
        self.batch_seconds.with(&[&source.stream, "write"]).observe(write);
    }

    /// Frames were decoded.
    pub fn frames(&self, source: &Source, kind: &'static str, count: u64) {
        let [stream, host] = labels(source);
        self.frames.with(&[stream, host, kind]).inc_by(count);
    }

    /// Something was dead-lettered.
    pub fn rejected(&self, source: &Source, reason: &str) {
        let [stream, host] = labels(source);
        self.rejected.with(&[stream, host, reason]).inc();
        self.former.errors.inc();
    }

    /// A connection ended.
    pub fn disconnected(&self, source: &Source, reason: &'static str) {
        let [stream, host] = labels(source);
        self.disconnects.with(&[stream, host, reason]).inc();
        self.former.disconnected(reason);
    }

    /// A host does not keep what our cursor asks for.
    pub fn outdated_cursor(&self, source: &Source) {
        self.outdated.with(&labels(source)).inc();
    }

    /// A cursor was moved past something that cannot be read.
    pub fn cursor_skip(&self, source: &Source) {
        self.skips.with(&labels(source)).inc();
        self.former.cursor_skip(source);
    }

    /// A repository to be fetched was given up.
    pub fn resync_given_up(&self, source: &Source) {
        self.resyncs_given_up.with(&labels(source)).inc();
    }

    /// Repositories that wait for room.
    pub fn resyncs_waiting(&self, waiting: usize) {
        self.resyncs_waiting.set(waiting.try_into().unwrap_or(i64::MAX));
    }

    /// The cursor in Redis was not what this process had left there.
    pub fn cursor_changed(&self, source: &Source, direction: &'static str) {
        let [stream, host] = labels(source);
        self.cursor_changes.with(&[stream, host, direction]).inc();
    }

    /// A host's sequence numbers began anew.
    pub fn sequence_began_anew(&self, source: &Source) {
        self.sequence_restarts.with(&labels(source)).inc();
    }

    /// The cursor in Redis.
    pub fn position(&self, source: &Source, cursor: Option<i64>) {
        if let Some(cursor) = cursor {
            self.cursor.with(&labels(source)).set(cursor);
        }
    }

    /// An open socket; dropping it says that it is closed.
    pub fn connected(&self, source: &Source) -> Connected {
        let gauge = self.connections.with(&labels(source));
        gauge.inc();
        Connected(gauge)
    }

    /// A page of a listing is in Redis.
    pub fn page(&self, source: &Source, fetched: u64, written: u64, unchanged: u64) {
        let series = &labels(source);
        self.repos_fetched.with(series).inc_by(fetched);
        self.repos_written.with(series).inc_by(written);
        self.repos_unchanged.with(series).inc_by(unchanged);
    }

    /// A page could not be fetched.
    pub fn fetch_error(&self, source: &Source) {
        self.fetch_errors.with(&labels(source)).inc();
        self.former.errors.inc();
    }

    /// Whether a listing has ended.
    pub fn complete(&self, source: &Source, complete: bool) {
        self.complete.with(&labels(source)).set(complete.into());
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

fn labels(source: &Source) -> [&str; 2] {
    [&source.stream, source.host.configured()]
}

#[cfg(test)]
mod tests {
    use rsky_common::admin::metrics_faults;

    use super::*;

    #[test]
    fn declarations_and_their_documentation_agree() {
        let file = include_str!("../../../docs/METRICS.md");
        assert_eq!(metrics_faults(file, crate::NAME, DECLARED), Vec::<String>::new());
    }
}
