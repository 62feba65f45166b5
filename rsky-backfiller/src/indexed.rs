//! Which repositories the AppView has at the revision they were listed with, by `actor_sync`.
//!
//! `actor_sync` moves with every live commit, also with those of an account whose history was never fetched. So it counts
//! only for accounts that were queued as a whole before, as the table of revisions says (`remembered.rs`), or for all if
//! the operator says that the database is complete (`BACKFILLER_SKIP_INDEXED`).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::postgres::PostgresServer;
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::PgConnection;

/// Longest wait for an answer. The reader of the streams waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the database is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(30);

/// Revisions are compared as bytes, whatever the database's collation.
const SQL: &str = r#"SELECT listed.did, listed.rev FROM unnest($1::text[], $2::text[]) AS listed (did, rev)
    JOIN actor_sync ON actor_sync.did = listed.did
    WHERE actor_sync."repoRev" COLLATE "C" >= listed.rev COLLATE "C""#;

/// Asks `actor_sync`. A database that does not answer only means that repositories are fetched.
#[derive(Debug)]
pub struct Indexed {
    database: PostgresServer,
    connection: Option<PgConnection>,
    not_before: Option<Instant>,
}

impl Indexed {
    /// Nothing is connected before it is needed.
    pub fn new(database: PostgresServer) -> Self {
        Self { database, connection: None, not_before: None }
    }

    /// Those of the DIDs and listed revisions of which this revision, or a later one, is indexed: one statement for all.
    pub async fn among(&mut self, listed: &[(&str, &str)]) -> HashSet<(String, String)> {
        let resting = self.not_before.is_some_and(|time| time > Instant::now());
        if listed.is_empty() || resting {
            return HashSet::new();
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(listed)).await;
        match asked.context("ask in time").flatten() {
            Ok(dids) => {
                self.not_before = None;
                dids.into_iter().collect()
            }
            Err(error) => {
                self.connection = None;
                if self.not_before.is_none() {
                    tracing::warn!(
                        "actor_sync cannot be read, so everything that is listed is fetched: {error:#}"
                    );
                }
                self.not_before = Some(Instant::now() + PAUSE);
                HashSet::new()
            }
        }
    }

    async fn ask(&mut self, listed: &[(&str, &str)]) -> anyhow::Result<Vec<(String, String)>> {
        // Taken out: a question that is given up in the middle leaves a connection that cannot be used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await.context("connect")?,
        };
        let (dids, revs): (Vec<&str>, Vec<&str>) = listed.iter().copied().unzip();
        let preamble = self.database.preamble();
        transaction::begin(&mut connection, preamble, Purpose::Reading).await.context("begin")?;
        let found = sqlx::query_as::<_, (String, String)>(SQL)
            .bind(dids)
            .bind(revs)
            .persistent(false)
            .fetch_all(&mut connection)
            .await;
        let found = transaction::end(&mut connection, found).await.context("read actor_sync")?;
        self.connection = Some(connection);
        Ok(found)
    }
}
