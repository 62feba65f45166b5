//! The records of an account that the AppView has, in the order of the repository's tree.
//!
//! An account whose live commits were lost (`#sync`, `tooBig`) is queued with priority. Its creates repair what is
//! missing or old; what it has deleted meanwhile shows only in comparison with the database (DECISIONS 24).

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::{Semaphore, mpsc};

/// Connections at a time: resynchronisations are rare.
const CONNECTIONS: usize = 2;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a row.
const ROW_TIMEOUT: Duration = Duration::from_secs(120);
/// Paths on their way.
const WAITING: usize = 256;

/// Tombstones have an empty `json`. What is newer than the repository was read is none of its business: its commit had
/// not been made yet. Bytewise order is the tree's.
const PATHS: &str = "SELECT substr(uri, length($1) + 7) FROM record
    WHERE did = $1 AND json <> '' AND rev <= $2 ORDER BY uri COLLATE \"C\"";

/// Paths (`collection/rkey`) in order, or why there are no more.
pub type Paths = mpsc::Receiver<Result<String, String>>;

/// Asks the AppView's database. Only ever reads.
#[derive(Debug)]
pub struct Reconciler {
    options: PgConnectOptions,
    schema: Option<String>,
    turns: Semaphore,
}

impl Reconciler {
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
        Ok(Self { options, schema, turns: Semaphore::new(CONNECTIONS) })
    }

    /// A channel for [`Reconciler::send_paths`].
    pub fn channel() -> (mpsc::Sender<Result<String, String>>, Paths) {
        mpsc::channel(WAITING)
    }

    /// Sends the paths of the account's records, of this revision or older, until the receiver hangs up. A failure is
    /// the last thing sent: an end without one is the end of the records.
    pub async fn send_paths(&self, did: &str, rev: &str, paths: mpsc::Sender<Result<String, String>>) {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        if let Err(error) = self.try_send(did, rev, &paths).await {
            drop(paths.send(Err(format!("the AppView's database: {error:#}"))).await);
        }
    }

    async fn try_send(
        &self,
        did: &str,
        rev: &str,
        paths: &mpsc::Sender<Result<String, String>>,
    ) -> anyhow::Result<()> {
        let mut connection =
            tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await.context("connect")??;
        let mut rows = sqlx::query_scalar::<_, String>(PATHS)
            .bind(did)
            .bind(rev)
            .persistent(false)
            .fetch(&mut connection);
        while let Some(path) =
            tokio::time::timeout(ROW_TIMEOUT, rows.try_next()).await.context("read records")??
        {
            if paths.send(Ok(path)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        if let Some(schema) = &self.schema {
            let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
            let sql = "SELECT set_config('search_path', $1 || ', public', false)";
            sqlx::query(sql).bind(quoted).persistent(false).execute(&mut connection).await?;
        }
        Ok(connection)
    }
}
