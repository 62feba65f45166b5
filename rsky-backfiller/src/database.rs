//! The AppView's database, if it is known. Only ever read, each time in a short transaction that sets what it needs itself:
//! behind a pooler the next one may be another session's connection, and a snapshot that stays open holds up vacuum.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Postgres, Transaction};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
/// For this transaction only. `$1`: the schema, quoted, or NULL for the role's own search path.
const SETTINGS: &str = "SELECT set_config('statement_timeout', '120s', true), \
    CASE WHEN $1::text IS NOT NULL THEN set_config('search_path', $1 || ', public', true) END";

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
            // A pooler's default settings refuse it, and no number with a fraction is read.
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// A connection.
    ///
    /// # Errors
    /// There is none within ten seconds.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connecting = PgConnection::connect_with(&self.options);
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.context("connect in time")?.context("connect")
    }

    /// A transaction that only reads, and finds the AppView's tables. To be ended soon.
    ///
    /// # Errors
    /// Postgres' or the connection's.
    pub async fn reading<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        let mut transaction = connection.begin_with(BEGIN).await?;
        let quoted = self.schema.as_ref().map(|schema| format!("\"{}\"", schema.replace('"', "\"\"")));
        sqlx::query(SETTINGS).bind(quoted).persistent(false).execute(&mut *transaction).await?;
        Ok(transaction)
    }
}
