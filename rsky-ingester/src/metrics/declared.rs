//! The metrics of the ingester as declared: each name, type, unit, meaning and set of labels once.

use rsky_common::admin::{Label, counter, gauge, histogram};

const STREAM: Label = Label::configured("stream", "the stream that is written");
const HOST: Label = Label::configured("host", "a relay or labeler as configured");

/// What a frame can be.
pub const KINDS: &[&str] =
    &["commit", "identity", "account", "sync", "labels", "info", "error", "other", "undecodable"];
/// What can become of an operation.
pub const ACTIONS: &[&str] = &["create", "update", "delete", "filtered", "missing_block", "unknown_action"];
/// Why something is dead-lettered.
pub const REJECTIONS: &[&str] = &[
    "bad_frame",
    "bad_car",
    "hash_mismatch",
    "bad_path",
    "bad_cid",
    "bad_record",
    "bad_label",
    "too_large",
    "panic",
    "oversized_frame",
    "invalid_repo",
    "unlistable_repo",
    "other",
];
/// Why a connection ended.
pub const ENDS: &[&str] = &[
    "stopped",
    "unreachable",
    "bad_cursor",
    "lost",
    "future_cursor",
    "consumer_too_slow",
    "error_frame",
    "idle",
    "no_pong",
    "oversized_frame",
    "paused",
    "starts_elsewhere",
];
/// What a cursor in Redis was found to be.
pub const DIRECTIONS: &[&str] = &["ahead", "doubtful", "back", "changed"];
/// Parts of the time that a batch takes.
pub const PHASES: &[&str] = &["gate", "write"];

const SOURCE: &[Label] = &[STREAM, HOST];

rsky_common::declare! {
    OF_SOURCES, "Sources";
    FIREHOSE_INCOMING = counter(
        "firehose_ingester_incoming_events_total", "frames", "Accepted frames of relays whose entries are in Redis"
    ).by(SOURCE);
    FIREHOSE_WRITTEN = counter("firehose_ingester_stream_events_total", "entries", "Entries written").by(SOURCE);
    LABELER_INCOMING = counter(
        "labeler_ingester_incoming_events_total", "frames", "Frames of labelers, informational ones included"
    ).by(SOURCE);
    LABELER_WRITTEN = counter("labeler_ingester_stream_events_total", "labels", "Labels written").by(SOURCE);
    FRAMES = counter("ingester_frames_total", "frames", "Frames decoded, by kind")
        .by(&[STREAM, HOST, Label::one_of("kind", KINDS)]);
    OPERATIONS = counter("ingester_operations_total", "operations", "Operations of commits, by what became of them")
        .by(&[STREAM, HOST, Label::one_of("action", ACTIONS)]);
    REJECTED = counter("ingester_rejected_total", "dead letters", "What was dead-lettered, by reason")
        .by(&[STREAM, HOST, Label::one_of("reason", REJECTIONS)]);
    DUPLICATES = counter("ingester_duplicate_commits_total", "commits", "Commits that another relay had brought")
        .by(SOURCE);
    CONNECTIONS = gauge("ingester_websocket_connections", "sockets", "Open sockets").by(SOURCE);
    DISCONNECTS = counter("ingester_disconnects_total", "connections", "Connections that ended, by reason")
        .by(&[STREAM, HOST, Label::one_of("reason", ENDS)]);
    LAG = gauge(
        "ingester_lag_seconds",
        "seconds",
        "How far what is written is behind: the age of the newest event, and the time since when something waits or nobody listens"
    ).by(SOURCE).absent("before the first event");
    CURSOR = gauge("ingester_cursor", "sequence number", "Cursor in Redis").by(SOURCE).absent("before the first");
    CURSOR_CHANGES = counter(
        "ingester_cursor_changes_total",
        "times",
        "Times the cursor in Redis was not what this process had left there: back, ahead or in doubt"
    ).by(&[STREAM, HOST, Label::one_of("direction", DIRECTIONS)]);
    OUTDATED = counter(
        "ingester_outdated_cursors_total", "times", "Times a host said our cursor is older than what it keeps"
    ).by(SOURCE);
    SKIPS = counter(
        "ingester_cursor_skips_total", "times", "Times a cursor was moved past something that cannot be read"
    ).by(SOURCE);
    SEQUENCE_RESTARTS = counter(
        "ingester_sequence_restarts_total", "times", "Times a host's sequence numbers began anew and were followed"
    ).by(SOURCE);
}

