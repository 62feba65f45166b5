//! Every environment variable of the ingester, as `--help` prints it.

use rsky_common::config::{CommonConfig, Variable};
use rsky_common::wire::names;

/// Short form of the declarations below.
const fn setting(
    name: &'static str,
    alias: Option<&'static str>,
    expects: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Variable {
    Variable { name, alias, expects, default, help }
}

/// Relays: firehose and listing.
pub const RELAY_HOSTS: Variable = setting(
    "INGESTER_RELAY_HOSTS",
    Some("INGESTER_HOSTS"),
    "relay hosts, separated by commas, each host[:port] with or without https:// or http://",
    None,
    "Where the firehose and the repository listings come from. Required unless INGESTER_MODE is labeler. Hosts are \
     contacted directly: HTTP_PROXY and its like are not used.",
);
/// Labelers.
pub const LABELER_HOSTS: Variable = setting(
    "INGESTER_LABELER_HOSTS",
    None,
    "labeler hosts, as INGESTER_RELAY_HOSTS",
    None,
    "Where labels come from. None: no labels are read.",
);
/// What is read.
pub const MODE: Variable = setting(
    "INGESTER_MODE",
    None,
    "all, firehose, backfill or labeler",
    Some("all"),
    "What this process reads: everything, or one kind of source only.",
);
/// Stream of live events.
pub const FIREHOSE_STREAM: Variable = setting(
    "INGESTER_FIREHOSE_STREAM",
    None,
    "a stream name",
    Some(names::FIREHOSE_LIVE),
    "Stream of live events.",
);
/// Stream of labels.
pub const LABEL_STREAM: Variable =
    setting("INGESTER_LABEL_STREAM", None, "a stream name", Some(names::LABEL_LIVE), "Stream of labels.");
/// Stream of repositories.
pub const REPO_STREAM: Variable = setting(
    "INGESTER_REPO_STREAM",
    None,
    "a stream name",
    Some(names::REPO_BACKFILL),
    "Stream of repositories to fetch.",
);
/// Stream of repositories before others.
pub const REPO_PRIORITY_STREAM: Variable = setting(
    "INGESTER_REPO_PRIORITY_STREAM",
    None,
    "a stream name",
    Some(names::REPO_BACKFILL_PRIORITY),
    "Stream of repositories to fetch before the others: those whose live events did not tell what changed.",
);
/// Mark of all streams.
pub const HIGH_WATER_MARK: Variable = setting(
    "INGESTER_HIGH_WATER_MARK",
    None,
    "entries, 1 to 1000000000",
    Some("100000"),
    "Length of a stream at which writing to it (and reading for it) stops. Higher: longer outages of the consumers \
     are bridged, and Redis needs more memory (some 1.5 KB an entry).",
);
/// Mark of the live stream.
pub const FIREHOSE_MARK: Variable = setting(
    "INGESTER_FIREHOSE_STREAM_HIGH_WATER_MARK",
    Some(HIGH_WATER_MARK.name),
    HIGH_WATER_MARK.expects,
    HIGH_WATER_MARK.default,
    "The mark of the stream of live events alone.",
);
/// Mark of the label stream.
pub const LABEL_MARK: Variable = setting(
    "INGESTER_LABEL_STREAM_HIGH_WATER_MARK",
    Some(HIGH_WATER_MARK.name),
    HIGH_WATER_MARK.expects,
    HIGH_WATER_MARK.default,
    "The mark of the stream of labels alone.",
);
/// Mark of the repository streams.
pub const REPO_MARK: Variable = setting(
    "INGESTER_REPO_STREAM_HIGH_WATER_MARK",
    Some(HIGH_WATER_MARK.name),
    HIGH_WATER_MARK.expects,
    HIGH_WATER_MARK.default,
    "The mark of the streams of repositories alone.",
);
/// Entries per transaction.
pub const BATCH_SIZE: Variable = setting(
    "INGESTER_BATCH_SIZE",
    None,
    "entries, 1 to 10000",
    Some("500"),
    "Entries per transaction at most (one frame with more goes alone). Higher: fewer round trips, and Redis answers \
     others later.",
);
/// Entries per transaction near the mark.
pub const SMALL_BATCH_SIZE: Variable = setting(
    "INGESTER_SMALL_BATCH_SIZE",
    None,
    "entries, 1 to 10000",
    Some("100"),
    "Entries per transaction when less than a whole batch fits below the mark.",
);
/// Bytes per transaction.
pub const BATCH_BYTES: Variable = setting(
    "INGESTER_BATCH_BYTES",
    None,
    "bytes, 1KiB to 512MiB",
    Some("4MiB"),
    "Bytes of entries per transaction at most (one larger frame goes alone).",
);
/// Patience of a cursor.
pub const BATCH_TIMEOUT: Variable = setting(
    "INGESTER_BATCH_TIMEOUT_MS",
    None,
    "milliseconds, 1 to 60000",
    Some("1000"),
    "How long a cursor that moved without entries waits for entries to travel with. Entries themselves do not wait \
     when the queue is empty.",
);
/// Bytes in memory.
pub const QUEUE_BYTES: Variable = setting(
    "INGESTER_QUEUE_BYTES",
    None,
    "bytes, 1MiB to 3GiB",
    Some("64MiB"),
    "Frames in memory and what they become, from the socket until they are in Redis: what all sources have in common, \
     beside 2 MiB for each alone. While it is decoded a frame counts three times. Lower: less memory; higher helps \
     nothing unless there are many sources. Where there are relays and labelers, a quarter is for the labelers. Unset: \
     less where memory is limited (the plan is logged at start).",
);
/// Largest frame.
pub const MAX_FRAME_BYTES: Variable = setting(
    "INGESTER_MAX_FRAME_BYTES",
    None,
    "bytes, 64KiB to 256MiB",
    Some("10MiB"),
    "A larger frame is not read but counted and dead-lettered. The protocol allows 5 MB.",
);
/// Memory breaker.
pub const MEMORY_PERCENT: Variable = setting(
    "INGESTER_MEMORY_PERCENT",
    None,
    "percent, 0 to 100",
    Some("80"),
    "All reading stops while this much of the memory (of the cgroup if it has a limit, else of the host) is in use; \
     it goes on 5 points below. 0 or 100: never.",
);
/// Idle sockets.
pub const IDLE_TIMEOUT: Variable = setting(
    "INGESTER_IDLE_TIMEOUT",
    None,
    "a duration: seconds, or with unit (500ms, 60s, 5m); 0 or off for never",
    Some("60s"),
    "A connected socket without a data frame for this long is replaced. Raise it or switch it off for a quiet private \
     relay.",
);
/// Idle labelers.
pub const LABELER_IDLE_TIMEOUT: Variable = setting(
    "INGESTER_LABELER_IDLE_TIMEOUT",
    None,
    IDLE_TIMEOUT.expects,
    Some("off"),
    "The same for labelers, of which many are quiet for hours.",
);
/// Ping interval.
pub const PING_INTERVAL: Variable = setting(
    "INGESTER_PING_INTERVAL_MS",
    None,
    "milliseconds, 100 to 600000",
    Some("10000"),
    "Time between pings; a socket that gave neither pong nor data in between is replaced.",
);
/// Long pauses.
pub const PAUSE_CLOSE: Variable = setting(
    "INGESTER_PAUSE_CLOSE_MS",
    None,
    "milliseconds, 10 to 86400000",
    Some("30000"),
    "A socket that could not be read for this long, because the gate is shut, is closed; it is opened again from the \
     stored cursor when everything read before is in Redis. Lower spares the relay; higher spares reconnects.",
);
/// First pause between connections.
pub const RECONNECT_MIN: Variable = setting(
    "INGESTER_RECONNECT_MIN_MS",
    None,
    "milliseconds, 10 to 60000",
    Some("1000"),
    "First pause before connecting again; it doubles with each failure, with jitter.",
);
/// Last pause between connections.
pub const RECONNECT_MAX: Variable = setting(
    "INGESTER_RECONNECT_MAX_MS",
    None,
    "milliseconds, 10 to 3600000",
    Some("64000"),
    "Longest pause before connecting again.",
);
/// Collections.
pub const COLLECTIONS: Variable = setting(
    "INGESTER_COLLECTIONS",
    None,
    "*, or collections and prefix.* separated by commas",
    Some("*"),
    "Which collections of live commits are queued. Fewer: smaller streams, but actor_sync does not move for commits \
     that hold none of them.",
);
/// Verification.
pub const VERIFY: Variable = setting(
    "INGESTER_VERIFY",
    None,
    "off (signature is not supported yet)",
    Some("off"),
    "Whether signatures of live commits are verified. The relay has checked them; hashes are always verified.",
);
/// Resynchronisation.
pub const RESYNC: Variable = setting(
    "INGESTER_RESYNC",
    None,
    "true or false",
    Some("true"),
    "Queue repositories whose events did not tell what changed (#sync, tooBig) to INGESTER_REPO_PRIORITY_STREAM. \
     Switch it off where no backfiller reads that stream: at its mark they wait in a set of Redis beside it \
     (<stream>:waiting, 100 000 at most).",
);
/// Listing again.
pub const RELIST_INTERVAL: Variable = setting(
    "INGESTER_RELIST_INTERVAL",
    None,
    "a duration: seconds, or with unit (30m, 24h, 7d); 0 or off for never",
    Some("off"),
    "A new listing of a relay's repositories starts this long after the last one ended. Repositories whose revision \
     was queued before are not queued again.",
);
/// Memory of listings.
pub const RELIST_MEMORY: Variable = setting(
    "INGESTER_RELIST_MEMORY_BYTES",
    None,
    "bytes, 64KiB to 64GiB",
    Some("256MiB"),
    "Redis memory per relay to remember queued revisions in, 8 bytes each; used only with INGESTER_RELIST_INTERVAL. \
     Too small: some repositories are queued again although unchanged.",
);
/// Requests of listings.
pub const LIST_TIMEOUT: Variable = setting(
    "INGESTER_LIST_TIMEOUT_MS",
    None,
    "milliseconds, 100 to 600000",
    Some("60000"),
    "Time for one page of listRepos.",
);
/// Admin port.
pub const METRICS_PORT: Variable =
    setting("METRICS_PORT", None, "a port, 0 for any free one", Some("4000"), "Port of the admin pages.");

/// The variables of this daemon alone.
pub const OWN: &[&Variable] = &[
    &RELAY_HOSTS,
    &LABELER_HOSTS,
    &MODE,
    &FIREHOSE_STREAM,
    &LABEL_STREAM,
    &REPO_STREAM,
    &REPO_PRIORITY_STREAM,
    &HIGH_WATER_MARK,
    &FIREHOSE_MARK,
    &LABEL_MARK,
    &REPO_MARK,
    &BATCH_SIZE,
    &SMALL_BATCH_SIZE,
    &BATCH_BYTES,
    &BATCH_TIMEOUT,
    &QUEUE_BYTES,
    &MAX_FRAME_BYTES,
    &MEMORY_PERCENT,
    &IDLE_TIMEOUT,
    &LABELER_IDLE_TIMEOUT,
    &PING_INTERVAL,
    &PAUSE_CLOSE,
    &RECONNECT_MIN,
    &RECONNECT_MAX,
    &COLLECTIONS,
    &VERIFY,
    &RESYNC,
    &RELIST_INTERVAL,
    &RELIST_MEMORY,
    &LIST_TIMEOUT,
    &METRICS_PORT,
];

/// Every variable this daemon reads.
pub fn all() -> impl Iterator<Item = &'static Variable> {
    OWN.iter().chain(CommonConfig::VARIABLES).copied()
}
