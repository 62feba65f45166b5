//! The `record` table: the guard that decides whether anything of a change applies (INDEXING §2).
//!
//! Index used: `record_pkey`.

use std::collections::HashSet;

use sqlx::{PgConnection, Row as _};

use super::change::{Change, Content};
use super::sql::Statements;
use super::{EngineError, unseen};

/// Inserts records that the database has never seen.
///
/// # Errors
/// [`EngineError::Overtaken`] when one is there all the same.
pub(super) async fn insert_unseen(
    connection: &mut PgConnection,
    statements: &Statements,
    records: &[(&Change, &Content)],
) -> Result<(), EngineError> {
    let sql = r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])"#;
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
    let sql = r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        ON CONFLICT (uri) DO NOTHING"#;
    Ok(bind_records(statements, sql, records).execute(connection).await?.rows_affected())
}

/// Replaces records whose stored rev is not newer; returns the uris of those it replaced (or inserted).
pub(super) async fn replace(
    connection: &mut PgConnection,
    statements: &Statements,
    records: &[(&Change, &Content)],
) -> Result<HashSet<String>, sqlx::Error> {
    let sql = r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        ON CONFLICT (uri) DO UPDATE
            SET cid = excluded.cid, json = excluded.json, "indexedAt" = excluded."indexedAt", rev = excluded.rev
            WHERE record.rev <= excluded.rev
        RETURNING uri"#;
    let rows = bind_records(statements, sql, records).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn bind_records<'q>(
    statements: &Statements,
    sql: &'q str,
    records: &[(&'q Change, &'q Content)],
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let column = |value: fn(&'q Change, &'q Content) -> &'q str| -> Vec<&'q str> {
        records.iter().map(|(change, content)| value(change, content)).collect()
    };
    statements
        .query(sql)
        .bind(column(|change, _| &change.uri))
        .bind(column(|_, content| &content.cid))
        .bind(column(|change, _| &change.did))
        .bind(column(|_, content| &content.json))
        .bind(column(|change, _| &change.time))
        .bind(column(|change, _| &change.rev))
}

/// A create of a record that is stored with the same CID: only the rev moves on (DECISIONS 12). Returns the uris of
/// those whose rev did.
pub(super) async fn touch(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[(&Change, &Content)],
) -> Result<HashSet<String>, sqlx::Error> {
    let uris: Vec<&str> = changes.iter().map(|(change, _)| change.uri.as_str()).collect();
    let revs: Vec<&str> = changes.iter().map(|(change, _)| change.rev.as_str()).collect();
    let sql = r#"UPDATE record SET rev = v.rev FROM unnest($1::text[], $2::text[]) AS v(uri, rev)
        WHERE record.uri = v.uri AND record.rev < v.rev RETURNING record.uri"#;
    let rows = statements.query(sql).bind(uris).bind(revs).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Leaves a tombstone: json and cid empty, rev of the deletion (INDEXING §2.4), also where the record was never
/// seen, so that a late create stays dead (DECISIONS 11). Returns the uris of the deletions that applied.
pub(super) async fn bury(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
) -> Result<HashSet<String>, sqlx::Error> {
    let column = |value: fn(&Change) -> &str| -> Vec<&str> { changes.iter().map(|c| value(c)).collect() };
    let sql = r#"INSERT INTO record (uri, cid, did, json, "indexedAt", rev)
        SELECT v.uri, '', v.did, '', v.time, v.rev
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS v(uri, did, time, rev)
        ON CONFLICT (uri) DO UPDATE SET cid = '', json = '', rev = excluded.rev
            WHERE record.rev <= excluded.rev
        RETURNING uri"#;
    let rows = statements
        .query(sql)
        .bind(column(|change| &change.uri))
        .bind(column(|change| &change.did))
        .bind(column(|change| &change.time))
        .bind(column(|change| &change.rev))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
