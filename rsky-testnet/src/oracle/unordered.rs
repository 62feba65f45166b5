//! What must hold whatever came first: history and stream at once, written by several indexers.
//!
//! Times, flags, and which of several duplicates has the row depend on who was first (docs/COMPATIBILITY.md, "What depends on who
//! was first"), and are not compared. What was written, by whom, about what, is; and the database must agree with itself.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::compare::{Differences, read};
use super::tables::Tables;
use crate::servers::Session;

/// The columns of each table that do not depend on an order.
const COLUMNS: [(&str, &[&str]); 22] = [
    ("record", &["uri", "cid", "did", "json"]),
    ("actor", &["did", "handle", "upstreamStatus"]),
    ("actor_sync", &["did", "commitCid", "repoRev"]),
    ("profile", &["uri", "cid", "creator", "displayName", "description", "avatarCid", "createdAt"]),
    ("post", &["uri", "cid", "creator", "text", "replyRoot", "replyParent", "createdAt", "langs", "tags"]),
    ("post_embed_image", &["postUri", "position", "imageCid", "alt"]),
    ("post_embed_external", &["postUri", "uri", "title", "description", "thumbCid"]),
    ("post_embed_record", &["postUri", "embedUri", "embedCid"]),
    ("post_embed_video", &["postUri", "videoCid", "alt"]),
    ("thread_gate", &["uri", "cid", "creator", "postUri", "createdAt"]),
    ("post_gate", &["uri", "cid", "creator", "postUri", "createdAt"]),
    ("list", &["uri", "cid", "creator", "name", "purpose", "description", "createdAt"]),
    ("starter_pack", &["uri", "cid", "creator", "name", "createdAt"]),
    ("feed_generator", &["uri", "cid", "creator", "feedDid", "displayName", "description", "createdAt"]),
    ("label", &["src", "uri", "cid", "val", "neg", "cts", "exp"]),
    // Of several that say the same, one has the row.
    ("like", &["creator", "subject"]),
    ("repost", &["creator", "subject"]),
    ("follow", &["creator", "subjectDid"]),
    ("actor_block", &["creator", "subjectDid"]),
    ("list_item", &["listUri", "subjectDid"]),
    ("list_block", &["creator", "subjectUri"]),
    ("verification", &["creator", "subject"]),
];

/// Tables whose rows are records of a collection, of which one of those that say the same has the row.
const KEYED: [(&str, &str); 7] = [
    ("like", "app.bsky.feed.like"),
    ("repost", "app.bsky.feed.repost"),
    ("follow", "app.bsky.graph.follow"),
    ("actor_block", "app.bsky.graph.block"),
    ("list_item", "app.bsky.graph.listitem"),
    ("list_block", "app.bsky.graph.listblock"),
    ("verification", "app.bsky.graph.verification"),
];

