//! What stands in the tables, in one transaction that only reads.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

use super::facts::{Path, RecordRows, Tables};
use super::settings::Settings;
use crate::collections::{Collection, RkeyRule, declaration_of};
use crate::database::{self, Inspected};
use rsky_common::postgres::transaction::{self, Purpose};

/// Longest wait for an answer of the database.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Records that are counted.
const COUNTED: i64 = 200_000;

/// The database, as far as it can be reached.
pub(super) struct Reading(Result<(PgConnection, Inspected), String>);

/// Connects. What stands in the way is told when something is asked.
pub(super) async fn open(settings: &Settings) -> Reading {
    let network = &settings.network;
    let opened = async {
        let server = database::server(&network.database)?;
        let connecting = server.connect().await;
        let mut connection =
            connecting.with_context(|| format!("connect to the database {}", network.database.url))?;
        let found = database::inspect(&server, &mut connection).await?;
        anyhow::Ok((connection, found))
    };
    Reading(opened.await.map_err(|error| format!("{error:#}")))
}

impl Reading {
    /// Whose handle this is, by `actor`.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub(super) async fn did_of_handle(&mut self, handle: &str) -> anyhow::Result<Option<String>> {
        let (connection, found) = self.parts()?;
        let handle = handle.trim_start_matches('@').to_ascii_lowercase();
        within(async {
            transaction::begin(connection, &found.preamble, Purpose::Reading).await?;
            let asked = sqlx::query_scalar("SELECT did FROM actor WHERE handle = $1");
            let did = asked.bind(handle).persistent(false).fetch_optional(&mut *connection).await;
            transaction::end(connection, did).await
        })
        .await
    }

    /// What stands there of an account, and of a record.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub(super) async fn ask(mut self, did: &str, path: Option<&Path>) -> anyhow::Result<Tables> {
        let (connection, found) = self.parts()?;
        let tables = within(async {
            transaction::begin(connection, &found.preamble, Purpose::Reading).await?;
            let tables = read(connection, found, did, path).await;
            transaction::end(connection, tables).await
        })
        .await?;
        if let Ok((connection, _)) = self.0 {
            // What was to be known is known.
            drop(timeout(Duration::from_secs(1), connection.close()).await);
        }
        Ok(tables)
    }

    fn parts(&mut self) -> anyhow::Result<(&mut PgConnection, &Inspected)> {
        match &mut self.0 {
            Ok((connection, found)) => Ok((connection, found)),
            Err(error) => Err(anyhow!(error.clone())),
        }
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> anyhow::Result<T> {
    Ok(timeout(TIMEOUT, asked).await.with_context(|| format!("no answer within {TIMEOUT:?}"))??)
}

async fn read(
    connection: &mut PgConnection,
    found: &Inspected,
    did: &str,
    path: Option<&Path>,
) -> Result<Tables, sqlx::Error> {
    let mut tables = Tables { schema: found.schema.to_string(), ..Tables::default() };
    tables.actor = row(connection, "SELECT to_jsonb(t)::text FROM actor t WHERE did = $1", did).await?;
    let rev = sqlx::query_scalar::<_, Option<String>>(r#"SELECT "repoRev" FROM actor_sync WHERE did = $1"#);
    tables.rev = rev.bind(did).persistent(false).fetch_optional(&mut *connection).await?.flatten();
    match path {
        Some(path) => tables.record = Some(record(connection, found, did, path).await?),
        None => {
            let sql = "SELECT split_part(uri, '/', 4), count(*) FROM
                (SELECT uri, json FROM record WHERE did = $1 LIMIT $2) r WHERE json <> '' GROUP BY 1 ORDER BY 1";
            let counted: Vec<(String, i64)> =
                sqlx::query_as(sql).bind(did).bind(COUNTED).persistent(false).fetch_all(connection).await?;
            tables.more_records = counted.iter().map(|(_, count)| count).sum::<i64>() >= COUNTED;
            tables.records = counted;
        }
    }
    Ok(tables)
}

async fn record(
    connection: &mut PgConnection,
    found: &Inspected,
    did: &str,
    path: &Path,
) -> Result<RecordRows, sqlx::Error> {
    let (uri, collection) = (path.uri(did), declaration_of(&path.collection));
    let place = |collection: &&Collection| {
        collection.is_in(found.schema.lexicons())
            && collection.table.is_none_or(|table| found.schema.has_table(table.name))
    };
    let Some(collection) = collection.filter(place) else { return Ok(RecordRows::default()) };
    let mut rows = RecordRows { has_rule: true, ..RecordRows::default() };
    let sql = "SELECT (to_jsonb(t) - 'json' || jsonb_build_object('live', json <> ''))::text FROM record t WHERE uri = $1";
    rows.record = row(connection, sql, &uri).await?;
    rows.live = rows.record.as_ref().and_then(|row| row.get("live")?.as_bool()).unwrap_or(false);
    if let Some(table) = collection.table {
        rows.table = Some(table.name);
        rows.typed_expected = collection.rkey == RkeyRule::Any || path.rkey == "self";
        // A name of a declaration.
        let sql = format!("SELECT to_jsonb(t)::text FROM \"{}\" t WHERE uri = $1", table.name);
        rows.typed = row(connection, &sql, &uri).await?;
    }
    let sql = r#"SELECT "duplicateOf" FROM duplicate_record WHERE uri = $1"#;
    rows.duplicate_of =
        sqlx::query_scalar(sql).bind(&uri).persistent(false).fetch_optional(&mut *connection).await?;
    let answered: Vec<&str> = ["replyParent", "replyRoot"]
        .iter()
        .filter_map(|column| rows.typed.as_ref()?.get(*column)?.as_str())
        .collect();
    if !answered.is_empty() {
        let sql = "SELECT DISTINCT v.uri FROM unnest($1::text[]) AS v(uri)
            WHERE NOT EXISTS (SELECT FROM post p WHERE p.uri = v.uri) ORDER BY v.uri";
        rows.missing =
            sqlx::query_scalar(sql).bind(&answered).persistent(false).fetch_all(connection).await?;
    }
    Ok(rows)
}

async fn row(connection: &mut PgConnection, sql: &str, key: &str) -> Result<Option<Value>, sqlx::Error> {
    let asked = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).bind(key).persistent(false);
    let text = asked.fetch_optional(connection).await?;
    // Postgres writes JSON.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
