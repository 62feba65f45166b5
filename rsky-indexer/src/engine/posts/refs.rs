//! How posts, gates and follows refer to each other.

use std::borrow::Cow;

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::above::{load_above, reach};
use super::earlier;
use crate::collections::parts::{Parts, ThreadGate};
use crate::collections::{PartsKind, post_columns};
use crate::engine::change::{Action, Change, Content};
use crate::engine::keys::MOST_TOLD_APART;
use crate::engine::load::Known;
use crate::engine::notifications::{Notifications, may_notify};
use crate::engine::sql::Statements;
use crate::text::at_uri::AtUri;
use crate::text::json::Json;

/// Collection of posts.
pub(crate) const POST: &str = "app.bsky.feed.post";
/// Collection of thread gates.
pub(crate) const THREAD_GATE: &str = "app.bsky.feed.threadgate";
/// Collection of post gates.
pub(crate) const POST_GATE: &str = "app.bsky.feed.postgate";
/// Collection of follows.
pub(crate) const FOLLOW: &str = "app.bsky.graph.follow";
/// Collection of likes.
pub(crate) const LIKE: &str = "app.bsky.feed.like";
/// Collection of reposts.
pub(crate) const REPOST: &str = "app.bsky.feed.repost";
/// Collection of list items.
pub(crate) const LIST_ITEM: &str = "app.bsky.graph.listitem";

/// The thread that a reply says it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadRefs<'c> {
    /// First post of the thread.
    pub root: &'c str,
    /// The post it answers.
    pub parent: &'c str,
}

impl<'c> ThreadRefs<'c> {
    /// Of a post; `None` where it is no reply.
    pub(crate) fn of(change: &'c Change, content: &'c Content) -> Option<Self> {
        let row = content.row.as_ref()?;
        let context = change.context(content);
        let value = |column| row.value(column, &context).filter(|uri| !uri.is_empty());
        Some(Self { root: value(post_columns::REPLY_ROOT)?, parent: value(post_columns::REPLY_PARENT)? })
    }
}

/// The owner of a post and the uri that a gate of it has (INDEXING §4.5, §4.6); a uri that is no post's stays as it is.
/// `None` where the reference cannot read the uri.
pub(crate) fn gate<'u>(uri: &'u str, collection: &str) -> Option<(&'u str, String)> {
    let parsed = AtUri::parse(uri)?;
    let gate = if parsed.collection() == POST {
        ["at://", parsed.host(), "/", collection, "/", parsed.rkey()].concat()
    } else {
        uri.to_owned()
    };
    Some((parsed.host(), gate))
}

/// The post that a gate belongs to: the one with its record key, whatever it says itself (INDEXING §4.5).
pub(crate) fn post_of_gate(gate: &Change) -> String {
    ["at://", &gate.did, "/", POST, "/", &gate.rkey].concat()
}

/// As [`post_of_gate`], of the uri of a record; `None` where it is no gate.
pub(crate) fn post_of_gate_at(uri: &str) -> Option<String> {
    let parsed =
        AtUri::parse(uri).filter(|parsed| [THREAD_GATE, POST_GATE].contains(&parsed.collection()))?;
    Some(["at://", parsed.host(), "/", POST, "/", parsed.rkey()].concat())
}

/// The root of a post's thread: itself where it is no reply.
pub(crate) fn root_of<'c>(change: &'c Change, content: &'c Content) -> &'c str {
    ThreadRefs::of(change, content).map_or(change.uri.as_str(), |thread| thread.root)
}

/// The post of a thread gate that looks at follows or lists, and the accounts whose they are.
pub(crate) fn gate_by_relations(change: &Change) -> Option<(String, Vec<String>)> {
    let Parts::ThreadGate(gate) = &change.content()?.parts else { return None };
    let accounts = accounts_of(gate, &change.did);
    (!accounts.is_empty()).then(|| (post_of_gate(change), accounts))
}

fn accounts_of(gate: &ThreadGate, owner: &str) -> Vec<String> {
    let allow = gate.allow.iter().flat_map(|allow| allow.looks_at(owner));
    allow.map(str::to_owned).collect()
}

