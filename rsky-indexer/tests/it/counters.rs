//! What the counters say, and what a recount says.

use crate::support::Db;

/// Counters: the table they stand in and its key, the counter, and what is counted by what.
const COUNTERS: [(&str, &str, &str, &str, &str); 7] = [
    ("post_agg", "uri", "likeCount", "\"like\"", "subject"),
    ("post_agg", "uri", "repostCount", "repost", "subject"),
    ("post_agg", "uri", "replyCount", "post WHERE \"violatesThreadGate\" IS NOT TRUE", "\"replyParent\""),
    ("post_agg", "uri", "quoteCount", "quote", "subject"),
    ("profile_agg", "did", "followersCount", "follow", "\"subjectDid\""),
    ("profile_agg", "did", "followsCount", "follow", "creator"),
    ("profile_agg", "did", "postsCount", "post", "creator"),
];

/// Every counter that is not what a recount gives, a few of each kind. A row that is missing counts as zero. Quotes
/// are to be of one version of their post.
pub fn wrong(db: &Db) -> Vec<String> {
    let wrong = |(table, key, counter, counted, by): &(&str, &str, &str, &str, &str)| {
        let sql = format!(
            r#"SELECT coalesce(a.key, c.key), coalesce(a.said, 0), coalesce(c.counted, 0)
            FROM (SELECT {key} AS key, "{counter}" AS said FROM {table}) a
            FULL JOIN (SELECT key, count(*) AS counted FROM (SELECT {by} AS key FROM {counted}) k
                WHERE key IS NOT NULL GROUP BY key) c ON c.key = a.key
            WHERE coalesce(a.said, 0) <> coalesce(c.counted, 0) LIMIT 5"#
        );
        let rows = db.sql(&sql);
        rows.lines().map(|row| format!("{counter}|{row}")).collect::<Vec<_>>()
    };
    COUNTERS.iter().flat_map(wrong).collect()
}
