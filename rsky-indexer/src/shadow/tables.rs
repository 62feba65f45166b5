//! What stands in the tables: one look, in a transaction that only reads.
//!
//! What is read is bounded by what is expected: of a text no more than what ours would have written, and a little, since more
//! is another anyway. Indexes used: the primary keys.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::expected::{Cells, Place};
use crate::engine::UNDESERVED;
use crate::labels::LabelRow;
use crate::schema::{RevMode, Schema};

/// Rows of one record in a table that are looked at: a post has a few dozens of anything at most.
const MOST_ROWS: usize = 100;

/// A row of `record`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) cid: String,
    pub(super) did: String,
    pub(super) live: bool,
    pub(super) rev: Option<String>,
    pub(super) indexed_at: String,
    /// The whole of it, or its beginning where it is much longer than what is expected.
    pub(super) json: String,
}

/// The rows of `record` of these uris, each with the bytes that its JSON should have.
pub(super) async fn records(
    connection: &mut PgConnection,
    schema: &Schema,
    wanted: &[(&str, usize)],
) -> Result<HashMap<String, Recorded>, sqlx::Error> {
    let rev = if schema.rev() == RevMode::None { "NULL::text" } else { "r.rev" };
    let sql = format!(
        "SELECT r.uri, r.cid, r.did, r.json <> '', {rev}, r.\"indexedAt\",
            CASE WHEN octet_length(r.json) <= v.most THEN r.json ELSE left(r.json, 200) END
        FROM unnest($1::text[], $2::int8[]) AS v(uri, most)
        CROSS JOIN LATERAL (SELECT * FROM record WHERE uri = v.uri LIMIT 1) r"
    );
    let uris: Vec<&str> = wanted.iter().map(|(uri, _)| *uri).collect();
    let most: Vec<i64> =
        wanted.iter().map(|(_, bytes)| long(bytes.saturating_mul(2).saturating_add(4096))).collect();
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(uris).bind(most).persistent(false).fetch_all(connection).await?;
    let read = |row: &PgRow| {
        let recorded = Recorded {
            cid: row.try_get(1)?,
            did: row.try_get(2)?,
            live: row.try_get(3)?,
            rev: row.try_get(4)?,
            indexed_at: row.try_get(5)?,
            json: row.try_get(6)?,
        };
        Ok((row.try_get(0)?, recorded))
    };
    rows.iter().map(read).collect()
}