/// Of these roots, those whose stored thread gates look at follows or lists, with the accounts whose they are. Index
/// used: `record_pkey`.
pub(crate) async fn gated_by_relations(
    connection: &mut PgConnection,
    statements: &Statements,
    roots: &[&str],
) -> Result<Vec<(String, Vec<String>)>, sqlx::Error> {
    let gates: HashMap<String, (&str, &str)> = roots
        .iter()
        .filter_map(|root| {
            let (owner, gate) = gate(root, THREAD_GATE)?;
            Some((gate, (*root, owner)))
        })
        .collect();
    let mut related = Vec::new();
    if gates.is_empty() {
        return Ok(related);
    }
    let asked: Vec<&str> = gates.keys().map(String::as_str).collect();
    let sql = "SELECT uri, json FROM record WHERE uri = ANY($1) AND json <> ''";
    for row in statements.query(sql).bind(asked).fetch_all(connection).await? {
        let (uri, json): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (Some((root, owner)), Ok(record)) = (gates.get(&uri), Json::parse(&json)) else { continue };
        let accounts = accounts_of(&ThreadGate::of(&record), owner);
        if !accounts.is_empty() {
            related.push(((*root).to_owned(), accounts));
        }
    }
    Ok(related)
}

/// The threads in which the stored quotes of these posts answer: (post, root), of each post so many quotes at most. Indexes
/// used: `quote`'s on `subject`, `post_pkey`.
pub(crate) async fn threads_of_quotes(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[&str],
    most: usize,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    if posts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = r#"SELECT v.uri, w.root FROM unnest($1::text[]) AS v(uri)
        CROSS JOIN LATERAL (SELECT c."replyRoot" AS root FROM quote q JOIN post c ON c.uri = q.uri
            WHERE q.subject = v.uri AND c."replyRoot" IS NOT NULL LIMIT $2) w"#;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statements.query(sql).bind(posts).bind(most).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Whether a uri is that of a post.
pub(crate) fn is_post(uri: &str) -> bool {
    AtUri::parse(uri).is_some_and(|uri| uri.collection() == POST)
}

/// The threads that the posts of a batch belong to.
#[derive(Debug, Default)]
pub(in crate::engine) struct Threads<'c> {
    /// By uri of a stored post, its thread's root.
    roots: HashMap<String, String>,
    /// By uri of a stored post, the record it shows.
    shown: HashMap<String, String>,
    /// The posts that a post answers, in the batch and above it in the database. Empty if nobody is told of replies.
    above: HashMap<Cow<'c, str>, Vec<Cow<'c, str>>>,
    /// The posts that tell those above them.
    tellers: HashSet<&'c str>,
    /// Posts that have flagged replies, or are answered in the batch before they come.
    answered: HashSet<Cow<'c, str>>,
    /// Posts that have quotes, or are quoted in the batch before they come.
    quoted: HashSet<Cow<'c, str>>,
    /// By a post whose quotes the batch may judge: the threads in which these answer, by their roots; empty if nobody is told.
    quoting: HashMap<String, HashSet<Cow<'c, str>>>,
    /// Posts with a thread gate in the batch that have replies.
    gated: HashSet<String>,
    /// By root of an answered post: the accounts whose follows or lists the gates of the thread look at, those that are
    /// stored and those of the batch.
    related: HashMap<String, Vec<String>>,
}

impl<'c> Threads<'c> {
    /// The root of a stored post's thread, itself for a root.
    pub(in crate::engine) fn of(&self, uri: &str) -> Option<&str> {
        self.roots.get(uri).map(String::as_str)
    }

    /// The record that a stored post shows.
    pub(in crate::engine) fn shown_by(&self, uri: &str) -> Option<&str> {
        self.shown.get(uri).map(String::as_str)
    }

