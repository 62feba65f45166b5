//! The records of an account that the AppView has, in the order of the repository's tree.
//!
//! An account whose live commits were lost (`#sync`, `tooBig`) is queued with priority. Its creates repair what is
//! missing or old; what it has deleted meanwhile shows only in comparison with the database (DECISIONS 24).

use std::time::Duration;

use anyhow::Context as _;
use rsky_common::clock::iso;
use rsky_common::postgres::PostgresServer;
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Semaphore, mpsc};

/// Connections at a time: resynchronisations are rare.
const CONNECTIONS: usize = 2;
/// Longest wait for a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(120);
/// Rows of a page. A page is a statement of its own: while the output is held up, no snapshot of the database stays open.
const PAGE: usize = 2000;
/// Paths on their way, beside those of a page.
const WAITING: usize = 256;
/// How far the clocks of an indexer and of this process may differ, in milliseconds.
const CLOCKS_MS: u64 = 300_000;

/// Whether `record` tells the revision of its rows (SCHEMA-VARIANTS 2): absent, nullable or always there.
const HAS_REV: &str = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass('record') AND attname = 'rev' AND NOT attisdropped";

/// Bytewise order is the tree's. What is deleted is a tombstone with an empty `json`, or gone.
const SELECT: &str = "SELECT uri FROM record WHERE did = $1 AND json <> '' AND uri COLLATE \"C\" > $4 AND ";
const ORDER: &str = " ORDER BY uri COLLATE \"C\" LIMIT $5";
/// What is newer than the repository was when it was read is none of its business: its commit had not been made yet.
const BY_REV: &str = "rev COLLATE \"C\" <= $2";
/// A row without a revision is older if it was indexed before the repository was asked for.
const BY_TIME: &str = "\"indexedAt\" COLLATE \"C\" < $3";

/// Paths (`collection/rkey`) in order, or why there are no more.
pub type Paths = mpsc::Receiver<Result<String, String>>;

/// Asks the AppView's database.
#[derive(Debug)]
pub struct Reconciler {
    database: PostgresServer,
    turns: Semaphore,
    /// Those of [`Reconciler::check`], which does not wait for the output as others do.
    checks: Semaphore,
}

impl Reconciler {
    /// No connection is made.
    pub fn new(database: PostgresServer) -> Self {
        Self { database, turns: Semaphore::new(CONNECTIONS), checks: Semaphore::new(CONNECTIONS) }
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
        let mut connection = self.database.connect().await.context("connect")?;
        let (prefix, mut after) = (format!("at://{did}/"), String::new());
        loop {
            let older = Older { did, rev, before: &iso(asked_ms.saturating_sub(CLOCKS_MS)) };
            let page = tokio::time::timeout(PAGE_TIMEOUT, self.page(&mut connection, &older, &after, PAGE));
            let page = page.await.context("read records in time")?.context("read records")?;
            for uri in &page {
                // A uri of another form is none that the repository could have.
                let Some(path) = uri.strip_prefix(&prefix) else { continue };
                if paths.send(Ok(path.to_owned())).await.is_err() {
                    return Ok(());
                }
            }
            match page.into_iter().next_back() {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Whether records can be read.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> anyhow::Result<()> {
        let _turn = self.checks.acquire().await.ok();
        let look = async {
            let mut connection = self.database.connect().await.context("connect")?;
            let nobody = Older { did: "", rev: "", before: "" };
            self.page(&mut connection, &nobody, "", 1).await.context("read records")?;
            // Whether it ends politely is of no consequence.
            drop(connection.close().await);
            Ok(())
        };
        tokio::time::timeout(PAGE_TIMEOUT, look).await.context("read records in time")?
    }

    /// The uris that come next, in order; empty at the end.
    async fn page(
        &self,
        connection: &mut PgConnection,
        older: &Older<'_>,
        after: &str,
        most: usize,
    ) -> Result<Vec<String>, sqlx::Error> {
        transaction::begin(connection, self.database.preamble(), Purpose::Reading).await?;
        let uris = uris(connection, older, after, most).await;
        transaction::end(connection, uris).await
    }
}

async fn uris(
    connection: &mut PgConnection,
    older: &Older<'_>,
    after: &str,
    most: usize,
) -> Result<Vec<String>, sqlx::Error> {
    let sql = statement(connection).await?;
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(older.did)
        .bind(older.rev)
        .bind(older.before)
        .bind(after)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .persistent(false)
        .fetch_all(connection)
        .await
}

/// Whose records, and which of them: of this revision or older, or, where there is none, indexed before this time.
struct Older<'a> {
    did: &'a str,
    rev: &'a str,
    before: &'a str,
}

/// The statement for the schema that is there. All parameters have a place in each.
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
