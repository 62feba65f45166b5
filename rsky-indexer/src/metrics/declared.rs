//! The metrics of the indexer as declared: each name, type, unit, meaning and set of labels once.

use rsky_common::admin::{Label, counter, gauge, histogram};

const STREAM: Label = Label::configured("stream", "a stream that is read");
const READER: &[Label] =
    &[STREAM, Label::configured("group", "its group"), Label::configured("consumer", "our name there")];
const LANE: &[Label] =
    &[Label::configured("lane", "a lane by kind and number, and what writes beside the lanes")];

/// What can become of an entry.
pub const OUTCOMES: &[&str] = &["indexed", "nothing", "dead_letter", "put_back"];
/// Why, where it was not indexed: all reasons.
pub const REASONS: &[&str] = &[
    "",
    "account_status_without_effect",
    "no_payload",
    "account_still_hosted",
    "account_hosting_unknown",
    "fails_unforeseen",
    "malformed_entry",
    "unknown_type",
    "malformed_record",
    "invalid_record",
    "not_the_owner",
    "not_utf8",
    "missing_field",
    "refused_by_postgres",
    "did_document_incomplete",
    "did_document_malformed",
    "did_unsupported",
    "did_not_found",
    "did_host_fails",
    "did_host_not_allowed",
];
/// The ends that entries can come to: outcome and reason.
pub fn ends() -> impl Iterator<Item = (&'static str, &'static str)> {
    const PUT_BACK: &str = "fails_unforeseen";
    const NOTHING: &[&str] =
        &["account_status_without_effect", "no_payload", "account_still_hosted", "account_hosting_unknown"];
    REASONS.iter().map(|reason| match *reason {
        "" => ("indexed", ""),
        PUT_BACK => ("put_back", PUT_BACK),
        reason if NOTHING.contains(&reason) => ("nothing", reason),
        reason => ("dead_letter", reason),
    })
}
/// Why a batch was done again.
pub const CAUSES: &[&str] = &["transient", "again", "unknown", "locked", "split"];
/// What can come of a look at an account.
pub const HANDLE_OUTCOMES: &[&str] =
    &["not_needed", "resolved", "none", "directory_failed", "failed", "given_up", "deleted", "kept"];
/// Parts of the time that a batch takes.
pub const PHASES: &[&str] =
    &["connection", "begin", "load", "plan", "write", "count", "commit", "second_look"];

const MILLISECONDS: &[f64] = &[1.0, 5.0, 20.0, 100.0, 500.0, 2000.0, 10_000.0, 60_000.0];
const SECONDS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

rsky_common::declare! {
    OF_STREAMS, "Streams";
    PROCESSED = counter(
        "stream_indexer_messages_processed_total", "entries", "Entries of event streams that are done with, whatever became of them"
    ).by(READER);
    FAILED = counter(
        "stream_indexer_messages_failed_total", "entries", "Entries left pending because the process stopped or dead letters cannot be written"
    ).by(READER);
    WAITING = gauge("stream_indexer_messages_waiting_count", "entries", "Entries read and not yet in a batch").by(READER);
    RUNNING = gauge("stream_indexer_messages_running_count", "entries", "Entries in a batch, or waiting beside the lanes").by(READER);
    PROCESSING_TIME = histogram(
        "stream_indexer_message_processing_time", "milliseconds", "From reading an entry to its acknowledgement",
        MILLISECONDS
    ).by(&[
        STREAM,
        Label::configured("group", "its group"),
        Label::configured("consumer", "our name there"),
        Label::configured(
            "type",
            "`create-`, `update-` or `delete-` with a collection the indexer has a rule for, or with `other`; `repo`, `account`, `identity`; `unread` for what was passed over unread"
        ),
    ]).absent("of a type before its first entry");
    LABELS_PROCESSED = counter(
        "label_indexer_messages_processed_total", "entries", "Entries of the label stream that are done with"
    ).by(READER);
    LABELS_FAILED = counter("label_indexer_messages_failed_total", "entries", "As for event streams").by(READER);
    LABELS_WAITING = gauge("label_indexer_messages_waiting_count", "entries", "As for event streams").by(READER);
    LABELS_RUNNING = gauge("label_indexer_messages_running_count", "entries", "As for event streams").by(READER);
    LABEL_PROCESSING_TIME = histogram(
        "label_indexer_message_processing_time", "milliseconds", "As for event streams", MILLISECONDS
    ).by(READER);
    LAG = gauge(
        "indexer_lag_seconds", "seconds",
        "Age of the oldest entry that was written and is not indexed, as far as this consumer knows"
    ).by(READER);
    ENTRIES = counter("indexer_entries_total", "entries", "Entries by outcome and reason")
        .by(&[STREAM, Label::one_of("outcome", OUTCOMES), Label::one_of("reason", REASONS)]);
    CLAIMED = counter("indexer_claimed_total", "entries", "Entries taken over from other consumers").by(READER);
}

