//! `actor_sync`: how far each repository is indexed (INDEXING §8).

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::change::SeenCommit;
use super::sql::Statements;

/// Notes the newest commit of each repository; returns how many rows moved. An older or equal rev changes nothing; a stored NULL is older than
/// anything (CONFORMANCE-TRAPS 94).
pub(super) async fn note(
    connection: &mut PgConnection,
    statements: &Statements,
    seen: impl Iterator<Item = &SeenCommit>,
) -> Result<usize, sqlx::Error> {
    let mut newest: BTreeMap<&str, &SeenCommit> = BTreeMap::new();
    for commit in seen {
        newest
            .entry(&commit.did)
            .and_modify(|stored| {
                if stored.rev < commit.rev {
                    *stored = commit;
                }
            })
            .or_insert(commit);
    }
    if newest.is_empty() {
        return Ok(0);
    }
    let column =
        |value: fn(&SeenCommit) -> &str| -> Vec<&str> { newest.values().map(|c| value(c)).collect() };
    let sql = r#"INSERT INTO actor_sync (did, "commitCid", "repoRev")
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT (did) DO UPDATE SET "commitCid" = excluded."commitCid", "repoRev" = excluded."repoRev"
            WHERE actor_sync."repoRev" IS NULL OR actor_sync."repoRev" < excluded."repoRev""#;
    let done = statements
        .query(sql)
        .bind(column(|commit| &commit.did))
        .bind(column(|commit| &commit.commit))
        .bind(column(|commit| &commit.rev))
        .execute(connection)
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}
