//! The records of an account that the AppView has, in the order of the repository's tree.
//!
//! An account whose live commits were lost (`#sync`, `tooBig`) is queued with priority. Its creates repair what is
//! missing or old; what it has deleted meanwhile shows only in comparison with the database (DECISIONS 24).

use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use sqlx::PgConnection;
use tokio::sync::{Semaphore, mpsc};

use crate::clock::iso;
use crate::database::Database;

/// Connections at a time: resynchronisations are rare.
const CONNECTIONS: usize = 2;
/// Longest wait for a row.
const ROW_TIMEOUT: Duration = Duration::from_secs(120);
/// Paths on their way.
const WAITING: usize = 256;
/// How far the clocks of an indexer and of this process may differ, in milliseconds.
const CLOCKS_MS: u64 = 300_000;

/// Whether `record` tells the revision of its rows (SCHEMA-VARIANTS 2): absent, nullable or always there.
const HAS_REV: &str = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass('record') AND attname = 'rev' AND NOT attisdropped";

/// Bytewise order is the tree's. What is deleted is a tombstone with an empty `json`, or gone.
const SELECT: &str = "SELECT substr(uri, length($1) + 7) FROM record WHERE did = $1 AND json <> '' AND ";
const ORDER: &str = " ORDER BY uri COLLATE \"C\"";
/// What is newer than the repository was when it was read is none of its business: its commit had not been made yet.
const BY_REV: &str = "rev COLLATE \"C\" <= $2";
/// A row without a revision is older if it was indexed before the repository was asked for.
const BY_TIME: &str = "\"indexedAt\" COLLATE \"C\" < $3";

/// Paths (`collection/rkey`) in order, or why there are no more.
pub type Paths = mpsc::Receiver<Result<String, String>>;

/// Asks the AppView's database.
#[derive(Debug)]
pub struct Reconciler {
    database: Database,
    turns: Semaphore,
}

impl Reconciler {
    /// No connection is made.
    pub fn new(database: Database) -> Self {
        Self { database, turns: Semaphore::new(CONNECTIONS) }
    }

    /// A channel for [`Reconciler::send_paths`].
    pub fn channel() -> (mpsc::Sender<Result<String, String>>, Paths) {
        mpsc::channel(WAITING)
    }

    /// Sends the paths of the account's records, of this revision or older, until the receiver hangs up. Where `record`
    /// has no revisions, those indexed before `asked_ms` (milliseconds since the epoch) count as older. A failure is the
    /// last thing sent: an end without one is the end of the records.
    pub async fn send_paths(
        &self,
        did: &str,
        rev: &str,
        asked_ms: u64,
        paths: mpsc::Sender<Result<String, String>>,
    ) {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        if let Err(error) = self.try_send(did, rev, asked_ms, &paths).await {
            drop(paths.send(Err(format!("the AppView's database: {error:#}"))).await);
        }
    }

    async fn try_send(
        &self,
        did: &str,
        rev: &str,
        asked_ms: u64,
        paths: &mpsc::Sender<Result<String, String>>,
    ) -> anyhow::Result<()> {
        let mut connection = self.database.connect().await?;
        let sql = tokio::time::timeout(ROW_TIMEOUT, statement(&mut connection)).await.context("look")??;
        let mut rows = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql))
            .bind(did)
            .bind(rev)
            .bind(iso(asked_ms.saturating_sub(CLOCKS_MS)))
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
}

/// The statement for the schema that is there. All three parameters have a place in each.
async fn statement(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let not_null: Option<bool> =
        sqlx::query_scalar(HAS_REV).persistent(false).fetch_optional(connection).await?;
    let older = match not_null {
        Some(true) => format!("{BY_REV} AND $3::text IS NOT NULL"),
        Some(false) => format!("(CASE WHEN rev IS NULL THEN {BY_TIME} ELSE {BY_REV} END)"),
        None => format!("{BY_TIME} AND $2::text IS NOT NULL"),
    };
    Ok(format!("{SELECT}{older}{ORDER}"))
}
