//! The environment variables of the backfiller. Names: DECISIONS, "Names the outside relies on", and PIPELINE 8.

use rsky_common::config::Variable;
pub(crate) use rsky_common::config::{
    ALLOW_PRIVATE_ADDRESSES, BACKFILLER_BACKFILL_STREAM, BACKFILLER_GROUP, BACKFILLER_PRIORITY_STREAM,
    PLC_URL,
};
use rsky_common::wire::names;

macro_rules! variables {
    ($($name:ident $(or $alias:literal)?: $expects:literal, $default:expr, $help:literal;)*) => {
        $(pub(crate) const $name: Variable = Variable {
            name: stringify!($name),
            alias: variables!(@alias $($alias)?),
            expects: $expects,
            default: $default,
            help: $help,
        };)*
        /// All of them.
        pub(crate) const ALL: &[&Variable] = &[$(&$name),*];
    };
    (@alias $alias:literal) => { Some($alias) };
    (@alias) => { None };
}

variables! {
    BACKFILLER_CONSUMER: "a name, stable over restarts and different for every backfiller", None, "This process's name in the group. Unset: the host name.";
    BACKFILLER_FIREHOSE_STREAM: "a stream name", Some(names::FIREHOSE_BACKFILL), "Stream the records are written to.";
    BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK or "BACKFILLER_HIGH_WATER_MARK": "entries, 1 to 1000000000", Some("100000"), "Length of the output stream at which writing pauses.";
    BACKFILLER_CONCURRENCY: "repositories, 1 to 1000", Some("50"), "Repositories fetched at the same time. Each may take BACKFILLER_MEMORY_PER_REPO. Unset: fewer where memory is limited (the plan is logged at start), as are BACKFILLER_MEMORY_PER_REPO, BACKFILLER_QUEUE and BACKFILLER_DID_CACHE.";
    BACKFILLER_HOST_CONCURRENCY: "repositories, 1 to 100", Some("8"), "Of these from one host at most. A host that answers 429 or 503 gets fewer, and more again as it answers.";
    BACKFILLER_PLC_CONCURRENCY: "requests, 1 to 500", Some("16"), "Requests for DID documents at one directory at the same time.";
    BACKFILLER_QUEUE: "repositories, 10 to 100000", Some("1000"), "Repositories taken from the stream and not finished. More lets more hosts be served side by side.";
    BACKFILLER_DELAYED_MAX: "repositories, 100 to 100000000", Some("1000000"), "Repositories put off (retries, hosts that ask for patience) above which those that only make room for others go to the end of their stream instead; some 300 bytes of Redis each.";
    BACKFILLER_BATCH_SIZE: "entries, 1 to 10000", Some("500"), "Most entries of one transaction.";
    BACKFILLER_BATCH_BYTES: "bytes, e.g. 1MiB; 64KiB to 64MiB", Some("1MiB"), "Most bytes of entries collected for one transaction; a single larger record goes alone.";
    BACKFILLER_SOURCE: "pds or host", Some("pds"), "Where repositories are fetched: the PDS of the DID document (the listing host when it names none), or always the listing host.";
    BACKFILLER_VERIFY: "true or false", Some("true"), "Whether the commit's signature is checked against the DID document. Everything else is always checked.";
    BACKFILLER_SKIP_SIGNATURE_VERIFICATION: "true or false", None, "BACKFILLER_VERIFY under old rsky's name, with the opposite sense.";
    BACKFILLER_COLLECTIONS: "collections, prefix.* or *, separated by commas", Some(COLLECTIONS), "Collections that are queued: those the indexer has a rule for. * queues everything.";
    BACKFILLER_SKIP_UNCHANGED: "true or false", Some("true"), "Whether repositories whose listed revision was queued before are passed over; with DATABASE_URL also those that were queued before and whose listed revision has been indexed since (actor_sync), but none of the priority stream.";
    BACKFILLER_SKIP_INDEXED: "true or false", Some("false"), "Whether actor_sync counts for all accounts. Only for a database that has every account's history: a live commit moves actor_sync, so an account that was active before its first backfill would never be fetched.";
    BACKFILLER_UNCHANGED_MEMORY: "bytes, e.g. 1GiB; 64KiB to 16GiB", Some("1GiB"), "Most Redis memory for remembering the revisions that were queued, taken as they come: some 20 bytes a repository, so the default holds a network of 40 million. When it is full some are forgotten and fetched again, with a warning. Resynchronisations have a table of their own of the same size at most.";
    BACKFILLER_MEMORY_PER_REPO: "bytes, 64KiB to 4GiB", Some("32MiB"), "Memory for the blocks of one repository; larger ones go through a temporary file.";
    BACKFILLER_MAX_REPO_BYTES: "bytes, 1MiB to 64GiB", Some("1GiB"), "Largest repository, after decompression. Larger ones become dead letters.";
    BACKFILLER_DISK_BYTES: "bytes, 1MiB to 1024TiB", Some("16GiB"), "Disk that the temporary files of all repositories may take together. One that finds no room is put off; one that needs more alone becomes a dead letter (too_large).";
    BACKFILLER_TEMP_DIR: "a directory on a disk (not a tmpfs, which is memory)", None, "Where large repositories are kept while they are read, up to BACKFILLER_DISK_BYTES in all. Unset: the system's temporary directory.";
    BACKFILLER_HTTP_TIMEOUT_SECS: "seconds, 1 to 3600", Some("60"), "Time until a host begins to answer.";
    BACKFILLER_STALL_TIMEOUT_SECS: "seconds, 1 to 3600", Some("30"), "Time without progress (less than 1 KiB counts as none) after which a download is given up.";
    BACKFILLER_TOTAL_TIMEOUT_SECS: "seconds, 1 to 86400", Some("3600"), "Time for a whole download.";
    MAX_ATTEMPTS or "BACKFILLER_MAX_RETRIES": "attempts, 1 to 100", Some("5"), "Tries of a repository that fails, before it becomes a dead letter. Being told to wait (429) is no failure.";
    BACKFILLER_RETRY_INITIAL_BACKOFF_MS: "milliseconds, 10 to 86400000", Some("60000"), "Pause before the second try; each further one is four times as long.";
    BACKFILLER_RETRY_MAX_BACKOFF_MS: "milliseconds, 10 to 604800000", Some("21600000"), "Longest such pause.";
    BACKFILLER_HOST_BACKOFF_MS: "milliseconds, 10 to 86400000", Some("30000"), "How long a host that fails several times in a row is left alone at first; doubles up to 64 times that.";
    BACKFILLER_HOST_GIVE_UP_SECS: "seconds, 1 to 31536000", Some("86400"), "When a host has not given a single answer for this long, its repositories become dead letters. The PLC directory is never given up.";
    BACKFILLER_CLAIM_IDLE_MS: "milliseconds, 1000 to 86400000", Some("300000"), "Entries that another backfiller has held for this long without a sign of life are taken over.";
    BACKFILLER_MEMORY_PERCENT: "percent, 0 to 100", Some("90"), "Used part of the machine's (or cgroup's) memory at which writing pauses; 0: never.";
    BACKFILLER_DID_CACHE: "documents, 0 to 10000000", Some("20000"), "DID documents kept in memory, some 700 bytes each.";
    BACKFILLER_DID_TIMEOUT_MS: "milliseconds, 100 to 60000", Some("3000"), "Time for a DID document.";
    BACKFILLER_IDENTITY_CACHE: "memory or redis", Some("memory"), "redis also reads and fills the AppView's shared cache of DID documents (identity:<did>); a whole network of them takes tens of gigabytes.";
    DATABASE_URL or "DB_POSTGRES_URL": "postgres://user:password@host[:port]/database", None, "The AppView's Postgres, read only. If set, accounts of the priority stream are compared with it, and records that are no longer there are deleted; see also BACKFILLER_SKIP_UNCHANGED.";
    DATABASE_SCHEMA: "a schema name", None, "Schema of the AppView's tables. Unset: the connection's own search_path.";
    METRICS_PORT or "BACKFILLER_METRICS_PORT": "a port, 0 to 65535", Some("4010"), "Port of the admin pages; 0 takes a free one.";
}

/// The collections the indexer has a rule for (DECISIONS 22).
pub(crate) const COLLECTIONS: &str = "app.bsky.actor.profile,app.bsky.actor.status,app.bsky.feed.generator,\
app.bsky.feed.like,app.bsky.feed.post,app.bsky.feed.postgate,app.bsky.feed.repost,app.bsky.feed.threadgate,\
app.bsky.graph.block,app.bsky.graph.follow,app.bsky.graph.list,app.bsky.graph.listblock,app.bsky.graph.listitem,\
app.bsky.graph.starterpack,app.bsky.graph.verification,app.bsky.labeler.service,app.bsky.notification.declaration,\
chat.bsky.actor.declaration,com.germnetwork.declaration";
