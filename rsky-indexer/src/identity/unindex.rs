//! Takes everything an account wrote out of the database (IDENTITY 6), also from the tables the reference forgets.
//!
//! Page by page, a transaction each, so that no lane waits long for a row; whoever stops in the middle goes on with
//! what is left. The counters of others follow. What is about the account and not of it (labels, the likes of its
//! posts, private data) stays, and so do the counters of it: should the account come back, they are moved from there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::{PgConnection, Row as _};

use crate::collections::{ALL, PartsKind};
use crate::engine::accounts::LostRows;
use crate::engine::{EngineError, Statements, refs};
use crate::kind::Effect;

/// Records of a page.
const PAGE: i64 = 1000;

/// Where rows of an account may be left that `record` does not know of, and the column that an index leads with.
const LEFT: &[(&str, &str)] = &[
    ("profile", "creator"),
    ("post", "creator"),
    ("\"like\"", "creator"),
    ("repost", "creator"),
    ("follow", "creator"),
    ("actor_block", "creator"),
    ("list", "creator"),
    ("list_item", "creator"),
    ("list_block", "creator"),
    ("feed_generator", "creator"),
    ("starter_pack", "creator"),
    ("feed_item", "\"originatorDid\""),
];

/// What hangs on a post, by `postUri`; not every generation of the schema has all of them.
const EMBEDS: &[&str] = &[
    "post_embed_image",
    "post_embed_external",
    "post_embed_record",
    "post_embed_video",
    "post_embed_gallery_image",
];

/// Takes out a page of each account.
#[derive(Debug)]
pub(super) struct Unindex;

/// An account that goes.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) did: String,
    /// Set when nothing is left of it.
    pub(super) gone: AtomicBool,
}

impl Effect for Unindex {
    type Item = Going;

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Going],
    ) -> Result<usize, EngineError> {
        let mut rows = 0;
        for going in items {
            transaction::begin(connection, statements.preamble(), Purpose::AccountPage).await?;
            let outcome = page(connection, statements, &going.did).await;
            let (deleted, gone) = transaction::end(connection, outcome).await?;
            going.gone.store(gone, Ordering::Release);
            rows += deleted;
        }
        Ok(rows)
    }
}

/// Deletes a page; returns how many rows, and whether it was the last.
async fn page(
    connection: &mut PgConnection,
    statements: &Statements,
    did: &str,
) -> Result<(usize, bool), sqlx::Error> {
    let records = ["SELECT uri FROM record WHERE did = $1 LIMIT $2".to_owned()];
    let left = LEFT.iter().map(|(table, by)| format!("SELECT uri FROM {table} WHERE {by} = $1 LIMIT $2"));
    for sql in records.into_iter().chain(left) {
        let uris = uris(connection, statements, &sql, did).await?;
        if !uris.is_empty() {
            return Ok((delete_records(connection, statements, did, &uris).await?, false));
        }
    }
    for by in ["author", "did"] {
        let sql = format!(
            "DELETE FROM notification WHERE id = ANY(ARRAY(SELECT id FROM notification WHERE {by} = $1 LIMIT $2))"
        );
        let done = statements.query(&sql).bind(did).bind(PAGE).execute(&mut *connection).await?;
        if done.rows_affected() > 0 {
            return Ok((usize::try_from(done.rows_affected()).unwrap_or(usize::MAX), false));
        }
    }
    let mut rows = keep_counters(connection, statements, &PROFILE_AGG, &[did.to_owned()], did).await?;
    for table in ["actor_sync", "actor"] {
        let sql = format!("DELETE FROM {table} WHERE did = $1");
        rows += statements.query(&sql).bind(did).execute(&mut *connection).await?.rows_affected();
    }
    Ok((usize::try_from(rows).unwrap_or(usize::MAX), true))
}

async fn uris(
    connection: &mut PgConnection,
    statements: &Statements,
    sql: &str,
    did: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = statements.query(sql).bind(did).bind(PAGE).fetch_all(connection).await?;
    let mut uris = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    // Every process locks rows in one order.
    uris.sort_unstable();
    Ok(uris)
}