    /// Every post that may have to be told of this one.
    pub(in crate::engine) fn told_by(&self, uri: &str) -> HashSet<&str> {
        let Some(teller) = self.tellers.get(uri) else { return HashSet::default() };
        let up = |uri: &str| self.above.get(uri).into_iter().flatten().map(Cow::as_ref);
        reach(up(teller), up)
    }

    /// Whether a post may have replies that came before it.
    pub(in crate::engine) fn is_answered(&self, uri: &str) -> bool {
        self.answered.contains(uri)
    }

    /// Whether a thread may have replies that its gate judges, by its root.
    pub(in crate::engine) fn has_replies(&self, root: &str) -> bool {
        self.gated.contains(root)
    }

    /// The accounts by whose follows or lists it may be judged who answers in the thread of an answered post.
    pub(in crate::engine) fn related(&self, root: &str) -> &[String] {
        self.related.get(root).map_or(&[], Vec::as_slice)
    }

    /// Whether a post may have quotes that came before it.
    pub(in crate::engine) fn is_quoted(&self, uri: &str) -> bool {
        self.quoted.contains(uri)
    }

    /// The threads in which quotes of a post answer, by their roots.
    pub(in crate::engine) fn quoting(&self, post: &str) -> impl Iterator<Item = &str> {
        self.quoting.get(post).into_iter().flatten().map(Cow::as_ref)
    }

