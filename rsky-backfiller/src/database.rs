//! The AppView's database, if it is known. Only ever read.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where it is.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    schema: Option<String>,
}

impl Database {
    /// Reads the URL; no connection is made.
    ///
    /// # Errors
    /// The URL is malformed; the message does not show it.
    pub fn new(url: &Secret, schema: Option<String>) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url.expose()).context("read DATABASE_URL")?;
        let options = options
            .application_name("rsky-backfiller")
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// A connection that finds the AppView's tables.
    ///
    /// # Errors
    /// There is none within ten seconds.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.try_connect())
            .await
            .context("connect in time")?
            .context("connect")
    }

    async fn try_connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        if let Some(schema) = &self.schema {
            let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
            let sql = "SELECT set_config('search_path', $1 || ', public', false)";
            sqlx::query(sql).bind(quoted).persistent(false).execute(&mut connection).await?;
        }
        Ok(connection)
    }
}
