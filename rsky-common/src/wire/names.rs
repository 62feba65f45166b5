//! Names in Redis that other implementations rely on (PIPELINE 2, DECISIONS "Names").

/// Live events of the relays.
pub const FIREHOSE_LIVE: &str = "firehose_live";
/// Records of backfilled repositories.
pub const FIREHOSE_BACKFILL: &str = "firehose_backfill";
/// Labels.
pub const LABEL_LIVE: &str = "label_live";
/// Repositories to be backfilled.
pub const REPO_BACKFILL: &str = "repo_backfill";
/// Repositories to be backfilled before the others.
pub const REPO_BACKFILL_PRIORITY: &str = "repo_backfill_priority";

/// Consumer group of the indexers on both event streams.
pub const FIREHOSE_GROUP: &str = "firehose_group";
/// Consumer group of the indexers on the label stream.
pub const LABEL_GROUP: &str = "label_group";
/// Consumer group of the backfillers.
pub const REPO_BACKFILL_GROUP: &str = "repo_backfill_group";

/// Field of entries on event streams and on the label stream.
pub const FIELD_EVENT: &str = "event";
/// Field of entries on the repository streams.
pub const FIELD_REPO: &str = "repo";
/// Field of label entries that old rsky wrote; read, never written.
pub const FIELD_LABELS: &str = "labels";

/// The `seq` of backfilled records. Readers take any negative one for it.
pub const SEQ_BACKFILL: i64 = -2;

/// The value of a listing's cursor once the listing has ended.
pub const LISTING_DONE: &str = "!ingester-done";

/// The key of a host's cursor for a stream: the host as configured, without a leading `http://` or `https://` and
/// otherwise unchanged, so that either implementation continues where the other stopped.
pub fn cursor_key(stream: &str, host: &str) -> String {
    let bare = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://")).unwrap_or(host);
    format!("{stream}:cursor:{bare}")
}

/// The stream for entries of `stream` that were given up.
pub fn dead_letter_stream(stream: &str) -> String {
    format!("{stream}_dlq")
}

/// The sorted set of the repositories of a stream that were put off.
pub fn put_off_key(repos: &str) -> String {
    format!("{repos}:delayed")
}

/// The hash, by consumer, of what the backfillers of a stream report of themselves.
pub fn reports_key(repos: &str) -> String {
    format!("{repos}:backfillers")
}

/// Age in milliseconds from which such a report is that of a process that has ended.
pub const REPORT_STALE_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_keys_drop_only_the_scheme() {
        for (host, key) in [
            ("http://127.0.0.1:5590", "firehose_live:cursor:127.0.0.1:5590"),
            ("https://bsky.network/", "firehose_live:cursor:bsky.network/"),
            ("Relay.Example/path", "firehose_live:cursor:Relay.Example/path"),
            ("wss://relay.example", "firehose_live:cursor:wss://relay.example"),
        ] {
            assert_eq!(cursor_key(FIREHOSE_LIVE, host), key);
        }
    }

    #[test]
    fn what_stands_beside_a_stream_is_named_after_it() {
        assert_eq!(dead_letter_stream(REPO_BACKFILL), "repo_backfill_dlq");
        assert_eq!(put_off_key(REPO_BACKFILL), "repo_backfill:delayed");
        assert_eq!(reports_key(REPO_BACKFILL), "repo_backfill:backfillers");
        assert_eq!(SEQ_BACKFILL, -2);
    }
}
