//! What the database has of what a question is about.
//!
//! Indexes used: the primary keys of the typed tables and `post_embed_record`, `post`'s on `"replyParent"`, `quote`'s on
//! `subject`, and `duplicate_record`'s on `"duplicateOf"`.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::Question;
use crate::engine::above::{StoredParents, load_above};
use crate::engine::{Statements, in_waiting, keys_behind, refs};
use crate::order::claims::{self, Claims, Keys, Touch};
use crate::text::sort_key::sort_by_text;

/// What the database has.
pub(super) struct Found {
    pub stored: Vec<Stored>,
    /// Records that stand behind another: their table, and the one in front.
    pub waiting: HashMap<String, (&'static str, String)>,
    /// By records that others stand behind: the duplicate keys of these.
    pub behind: HashMap<String, HashSet<Vec<String>>>,
    /// Keys of posts that flagged replies wait for.
    pub awaited: HashSet<u64>,
    /// By roots of awaited posts: the accounts whose follows or lists their gates look at.
    pub related: HashMap<String, Vec<String>>,
    /// Posts with replies, of those with a gate that comes.
    pub answered: HashSet<String>,
    /// By posts whose quotes may be judged: the roots of the threads in which these answer, once more than is told apart.
    pub quoting: HashMap<String, Vec<String>>,
    pub parents: StoredParents,
}

/// What is stored of these uris in a table that needs to be known: uri, and two values.
fn sql_of(table: &str) -> Option<&'static str> {
    Some(match table {
        "post" => {
            r#"SELECT p.uri, coalesce(p."replyRoot", p.uri), e."embedUri" FROM post p
                LEFT JOIN post_embed_record e ON e."postUri" = p.uri WHERE p.uri = ANY($1)"#
        }
        "follow" => r#"SELECT uri, creator, "subjectDid" FROM follow WHERE uri = ANY($1)"#,
        "list_item" => r#"SELECT uri, "subjectDid", NULL FROM list_item WHERE uri = ANY($1)"#,
        "repost" => "SELECT uri, subject, NULL FROM repost WHERE uri = ANY($1)",
        // The stored version makes nothing claim more.
        _ => return None,
    })
}

/// Posts that flagged replies wait for.
const AWAITED: &str = r#"SELECT v.uri FROM (SELECT unnest($1::text[]) AS uri) AS v
    WHERE EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri AND c."invalidReplyRoot")"#;

/// Posts that have replies.
const ANSWERED: &str = r#"SELECT v.uri FROM (SELECT unnest($1::text[]) AS uri) AS v
    WHERE EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri)"#;

/// What is found of one uri.
pub(super) struct Stored {
    pub table: &'static str,
    pub uri: String,
    pub values: [Option<String>; 2],
}

impl Found {
    /// What a version makes those claim that replace it or take it away.
    pub(super) fn claims_of(&self, version: &Stored, keys: &Keys) -> Claims {
        let mut claims = Claims::default();
        let [first, second] = &version.values;
        match (version.table, first, second) {
            ("post", Some(root), shown) => {
                claims.push(keys.thread(root), Touch::Add);
                claims.push(keys.reposted(&version.uri), Touch::Own);
                claims.extend(shown.as_ref().map(|shown| (keys.quoted(shown), Touch::Own)));
            }
            ("follow", Some(creator), Some(subject)) => claims.extend(keys.of_follow(creator, subject)),
            ("list_item", Some(subject), _) => claims.push(keys.listed(subject), Touch::Own),
            ("repost", Some(subject), _) => claims.push(keys.reposted(subject), Touch::Add),
            _ => {}
        }
        // When it goes, one of those behind it moves up, which may say something else.
        let in_front = self.waiting.get(&version.uri).map(|(_, in_front)| in_front);
        let uris = [Some(&version.uri), in_front].into_iter().flatten();
        for key in uris.filter_map(|uri| self.behind.get(uri)).flatten() {
            match (version.table, key.as_slice()) {
                ("follow", [creator, subject]) => claims.extend(keys.of_follow(creator, subject)),
                ("list_item", [_, subject]) => claims.push(keys.listed(subject), Touch::Own),
                ("repost", [_, subject]) => claims.push(keys.reposted(subject), Touch::Add),
                _ => {}
            }
        }
        claims
    }
}