/// Deletes records with everything that hangs on them, and moves the counters of others.
async fn delete_records(
    connection: &mut PgConnection,
    statements: &Statements,
    did: &str,
    uris: &[String],
) -> Result<usize, sqlx::Error> {
    let own = format!("at://{did}/");
    let is_own = |subject: &str| subject == did || subject.starts_with(&own);
    let mut lost = LostRows::default();
    // Posts of its own whose counters it moved: also those that are not there, and so on no page.
    let mut counted: BTreeSet<String> = uris.iter().cloned().collect();
    let mut rows = 0;
    for collection in ALL {
        let Some(table) = collection.table.filter(|table| statements.schema().has_table(table.name)) else {
            continue;
        };
        let sql = statements.table(table).delete();
        for row in statements.query(sql).bind(uris).fetch_all(&mut *connection).await? {
            rows += 1;
            if matches!(collection.parts, PartsKind::ThreadGate | PartsKind::PostGate) {
                // It may have outlived its post.
                counted.extend(refs::post_of_gate_at(row.try_get(0)?));
            }
            for (at, aggregate) in collection.aggregates.iter().enumerate() {
                match row.try_get::<Option<String>, _>(at + 1)? {
                    Some(subject) if !is_own(&subject) => lost.counted(aggregate.counter, subject),
                    Some(subject) if subject != did => drop(counted.insert(subject)),
                    _ => {}
                }
            }
        }
    }
    let sql = r#"DELETE FROM quote WHERE uri = ANY($1) RETURNING subject, "subjectCid""#;
    for row in statements.query(sql).bind(uris).fetch_all(&mut *connection).await? {
        let (subject, cid): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if uris.binary_search(&subject).is_err() {
            lost.quote(&subject, &cid);
        }
        if is_own(&subject) {
            counted.insert(subject);
        }
    }
    for table in EMBEDS {
        if statements.schema().has_table(table) {
            let sql = format!(r#"DELETE FROM {table} WHERE "postUri" = ANY($1)"#);
            statements.query(&sql).bind(uris).execute(&mut *connection).await?;
        }
    }
    for sql in [
        "DELETE FROM quote WHERE subject = ANY($1)",
        "DELETE FROM feed_item WHERE uri = ANY($1)",
        r#"DELETE FROM feed_item WHERE "postUri" = ANY($1)"#,
        "DELETE FROM duplicate_record WHERE uri = ANY($1)",
        r#"DELETE FROM duplicate_record WHERE "duplicateOf" = ANY($1)"#,
        r#"DELETE FROM notification WHERE "recordUri" = ANY($1)"#,
        "DELETE FROM record WHERE uri = ANY($1)",
    ] {
        let done = statements.query(sql).bind(uris).execute(&mut *connection).await?;
        rows += usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
    }
    lost.write(connection, statements).await?;
    let counted: Vec<String> = counted.into_iter().collect();
    let deleted = keep_counters(connection, statements, &POST_AGG, &counted, did).await?;
    Ok(rows.saturating_add(usize::try_from(deleted).unwrap_or(usize::MAX)))
}

/// Counters about an account: what locks their rows, leaves in them what others wrote, and deletes those that say
/// nothing then. `$1` are keys, `$2` of the recount the account.
struct Kept {
    lock: &'static str,
    recount: &'static str,
    delete: &'static str,
}

/// Quotes of its posts go with the posts (INDEXING §4.1), those of a post that was not there stay. Bookmarks are not the indexer's; older schemas do not count them.
const POST_AGG: Kept = Kept {
    lock: r#"SELECT FROM post_agg WHERE uri = ANY($1) ORDER BY uri COLLATE "C" FOR UPDATE"#,
    recount: r#"UPDATE post_agg a SET
        "quoteCount" = CASE WHEN EXISTS (SELECT FROM quote q WHERE q.subject = a.uri) THEN a."quoteCount" ELSE 0 END,
        "likeCount" = (SELECT count(*) FROM "like" t WHERE t.subject = a.uri AND t.creator <> $2),
        "repostCount" = (SELECT count(*) FROM repost t WHERE t.subject = a.uri AND t.creator <> $2),
        "replyCount" = (SELECT count(*) FROM post t WHERE t."replyParent" = a.uri AND t.creator <> $2
            AND t."violatesThreadGate" IS NOT TRUE)
        WHERE uri = ANY($1)"#,
    delete: r#"DELETE FROM post_agg a WHERE uri = ANY($1)
        AND "likeCount" = 0 AND "repostCount" = 0 AND "replyCount" = 0 AND "quoteCount" = 0
        AND coalesce(to_jsonb(a) ->> 'bookmarkCount', '0') = '0'"#,
};

const PROFILE_AGG: Kept = Kept {
    lock: "SELECT FROM profile_agg WHERE did = ANY($1) FOR UPDATE",
    recount: r#"UPDATE profile_agg a SET "followsCount" = 0, "postsCount" = 0,
        "followersCount" = (SELECT count(*) FROM follow t WHERE t."subjectDid" = a.did AND t.creator <> $2)
        WHERE did = ANY($1)"#,
    delete: r#"DELETE FROM profile_agg WHERE did = ANY($1) AND "followersCount" = 0"#,
};

/// A row is locked before what it counts is looked at: who moves it meanwhile has committed by then, or comes later.
async fn keep_counters(
    connection: &mut PgConnection,
    statements: &Statements,
    kept: &Kept,
    keys: &[String],
    did: &str,
) -> Result<u64, sqlx::Error> {
    statements.query(kept.lock).bind(keys).execute(&mut *connection).await?;
    statements.query(kept.recount).bind(keys).bind(did).execute(&mut *connection).await?;
    Ok(statements.query(kept.delete).bind(keys).execute(connection).await?.rows_affected())
}
