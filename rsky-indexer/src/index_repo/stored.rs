//! The rows of `record` that the account has, in the order of the repository's tree, page by page.

use std::time::Duration;

use anyhow::Context as _;
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::database::Inspected;
use crate::schema::RevMode;

/// Rows of a page.
const PAGE: usize = 1000;
/// Longest wait for an answer of the database.
const TIMEOUT: Duration = Duration::from_secs(120);

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// `collection/rkey`
    pub(super) path: String,
    pub(super) cid: String,
    /// `false`: the tombstone of a deletion.
    pub(super) live: bool,
    pub(super) rev: Option<String>,
}

/// Pages of rows; an error is the last thing sent, and an end without one is the end of the rows.
pub(super) type Pages = mpsc::Receiver<Result<Vec<Stored>, String>>;

/// What decides whether a row is newer than the repository, as the engine's guard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    /// Every row's own rev; a row without one is older than anything.
    Rows,
    /// Rows have no rev: the newest commit that the pipeline has seen of the account (SCHEMA-VARIANTS §4).
    Account(Option<String>),
}

impl Guard {
    /// Whether a row is of a later commit than `rev`.
    pub(super) fn is_newer(&self, row: &Stored, rev: &str) -> bool {
        match self {
            Self::Rows => row.rev.as_deref().is_some_and(|stored| stored > rev),
            Self::Account(seen) => seen.as_deref().is_some_and(|seen| seen > rev),
        }
    }
}

/// # Errors
/// The database does not answer.
pub(super) async fn guard(
    connection: &mut PgConnection,
    found: &Inspected,
    did: &str,
) -> anyhow::Result<Guard> {
    if found.schema.rev() != RevMode::None {
        return Ok(Guard::Rows);
    }
    let sql = r#"SELECT "repoRev" FROM actor_sync WHERE did = $1"#;
    let asked = async {
        transaction::begin(connection, &found.preamble, Purpose::Reading).await?;
        let asked = sqlx::query_scalar(sql).bind(did).persistent(false).fetch_optional(&mut *connection);
        let seen = asked.await;
        transaction::end(connection, seen).await
    };
    let seen: Option<Option<String>> = timeout(TIMEOUT, asked).await.context("read actor_sync")??;
    Ok(Guard::Account(seen.flatten()))
}

/// Sends the account's rows until the receiver hangs up. They are those of one moment.
pub(super) async fn send_rows(
    connection: PgConnection,
    found: Inspected,
    did: String,
    pages: mpsc::Sender<Result<Vec<Stored>, String>>,
) {
    if let Err(error) = try_send(connection, &found, &did, &pages).await {
        // A receiver that is gone has its own reason.
        drop(pages.send(Err(format!("read the account's records in the database: {error:#}"))).await);
    }
}

async fn try_send(
    mut connection: PgConnection,
    found: &Inspected,
    did: &str,
    pages: &mpsc::Sender<Result<Vec<Stored>, String>>,
) -> anyhow::Result<()> {
    let rev = if found.schema.rev() == RevMode::None { "NULL::text" } else { "rev" };
    let declare = format!(
        "DECLARE stored NO SCROLL CURSOR FOR
        SELECT substr(uri, length($1::text) + 7), cid, json <> '', {rev} FROM record
        WHERE did = $1::text AND starts_with(uri, 'at://' || $1::text || '/') ORDER BY uri COLLATE \"C\""
    );
    let fetch = format!("FETCH {PAGE} FROM stored");
    timeout(TIMEOUT, async {
        // Rows are read once and sorted once, by the server: bytewise order is the tree's.
        transaction::begin(&mut connection, &found.preamble, Purpose::Reading).await?;
        sqlx::query(AssertSqlSafe(declare)).bind(did).persistent(false).execute(&mut connection).await
    })
    .await
    .context("no answer")??;
    loop {
        let fetching =
            sqlx::query(AssertSqlSafe(fetch.as_str())).persistent(false).fetch_all(&mut connection);
        let rows = timeout(TIMEOUT, fetching).await.context("no answer")??;
        let is_last = rows.len() < PAGE;
        let page: Result<Vec<Stored>, sqlx::Error> = rows
            .iter()
            .map(|row| {
                Ok(Stored {
                    path: row.try_get(0)?,
                    cid: row.try_get(1)?,
                    live: row.try_get(2)?,
                    rev: row.try_get(3)?,
                })
            })
            .collect();
        if pages.send(Ok(page?)).await.is_err() || is_last {
            break;
        }
    }
    // The transaction has read; a connection that is lost now takes nothing with it.
    drop(timeout(TIMEOUT, connection.close()).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer() {
        let row = |rev: Option<&str>| Stored {
            path: String::new(),
            cid: String::new(),
            live: true,
            rev: rev.map(str::to_owned),
        };
        assert!(Guard::Rows.is_newer(&row(Some("3b")), "3a"));
        assert!(!Guard::Rows.is_newer(&row(Some("3a")), "3a"));
        assert!(!Guard::Rows.is_newer(&row(None), "3a"));
        assert!(Guard::Account(Some("3b".to_owned())).is_newer(&row(None), "3a"));
        assert!(!Guard::Account(None).is_newer(&row(None), "3a"));
    }
}