impl Question {
    pub(super) async fn read(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        keys: &Keys,
    ) -> Result<Found, sqlx::Error> {
        let mut stored = Vec::new();
        for (table, uris) in &self.tables {
            let Some(sql) = sql_of(table) else { continue };
            let uris = storable(uris.iter().map(String::as_str));
            for row in statements.query(sql).bind(uris).fetch_all(&mut *connection).await? {
                stored.push(Stored {
                    table,
                    uri: row.try_get(0)?,
                    values: [row.try_get(1)?, row.try_get(2)?],
                });
            }
        }
        // Asked for after the rows: a row that has another key meanwhile has been seen with the one before.
        let with_keys = |table: &&'static str| matches!(*table, "follow" | "list_item" | "repost");
        let mut waiting: HashMap<String, (&'static str, String)> = HashMap::default();
        for (table, uris) in self.tables.iter().filter(|(table, _)| with_keys(table)) {
            let uris = storable(uris.iter().map(String::as_str));
            let found = in_waiting(connection, statements, &uris).await?;
            waiting.extend(found.into_iter().map(|(uri, in_front)| (uri, (*table, in_front))));
        }
        let in_front: HashSet<&str> = stored
            .iter()
            .filter(|stored| with_keys(&stored.table))
            .map(|stored| stored.uri.as_str())
            .chain(waiting.values().map(|(_, in_front)| in_front.as_str()))
            .chain(storable(self.taking_away.iter().map(|(_, uri)| uri.as_str())))
            .collect();
        let in_front: Vec<&str> = in_front.into_iter().collect();
        let behind = keys_behind(connection, statements, &in_front, self.most_before).await?;
        let mut awaited: HashSet<u64> = HashSet::default();
        if let Some(posts) = self.tables.get("post") {
            let posts = storable(posts.iter().map(String::as_str));
            for row in statements.query(AWAITED).bind(posts).fetch_all(&mut *connection).await? {
                awaited.insert(keys.record(row.try_get(0)?));
            }
        }
        let threads = self.places.iter().filter_map(|place| Some((place.record, place.thread.as_ref()?)));
        let roots: HashSet<&str> = threads
            .filter(|(record, thread)| thread.is_awaited || awaited.contains(record))
            .map(|(_, thread)| thread.root.as_str())
            .collect();
        let roots = storable(roots.into_iter());
        let related = refs::gated_by_relations(connection, statements, &roots).await?.into_iter().collect();
        let mut answered = HashSet::default();
        if !self.gates.is_empty() {
            let posts = storable(self.gates.iter().map(|(_, post, _)| post.as_str()));
            for row in statements.query(ANSWERED).bind(posts).fetch_all(&mut *connection).await? {
                answered.insert(row.try_get(0)?);
            }
        }
        let mut quoting: HashMap<String, Vec<String>> = HashMap::default();
        let posts: HashSet<&str> = self.quoted.iter().map(|(_, post)| post.as_str()).collect();
        let posts = storable(posts.into_iter());
        for (post, root) in refs::threads_of_quotes(connection, statements, &posts, claims::MOST + 1).await? {
            quoting.entry(post).or_default().push(root);
        }
        let nearest: HashSet<&str> = self.tellers.iter().map(|(_, nearest)| nearest.as_str()).collect();
        let nearest: Vec<&str> = nearest.into_iter().collect();
        let on_their_way = |uri: &str| self.on_their_way(keys, uri);
        let parents = load_above(connection, statements, &nearest, on_their_way).await?;
        Ok(Found { stored, waiting, behind, awaited, related, answered, quoting, parents })
    }
}

/// Uris that Postgres can hold, and so be asked about. It refuses a question with one that it cannot, which is the
/// fault of one entry and would keep all others waiting. In order, since neighbours in an index are found with less work.
fn storable<'q>(uris: impl Iterator<Item = &'q str>) -> Vec<&'q str> {
    sort_by_text(uris.filter(|uri| !uri.contains('\0')), |uri| *uri)
}
