//! Posts that came earlier than what they are judged by: replies before the post they answer or before the gate of their
//! thread, quotes before the quoted post or its gate (DECISIONS 13). When that comes, they are judged as if they came then.
//!
//! They are rows that stand already (`earlier/rows.rs` reads them, a page at a time) or posts of the same wave. What they are found to
//! be is written here. Index used: `post_pkey`.

mod rows;

use foldhash::{HashMap, HashSet};
use sqlx::PgConnection;

use super::refs::ThreadRefs;
use crate::collections::{Counter, Flags};
use crate::engine::aggregates::Deltas;
use crate::engine::sql::Statements;

pub(super) use rows::{Lock, PAGE, answered, below, load, load_page, waited_for, with_replies};

/// A post that may be judged again.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Earlier {
    pub uri: String,
    pub cid: String,
    pub did: String,
    pub root: Option<String>,
    pub parent: Option<String>,
    /// The post it quotes.
    pub quoted: Option<String>,
    /// `"indexedAt"`
    pub time: String,
    pub sort_at: String,
    /// What it is found to be.
    pub flags: Flags,
    /// What its row says; `None` if it is yet to be written.
    pub stored: Option<Flags>,
    /// Whether a gate of its thread may judge it: it was found below the root, or is asked about by itself.
    pub is_in_reach: bool,
}

impl Earlier {
    /// The thread it says it belongs to.
    pub(super) fn thread(&self) -> Option<ThreadRefs<'_>> {
        Some(ThreadRefs { root: self.root.as_deref()?, parent: self.parent.as_deref()? })
    }

    /// Whether its row does not say yet what it is found to be.
    fn is_changed(&self) -> bool {
        self.stored.is_some_and(|stored| stored != self.flags)
    }
}

/// The earlier posts that are known, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct EarlierPosts {
    posts: HashMap<String, Earlier>,
    answers: HashMap<String, Vec<String>>,
    threads: HashMap<String, Vec<String>>,
    quotes: HashMap<String, Vec<String>>,
}

impl EarlierPosts {
    /// One more; one that is known already is as it was known first.
    pub(super) fn add(&mut self, post: Earlier) {
        if self.posts.contains_key(&post.uri) {
            return;
        }
        let lists = [
            (&mut self.answers, &post.parent, true),
            (&mut self.threads, &post.root, post.is_in_reach),
            (&mut self.quotes, &post.quoted, true),
        ];
        for (list, key, counts) in lists {
            if let Some(key) = key.as_ref().filter(|_| counts) {
                list.entry(key.clone()).or_default().push(post.uri.clone());
            }
        }
        self.posts.insert(post.uri.clone(), post);
    }

    /// One of them.
    pub(super) fn get(&self, uri: &str) -> Option<&Earlier> {
        self.posts.get(uri)
    }

    /// One of them.
    pub(super) fn get_mut(&mut self, uri: &str) -> Option<&mut Earlier> {
        self.posts.get_mut(uri)
    }

    /// The replies to a post.
    pub(super) fn answers(&self, post: &str) -> Vec<String> {
        self.answers.get(post).cloned().unwrap_or_default()
    }

    /// The posts of a thread but its root that a gate may judge.
    pub(super) fn of_thread(&self, root: &str) -> Vec<String> {
        self.threads.get(root).cloned().unwrap_or_default()
    }

    /// The quotes of a post.
    pub(super) fn quotes(&self, post: &str) -> Vec<String> {
        self.quotes.get(post).cloned().unwrap_or_default()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Earlier> {
        self.posts.values()
    }

    /// Those whose rows do not say yet what they are found to be, in the order of their uris.
    pub(super) fn changed(&self) -> Vec<&Earlier> {
        let mut changed: Vec<&Earlier> = self.posts.values().filter(|post| post.is_changed()).collect();
        changed.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
        changed
    }
}

/// A gate that comes.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Gate {
    /// Its post.
    pub post: String,
    /// The event's time.
    pub time: String,
    /// When its post came, if that is known beside the database.
    pub post_time: Option<String>,
    /// Whether it has come before, and it is not known whom it has judged since: then nobody is shown by it.
    pub again: bool,
}

/// What the earlier posts wait for that may be judged again now.
#[derive(Debug, Default)]
pub(in crate::engine) struct Seeds {
    /// Posts that come and have flagged replies.
    pub answered: Vec<String>,
    /// Posts that come and have quotes.
    pub quoted: Vec<String>,
    /// Posts with a post gate that comes with them, perhaps before them.
    pub gated: HashSet<String>,
    /// Thread gates that come.
    pub thread_gates: Vec<Gate>,
    /// Post gates that come.
    pub post_gates: Vec<Gate>,
    /// Certain posts.
    pub posts: Vec<String>,
}

impl Seeds {
    pub(super) fn is_empty(&self) -> bool {
        self.answered.is_empty()
            && self.quoted.is_empty()
            && self.thread_gates.is_empty()
            && self.post_gates.is_empty()
            && self.posts.is_empty()
    }
}

/// Writes what earlier posts were found to be; returns how many rows changed. Their rows are locked. What was said of them
/// and holds no more ([`View::taken_back`](super::view::View)) is left to the caller.
pub(in crate::engine) async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    changed: &[&Earlier],
    deltas: &mut Deltas<'_>,
) -> Result<usize, sqlx::Error> {
    if changed.is_empty() {
        return Ok(0);
    }
    let sql = r#"UPDATE post c SET "invalidReplyRoot" = v.invalid, "violatesThreadGate" = v.violates,
            "violatesEmbeddingRules" = v.quote
        FROM unnest($1::text[], $2::bool[], $3::bool[], $4::bool[]) AS v(uri, invalid, violates, quote)
        WHERE c.uri = v.uri"#;
    let flag = |of: fn(&Flags) -> Option<bool>| -> Vec<Option<bool>> {
        changed.iter().map(|post| of(&post.flags)).collect()
    };
    statements
        .query(sql)
        .bind(changed.iter().map(|post| post.uri.as_str()).collect::<Vec<_>>())
        .bind(flag(|flags| flags.invalid_reply_root))
        .bind(flag(|flags| flags.violates_thread_gate))
        .bind(flag(|flags| flags.violates_embedding_rules))
        .execute(&mut *connection)
        .await?;
    for post in changed {
        let Some(stored) = post.stored else { continue };
        let counts = |flags: Flags| i64::from(flags.violates_thread_gate != Some(true));
        let moved = counts(post.flags) - counts(stored);
        if let Some(parent) = post.parent.as_ref().filter(|_| moved != 0) {
            deltas.add(Counter::Replies, parent.clone().into(), moved);
        }
    }
    Ok(changed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_about_a_post_counts() {
        let post = |invalid| Earlier {
            uri: "r".into(),
            parent: Some("p".into()),
            root: Some("p".into()),
            flags: Flags { invalid_reply_root: Some(invalid), ..Flags::default() },
            stored: Some(Flags { invalid_reply_root: Some(true), ..Flags::default() }),
            ..Earlier::default()
        };
        let mut posts = EarlierPosts::default();
        posts.add(post(true));
        posts.add(post(false));
        assert_eq!(posts.answers("p"), ["r"]);
        assert!(posts.changed().is_empty());
        posts.get_mut("r").unwrap().flags = Flags::default();
        assert_eq!(posts.changed().len(), 1);
    }
}
