//! The rows of posts that came earlier than what they are judged by. Indexes used: `post_pkey`, `post`'s on `"replyParent"`,
//! `quote`'s on `subject`, `record_pkey`.

use foldhash::{HashMap, HashSet};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tracing::warn;

use super::{Earlier, Seeds};
use crate::collections::Flags;
use crate::engine::posts::refs;
use crate::engine::sql::Statements;
use crate::text::sort_key::sort_by_text;

/// Most posts that are judged again at a time.
pub(in crate::engine::posts) const PAGE: usize = 1000;

/// Whether rows that somebody else holds are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::posts) enum Lock {
    Wait,
    SkipHeld,
}

/// Posts that were read.
#[derive(Debug, Default)]
pub(in crate::engine::posts) struct Found {
    pub posts: Vec<Earlier>,
    /// There are more than a page.
    pub more: bool,
    /// The last uri of the page.
    pub last: Option<String>,
    /// Some are held by others, and were left out.
    pub held: Vec<String>,
}

const COLUMNS: &str = r#"c.uri, c.cid, c.creator, c."replyRoot", c."replyParent", c."indexedAt", c."sortAt",
    c."invalidReplyRoot", c."violatesThreadGate", c."violatesEmbeddingRules""#;

/// Flagged replies to posts, the flagged replies to these, and so on.
const ANSWERS: &str = r#"WITH RECURSIVE w(uri) AS (
        SELECT c.uri FROM post c WHERE c."replyParent" = ANY($1) AND c."invalidReplyRoot"
        UNION SELECT c.uri FROM w JOIN post c ON c."replyParent" = w.uri WHERE c."invalidReplyRoot")
    SELECT uri FROM w LIMIT $2"#;

/// A page of the flagged replies to posts.
const ANSWERS_PAGE: &str = r#"SELECT c.uri FROM post c
    WHERE c."replyParent" = ANY($1) AND c."invalidReplyRoot" AND c.uri > $3 ORDER BY c.uri LIMIT $2"#;

/// The replies in the threads of some roots that came before their root, and those that claim to have come after the gate.
const OF_THREADS: &str = r#"WITH RECURSIVE w(uri, root, time) AS (
        SELECT c.uri, c."replyRoot", c."indexedAt" FROM post c
        WHERE c."replyParent" = ANY($1) AND c."replyRoot" = c."replyParent"
        UNION SELECT c.uri, c."replyRoot", c."indexedAt" FROM w JOIN post c ON c."replyParent" = w.uri
        WHERE c."replyRoot" = w.root)
    SELECT w.uri FROM unnest($1::text[], $3::text[], $4::text[]) AS g(post, time, post_time)
    JOIN w ON w.root = g.post LEFT JOIN post p ON p.uri = g.post
    WHERE (w.time < coalesce(g.post_time, p."indexedAt") OR w.time > g.time) AND w.uri > $5
    ORDER BY w.uri LIMIT $2"#;

/// The quotes of some posts that a gate may say something about.
const QUOTES: &str = r#"SELECT q.uri FROM unnest($1::text[], $3::text[]) AS v(post, gate) JOIN quote q ON q.subject = v.post
    JOIN post c ON c.uri = q.uri
    WHERE (c."violatesEmbeddingRules" OR v.gate IS NULL
        OR EXISTS (SELECT FROM record r WHERE r.uri = v.gate AND r.json <> '')) AND c.uri > $4
    ORDER BY c.uri LIMIT $2"#;

/// The quotes of some posts that came before the post, and those that claim to have come after the gate.
const OF_QUOTED: &str = r#"SELECT q.uri FROM unnest($1::text[], $3::text[], $4::text[]) AS g(post, time, post_time)
    JOIN quote q ON q.subject = g.post JOIN post c ON c.uri = q.uri LEFT JOIN post p ON p.uri = g.post
    WHERE (c."indexedAt" < coalesce(g.post_time, p."indexedAt") OR c."indexedAt" > g.time) AND c.uri > $5
    ORDER BY c.uri LIMIT $2"#;

/// Reads what waits for the seeds, with everything that hangs on it, a page at most of each kind, and locks it.
pub(in crate::engine::posts) async fn load(
    connection: &mut PgConnection,
    statements: &Statements,
    seeds: &Seeds,
) -> Result<Found, sqlx::Error> {
    load_with(connection, statements, seeds, ANSWERS, "", Lock::SkipHeld).await
}