rsky_common::declare! {
    OF_WRITING, "Batches and memory";
    BATCH_ENTRIES = histogram(
        "ingester_batch_entries", "entries", "Entries per transaction",
        &[1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
    ).by(&[STREAM]);
    BATCH_SECONDS = histogram(
        "ingester_batch_seconds", "seconds",
        "What a batch takes: waiting at the gate, and the transaction in Redis with its repetitions",
        &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]
    ).by(&[STREAM, Label::one_of("phase", PHASES)]);
    EVENTS_IN_MEMORY = gauge("ingester_events_in_memory", "frames", "Frames read and not yet in Redis");
    BYTES_IN_MEMORY = gauge("ingester_bytes_in_memory", "bytes", "What they are charged");
    BYTES_BOUND = gauge(
        "ingester_bytes_in_memory_bound", "bytes", "What they may be charged at most (INGESTER_QUEUE_BYTES and each source's share)"
    );
    MEMORY_BOUND = gauge(
        "ingester_memory_bound_bytes", "bytes", "Most memory the process takes, from its settings"
    );
}

rsky_common::declare! {
    OF_LISTINGS, "Repositories: listings, and what is fetched anew";
    REPOS_FETCHED = counter("ingester_backfill_repos_fetched_total", "repositories", "Repositories listed").by(SOURCE);
    REPOS_WRITTEN = counter("ingester_backfill_repos_written_total", "repositories", "Repositories queued").by(SOURCE);
    REPOS_UNCHANGED = counter(
        "ingester_backfill_repos_unchanged_total", "repositories", "Repositories not queued again"
    ).by(SOURCE);
    FETCH_ERRORS = counter(
        "ingester_backfill_fetch_errors_total", "pages", "Pages that could not be fetched"
    ).by(SOURCE);
    COMPLETE = gauge("ingester_backfill_complete", "0 or 1", "1 when the listing has ended").by(SOURCE);
    RESYNCS = counter(
        "ingester_resyncs_total", "repositories",
        "Repositories queued because their events did not tell what changed"
    ).by(SOURCE);
    RESYNCS_REPEATED = counter(
        "ingester_resyncs_repeated_total", "repositories",
        "Repositories not queued again because this revision of them had been queued"
    ).by(SOURCE);
    RESYNCS_GIVEN_UP = counter(
        "ingester_resyncs_given_up_total", "repositories",
        "Repositories that could not be queued: their stream has no room, and too many wait for it"
    ).by(SOURCE);
    RESYNCS_WAITING = gauge(
        "ingester_resyncs_waiting", "repositories", "Repositories that wait in Redis for room in their stream"
    );
}

rsky_common::declare_gates!("ingester");

rsky_common::declare! {
    FORMER, "Names of the former rsky ingester, over all hosts";
    FORMER_EVENTS = counter("ingester_firehose_events_total", "frames", "As `firehose_ingester_incoming_events_total`");
    FORMER_CREATES = counter("ingester_firehose_create_events_total", "operations", "As `ingester_operations_total`, of creations");
    FORMER_UPDATES = counter("ingester_firehose_update_events_total", "operations", "The same of updates");
    FORMER_DELETES = counter("ingester_firehose_delete_events_total", "operations", "The same of deletions");
    FORMER_FILTERED = counter(
        "ingester_firehose_filtered_operations_total", "operations", "Operations of collections that are not queued"
    );
    FORMER_WRITTEN = counter("ingester_stream_events_total", "entries", "As `firehose_ingester_stream_events_total`");
    FORMER_ERRORS = counter(
        "ingester_errors_total", "errors",
        "What was dead-lettered, pages that could not be fetched, and connections that ended for another reason than our own wish"
    );
    FORMER_LABELER_EVENTS = counter("ingester_labeler_events_total", "frames", "As `labeler_ingester_incoming_events_total`");
    FORMER_LABELS = counter("ingester_labels_written_total", "labels", "As `labeler_ingester_stream_events_total`");
    FORMER_CURSOR_SKIPS = counter(
        "ingester_backfill_cursor_skips_total", "times", "As `ingester_cursor_skips_total`, of listings"
    );
    FORMER_LIVE = gauge("ingester_firehose_live_length", "entries", "Entries in the live stream").absent("while Redis cannot be asked");
    FORMER_BACKFILL = gauge("ingester_firehose_backfill_length", "entries", "Entries in firehose_backfill")
        .absent("while Redis cannot be asked");
    FORMER_LABEL_LIVE = gauge("ingester_label_live_length", "entries", "Entries in the label stream")
        .absent("while Redis cannot be asked");
    FORMER_REPOS = gauge("ingester_repo_backfill_length", "entries", "Entries in the queue of repositories")
        .absent("while Redis cannot be asked");
}