rsky_common::declare! {
    OF_WRITING, "Batches and lanes";
    BATCH_ENTRIES = histogram(
        "indexer_batch_entries", "entries", "Entries per batch of a lane",
        &[1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
    );
    BATCH_SECONDS = histogram("indexer_batch_seconds", "seconds", "Duration of a lane's batches, with all repetitions", SECONDS);
    PHASE_SECONDS = histogram(
        "indexer_batch_phase_seconds", "seconds",
        "Parts of a transaction of events: waiting for a connection; beginning; reading what is stored; planning; writing records and their rows; writing counters and accounts; committing; the second look after that",
        SECONDS
    ).by(&[Label::one_of("phase", PHASES)]);
    RETRIES = counter(
        "indexer_batch_retries_total", "batches",
        "Batches done again, by cause: Postgres was waited for, another process was faster, an unforeseen failure, a lock, halved"
    ).by(&[Label::one_of("cause", CAUSES)]);
    ROWS = counter("indexer_rows_total", "rows", "Rows written or deleted");
    LANE_AGE = gauge(
        "indexer_lane_seconds_without_commit", "seconds",
        "How long a lane has been at its batch since it was given it or last committed a part of it; 0 without one"
    ).by(LANE).absent("before Postgres was found");
    CONNECTIONS = gauge("indexer_connections_in_use", "connections", "Postgres connections in somebody's hands");
    CONNECTIONS_BOUND = gauge("indexer_connections_bound", "connections", "How many there may be");
    SET_ASIDE = gauge(
        "indexer_entries_set_aside", "entries",
        "Entries that wait for rows which another session holds, or that fail by themselves in a way nobody foresaw"
    );
}

rsky_common::declare! {
    OF_MEMORY, "Memory";
    ENTRIES_IN_MEMORY = gauge("indexer_entries_in_memory", "entries", "Entries held between Redis and Postgres");
    BYTES_IN_MEMORY = gauge("indexer_bytes_in_memory", "bytes", "What they are charged");
    BYTES_BOUND = gauge("indexer_bytes_in_memory_bound", "bytes", "What they may be charged at most (INDEXER_MEMORY)");
    MEMORY_BOUND = gauge("indexer_memory_bound_bytes", "bytes", "Most memory the process takes, from its settings")
        .absent("where no limit was found to plan for");
}

rsky_common::declare! {
    OF_ACCOUNTS, "Handles and deleted accounts";
    HANDLES = counter("indexer_handles_total", "accounts", "Accounts looked at, by outcome")
        .by(&[Label::one_of("outcome", HANDLE_OUTCOMES)]);
    HANDLE_ENTRIES = gauge(
        "indexer_handle_entries", "entries", "Entries that wait for a handle or for the end of a deleted account"
    );
    HANDLE_BOUND = gauge("indexer_handle_entries_bound", "entries", "How many may wait (INDEXER_HANDLE_QUEUE)");
    DELETIONS_HELD_UP = gauge(
        "indexer_deletions_held_up", "accounts",
        "Accounts that are to be deleted, and wait until another consumer of the group has finished what they wrote before"
    );
    HANDLE_DEFERRED = counter(
        "indexer_handle_deferred_total", "entries",
        "Entries put off, to be read again, because there was no room for them to wait"
    );
}

rsky_common::declare! {
    FORMER, "Names of the former rsky indexer, over all streams";
    FORMER_EVENTS = counter("indexer_events_processed_total", "entries", "As `stream_indexer_messages_processed_total`");
    FORMER_CREATES = counter("indexer_create_events_total", "entries", "Creations that are done with");
    FORMER_UPDATES = counter("indexer_update_events_total", "entries", "Updates that are done with");
    FORMER_DELETES = counter("indexer_delete_events_total", "entries", "Deletions that are done with");
    FORMER_REPOS = counter("indexer_repo_events_total", "entries", "Ends of backfilled repositories that are done with");
    FORMER_ACCOUNTS = counter("indexer_account_events_total", "entries", "Account events that are done with");
    FORMER_IDENTITIES = counter("indexer_identity_events_total", "entries", "Identity events that are done with");
    FORMER_POSTS = counter("indexer_post_events_total", "entries", "Events of posts that are done with");
    FORMER_LIKES = counter("indexer_like_events_total", "entries", "The same of likes");
    FORMER_REPOSTS = counter("indexer_repost_events_total", "entries", "The same of reposts");
    FORMER_FOLLOWS = counter("indexer_follow_events_total", "entries", "The same of follows");
    FORMER_BLOCKS = counter("indexer_block_events_total", "entries", "The same of blocks");
    FORMER_PROFILES = counter("indexer_profile_events_total", "entries", "The same of profiles");
    FORMER_WRITES = counter("indexer_db_writes_total", "rows", "As `indexer_rows_total`");
    FORMER_ERRORS = counter("indexer_errors_total", "errors", "Sum of the next two");
    FORMER_EXPECTED = counter(
        "indexer_expected_errors_total", "entries", "Entries that became dead letters for what they say"
    );
    FORMER_UNEXPECTED = counter(
        "indexer_unexpected_errors_total", "errors", "Tries of batches that failed in a way nobody foresaw, and entries put back for that"
    );
    FORMER_LABELS = counter("indexer_labels_processed_total", "labels", "Labels that are done with");
    FORMER_LABELS_ADDED = counter("indexer_labels_added_total", "labels", "Those that say something");
    FORMER_LABELS_REMOVED = counter("indexer_labels_removed_total", "labels", "Those that take something back");
    FORMER_PENDING = gauge(
        "indexer_pending_messages", "entries", "Entries that our groups have read and not acknowledged"
    ).absent("while Redis cannot be asked");
    FORMER_TASKS = gauge("indexer_active_tasks", "lanes", "Lanes that are at a batch");
    FORMER_ACK_FAILURES = counter("indexer_ack_failures_total", "times", "Acknowledgements that did not go through at once");
}