/// Questions of which every row of an answer is wrong.
const NEVER: [(&str, &str); 9] = [
    (
        "counters of posts that are not the number of rows",
        r#"SELECT a.uri FROM post_agg a WHERE "likeCount" <> (SELECT count(*) FROM "like" t WHERE t.subject = a.uri)
        OR "repostCount" <> (SELECT count(*) FROM repost t WHERE t.subject = a.uri)
        OR "replyCount" <> (SELECT count(*) FROM post t WHERE t."replyParent" = a.uri AND t."violatesThreadGate" IS NOT TRUE)"#,
    ),
    (
        "posts of which something is counted, without counters",
        r#"SELECT subject FROM (SELECT subject FROM "like" UNION SELECT subject FROM repost UNION
        SELECT "replyParent" FROM post WHERE "replyParent" IS NOT NULL AND "violatesThreadGate" IS NOT TRUE UNION SELECT subject FROM quote) t
        WHERE NOT EXISTS (SELECT FROM post_agg a WHERE a.uri = t.subject)"#,
    ),
    (
        "counters of accounts that are not the number of rows",
        r#"SELECT a.did FROM profile_agg a
        WHERE "followersCount" <> (SELECT count(*) FROM follow t WHERE t."subjectDid" = a.did)
        OR "followsCount" <> (SELECT count(*) FROM follow t WHERE t.creator = a.did)
        OR "postsCount" <> (SELECT count(*) FROM post t WHERE t.creator = a.did)"#,
    ),
    (
        "accounts without counters",
        r#"SELECT did FROM (SELECT creator AS did FROM post UNION SELECT creator FROM follow UNION SELECT "subjectDid" FROM follow) t
        WHERE NOT EXISTS (SELECT FROM profile_agg a WHERE a.did = t.did)"#,
    ),
    (
        "replies that are flagged though what they answer is there and sound",
        r#"SELECT c.uri FROM post c JOIN post p ON p.uri = c."replyParent" JOIN record r ON r.uri = p.uri
        WHERE c."invalidReplyRoot" AND r.json <> '' AND p."invalidReplyRoot" IS NOT TRUE
        AND CASE WHEN c."replyRoot" = p.uri THEN p."replyRoot" IS NULL ELSE p."replyRoot" = c."replyRoot" END"#,
    ),
    (
        "posts without their item, or items without their post",
        r#"SELECT coalesce(p.uri, i.uri) FROM post p FULL JOIN (SELECT * FROM feed_item WHERE type = 'post') i ON i.uri = p.uri
        WHERE p.uri IS NULL OR i.uri IS NULL OR i.cid <> p.cid"#,
    ),
    (
        "items of reposts that are not there",
        "SELECT i.uri FROM feed_item i WHERE type = 'repost' AND NOT EXISTS (SELECT FROM record r WHERE r.uri = i.uri AND r.json <> '')",
    ),
    (
        "quotes by posts that are not there",
        "SELECT q.uri FROM quote q WHERE NOT EXISTS (SELECT FROM post p WHERE p.uri = q.uri)",
    ),
    (
        "people who were told twice",
        r#"SELECT did || ' ' || reason || ' ' || "recordUri" FROM notification WHERE reason <> 'unverified'
        GROUP BY did, reason, "recordUri" HAVING count(*) > 1"#,
    ),
];

/// Compares what does not depend on an order.
///
/// # Errors
/// The database cannot be read.
pub fn compare_unordered(url: &str, expected: &Tables) -> Result<Differences> {
    let mut differences = Differences::default();
    for (table, columns) in COLUMNS {
        let held = read(url, table).with_context(|| format!("read {table}"))?;
        let must = expected.get(table).map(Vec::as_slice).unwrap_or_default();
        differences.rows += must.len();
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        must.iter().for_each(|row| *counts.entry(only(columns, row)).or_default() += 1);
        held.iter().for_each(|row| *counts.entry(only(columns, row)).or_default() -= 1);
        let unlike = counts.into_iter().filter(|(_, count)| *count != 0);
        let lines: Vec<String> = unlike
            .map(|(row, count)| format!("{}: {row}", if count > 0 { "missing" } else { "must not be there" }))
            .collect();
        if !lines.is_empty() {
            differences.tables.insert(table, lines);
        }
    }
    Ok(differences)
}

fn only(columns: &[&str], row: &Value) -> String {
    let values: Vec<&Value> = columns.iter().map(|column| &row[*column]).collect();
    serde_json::to_string(&values).unwrap_or_default()
}

/// Whether a database agrees with itself: a line for everything that does not, and how many questions were asked.
///
/// # Errors
/// The database cannot be asked.
pub fn disagreements(session: &mut Session) -> Result<(usize, Vec<String>)> {
    let mut questions: Vec<(String, String)> =
        NEVER.iter().map(|(what, sql)| ((*what).to_owned(), (*sql).to_owned())).collect();
    for (table, collection) in KEYED {
        questions.push((
            format!("rows of {table} without their record"),
            format!(
                r#"SELECT t.uri FROM "{table}" t WHERE NOT EXISTS
                (SELECT FROM record r WHERE r.uri = t.uri AND r.cid = t.cid AND r.json <> '')"#
            ),
        ));
        questions.push((
            format!("records of {collection} that neither have a row nor stand behind one"),
            format!(
                r#"SELECT r.uri FROM record r WHERE r.json <> '' AND r.uri LIKE 'at://%/{collection}/%'
                AND NOT EXISTS (SELECT FROM "{table}" t WHERE t.uri = r.uri)
                AND NOT EXISTS (SELECT FROM duplicate_record d WHERE d.uri = r.uri)"#
            ),
        ));
    }
    let mut lines = Vec::new();
    for (what, sql) in &questions {
        let statement = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        for row in session.rows(&statement)? {
            lines.push(format!("{what}: {row}"));
        }
    }
    Ok((questions.len(), lines))
}
