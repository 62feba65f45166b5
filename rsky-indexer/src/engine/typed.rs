//! The typed tables: rows in and out, with the feed items and counters that follow them (INDEXING §4).

use std::borrow::Cow;

use foldhash::{HashSet, HashSetExt as _};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _};

use super::aggregates::Deltas;
use super::change::{Change, Content};
use super::sql::Statements;
use super::{EngineError, unseen};
use crate::collections::{Collection, FeedItem, Flags, PartsKind, RecordContext, Row, Table};

/// A row to insert.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRow<'c> {
    /// The change it comes from.
    pub change: &'c Change,
    /// The record.
    pub content: &'c Content,
    /// Its cells.
    pub row: &'c Row,
    /// What the wave found of a post.
    pub flags: Flags,
}

/// Inserts rows of one collection that are known to be new, their duplicate keys free.
///
/// # Errors
/// [`EngineError::Overtaken`] when one meets a row all the same.
pub(super) async fn insert_unseen<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    rows: &[NewRow<'c>],
    deltas: &mut Deltas<'c>,
) -> Result<(), EngineError> {
    let Some(table) = collection.table.filter(|_| !rows.is_empty()) else { return Ok(()) };
    let query = bind_rows(statements, statements.table(table).insert_unseen(), table, rows);
    query.execute(&mut *connection).await.map_err(unseen)?;
    count(collection, rows.iter(), deltas);
    if let Some(item) = collection.feed_item {
        insert_feed_items(connection, statements, item, rows, FEED_ITEMS).await.map_err(unseen)?;
    }
    Ok(())
}

/// Inserts rows of one collection; returns the uris of those that went in. The others met a row that is there
/// already, their own or the holder of their duplicate key.
pub(super) async fn insert<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    rows: &[NewRow<'c>],
    deltas: &mut Deltas<'c>,
) -> Result<HashSet<String>, sqlx::Error> {
    let Some(table) = collection.table.filter(|_| !rows.is_empty()) else { return Ok(HashSet::default()) };
    let query = bind_rows(statements, statements.table(table).insert(), table, rows);
    let mut inserted = HashSet::with_capacity(rows.len());
    for row in query.fetch_all(&mut *connection).await? {
        inserted.insert(row.try_get::<String, _>(0)?);
    }
    count(collection, rows.iter().filter(|row| inserted.contains(&row.change.uri)), deltas);
    if let Some(item) = collection.feed_item {
        insert_feed_items(connection, statements, item, rows, FEED_ITEMS_THAT_MAY_EXIST).await?;
    }
    Ok(inserted)
}

/// One array a column.
fn bind_rows<'q>(
    statements: &Statements,
    sql: &'q str,
    table: &Table,
    rows: &[NewRow<'q>],
) -> Query<'q, Postgres, PgArguments> {
    let mut query = statements.query(sql);
    for column in statements.table(table).columns().iter().copied() {
        query = query.bind(rows.iter().map(|row| value(row, column)).collect::<Vec<Option<&str>>>());
    }
    query
}

/// Moves the counters for rows that came.
fn count<'r, 'c: 'r>(
    collection: &Collection,
    rows: impl Iterator<Item = &'r NewRow<'c>>,
    deltas: &mut Deltas<'c>,
) {
    for row in rows {
        for aggregate in collection.aggregates {
            if let Some(subject) = value(row, aggregate.by) {
                // A row that does not count still brings its subject's counters into being, as the reference's recount does.
                let counts = aggregate.unless.and_then(|flag| value(row, flag)) != Some("true");
                deltas.add(aggregate.counter, Cow::Borrowed(subject), i64::from(counts));
            }
        }
    }
}

/// Deletes the rows of these uris; returns the uris of those that were there.
pub(super) async fn delete(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    uris: &[&str],
    deltas: &mut Deltas<'_>,
) -> Result<HashSet<String>, sqlx::Error> {
    let Some(table) = collection.table else { return Ok(HashSet::default()) };
    if uris.is_empty() {
        return Ok(HashSet::default());
    }
    let rows =
        statements.query(statements.table(table).delete()).bind(uris).fetch_all(&mut *connection).await?;
    let mut deleted = HashSet::with_capacity(rows.len());
    for row in rows {
        deleted.insert(row.try_get(0)?);
        for (at, aggregate) in collection.aggregates.iter().enumerate() {
            if let Some(subject) = row.try_get::<Option<String>, _>(at + 1)? {
                deltas.add(aggregate.counter, Cow::Owned(subject), -1);
            }
        }
    }
    // A post's goes with everything else that hangs on it.
    if collection.feed_item.is_some() && collection.parts == PartsKind::None {
        // Also for a repost that never got a row: its feed item exists all the same (CONFORMANCE-TRAPS 58).
        let sql = "DELETE FROM feed_item WHERE uri = ANY($1)";
        statements.query(sql).bind(uris).execute(connection).await?;
    }
    Ok(deleted)
}

/// Whether all of these uris have a row.
pub(super) async fn all_there(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    uris: &[&str],
) -> Result<bool, sqlx::Error> {
    let Some(table) = collection.table.filter(|_| !uris.is_empty()) else { return Ok(true) };
    let sql = format!("SELECT uri FROM \"{}\" WHERE uri = ANY($1)", table.name);
    let there = statements.query(&sql).bind(uris).fetch_all(connection).await?;
    Ok(there.len() == uris.len())
}

const FEED_ITEMS: &str = r#"INSERT INTO feed_item (uri, cid, type, "postUri", "originatorDid", "sortAt")
    SELECT unnest($1::text[]), unnest($2::text[]), $6, unnest($3::text[]), unnest($4::text[]), unnest($5::text[])"#;

const FEED_ITEMS_THAT_MAY_EXIST: &str = r#"INSERT INTO feed_item (uri, cid, type, "postUri", "originatorDid", "sortAt")
    SELECT unnest($1::text[]), unnest($2::text[]), $6, unnest($3::text[]), unnest($4::text[]), unnest($5::text[])
    ON CONFLICT DO NOTHING"#;

/// Puts the items of these rows into their authors' feeds, also of rows that were refused as duplicates
/// (CONFORMANCE-TRAPS 58).
async fn insert_feed_items(
    connection: &mut PgConnection,
    statements: &Statements,
    item: FeedItem,
    rows: &[NewRow<'_>],
    sql: &str,
) -> Result<(), sqlx::Error> {
    statements
        .query(sql)
        .bind(rows.iter().map(|row| row.change.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.content.cid.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| value(row, item.post)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.change.did.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| sort_at(row, item)).collect::<Vec<_>>())
        .bind(item.kind)
        .execute(connection)
        .await?;
    Ok(())
}

/// A cell of a new row; `None` is NULL.
fn value<'c>(new: &NewRow<'c>, column: usize) -> Option<&'c str> {
    let NewRow { change, content, row, flags } = *new;
    row.value(column, &RecordContext { flags, ..change.context(content) })
}

/// The smaller of event time and createdAt. The reference compares UTF-16 code units; times are ASCII, for which
/// bytes compare alike.
fn sort_at<'c>(row: &NewRow<'c>, item: FeedItem) -> &'c str {
    let time = row.change.time.as_str();
    value(row, item.created_at).map_or(time, |created| created.min(time))
}
