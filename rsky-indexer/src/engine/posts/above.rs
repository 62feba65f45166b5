//! Those above a reply, who may have to be told of it (INDEXING §5.1): the post it answers, the one which that answers, and
//! so on. They may stand in the tables and among what is on its way by turns, so both are asked in turn.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use crate::engine::sql::Statements;

/// How far up a thread a reply is told of (INDEXING §5.1).
pub(crate) const MOST_ANCESTORS: usize = 4;

/// What stored posts answer, by their uris; `None` of those that answer nothing. Posts that are not stored are missing.
pub(crate) type StoredParents = HashMap<String, Option<String>>;

/// The posts from `nearest` upwards, as far as a reply to these is told of: `up` says what a post answers, by as many
/// versions of it as there may be.
pub(crate) fn reach<'u, I: Iterator<Item = &'u str>>(
    nearest: impl IntoIterator<Item = &'u str>,
    up: impl Fn(&'u str) -> I,
) -> HashSet<&'u str> {
    let mut found: HashSet<&str> = HashSet::default();
    let mut level: Vec<&str> = nearest.into_iter().collect();
    for step in 1..=MOST_ANCESTORS {
        level.retain(|uri| found.insert(uri));
        if step < MOST_ANCESTORS {
            level = level.iter().flat_map(|uri| up(uri)).collect();
        }
    }
    found
}

/// Reads what the stored ones of the posts from `nearest` upwards answer. `elsewhere` says what those answer that are on
/// their way: it holds still meanwhile, and has what it has since before the first question, so that every version is in
/// it or seen in the tables. At most [`MOST_ANCESTORS`] questions, since each finds posts a step further up.
///
/// # Errors
/// Those of the database.
pub(crate) async fn load_above<'e, I: Iterator<Item = &'e str>>(
    connection: &mut PgConnection,
    statements: &Statements,
    nearest: &[&'e str],
    elsewhere: impl Fn(&str) -> I,
) -> Result<StoredParents, sqlx::Error> {
    let mut stored = StoredParents::default();
    let mut asked: HashSet<String> = HashSet::default();
    for _ in 0..MOST_ANCESTORS {
        let above = |uri: &str| {
            let parent = stored.get(uri).and_then(Option::as_deref);
            elsewhere(uri).map(|parent: &'e str| -> &str { parent }).chain(parent)
        };
        let found = reach(nearest.iter().copied(), above);
        // Postgres cannot be asked about a uri that it cannot hold, nor has it such.
        let new = found.into_iter().filter(|uri| !asked.contains(*uri) && !uri.contains('\0'));
        let new: Vec<String> = new.map(str::to_owned).collect();
        if new.is_empty() {
            break;
        }
        for (uri, parent) in load_parents(connection, statements, &new).await? {
            asked.insert(uri.clone());
            stored.insert(uri, parent);
        }
        asked.extend(new);
    }
    Ok(stored)
}

/// The stored ones of these posts and of those above them, up to so many steps: (uri, the post it answers). Index used:
/// `post_pkey`.
async fn load_parents(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[String],
) -> Result<Vec<(String, Option<String>)>, sqlx::Error> {
    let sql = r#"WITH RECURSIVE up(uri, parent, height) AS (
            SELECT p.uri, p."replyParent", 1 FROM post p WHERE p.uri = ANY($1)
            UNION SELECT p.uri, p."replyParent", up.height + 1 FROM up JOIN post p ON p.uri = up.parent
            WHERE up.height < $2)
        SELECT DISTINCT uri, parent FROM up"#;
    let most = i32::try_from(MOST_ANCESTORS).unwrap_or(i32::MAX);
    let rows = statements.query(sql).bind(posts).bind(most).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_is_reached_and_nobody_beyond() {
        let up = |uri: &str| match uri {
            "a" => ["b", "B"].as_slice(),
            "b" | "B" => &["c"],
            "c" => &["d", "a"],
            "d" => &["e"],
            _ => &[],
        };
        let mut found: Vec<&str> = reach(["a"], |uri| up(uri).iter().copied()).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, ["B", "a", "b", "c", "d"]);
    }
}
