//! A lane's connection to Postgres: opened when needed, reopened when lost, inspected before it is used.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection, Row as _};

use crate::collections::ALL;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where and how lanes connect.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    schema: Option<String>,
}

impl Database {
    /// Reads the URL.
    ///
    /// # Errors
    /// The URL is malformed; the message does not show it.
    pub fn new(url: &Secret, schema: Option<String>, statement_cache: usize) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url.expose()).context("read DATABASE_URL")?;
        let options = options
            .application_name("rsky-indexer")
            .statement_cache_capacity(statement_cache)
            .disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Postgres cannot be reached in time or refuses.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            if let Some(schema) = &self.schema {
                let sql = "SELECT set_config('search_path', $1 || ', public', false)";
                let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
                sqlx::query(sql).bind(quoted).persistent(false).execute(&mut connection).await?;
            }
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))))
    }
}

/// Compares the tables this indexer writes with what the database has.
///
/// # Errors
/// The differences, all of them, or that the database could not be asked. Nothing is ever changed
/// (DECISIONS 26).
pub async fn inspect(
    connection: &mut PgConnection,
    schema: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT table_name::text, column_name::text, is_nullable::text
        FROM information_schema.columns WHERE table_schema = ANY(current_schemas(false))";
    let rows = sqlx::query(sql).persistent(false).fetch_all(&mut *connection).await?;
    let mut columns = std::collections::HashMap::new();
    for row in &rows {
        let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        columns.insert(key, row.try_get::<String, _>(2)? == "YES");
    }
    let has = |table: &str, column: &str| columns.get(&(table.to_owned(), column.to_owned()));
    let mut differences = Vec::new();
    for (table, column) in expected() {
        if has(table, column).is_none() {
            differences.push(format!("{table}.\"{column}\" is missing"));
        }
    }
    if has("record", "rev") == Some(&true) {
        differences.push(
            "record.\"rev\" may be NULL: this is another generation of the schema, not supported yet"
                .to_owned(),
        );
    }
    if let Some(schema) = schema {
        // The tables would be looked for, and perhaps found, in the next schema of the path.
        let sql = "SELECT current_schema() IS NOT DISTINCT FROM $1";
        if !sqlx::query_scalar(sql).bind(schema).persistent(false).fetch_one(connection).await? {
            differences.push(format!("DATABASE_SCHEMA: there is no schema \"{schema}\" that may be used"));
        }
    }
    differences.sort();
    Ok(differences)
}

fn expected() -> Vec<(&'static str, &'static str)> {
    let mut expected: Vec<(&str, &str)> = vec![
        ("record", "uri"),
        ("record", "cid"),
        ("record", "did"),
        ("record", "json"),
        ("record", "indexedAt"),
        ("record", "rev"),
        ("duplicate_record", "uri"),
        ("duplicate_record", "cid"),
        ("duplicate_record", "duplicateOf"),
        ("duplicate_record", "indexedAt"),
        ("feed_item", "uri"),
        ("feed_item", "cid"),
        ("feed_item", "type"),
        ("feed_item", "postUri"),
        ("feed_item", "originatorDid"),
        ("feed_item", "sortAt"),
        ("post_agg", "uri"),
        ("post_agg", "likeCount"),
        ("post_agg", "repostCount"),
        ("profile_agg", "did"),
        ("profile_agg", "followersCount"),
        ("profile_agg", "followsCount"),
        ("actor_sync", "did"),
        ("actor_sync", "commitCid"),
        ("actor_sync", "repoRev"),
        ("label", "src"),
        ("label", "uri"),
        ("label", "cid"),
        ("label", "val"),
        ("label", "neg"),
        ("label", "cts"),
        ("label", "exp"),
    ];
    for table in ALL.iter().filter_map(|collection| collection.table) {
        expected.extend(table.columns.iter().map(|column| (table.name, column.name)));
    }
    expected
}
