//! Replies that came before the post they answer (DECISIONS 13).
//!
//! Such a reply is flagged `invalidReplyRoot`, and so are the replies to it. When a post arrives, the flag of the
//! replies to it is looked at again, then that of the replies to those which lost it. `violatesThreadGate` is not: it
//! says what held when the reply came.
//!
//! The flagged replies are mostly other lanes' rows. A batch's transaction therefore never writes them: lanes that hold
//! rows of their own and wait for those of others would lock each other out. What it finds is noted ([`Mended`]), holds
//! for what the batch judges later, and is written after the commit, level by level: first all rows that nobody holds,
//! then each that somebody does, so that nothing is held while another is waited for.
//!
//! A post and a reply to it can be written by two transactions that do not see each other. After its commit each of the
//! two therefore looks once more ([`after_commit`]), before its entries are acknowledged: whichever commits last sees
//! both. Indexes used: `post_pkey`, the one on `"replyParent"`, `record_pkey`.

use std::collections::BTreeMap;

use foldhash::HashSet;
use sqlx::{PgConnection, Row as _};

use super::refs::ThreadRefs;
use crate::collections::PartsKind;
use crate::engine::change::Change;
use crate::engine::sql::Statements;
use crate::engine::typed::NewRow;
use crate::engine::{EngineError, begin, end};

/// Replies that do not deserve their flag any more: uri and CID of the post that was looked at.
pub(in crate::engine) type Mended = BTreeMap<String, String>;

/// What a batch has found of replies.
#[derive(Debug, Default)]
pub(in crate::engine) struct Replies<'c> {
    /// Stored ones that are sound; their rows say so after the commit.
    pub mended: Mended,
    /// Those that got a row without the flag: they need no second look.
    sound: HashSet<&'c str>,
}

impl<'c> Replies<'c> {
    /// Posts have got their rows.
    pub(in crate::engine) fn judged(&mut self, rows: &[NewRow<'c>]) {
        for NewRow { change, flags, .. } in rows {
            if flags.invalid_reply_root == Some(true) {
                self.sound.remove(change.uri.as_str());
            } else {
                self.sound.insert(&change.uri);
            }
        }
    }
}

/// Flagged replies to these posts.
const FLAGGED_ANSWERS: &str = r#"SELECT c.uri FROM unnest($1::text[]) AS k(uri) JOIN post c ON c."replyParent" = k.uri
    WHERE c."invalidReplyRoot""#;

/// Of these posts, those that do not deserve their flag, if what they answer does not (`p` is that, `r` its record).
const SOUND: &str = r#"SELECT c.uri, c.cid FROM post c JOIN post p ON p.uri = c."replyParent" JOIN record r ON r.uri = p.uri
    WHERE c.uri = ANY($1) AND c."invalidReplyRoot" AND r.json <> ''
        AND CASE WHEN c."replyRoot" = p.uri THEN p."replyRoot" IS NULL ELSE p."replyRoot" = c."replyRoot" END"#;

/// The posts among these that are still what they were, and flagged.
const STILL_FLAGGED: &str = r#"SELECT c.uri, c.cid FROM unnest($1::text[], $2::text[]) AS v(uri, cid)
    JOIN post c ON c.uri = v.uri WHERE c.cid = v.cid AND c."invalidReplyRoot""#;

/// Takes the flag from posts found by `k`.
const MEND: &str = r#"UPDATE post c SET
        "invalidReplyRoot" = CASE WHEN c."violatesThreadGate" THEN false END,
        "violatesThreadGate" = CASE WHEN c."violatesThreadGate" THEN true END
    FROM k WHERE c.uri = k.uri RETURNING c.uri"#;

/// The replies to posts that have arrived which lose their flag by it, and what hangs on these.
pub(in crate::engine) async fn answers_to(
    connection: &mut PgConnection,
    statements: &Statements,
    arrived: Vec<String>,
) -> Result<Mended, sqlx::Error> {
    let mut mended = Mended::new();
    let mut level = sound_answers(connection, statements, arrived, Flag::AsStored).await?;
    while !level.is_empty() {
        let uris: Vec<String> = level.keys().cloned().collect();
        mended.append(&mut level);
        level = sound_answers(connection, statements, uris, Flag::TakenBack).await?;
        // Ends: each round is about other replies.
        level.retain(|uri, _| !mended.contains_key(uri));
    }
    Ok(mended)
}

/// Whether the posts that are answered have the flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// Their rows say so.
    AsStored,
    /// Their rows do not say yet that they have lost it.
    TakenBack,
}

