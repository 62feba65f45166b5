//! The `actor` table as far as handles go (IDENTITY 1, steps 1, 7 and 8).
//!
//! Indexes used: `actor_pkey`, `actor_handle_key`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::{PgConnection, Row as _};

use super::window::ActorRow;
use crate::engine::{EngineError, Statements, is_doubtful};
use crate::held_rows::Row;
use crate::kind::Effect;

/// Looks accounts up.
#[derive(Debug)]
pub(super) struct Look;

/// An account that is looked up; what is found is put in.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) did: String,
    pub(super) row: OnceLock<ActorRow>,
}

impl Effect for Look {
    type Item = Looked;

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Looked],
    ) -> Result<usize, EngineError> {
        let dids: Vec<&str> = items.iter().map(|item| item.did.as_str()).collect();
        let sql = r#"SELECT did, handle, "indexedAt" FROM actor WHERE did = ANY($1)"#;
        transaction::begin(connection, statements.preamble(), Purpose::Batch).await?;
        let rows = statements.query(sql).bind(dids).fetch_all(&mut *connection).await;
        let rows = transaction::end(connection, rows).await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let actor = ActorRow { handle: row.try_get(1)?, indexed_at: row.try_get(2)? };
            found.insert(row.try_get::<String, _>(0)?, actor);
        }
        for item in items {
            if let Some(row) = found.remove(&item.did) {
                // Set once: an attempt that got here is the last.
                drop(item.row.set(row));
            }
        }
        Ok(0)
    }
}

/// Writes handles.
#[derive(Debug)]
pub(super) struct Handles;

/// What became known of an account's handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) did: String,
    /// As stored; `None` where it does not lead back to the account.
    pub(super) handle: Option<String>,
    /// The time of the event that asked, verbatim.
    pub(super) time: String,
}

impl Effect for Handles {
    type Item = Known;

    fn may_be_refused(known: &Known) -> bool {
        is_doubtful(&known.did)
            || is_doubtful(&known.time)
            || known.handle.as_deref().is_some_and(is_doubtful)
    }

    /// The rows of the accounts; who has one of the handles now is not known here.
    fn rows(known: &Known) -> Vec<Row> {
        vec![Row::did("actor", &known.did)]
    }

    /// In the order in which the answers came: of two accounts that claim one handle, the later has it.
    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Known],
    ) -> Result<usize, EngineError> {
        let rows = settle_contention(items);
        transaction::begin(connection, statements.preamble(), Purpose::Batch).await?;
        let outcome = write(connection, statements, &rows).await;
        transaction::end(connection, outcome.map_err(contended)).await
    }
}

/// Another process gave the handle to another account at this moment: the same again, which takes it from that one.
fn contended(error: sqlx::Error) -> EngineError {
    let violation = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if violation { EngineError::Overtaken } else { EngineError::Database(error) }
}

/// One row an account and one account a handle, sorted by account.
fn settle_contention<'i>(items: &[&'i Known]) -> Vec<(&'i str, Option<&'i str>, &'i str)> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut rows: BTreeMap<&str, &Known> = BTreeMap::new();
    for item in items {
        rows.insert(&item.did, item);
    }
    for item in items {
        if let Some(handle) = &item.handle {
            owners.insert(handle, &item.did);
        }
    }
    let owned = |item: &'i Known| {
        item.handle.as_deref().filter(|handle| owners.get(handle) == Some(&item.did.as_str()))
    };
    rows.into_values().map(|item| (item.did.as_str(), owned(item), item.time.as_str())).collect()
}

async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    rows: &[(&str, Option<&str>, &str)],
) -> Result<usize, sqlx::Error> {
    let dids: Vec<&str> = rows.iter().map(|(did, _, _)| *did).collect();
    let handles: Vec<Option<&str>> = rows.iter().map(|(_, handle, _)| *handle).collect();
    let times: Vec<&str> = rows.iter().map(|(_, _, time)| *time).collect();
    let taken: Vec<&str> = handles.iter().copied().flatten().collect();
    // All rows that will be touched, in one order for every process.
    let sql = "SELECT did FROM actor WHERE did = ANY($1) OR handle = ANY($2) ORDER BY did FOR UPDATE";
    statements.query(sql).bind(&dids).bind(&taken).execute(&mut *connection).await?;
    // Whoever had one of the handles loses it; its indexedAt stays, so that it is due again after an hour.
    let sql = r#"UPDATE actor SET handle = NULL
        FROM unnest($1::text[], $2::text[]) AS v(did, handle)
        WHERE actor.handle = v.handle AND actor.did <> v.did"#;
    statements.query(sql).bind(&dids).bind(&handles).execute(&mut *connection).await?;
    // A scheduler that tries again what failed counts from the last success.
    let tries = if statements.schema().handle_resolve_tries() {
        r#", "handleResolveTries" = CASE WHEN excluded.handle IS NULL THEN actor."handleResolveTries" ELSE 0 END"#
    } else {
        ""
    };
    let sql = &format!(
        r#"INSERT INTO actor (did, handle, "indexedAt")
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, "indexedAt" = excluded."indexedAt"{tries}"#
    );
    let done = statements.query(sql).bind(dids).bind(handles).bind(times).execute(connection).await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(did: &str, handle: Option<&str>, time: &str) -> Known {
        Known { did: did.into(), handle: handle.map(str::to_owned), time: time.into() }
    }

    #[test]
    fn the_later_answer_has_the_handle() {
        let items = [known("b", Some("h"), "1"), known("a", Some("h"), "2"), known("c", None, "3")];
        let items: Vec<&Known> = items.iter().collect();
        let rows = settle_contention(&items);
        assert_eq!(rows, [("a", Some("h"), "2"), ("b", None, "1"), ("c", None, "3")]);
    }

    #[test]
    fn an_account_has_one_row_and_exchanged_handles_stay() {
        let items = [
            known("a", Some("x"), "1"),
            known("b", Some("y"), "1"),
            known("a", Some("y"), "2"),
            known("b", Some("x"), "2"),
        ];
        let items: Vec<&Known> = items.iter().collect();
        assert_eq!(settle_contention(&items), [("a", Some("y"), "2"), ("b", Some("x"), "2")]);
    }
}
