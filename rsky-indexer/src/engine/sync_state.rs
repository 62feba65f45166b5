//! `actor_sync`: how far each repository is indexed (INDEXING §8).

use foldhash::{HashMap, HashSet};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _};

use super::change::{SeenCommit, Work};
use super::sql::Statements;
use crate::schema::RevMode;
use crate::text::sort_key::sort_by_text;

/// Notes the newest commit of each repository; returns how many rows moved. An older or equal rev changes nothing; a
/// stored NULL is older than anything (CONFORMANCE-TRAPS 94).
///
/// Lanes and processes meet here, since an account's commits may be spread over them. First the missing rows are made, then
/// the others moved, each in the order of the DIDs: who waits for a row that is being made holds none that exists, and who
/// waits for one that exists has made all that it makes. A row that is known to be newer is not waited for. (Rows that are
/// taken out in between are made last, against that order; who meets somebody then is told of a deadlock, and tries again.)
pub(super) async fn note(
    connection: &mut PgConnection,
    statements: &Statements,
    seen: impl Iterator<Item = &SeenCommit>,
) -> Result<usize, sqlx::Error> {
    let mut open = newest_of_each(seen);
    let commits = open.len();
    change(connection, statements, MAKE, &mut open).await?;
    change(connection, statements, MOVE, &mut open).await?;
    // What is left is newer already, or was taken out since it was looked whether it is there.
    change(connection, statements, MAKE, &mut open).await?;
    Ok(commits.saturating_sub(open.len()))
}

/// Makes rows of repositories that have none.
const MAKE: &str = r#"INSERT INTO actor_sync (did, "commitCid", "repoRev")
    SELECT v.did, v.cid, v.rev
    FROM (SELECT unnest($1::text[]) AS did, unnest($2::text[]) AS cid, unnest($3::text[]) AS rev) v
    WHERE NOT EXISTS (SELECT FROM actor_sync a WHERE a.did = v.did)
    ON CONFLICT (did) DO NOTHING RETURNING did"#;

/// Moves rows that are older.
const MOVE: &str = r#"UPDATE actor_sync a SET "commitCid" = v.cid, "repoRev" = v.rev
    FROM (SELECT unnest($1::text[]) AS did, unnest($2::text[]) AS cid, unnest($3::text[]) AS rev) v
    WHERE a.did = v.did AND (a."repoRev" IS NULL OR a."repoRev" < v.rev) RETURNING a.did"#;

/// Makes or moves rows; what that has done is open no more.
async fn change(
    connection: &mut PgConnection,
    statements: &Statements,
    sql: &str,
    open: &mut Vec<&SeenCommit>,
) -> Result<(), sqlx::Error> {
    if open.is_empty() {
        return Ok(());
    }
    let rows = bind(statements.query(sql), open).fetch_all(connection).await?;
    let done: HashSet<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    open.retain(|commit| !done.contains(commit.did.as_str()));
    Ok(())
}

/// The newest commit of each repository, in the order of the DIDs.
fn newest_of_each<'s>(seen: impl Iterator<Item = &'s SeenCommit>) -> Vec<&'s SeenCommit> {
    let mut newest: Vec<&SeenCommit> = Vec::new();
    for commit in sort_by_text(seen, |commit| commit.did.as_str()) {
        match newest.last_mut().filter(|last| last.did == commit.did) {
            Some(last) if last.rev < commit.rev => *last = commit,
            Some(_) => {}
            None => newest.push(commit),
        }
    }
    newest
}

fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    commits: &[&'q SeenCommit],
) -> Query<'q, Postgres, PgArguments> {
    let column = |value: fn(&SeenCommit) -> &str| -> Vec<&'q str> {
        commits.iter().map(|commit| value(commit)).collect()
    };
    query
        .bind(column(|commit| &commit.did))
        .bind(column(|commit| &commit.commit))
        .bind(column(|commit| &commit.rev))
}

/// Where `record` has no revs: the backfilled changes, as (uri, rev), that are older than what the pipeline has seen of
/// their repository before, in the database or earlier in the batch. What they say of a record that is stored, a later
/// commit may have said otherwise (SCHEMA-VARIANTS §4).
pub(super) async fn behind<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&'c Work],
) -> Result<HashSet<(&'c str, &'c str)>, sqlx::Error> {
    let mut behind = HashSet::default();
    let backfilled = |work: &&&'c Work| work.seen.is_none();
    let dids: HashSet<&str> =
        batch.iter().filter(backfilled).filter_map(|work| Some(work.change.as_ref()?.did.as_str())).collect();
    if statements.schema().rev() != RevMode::None || dids.is_empty() {
        return Ok(behind);
    }
    let dids: Vec<&str> = dids.into_iter().collect();
    let sql = r#"SELECT did, "repoRev" FROM actor_sync WHERE did = ANY($1) AND "repoRev" IS NOT NULL"#;
    let mut seen: HashMap<String, String> = HashMap::default();
    for row in statements.query(sql).bind(dids).fetch_all(connection).await? {
        seen.insert(row.try_get(0)?, row.try_get(1)?);
    }
    for work in batch {
        if let (Some(change), None) = (&work.change, &work.seen)
            && seen.get(&change.did).is_some_and(|newest| change.rev < *newest)
        {
            behind.insert((change.uri.as_str(), change.rev.as_str()));
        }
        if let Some(commit) = &work.seen {
            let newest = seen.entry(commit.did.clone()).or_default();
            if *newest < commit.rev {
                newest.clone_from(&commit.rev);
            }
        }
    }
    Ok(behind)
}