/// Flagged replies to these posts that do not deserve it.
async fn sound_answers(
    connection: &mut PgConnection,
    statements: &Statements,
    answered: Vec<String>,
    flag: Flag,
) -> Result<Mended, sqlx::Error> {
    if answered.is_empty() {
        return Ok(Mended::new());
    }
    let answers = statements.query(FLAGGED_ANSWERS).bind(answered).fetch_all(&mut *connection).await?;
    let answers = answers.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    sound(connection, statements, answers, flag).await
}

/// Of these posts, those that do not deserve their flag; `flag` is about the posts they answer.
async fn sound(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: Vec<String>,
    flag: Flag,
) -> Result<Mended, sqlx::Error> {
    if posts.is_empty() {
        return Ok(Mended::new());
    }
    let parent_is_sound = match flag {
        Flag::AsStored => r#"AND p."invalidReplyRoot" IS NOT TRUE"#,
        Flag::TakenBack => "",
    };
    let sql = format!("{SOUND} {parent_is_sound}");
    let rows = statements.query(&sql).bind(posts).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What a transaction that ran beside another could not see, and what it found itself (`known`). Doing it again does
/// nothing. Returns the number of replies that lost their flag.
pub(in crate::engine) async fn after_commit(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: impl Iterator<Item = &Change>,
    known: Replies<'_>,
) -> Result<usize, EngineError> {
    let (mut posts, mut replies) = (Vec::new(), Vec::new());
    for change in changes.filter(|change| change.collection.parts == PartsKind::Post) {
        let Some(content) = change.content() else { continue };
        posts.push(change.uri.clone());
        if !known.sound.contains(change.uri.as_str()) && ThreadRefs::of(change, content).is_some() {
            replies.push(change.uri.clone());
        }
    }
    if posts.is_empty() {
        return Ok(0);
    }
    let mut level = {
        begin(connection).await?;
        let found = look_again(connection, statements, posts, replies).await;
        end(connection, found.map_err(EngineError::from)).await?
    };
    level.extend(known.mended);
    let mut count = 0;
    // Ends: a reply loses its flag once.
    while !level.is_empty() {
        let (mut mended, held) = mend(connection, statements, level, Lock::SkipHeld).await?;
        for one in held {
            mended.extend(mend(connection, statements, Mended::from([one]), Lock::Wait).await?.0);
        }
        count += mended.len();
        begin(connection).await?;
        let next = sound_answers(connection, statements, mended, Flag::AsStored).await;
        level = end(connection, next.map_err(EngineError::from)).await?;
    }
    Ok(count)
}

async fn look_again(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: Vec<String>,
    replies: Vec<String>,
) -> Result<Mended, sqlx::Error> {
    let mut found = sound_answers(connection, statements, posts, Flag::AsStored).await?;
    found.append(&mut sound(connection, statements, replies, Flag::AsStored).await?);
    Ok(found)
}

/// What to do about a row that another transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Wait,
    SkipHeld,
}

/// Takes the flag from these in one transaction; returns those that lost it, and those that are left because they are
/// held.
async fn mend(
    connection: &mut PgConnection,
    statements: &Statements,
    flagged: Mended,
    lock: Lock,
) -> Result<(Vec<String>, Mended), EngineError> {
    begin(connection).await?;
    let outcome = mend_in_transaction(connection, statements, flagged, lock).await;
    end(connection, outcome.map_err(EngineError::from)).await
}

async fn mend_in_transaction(
    connection: &mut PgConnection,
    statements: &Statements,
    flagged: Mended,
    lock: Lock,
) -> Result<(Vec<String>, Mended), sqlx::Error> {
    let expected = flagged.len();
    let (uris, cids): (Vec<String>, Vec<String>) = flagged.into_iter().unzip();
    let lock = match lock {
        Lock::Wait => "FOR UPDATE OF c",
        Lock::SkipHeld => "FOR UPDATE OF c SKIP LOCKED",
    };
    let sql = format!("WITH k AS MATERIALIZED ({STILL_FLAGGED} {lock}) {MEND}");
    let rows = statements.query(&sql).bind(&uris).bind(&cids).fetch_all(&mut *connection).await?;
    let mended = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if mended.len() == expected {
        return Ok((mended, Mended::new()));
    }
    let left = statements.query(STILL_FLAGGED).bind(&uris).bind(&cids).fetch_all(connection).await?;
    let left = left.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok((mended, left.collect::<Result<Mended, sqlx::Error>>()?))
}
