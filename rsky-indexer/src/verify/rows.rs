//! Rows that go with a record and are not there, and flags that no longer fit: by the declarations and the rule that the
//! engine has.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::collections::{ALL, RkeyRule};
use crate::engine::UNDESERVED;
use crate::index_repo::session::Session;
use crate::schema::Schema;
use rsky_common::postgres::transaction::{self, Purpose};

/// Longest wait for an answer of the database.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Most records that are told of.
const MOST: i64 = 10_000;

/// What was found, as `collection/rkey`.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Records without their row in the collection's table, which are no duplicates either.
    pub(super) incomplete: Vec<String>,
    /// Replies that are hidden though what they answer is there and shown.
    pub(super) hidden: Vec<String>,
}

/// # Errors
/// The database does not answer.
pub(super) async fn look(session: &Session, did: &str) -> anyhow::Result<Rows> {
    let mut connection = session.connect().await?;
    let asked = async {
        transaction::begin(&mut connection, &session.found.preamble, Purpose::Reading).await?;
        let rows = read(&mut connection, &session.found.schema, did).await;
        transaction::end(&mut connection, rows).await
    };
    let rows: Rows = timeout(TIMEOUT, asked).await.context("read the rows beside the records")??;
    // What was to be known is known.
    drop(timeout(Duration::from_secs(1), connection.close()).await);
    Ok(rows)
}

async fn read(connection: &mut PgConnection, schema: &Schema, did: &str) -> Result<Rows, sqlx::Error> {
    let incomplete = uris(connection, &incomplete(schema), did).await?;
    let sql = r#"SELECT uri FROM post WHERE creator = $1 AND "invalidReplyRoot" ORDER BY uri LIMIT $2"#;
    let flagged = uris(connection, sql, did).await?;
    let hidden: Vec<String> = if flagged.is_empty() {
        Vec::new()
    } else {
        sqlx::query_scalar(UNDESERVED).bind(&flagged).persistent(false).fetch_all(connection).await?
    };
    let prefix = format!("at://{did}/");
    let path = |uri: String| uri.strip_prefix(&prefix).map(str::to_owned).unwrap_or(uri);
    Ok(Rows {
        incomplete: incomplete.into_iter().map(path).collect(),
        hidden: hidden.into_iter().map(path).collect(),
    })
}

async fn uris(connection: &mut PgConnection, sql: &str, did: &str) -> Result<Vec<String>, sqlx::Error> {
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(did).bind(MOST).persistent(false);
    query.fetch_all(connection).await
}

/// Records of the account whose collection has a table, in which they have no row. Names come from the declarations.
fn incomplete(schema: &Schema) -> String {
    let mut cases = String::new();
    for collection in ALL.iter().filter(|collection| collection.is_in(schema.lexicons())) {
        let Some(table) = collection.table.filter(|table| schema.has_table(table.name)) else { continue };
        let only_self = match collection.rkey {
            RkeyRule::Any => "",
            RkeyRule::SelfOnly => "split_part(r.uri, '/', 5) = 'self' AND ",
        };
        cases.push_str(&format!(
            " WHEN '{}' THEN {only_self}NOT EXISTS (SELECT FROM \"{}\" t WHERE t.uri = r.uri)",
            collection.nsid, table.name
        ));
    }
    format!(
        "SELECT r.uri FROM record r WHERE r.did = $1 AND r.json <> '' \
         AND CASE split_part(r.uri, '/', 4){cases} ELSE false END \
         AND NOT EXISTS (SELECT FROM duplicate_record d WHERE d.uri = r.uri) ORDER BY r.uri LIMIT $2"
    )
}
