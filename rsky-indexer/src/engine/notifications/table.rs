//! What is said, as rows of `notification`.
//!
//! The table has no unique key: that nothing is written twice is owed to the rev guard, which lets a change take effect
//! once. Indexes used: `notification`'s on `"recordUri"`, `post_pkey`, `thread_mute`'s primary key.

use foldhash::{HashMap, HashSet};
use rsky_common::clock::now_iso;
use sqlx::PgConnection;

use super::Notifications;
use super::words::{Draft, Root, TakenBack, Word};
use crate::engine::sql::Statements;

/// Says a wave's words, with the outcome of one after the other; returns how many rows were written.
pub(in crate::engine) async fn say(
    connection: &mut PgConnection,
    statements: &Statements,
    words: &[Word<'_>],
) -> Result<usize, sqlx::Error> {
    let mut rows = 0;
    let mut together = Together::default();
    for word in words {
        if together.stands_against(word) {
            rows += std::mem::take(&mut together).say(connection, statements).await?;
        }
        together.add(word);
    }
    Ok(rows + together.say(connection, statements).await?)
}

/// Words whose order does not matter.
#[derive(Debug, Default)]
struct Together<'w, 'c> {
    told: Vec<&'w Draft<'c>>,
    taken_back: Vec<&'w TakenBack>,
    /// What somebody is told of, by which step.
    steps: HashMap<&'w str, usize>,
    uris_taken_back: HashSet<&'w str>,
}

impl<'w, 'c> Together<'w, 'c> {
    /// Whether a word has to be said after these.
    fn stands_against(&self, word: &Word<'_>) -> bool {
        match word {
            Word::Told(draft) => {
                let told_by_another =
                    self.steps.get(draft.uri.as_ref()).is_some_and(|step| *step != draft.step);
                self.uris_taken_back.contains(draft.uri.as_ref()) || (draft.once && told_by_another)
            }
            Word::TakenBack(word) => self.steps.contains_key(word.uri.as_str()),
        }
    }

    fn add(&mut self, word: &'w Word<'c>) {
        match word {
            Word::Told(draft) => {
                self.steps.insert(draft.uri.as_ref(), draft.step);
                self.told.push(draft);
            }
            Word::TakenBack(word) => {
                self.uris_taken_back.insert(&word.uri);
                self.taken_back.push(word);
            }
        }
    }

    async fn say(self, connection: &mut PgConnection, statements: &Statements) -> Result<usize, sqlx::Error> {
        for reason in ["reply", "quote"] {
            let of_reason = self.taken_back.iter().filter(|word| word.reason == reason);
            let uris: Vec<&str> = of_reason.map(|word| word.uri.as_str()).collect();
            take_back_for(connection, statements, reason, &uris).await?;
        }
        write(connection, statements, &self.told).await
    }
}

/// Writes drafts, but for those whose recipient has muted the thread.
async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    drafts: &[&Draft<'_>],
) -> Result<usize, sqlx::Error> {
    if drafts.is_empty() {
        return Ok(0);
    }
    let unmuted = if statements.schema().thread_mutes() {
        r#"NOT EXISTS (SELECT FROM thread_mute m WHERE m."mutedByDid" = v.did AND m."rootUri" =
            CASE WHEN v.unknown THEN (SELECT coalesce(p."replyRoot", p.uri) FROM post p WHERE p.uri = v.subject)
            ELSE v.root END)"#
    } else {
        "true"
    };
    let sql = r#"INSERT INTO notification (did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt")
        SELECT v.did, v.uri, v.cid, v.author, v.reason, v.subject, v.sort
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bool[], $10::bool[])
            WITH ORDINALITY AS v(did, uri, cid, author, reason, subject, sort, root, unknown, once, at)
        WHERE NOT (v.once AND EXISTS (SELECT FROM notification n WHERE n."recordUri" = v.uri AND n.did = v.did)) AND "#;
    let sql = format!("{sql}{unmuted} ORDER BY v.at");
    let roots = drafts.iter().map(|draft| match &draft.root {
        Root::Known(root) => root.as_deref(),
        Root::LookUp => None,
    });
    let done = statements
        .query(&sql)
        .bind(drafts.iter().map(|draft| draft.recipient.as_str()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.uri.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.cid.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.author.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.reason).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.subject.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(drafts.iter().map(|draft| draft.sort_at.as_str()).collect::<Vec<_>>())
        .bind(roots.collect::<Vec<Option<&str>>>())
        .bind(drafts.iter().map(|draft| matches!(draft.root, Root::LookUp)).collect::<Vec<bool>>())
        .bind(drafts.iter().map(|draft| draft.once).collect::<Vec<bool>>())
        .execute(connection)
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Takes back what was said of records that went.
pub(in crate::engine) async fn take_back(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"DELETE FROM notification WHERE "recordUri" = ANY($1)"#;
    statements.query(sql).bind(uris).execute(connection).await?;
    Ok(())
}

/// Takes back what was said of records for one reason.
async fn take_back_for(
    connection: &mut PgConnection,
    statements: &Statements,
    reason: &str,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"DELETE FROM notification WHERE "recordUri" = ANY($1) AND reason = $2"#;
    statements.query(sql).bind(uris).bind(reason).execute(connection).await?;
    Ok(())
}

/// Before verifications are deleted or replaced: tells their subjects (INDEXING §5.5). The earlier word stays.
pub(in crate::engine) async fn unverify(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"INSERT INTO notification (did, "recordUri", "recordCid", author, reason, "sortAt")
        SELECT subject, uri, cid, creator, 'unverified', $2 FROM verification WHERE uri = ANY($1) ORDER BY uri"#;
    statements.query(sql).bind(uris).bind(now_iso()).execute(connection).await?;
    Ok(())
}
