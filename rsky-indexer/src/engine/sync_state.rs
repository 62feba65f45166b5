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
pub(super) async fn note(
    connection: &mut PgConnection,
    statements: &Statements,
    seen: impl Iterator<Item = &SeenCommit>,
) -> Result<usize, sqlx::Error> {
    let newest = newest_of_each(seen);
    if newest.is_empty() {
        return Ok(0);
    }
    // Most repositories have a row and it is older: moving it costs half of what an insert that meets it does.
    let sql = r#"UPDATE actor_sync a SET "commitCid" = v.cid, "repoRev" = v.rev
        FROM (SELECT unnest($1::text[]) AS did, unnest($2::text[]) AS cid, unnest($3::text[]) AS rev) v
        WHERE a.did = v.did AND (a."repoRev" IS NULL OR a."repoRev" < v.rev) RETURNING a.did"#;
    let moved = bind(statements.query(sql), &newest).fetch_all(&mut *connection).await?;
    let mut found: HashSet<&str> = HashSet::default();
    for row in &moved {
        found.insert(row.try_get(0)?);
    }
    let left = newest.into_iter().filter(|commit| !found.contains(commit.did.as_str())).collect();
    let open = not_newer(connection, statements, left).await?;
    if open.is_empty() {
        return Ok(moved.len());
    }
    let sql = r#"INSERT INTO actor_sync (did, "commitCid", "repoRev")
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[])
        ON CONFLICT (did) DO UPDATE SET "commitCid" = excluded."commitCid", "repoRev" = excluded."repoRev"
            WHERE actor_sync."repoRev" IS NULL OR actor_sync."repoRev" < excluded."repoRev""#;
    let done = bind(statements.query(sql), &open).execute(connection).await?;
    Ok(moved.len().saturating_add(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX)))
}

/// Of commits that moved no row, those that no row is as new as: their repositories have none, or have got one since. The
/// others' rows must not be touched: an insertion that meets a row locks it, out of order, whatever its guard says, and lanes
/// that are ahead of each other with the same accounts would lock each other out.
async fn not_newer<'s>(
    connection: &mut PgConnection,
    statements: &Statements,
    mut left: Vec<&'s SeenCommit>,
) -> Result<Vec<&'s SeenCommit>, sqlx::Error> {
    if left.is_empty() {
        return Ok(left);
    }
    let sql = r#"SELECT v.did FROM (SELECT unnest($1::text[]) AS did, unnest($2::text[]) AS rev) AS v
        JOIN actor_sync a ON a.did = v.did WHERE a."repoRev" >= v.rev"#;
    let query = statements
        .query(sql)
        .bind(left.iter().map(|commit| commit.did.as_str()).collect::<Vec<_>>())
        .bind(left.iter().map(|commit| commit.rev.as_str()).collect::<Vec<_>>());
    let rows = query.fetch_all(connection).await?;
    let newer: HashSet<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    left.retain(|commit| !newer.contains(commit.did.as_str()));
    Ok(left)
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
