//! Replies that came before the post they answer (DECISIONS 13).
//!
//! Such a reply is flagged `invalidReplyRoot`, and so are the replies to it. When a post arrives, the flag of the
//! replies to it is looked at again, then that of the replies to those which lost it. `violatesThreadGate` is not: it
//! says what held when the reply came.
//!
//! A post and a reply to it can be written by two transactions that do not see each other. After its commit each of the
//! two therefore looks once more ([`after_commit`]), before its entries are acknowledged: whichever commits last sees
//! both. Indexes used: `post_pkey`, the one on `"replyParent"`, `record_pkey`.

use sqlx::{PgConnection, Row as _};

use super::refs::ThreadRefs;
use crate::collections::PartsKind;
use crate::engine::change::Change;
use crate::engine::sql::Statements;

/// Flagged replies to these posts.
const FLAGGED_ANSWERS: &str = r#"SELECT c.uri FROM unnest($1::text[]) AS k(uri) JOIN post c ON c."replyParent" = k.uri
    WHERE c."invalidReplyRoot""#;

/// Of these posts, those that are flagged.
const FLAGGED: &str = r#"SELECT c.uri FROM post c WHERE c.uri = ANY($1) AND c."invalidReplyRoot""#;

/// `c` is the reply, `p` the post it answers.
const MEND: &str = r#"UPDATE post c SET
        "invalidReplyRoot" = CASE WHEN c."violatesThreadGate" THEN false END,
        "violatesThreadGate" = CASE WHEN c."violatesThreadGate" THEN true END
    FROM post p JOIN record r ON r.uri = p.uri
    WHERE c.uri = ANY($1) AND p.uri = c."replyParent" AND c."invalidReplyRoot" AND r.json <> ''
        AND p."invalidReplyRoot" IS NOT TRUE
        AND CASE WHEN c."replyRoot" = p.uri THEN p."replyRoot" IS NULL ELSE p."replyRoot" = c."replyRoot" END
    RETURNING c.uri"#;

/// Takes the flag from replies to posts that have arrived, and from what hangs on these.
pub(in crate::engine) async fn answers_to(
    connection: &mut PgConnection,
    statements: &Statements,
    arrived: Vec<String>,
) -> Result<usize, sqlx::Error> {
    let mut mended = 0;
    let mut arrived = arrived;
    // Ends: a reply loses its flag once.
    while !arrived.is_empty() {
        let flagged = uris(connection, statements, FLAGGED_ANSWERS, arrived).await?;
        arrived = mend(connection, statements, flagged).await?;
        mended += arrived.len();
    }
    Ok(mended)
}

/// Takes the flag from those of these replies that do not deserve it; returns which.
async fn mend(
    connection: &mut PgConnection,
    statements: &Statements,
    mut flagged: Vec<String>,
) -> Result<Vec<String>, sqlx::Error> {
    if flagged.is_empty() {
        return Ok(flagged);
    }
    flagged.sort_unstable();
    uris(connection, statements, MEND, flagged).await
}

async fn uris(
    connection: &mut PgConnection,
    statements: &Statements,
    sql: &str,
    of: Vec<String>,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = statements.query(sql).bind(of).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// What a transaction that ran beside another could not see. Doing it again does nothing.
pub(in crate::engine) async fn after_commit(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: impl Iterator<Item = &Change>,
) -> Result<usize, sqlx::Error> {
    let (mut posts, mut replies) = (Vec::new(), Vec::new());
    for change in changes.filter(|change| change.collection.parts == PartsKind::Post) {
        let Some(content) = change.content() else { continue };
        posts.push(change.uri.clone());
        if ThreadRefs::of(change, content).is_some() {
            replies.push(change.uri.clone());
        }
    }
    let mut mended = answers_to(connection, statements, posts).await?;
    if !replies.is_empty() {
        let flagged = uris(connection, statements, FLAGGED, replies).await?;
        let found = mend(connection, statements, flagged).await?;
        mended += found.len();
        mended += answers_to(connection, statements, found).await?;
    }
    Ok(mended)
}
