//! Gates mark the post they belong to (INDEXING §4.4). Index used: `post_pkey`.

use sqlx::{PgConnection, Row as _};

use super::judge::{Verdicts, gated_post};
use crate::collections::{Collection, PartsKind};
use crate::engine::change::{Change, Content};
use crate::engine::sql::Statements;

fn flag_of(kind: PartsKind) -> Option<&'static str> {
    match kind {
        PartsKind::ThreadGate => Some(r#""hasThreadGate""#),
        PartsKind::PostGate => Some(r#""hasPostGate""#),
        PartsKind::None | PartsKind::Post => None,
    }
}

/// Marks the posts of gates that came, whether or not the gate got a row of its own.
pub(in crate::engine) async fn mark(
    connection: &mut PgConnection,
    statements: &Statements,
    kind: PartsKind,
    gates: &[(&Change, &Content)],
    verdicts: &Verdicts<'_>,
) -> Result<(), sqlx::Error> {
    let posts = gates
        .iter()
        .filter(|(change, _)| verdicts.finds_its_post(&change.uri))
        .filter_map(|(change, content)| gated_post(change, content))
        .collect();
    set(connection, statements, kind, posts, true).await
}

/// The posts that the rows of these gates belong to.
pub(in crate::engine) async fn marked_by(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    uris: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    let Some(table) = collection.table.filter(|_| !uris.is_empty()) else { return Ok(Vec::new()) };
    let rows = statements.query(statements.table(table).select_duplicate_key()).bind(uris);
    rows.fetch_all(connection).await?.iter().map(|row| row.try_get(1)).collect()
}

/// Unmarks the posts of gates that went.
pub(in crate::engine) async fn unmark(
    connection: &mut PgConnection,
    statements: &Statements,
    kind: PartsKind,
    posts: Vec<String>,
) -> Result<(), sqlx::Error> {
    set(connection, statements, kind, posts, false).await
}

async fn set(
    connection: &mut PgConnection,
    statements: &Statements,
    kind: PartsKind,
    mut posts: Vec<String>,
    value: bool,
) -> Result<(), sqlx::Error> {
    let Some(flag) = flag_of(kind).filter(|_| !posts.is_empty()) else { return Ok(()) };
    posts.sort_unstable();
    let sql = format!("UPDATE post SET {flag} = $2 WHERE uri = ANY($1)");
    statements.query(&sql).bind(posts).bind(value).execute(connection).await?;
    Ok(())
}
