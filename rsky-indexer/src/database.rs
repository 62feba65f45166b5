//! A lane's connection to Postgres: opened when needed, reopened when lost.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection};

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