/// Reads the page after a uri of what waits for the seeds, and locks it.
pub(in crate::engine::posts) async fn load_page(
    connection: &mut PgConnection,
    statements: &Statements,
    seeds: &Seeds,
    after: &str,
    lock: Lock,
) -> Result<Found, sqlx::Error> {
    load_with(connection, statements, seeds, ANSWERS_PAGE, after, lock).await
}

async fn load_with(
    connection: &mut PgConnection,
    statements: &Statements,
    seeds: &Seeds,
    answers: &str,
    after: &str,
    lock: Lock,
) -> Result<Found, sqlx::Error> {
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let is_first = after.is_empty();
    let by_page = answers == ANSWERS_PAGE;
    // Each with whether a gate of its thread may judge it.
    let mut uris: HashMap<String, bool> =
        seeds.posts.iter().filter(|_| is_first).map(|uri| (uri.clone(), true)).collect();
    let mut found = Found::default();
    let mut take = |rows: Vec<PgRow>, is_in_reach: bool| -> Result<(), sqlx::Error> {
        let mut last: Option<String> = None;
        for row in rows.iter().take(PAGE) {
            let uri: String = row.try_get(0)?;
            last = last.max(Some(uri.clone()));
            *uris.entry(uri).or_default() |= is_in_reach;
        }
        if rows.len() > PAGE {
            // Of several kinds, the next page begins where the first of them was cut.
            found.last = if found.more { found.last.take().min(last) } else { last };
            found.more = true;
        }
        Ok(())
    };
    if !seeds.answered.is_empty() {
        let query = statements.query(answers).bind(&seeds.answered).bind(limit);
        let query = if by_page { query.bind(after) } else { query };
        take(query.fetch_all(&mut *connection).await?, false)?;
    }
    let mut quotes: HashSet<String> = HashSet::default();
    if !seeds.quoted.is_empty() {
        // Whether a gate that comes now is there, the database cannot tell.
        let stored = |post: &str| refs::gate(post, refs::POST_GATE).map(|(_, gate)| gate).unwrap_or_default();
        let gates: Vec<Option<String>> =
            seeds.quoted.iter().map(|post| (!seeds.gated.contains(post)).then(|| stored(post))).collect();
        let query = statements.query(QUOTES).bind(&seeds.quoted).bind(limit).bind(gates).bind(after);
        let rows = query.fetch_all(&mut *connection).await?;
        for row in &rows {
            quotes.insert(row.try_get(0)?);
        }
        take(rows, false)?;
    }
    for (sql, gates) in [(OF_THREADS, &seeds.thread_gates), (OF_QUOTED, &seeds.post_gates)] {
        if gates.is_empty() {
            continue;
        }
        let query = statements
            .query(sql)
            .bind(gates.iter().map(|gate| gate.post.as_str()).collect::<Vec<_>>())
            .bind(limit)
            .bind(gates.iter().map(|gate| gate.time.as_str()).collect::<Vec<_>>())
            .bind(gates.iter().map(|gate| gate.post_time.as_deref()).collect::<Vec<_>>())
            .bind(after);
        take(query.fetch_all(&mut *connection).await?, sql == OF_THREADS)?;
    }
    if uris.is_empty() {
        return Ok(found);
    }
    let in_reach = uris;
    let mut uris: Vec<&str> = in_reach.keys().map(String::as_str).collect();
    // Every process locks rows in one order.
    uris.sort_unstable();
    let skip = if lock == Lock::SkipHeld { " SKIP LOCKED" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM post c WHERE c.uri = ANY($1) ORDER BY c.uri FOR NO KEY UPDATE OF c{skip}"
    );
    for row in statements.query(&sql).bind(&uris).fetch_all(&mut *connection).await? {
        let mut post = post_of(&row)?;
        post.is_in_reach = in_reach.get(&post.uri).copied().unwrap_or(false);
        found.posts.push(post);
    }
    if found.posts.len() < uris.len() && lock == Lock::SkipHeld {
        let there = statements.query("SELECT uri FROM post WHERE uri = ANY($1)").bind(&uris);
        let locked: HashSet<&str> = found.posts.iter().map(|post| post.uri.as_str()).collect();
        let mut held_quotes: Vec<String> = Vec::new();
        for row in there.fetch_all(&mut *connection).await? {
            let uri: String = row.try_get(0)?;
            if locked.contains(uri.as_str()) {
                continue;
            }
            let list = if quotes.contains(&uri) { &mut held_quotes } else { &mut found.held };
            list.push(uri);
        }
        if !held_quotes.is_empty() {
            // Nobody would find them once the post is there: they are waited for, or the post has to wait.
            let sql = format!(
                "SELECT {COLUMNS} FROM post c WHERE c.uri = ANY($1) ORDER BY c.uri FOR NO KEY UPDATE OF c"
            );
            for row in statements.query(&sql).bind(&held_quotes).fetch_all(&mut *connection).await? {
                found.posts.push(post_of(&row)?);
            }
        }
    }
    load_quoted(connection, statements, &mut found.posts).await?;
    Ok(found)
}

