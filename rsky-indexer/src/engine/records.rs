//! The `record` table: the guard that decides whether anything of a change applies (INDEXING §2).
//!
//! How it guards depends on whether the table has a rev (SCHEMA-VARIANTS §4); where it has none, every change that gets
//! here applies. Index used: `record_pkey`.

use foldhash::HashSet;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::change::{Change, Content};
use super::sql::Statements;
use super::{EngineError, unseen};
use crate::schema::RevMode;

const INSERT: &str = r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
    SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
        unnest($6::text[])"#;

const INSERT_WITHOUT_REV: &str = r#"INSERT INTO record (uri, cid, did, json, "indexedAt")
    SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[])"#;

const OR_REPLACE: &str = r#"ON CONFLICT (uri) DO UPDATE
    SET cid = excluded.cid, json = excluded.json, "indexedAt" = excluded."indexedAt""#;

/// Inserts records that the database has never seen.
///
/// # Errors
/// [`EngineError::Overtaken`] when one is there all the same.
pub(super) async fn insert_unseen(
    connection: &mut PgConnection,
    statements: &Statements,
    records: &[(&Change, &Content)],
) -> Result<(), EngineError> {
    let sql = insert(statements);
    bind_records(statements, sql, records).execute(connection).await.map_err(unseen)?;
    Ok(())
}

/// Inserts records that the database had not seen when the batch was loaded. Returns how many went in: fewer than
/// given means that another process was faster with one of them.
pub(super) async fn insert_new(
    connection: &mut PgConnection,
    statements: &Statements,
    records: &[(&Change, &Content)],
) -> Result<u64, sqlx::Error> {
    let sql = format!("{} ON CONFLICT (uri) DO NOTHING", insert(statements));
    Ok(bind_records(statements, &sql, records).execute(connection).await?.rows_affected())
}

/// Replaces records whose stored rev is not newer; returns the uris of those it replaced (or inserted).
pub(super) async fn replace(
    connection: &mut PgConnection,
    statements: &Statements,
    records: &[(&Change, &Content)],
) -> Result<HashSet<String>, sqlx::Error> {
    let guard = match statements.schema().rev() {
        RevMode::None => "",
        RevMode::NotNull => ", rev = excluded.rev WHERE record.rev <= excluded.rev",
        RevMode::Nullable => ", rev = excluded.rev WHERE record.rev IS NULL OR record.rev <= excluded.rev",
    };
    let sql = format!("{} {OR_REPLACE}{guard} RETURNING uri", insert(statements));
    uris(&bind_records(statements, &sql, records).fetch_all(connection).await?)
}

fn insert(statements: &Statements) -> &'static str {
    match statements.schema().rev() {
        RevMode::None => INSERT_WITHOUT_REV,
        RevMode::NotNull | RevMode::Nullable => INSERT,
    }
}

fn bind_records<'q>(
    statements: &Statements,
    sql: &'q str,
    records: &[(&'q Change, &'q Content)],
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let column = |value: fn(&'q Change, &'q Content) -> &'q str| -> Vec<&'q str> {
        records.iter().map(|(change, content)| value(change, content)).collect()
    };
    let query = statements
        .query(sql)
        .bind(column(|change, _| &change.uri))
        .bind(column(|_, content| &content.cid))
        .bind(column(|change, _| &change.did))
        .bind(column(|_, content| &content.json))
        .bind(column(|change, _| &change.time));
    match statements.schema().rev() {
        RevMode::None => query,
        RevMode::NotNull | RevMode::Nullable => query.bind(column(|change, _| &change.rev)),
    }
}

/// A create of a record that is stored with the same CID: only the rev moves on (DECISIONS 12). Returns the uris of
/// those whose rev did; without revs there is nothing to move.
pub(super) async fn touch(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[(&Change, &Content)],
) -> Result<HashSet<String>, sqlx::Error> {
    let older = match statements.schema().rev() {
        RevMode::None => return Ok(HashSet::default()),
        RevMode::NotNull => "record.rev < v.rev",
        RevMode::Nullable => "(record.rev IS NULL OR record.rev < v.rev)",
    };
    let touched: Vec<&str> = changes.iter().map(|(change, _)| change.uri.as_str()).collect();
    let revs: Vec<&str> = changes.iter().map(|(change, _)| change.rev.as_str()).collect();
    let sql = format!(
        "UPDATE record SET rev = v.rev FROM (SELECT unnest($1::text[]) AS uri, unnest($2::text[]) AS rev) AS v
        WHERE record.uri = v.uri AND {older} RETURNING record.uri"
    );
    uris(&statements.query(&sql).bind(touched).bind(revs).fetch_all(connection).await?)
}

/// Deletes records whose stored rev is not newer; returns the uris of the deletions that applied.
///
/// Where every row has a rev, a tombstone stays: json and cid empty, rev of the deletion (INDEXING §2.4), also where
/// the record was never seen, so that a late create stays dead (DECISIONS 11). Elsewhere the row goes, since readers
/// take a tombstone for a record (CONFORMANCE-TRAPS 109), and a record that was never seen leaves nothing.
pub(super) async fn bury(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
) -> Result<HashSet<String>, sqlx::Error> {
    let column = |value: fn(&Change) -> &str| -> Vec<&str> { changes.iter().map(|c| value(c)).collect() };
    let buried = column(|change| &change.uri);
    let revs = column(|change| &change.rev);
    let query = match statements.schema().rev() {
        RevMode::NotNull => statements
            .query(
                r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
                SELECT v.uri, '', v.did, '', v.time, v.rev
                FROM (SELECT unnest($1::text[]) AS uri, unnest($2::text[]) AS rev, unnest($3::text[]) AS did,
                    unnest($4::text[]) AS time) AS v
                ON CONFLICT (uri) DO UPDATE SET cid = '', json = '', rev = excluded.rev
                    WHERE record.rev <= excluded.rev
                RETURNING uri"#,
            )
            .bind(buried)
            .bind(revs)
            .bind(column(|change| &change.did))
            .bind(column(|change| &change.time)),
        RevMode::Nullable => statements
            .query(
                "DELETE FROM record USING (SELECT unnest($1::text[]) AS uri, unnest($2::text[]) AS rev) AS v
                WHERE record.uri = v.uri AND (record.rev IS NULL OR record.rev <= v.rev)
                RETURNING record.uri",
            )
            .bind(buried)
            .bind(revs),
        RevMode::None => {
            statements.query("DELETE FROM record WHERE uri = ANY($1) RETURNING uri").bind(buried)
        }
    };
    uris(&query.fetch_all(connection).await?)
}

/// Which of these uris have no row.
pub(super) async fn absent(
    connection: &mut PgConnection,
    statements: &Statements,
    asked: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    if asked.is_empty() {
        return Ok(HashSet::default());
    }
    let sql = "SELECT v.uri FROM (SELECT unnest($1::text[]) AS uri) AS v
        WHERE NOT EXISTS (SELECT FROM record r WHERE r.uri = v.uri)";
    uris(&statements.query(sql).bind(asked).fetch_all(connection).await?)
}

fn uris(rows: &[PgRow]) -> Result<HashSet<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
