//! The metrics of the backfiller as declared: each name, type, unit, meaning and set of labels once.

use rsky_common::admin::{Label, counter, gauge, histogram};

use crate::hosts::HostState;
use crate::outcome::Class;

/// Parts of the time that a repository takes.
pub const PHASES: &[&str] = &["document", "fetch", "write"];

const PHASE: &[Label] = &[Label::one_of("phase", PHASES)];
const CLASS: &[Label] = &[Label::one_of("class", Class::NAMES)];
const REASON: &[Label] = &[Label::one_of("reason", Class::NAMES)];
const WHILE_UNKNOWN: &str = "while nobody knows";

rsky_common::declare! {
    OF_REPOSITORIES, "Repositories";
    OUTCOMES = counter("backfiller_outcomes_total", "tries", "Outcomes of tries, by class").by(CLASS);
    PROCESSED = counter("backfiller_repos_processed_total", "repositories", "Repositories that are done with");
    FAILED = counter("backfiller_repos_failed_total", "tries", "Tries that failed");
    DEAD = counter("backfiller_repos_dead_lettered_total", "repositories", "Repositories that became dead letters");
    DEAD_BY_REASON = counter("backfiller_dead_letters_total", "repositories", "The same by reason").by(REASON);
    RETRIES = counter("backfiller_retries_attempted_total", "repositories", "Repositories put off for another try");
    RETRIES_BY_REASON = counter("backfiller_retries_total", "repositories", "The same by reason").by(REASON);
    PARKED = counter("backfiller_repos_parked_total", "repositories", "Repositories put off so that other hosts can be served");
    RUNNING = gauge("backfiller_repos_running", "repositories", "Repositories in work");
    RUNNING_BOUND = gauge("backfiller_repos_running_bound", "repositories", "How many may be (BACKFILLER_CONCURRENCY)");
    WAITING = gauge("backfiller_repos_waiting", "repositories", "Repositories taken and waiting for their host or directory");
    WAITING_BOUND = gauge("backfiller_repos_waiting_bound", "repositories", "How many may be taken (BACKFILLER_QUEUE, for each of the two streams)");
    DELAYED = gauge("backfiller_repos_delayed", "repositories", "Repositories put off, of all backfillers")
        .absent(WHILE_UNKNOWN);
    LEFT = gauge(
        "backfiller_repos_left", "repositories",
        "What is left to do, for all backfillers: entries in the queues, and repositories put off"
    ).absent("while Redis cannot be asked");
    CLAIMED = counter("backfiller_claimed_total", "entries", "Entries taken over from other consumers");
    HOSTS = gauge("backfiller_hosts", "hosts", "Hosts by state: answering, asking for patience, set aside for their failures")
        .by(&[Label::one_of("state", HostState::NAMES)]);
    SECONDS = histogram(
        "backfiller_repository_seconds", "seconds",
        "Parts of the time that a repository takes: asking for its DID document, fetching it, writing its records",
        &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0]
    ).by(PHASE);
    SIZES = histogram(
        "backfiller_repository_bytes", "bytes", "Sizes of the repositories that were received whole",
        &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
    );
}

rsky_common::declare! {
    OF_RECORDS, "Records";
    RECORDS = counter("backfiller_records_extracted_total", "records", "Records queued");
    FILTERED = counter("backfiller_records_filtered_total", "records", "Records of collections that are not queued");
    DELETED = counter(
        "backfiller_records_deleted_total", "records", "Deletes of records that resynchronised repositories no longer have"
    );
    BAD = counter("backfiller_records_bad_total", "records", "Records that could not be converted");
    BYTES = counter("backfiller_car_bytes_total", "bytes", "Bytes of repositories received whole");
}

rsky_common::declare! {
    OF_MEMORY, "Memory and disk";
    MEMORY_BOUND = gauge("backfiller_memory_bound_bytes", "bytes", "Most memory the process takes, from its settings");
    DISK_USED = gauge("backfiller_disk_used_bytes", "bytes", "Bytes that temporary files take");
    DISK_BOUND = gauge("backfiller_disk_bound_bytes", "bytes", "Bytes that they may take (BACKFILLER_DISK_BYTES)");
    DISK_FREE = gauge("backfiller_disk_free_bytes", "bytes", "Free room where they lie (BACKFILLER_TEMP_DIR)")
        .absent("where the system does not tell");
}

rsky_common::declare_gates!("backfiller");

rsky_common::declare! {
    FORMER, "Names of the former rsky backfiller";
    FORMER_OUTPUT = gauge("backfiller_output_stream_length", "entries", "As `backfiller_stream_length`")
        .absent(WHILE_UNKNOWN);
    FORMER_FETCH = counter("backfiller_car_fetch_errors_total", "tries", "Tries in which the repository could not be fetched");
    FORMER_PARSE = counter("backfiller_car_parse_errors_total", "tries", "Tries in which it could not be read");
    FORMER_VERIFY = counter(
        "backfiller_verification_errors_total", "tries", "Tries in which it was not as its account's key and name say"
    );
}