fn post_of(row: &PgRow) -> Result<Earlier, sqlx::Error> {
    let flags = Flags {
        invalid_reply_root: row.try_get(7)?,
        violates_thread_gate: row.try_get(8)?,
        violates_embedding_rules: row.try_get(9)?,
    };
    Ok(Earlier {
        uri: row.try_get(0)?,
        cid: row.try_get(1)?,
        did: row.try_get(2)?,
        root: row.try_get(3)?,
        parent: row.try_get(4)?,
        quoted: None,
        time: row.try_get(5)?,
        sort_at: row.try_get(6)?,
        flags,
        stored: Some(flags),
        is_in_reach: false,
    })
}

async fn load_quoted(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &mut [Earlier],
) -> Result<(), sqlx::Error> {
    let uris: Vec<&str> = posts.iter().map(|post| post.uri.as_str()).collect();
    let rows = statements.query("SELECT uri, subject FROM quote WHERE uri = ANY($1)").bind(uris);
    let mut quoted: HashMap<String, String> = HashMap::default();
    for row in rows.fetch_all(connection).await? {
        quoted.insert(row.try_get(0)?, row.try_get(1)?);
    }
    for post in posts {
        post.quoted = quoted.remove(&post.uri);
    }
    Ok(())
}

/// Of these posts, those that have flagged replies, and those that have quotes.
pub(in crate::engine::posts) async fn waited_for(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[&str],
) -> Result<(HashSet<String>, HashSet<String>), sqlx::Error> {
    let (mut answered, mut quoted) = (HashSet::default(), HashSet::default());
    if posts.is_empty() {
        return Ok((answered, quoted));
    }
    let posts = sort_by_text(posts.iter().copied(), |post| *post);
    let sql = r#"SELECT uri, a, q FROM (SELECT v.uri,
            EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri AND c."invalidReplyRoot") AS a,
            EXISTS (SELECT FROM quote t WHERE t.subject = v.uri) AS q
        FROM (SELECT unnest($1::text[]) AS uri) AS v) w WHERE a OR q"#;
    for row in statements.query(sql).bind(posts).fetch_all(connection).await? {
        let uri: String = row.try_get(0)?;
        if row.try_get(1)? {
            answered.insert(uri.clone());
        }
        if row.try_get(2)? {
            quoted.insert(uri);
        }
    }
    Ok((answered, quoted))
}

/// Of these posts, those that have flagged replies beside `except`.
pub(in crate::engine::posts) async fn answered(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[&str],
    except: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    if posts.is_empty() {
        return Ok(HashSet::default());
    }
    let posts = sort_by_text(posts.iter().copied(), |post| *post);
    let sql = r#"SELECT v.uri FROM (SELECT unnest($1::text[]) AS uri) AS v WHERE EXISTS (SELECT FROM post c
        WHERE c."replyParent" = v.uri AND c."invalidReplyRoot" AND c.uri <> ALL($2))"#;
    let rows = statements.query(sql).bind(posts).bind(except).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Of these posts, those that have replies.
pub(in crate::engine::posts) async fn with_replies(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[String],
) -> Result<HashSet<String>, sqlx::Error> {
    if posts.is_empty() {
        return Ok(HashSet::default());
    }
    let sql = r#"SELECT v.uri FROM (SELECT unnest($1::text[]) AS uri) AS v
        WHERE EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri)"#;
    let rows = statements.query(sql).bind(posts).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Most replies below posts that are looked at when the posts are delivered again.
const MOST_BELOW: i64 = 20_000;

/// The replies below posts, and the replies to these, as far as they are not too many.
pub(in crate::engine::posts) async fn below(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    if posts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = r#"WITH RECURSIVE w(uri) AS (
            SELECT c.uri FROM post c WHERE c."replyParent" = ANY($1)
            UNION SELECT c.uri FROM w JOIN post c ON c."replyParent" = w.uri)
        SELECT uri FROM w LIMIT $2"#;
    let rows = statements.query(sql).bind(posts).bind(MOST_BELOW).fetch_all(connection).await?;
    if i64::try_from(rows.len()).is_ok_and(|found| found == MOST_BELOW) {
        warn!(posts = posts.len(), "posts that came again have more replies than are looked at again");
    }
    rows.iter().map(|row| row.try_get(0)).collect()
}
