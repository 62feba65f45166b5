//! `op_thread_reply`: the replies that a thread's author adds to it (SCHEMA-VARIANTS §5), in the schemas that have it.
//! Index used: its primary key.

use rsky_common::clock::now_iso;
use sqlx::PgConnection;

use super::parts::NewPost;
use super::refs::{self, ThreadRefs};
use crate::engine::sql::Statements;

/// Notes the replies among new posts whose author is that of the root, sound or not. One that was deleted before keeps
/// its mark.
pub(super) async fn insert(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[NewPost<'_>],
) -> Result<usize, sqlx::Error> {
    if !statements.schema().op_thread_replies() {
        return Ok(0);
    }
    let replies: Vec<(&str, ThreadRefs<'_>)> = posts
        .iter()
        .filter_map(|(change, content)| Some((*change, ThreadRefs::of(change, content)?)))
        .filter(|(change, reply)| {
            refs::gate(reply.root, refs::THREAD_GATE).is_some_and(|(owner, _)| owner == change.did)
        })
        .map(|(change, reply)| (change.uri.as_str(), reply))
        .collect();
    if replies.is_empty() {
        return Ok(0);
    }
    let sql = r#"INSERT INTO op_thread_reply ("rootUri", "parentUri", uri)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING"#;
    let done = statements
        .query(sql)
        .bind(replies.iter().map(|(_, reply)| reply.root).collect::<Vec<_>>())
        .bind(replies.iter().map(|(_, reply)| reply.parent).collect::<Vec<_>>())
        .bind(replies.iter().map(|(uri, _)| *uri).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Marks replies whose post is about to go: they keep their place in the thread.
pub(in crate::engine) async fn mark_deleted(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if !statements.schema().op_thread_replies() {
        return Ok(());
    }
    // The key begins with the root, which the post's row tells.
    let sql = r#"UPDATE op_thread_reply o SET "deletedAt" = $2 FROM post p
        WHERE p.uri = ANY($1) AND o."rootUri" = p."replyRoot" AND o.uri = p.uri"#;
    statements.query(sql).bind(uris).bind(now_iso()).execute(connection).await?;
    Ok(())
}