    /// Finds the threads in which the quotes answer that the batch may judge. Who judges such a post as a quote and who judges it
    /// as an answer both have a say in whom it tells.
    async fn load_quoting(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        changes: &[&'c Change],
    ) -> Result<(), sqlx::Error> {
        let mut posts: HashSet<String> = HashSet::default();
        for change in changes {
            let Some(content) = change.content() else { continue };
            match change.collection.parts {
                PartsKind::Post => posts.insert(change.uri.clone()),
                PartsKind::PostGate => posts.insert(post_of_gate(change)),
                PartsKind::None | PartsKind::ThreadGate => continue,
            };
            let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
            if let (Some(quoted), Some(ThreadRefs { root, .. })) = (quoted, ThreadRefs::of(change, content)) {
                self.quoting.entry(quoted.uri.clone()).or_default().insert(root.into());
            }
        }
        self.quoting.retain(|post, _| posts.contains(post));
        let posts: Vec<&str> = posts.iter().map(String::as_str).collect();
        for (post, root) in threads_of_quotes(connection, statements, &posts, MOST_TOLD_APART + 1).await? {
            self.quoting.entry(post).or_default().insert(root.into());
        }
        Ok(())
    }

    /// Finds the posts that others may wait for.
    async fn load_waited_for(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        changes: &[&'c Change],
        known: &Known<'_>,
    ) -> Result<(), sqlx::Error> {
        let mut coming: Vec<&str> = Vec::new();
        let mut gated: Vec<String> = Vec::new();
        let mut replied_to: HashSet<&str> = HashSet::default();
        let mut quoted_before: HashSet<&str> = HashSet::default();
        let mut touched: HashSet<&str> = HashSet::default();
        let in_threads = [PartsKind::Post, PartsKind::ThreadGate];
        for change in changes.iter().filter(|change| in_threads.contains(&change.collection.parts)) {
            // What is stored before the batch says nothing of what an earlier change of the batch leaves.
            let is_settled = touched.insert(&change.uri) && known.is_settled(change);
            let Some(content) = change.content() else { continue };
            if change.collection.parts == PartsKind::ThreadGate {
                let post = post_of_gate(change);
                if replied_to.contains(post.as_str()) {
                    self.gated.insert(post);
                } else if !is_settled {
                    gated.push(post);
                }
            }
            if change.collection.parts != PartsKind::Post {
                continue;
            }
            if replied_to.contains(change.uri.as_str()) {
                self.answered.insert(change.uri.as_str().into());
            }
            if quoted_before.contains(change.uri.as_str()) {
                self.quoted.insert(change.uri.as_str().into());
            }
            if let Some(reply) = ThreadRefs::of(change, content) {
                replied_to.extend([reply.parent, reply.root]);
            }
            if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref()) {
                quoted_before.insert(&quoted.uri);
            }
            if !is_settled {
                coming.push(&change.uri);
            }
        }
        self.gated.extend(earlier::with_replies(connection, statements, &gated).await?);
        let (answered, quoted) = earlier::waited_for(connection, statements, &coming).await?;
        self.answered.extend(answered.into_iter().map(Cow::Owned));
        self.quoted.extend(quoted.into_iter().map(Cow::Owned));
        let roots: HashSet<&str> = changes
            .iter()
            .filter(|change| self.answered.contains(change.uri.as_str()))
            .filter_map(|change| Some(root_of(change, change.content()?)))
            .collect();
        if roots.is_empty() {
            return Ok(());
        }
        for (root, accounts) in changes.iter().filter_map(|change| gate_by_relations(change)) {
            if roots.contains(root.as_str()) {
                self.related.entry(root).or_default().extend(accounts);
            }
        }
        let roots: Vec<&str> = roots.into_iter().collect();
        for (root, accounts) in gated_by_relations(connection, statements, &roots).await? {
            self.related.entry(root).or_default().extend(accounts);
        }
        Ok(())
    }

    async fn load_above(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        changes: &[&'c Change],
        known: &Known<'_>,
    ) -> Result<(), sqlx::Error> {
        let mode = statements.notifications();
        let mut touched: HashSet<&str> = HashSet::default();
        for change in changes.iter().filter(|change| change.collection.parts == PartsKind::Post) {
            // One that comes again may be new by then.
            let comes_again = !touched.insert(&change.uri) && mode != Notifications::Off;
            let Some(reply) = change.content().and_then(|content| ThreadRefs::of(change, content)) else {
                continue;
            };
            self.above.entry(change.uri.as_str().into()).or_default().push(reply.parent.into());
            if comes_again || may_notify(mode, change, known) {
                self.tellers.insert(&change.uri);
            }
        }
        if self.tellers.is_empty() {
            return Ok(());
        }
        let nearest: Vec<&str> =
            self.tellers.iter().filter_map(|uri| self.above.get(*uri)).flatten().map(Cow::as_ref).collect();
        let elsewhere = |uri: &str| self.above.get(uri).into_iter().flatten().map(Cow::as_ref);
        let stored = load_above(connection, statements, &nearest, elsewhere).await?;
        for (uri, parent) in stored {
            self.above.entry(uri.into()).or_default().extend(parent.map(Cow::from));
        }
        Ok(())
    }
}

/// Reads the threads of the posts of a batch. Indexes used: `post_pkey`, `post_embed_record_pkey`.
pub(in crate::engine) async fn load_threads<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&'c Change],
    known: &Known<'_>,
) -> Result<Threads<'c>, sqlx::Error> {
    let mut threads = Threads::default();
    threads.load_above(connection, statements, changes, known).await?;
    threads.load_waited_for(connection, statements, changes, known).await?;
    if statements.notifications() == Notifications::Live {
        threads.load_quoting(connection, statements, changes).await?;
    }
    let replaced = |change: &&&Change| {
        change.collection.parts == PartsKind::Post
            && known.stored(&change.uri).is_some_and(
                |stored| !matches!(&change.action, Action::Create(content) if content.cid == stored.cid),
            )
    };
    let uris: Vec<&str> = changes.iter().filter(replaced).map(|change| change.uri.as_str()).collect();
    if uris.is_empty() {
        return Ok(threads);
    }
    let sql = r#"SELECT p.uri, coalesce(p."replyRoot", p.uri), e."embedUri" FROM post p
        LEFT JOIN post_embed_record e ON e."postUri" = p.uri WHERE p.uri = ANY($1)"#;
    let rows = statements.query(sql).bind(uris).fetch_all(connection).await?;
    for row in rows {
        let uri: String = row.try_get(0)?;
        if let Some(shown) = row.try_get(2)? {
            threads.shown.insert(uri.clone(), shown);
        }
        threads.roots.insert(uri, row.try_get(1)?);
    }
    Ok(threads)
}