/// The rows that a place has of these uris, each with the characters of its longest value.
pub(super) async fn rows(
    connection: &mut PgConnection,
    place: &Place,
    wanted: &[(&str, usize)],
) -> Result<HashMap<String, Vec<Cells>>, sqlx::Error> {
    let Place { table, by, columns, .. } = place;
    // Names of declarations.
    let values: String =
        columns.iter().map(|(name, _)| format!(", left(t.\"{name}\"::text, v.most)")).collect();
    let sql = format!(
        "SELECT v.uri{values} FROM unnest($1::text[], $2::int4[]) AS v(uri, most)
        CROSS JOIN LATERAL (SELECT * FROM \"{table}\" WHERE \"{by}\" = v.uri LIMIT {MOST_ROWS}) t"
    );
    let uris: Vec<&str> = wanted.iter().map(|(uri, _)| *uri).collect();
    // JSON is longer as Postgres writes it.
    let most =
        |longest: usize| i32::try_from(longest.saturating_mul(2).saturating_add(200)).unwrap_or(i32::MAX);
    let most: Vec<i32> = wanted.iter().map(|(_, longest)| most(*longest)).collect();
    let found =
        sqlx::query(AssertSqlSafe(sql)).bind(uris).bind(most).persistent(false).fetch_all(connection).await?;
    let mut rows: HashMap<String, Vec<Cells>> = HashMap::new();
    for row in found {
        let cells = (1..=columns.len()).map(|at| row.try_get(at)).collect::<Result<Cells, _>>()?;
        rows.entry(row.try_get(0)?).or_default().push(cells);
    }
    Ok(rows)
}

/// The posts of these that stand, with the times at which they were indexed.
pub(super) async fn standing(
    connection: &mut PgConnection,
    uris: &[&str],
) -> Result<HashMap<String, String>, sqlx::Error> {
    let sql = r#"SELECT uri, "indexedAt" FROM record WHERE uri = ANY($1) AND json <> ''"#;
    pairs(sqlx::query(sql).bind(uris).persistent(false).fetch_all(connection).await?)
}

/// Of these replies, those that are hidden though what they answer is there and shown.
pub(super) async fn hidden(
    connection: &mut PgConnection,
    replies: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    let found: Vec<String> =
        sqlx::query_scalar(UNDESERVED).bind(replies).persistent(false).fetch_all(connection).await?;
    Ok(found.into_iter().collect())
}

/// The newest commit of accounts: CID and rev.
pub(super) async fn commits(
    connection: &mut PgConnection,
    dids: &[&str],
) -> Result<HashMap<String, (String, Option<String>)>, sqlx::Error> {
    let sql = r#"SELECT did, "commitCid", "repoRev" FROM actor_sync WHERE did = ANY($1)"#;
    let rows = sqlx::query(sql).bind(dids).persistent(false).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
}

/// The status of accounts that have a row.
pub(super) async fn statuses(
    connection: &mut PgConnection,
    dids: &[&str],
) -> Result<HashMap<String, Option<String>>, sqlx::Error> {
    let sql = r#"SELECT did, "upstreamStatus" FROM actor WHERE did = ANY($1)"#;
    pairs(sqlx::query(sql).bind(dids).persistent(false).fetch_all(connection).await?)
}

fn pairs<T>(rows: Vec<PgRow>) -> Result<HashMap<String, T>, sqlx::Error>
where
    for<'r> T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A label that stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// By the database's own order of texts, which decides which label is newer.
    pub(super) is_older: bool,
    pub(super) is_newer: bool,
    pub(super) cts: String,
    pub(super) neg: bool,
    pub(super) exp: Option<String>,
    /// In hexadecimal.
    pub(super) sig: Option<String>,
}

/// What stands under the keys of these labels, by their places.
pub(super) async fn labels(
    connection: &mut PgConnection,
    schema: &Schema,
    labels: &[&LabelRow],
) -> Result<HashMap<usize, Standing>, sqlx::Error> {
    let exp = if schema.label_expiry() { "left(l.exp, 200)" } else { "NULL::text" };
    let sig = if schema.label_signatures() { "left(encode(l.sig, 'hex'), 2000)" } else { "NULL::text" };
    let sql = format!(
        "SELECT v.at, l.cts < v.cts, l.cts > v.cts, left(l.cts, 200), l.neg, {exp}, {sig}
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            WITH ORDINALITY AS v(src, uri, cid, val, cts, at)
        CROSS JOIN LATERAL (SELECT * FROM label WHERE src = v.src AND uri = v.uri AND cid = v.cid AND val = v.val) l"
    );
    let column =
        |value: fn(&LabelRow) -> &str| -> Vec<&str> { labels.iter().map(|label| value(label)).collect() };
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(column(|label| &label.src))
        .bind(column(|label| &label.uri))
        .bind(column(|label| &label.cid))
        .bind(column(|label| &label.val))
        .bind(column(|label| &label.cts));
    let read = |row: &PgRow| {
        let at: i64 = row.try_get(0)?;
        let standing = Standing {
            is_older: row.try_get(1)?,
            is_newer: row.try_get(2)?,
            cts: row.try_get(3)?,
            neg: row.try_get(4)?,
            exp: row.try_get(5)?,
            sig: row.try_get(6)?,
        };
        Ok((usize::try_from(at.saturating_sub(1)).unwrap_or(usize::MAX), standing))
    };
    query.persistent(false).fetch_all(connection).await?.iter().map(read).collect()
}

fn long(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
