//! What the posts of a wave can see of other records: read before the wave writes, and added to while its changes
//! are gone through in batch order.
//!
//! Indexes used: `record_pkey`, `post_pkey`, the unique keys of `follow` and `list_item`.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::evaluate::{Facts, RecordFacts};
use super::refs::{self, ThreadRefs};
use super::repair::Mended;
use crate::collections::PartsKind;
use crate::collections::parts::{self, Allow, Parts, PostGate, ThreadGate};
use crate::engine::change::{Change, Content};
use crate::engine::sql::Statements;
use crate::text::at_uri::AtUri;
use crate::text::json::Json;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    records: HashMap<String, RecordFacts>,
    mentions: HashMap<String, Vec<String>>,
    /// By uri of the gate.
    pub thread_gates: HashMap<String, ThreadGate>,
    /// By uri of the gate.
    pub post_gates: HashMap<String, PostGate>,
    pairs: HashSet<(String, String)>,
    /// Pairs of DIDs, or of list and DID, that a rule may ask for.
    asked: HashSet<(String, String)>,
    wanted: HashSet<String>,
}

impl Facts for View {
    fn record(&self, uri: &str) -> Option<&RecordFacts> {
        self.records.get(uri)
    }

    fn mentions(&self, root: &str, did: &str) -> bool {
        self.mentions.get(root).is_some_and(|dids| dids.iter().any(|mentioned| mentioned == did))
    }

    fn follows(&self, creator: &str, subject: &str) -> bool {
        self.pairs.contains(&(creator.to_owned(), subject.to_owned()))
    }

    fn is_listed(&self, list: &str, subject: &str) -> bool {
        self.pairs.contains(&(list.to_owned(), subject.to_owned()))
    }
}

impl View {
    /// Reads what the posts may ask for. `wave` holds all changes of the wave: gates among them count as gates that a
    /// post may meet. `mended` are replies that are sound, whatever their rows say.
    pub(super) async fn load(
        connection: &mut PgConnection,
        statements: &Statements,
        posts: &[(&Change, &Content)],
        wave: &[&Change],
        mended: &Mended,
    ) -> Result<Self, sqlx::Error> {
        let mut view = Self::default();
        for (change, content) in posts {
            if let Some(ThreadRefs { root, parent }) = ThreadRefs::of(change, content) {
                view.wanted.extend([root.to_owned(), parent.to_owned()]);
                view.wanted.extend(refs::gate(root, refs::THREAD_GATE).map(|(_, gate)| gate));
            }
            if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref()) {
                view.wanted.extend(refs::gate(&quoted.uri, refs::POST_GATE).map(|(_, gate)| gate));
            }
        }
        if view.wanted.is_empty() {
            return Ok(view);
        }
        view.load_records(connection, statements, mended).await?;
        view.load_for_rules(connection, statements, posts, wave).await?;
        Ok(view)
    }

    async fn load_records(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        mended: &Mended,
    ) -> Result<(), sqlx::Error> {
        let sql = r#"SELECT r.uri, p."replyRoot", p."invalidReplyRoot", CASE WHEN p.uri IS NULL THEN r.json END
            FROM record r LEFT JOIN post p ON p.uri = r.uri WHERE r.uri = ANY($1) AND r.json <> ''"#;
        let uris: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        for row in statements.query(sql).bind(uris).fetch_all(connection).await? {
            let uri: String = row.try_get(0)?;
            let invalid: Option<bool> = row.try_get(2)?;
            let invalid = invalid.unwrap_or(false) && !mended.contains_key(&uri);
            let mut facts = RecordFacts { reply_root: row.try_get(1)?, invalid };
            // What is no post: a gate, or something that can be replied to all the same.
            if let Some(json) = row.try_get::<Option<String>, _>(3)?
                && let Ok(record) = Json::parse(&json)
            {
                facts.reply_root = reply_root(&record);
                match AtUri::parse(&uri).map(|uri| uri.collection()) {
                    Some(refs::THREAD_GATE) => {
                        self.thread_gates.insert(uri.clone(), ThreadGate::of(&record));
                    }
                    Some(refs::POST_GATE) => {
                        self.post_gates.insert(uri.clone(), PostGate::of(&record));
                    }
                    _ => {}
                }
            }
            self.records.insert(uri, facts);
        }
        Ok(())
    }

    /// What the rules of the gates in question ask for.
    async fn load_for_rules(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        posts: &[(&Change, &Content)],
        wave: &[&Change],
    ) -> Result<(), sqlx::Error> {
        let mut roots: HashSet<&str> = HashSet::default();
        let mut follows: HashSet<(String, String)> = HashSet::default();
        let mut listed: HashSet<(String, String)> = HashSet::default();
        let in_wave = allowing(wave);
        for (change, content) in posts {
            let Some(ThreadRefs { root, .. }) = ThreadRefs::of(change, content) else { continue };
            let Some((owner, gate)) = refs::gate(root, refs::THREAD_GATE) else { continue };
            let stored = self.thread_gates.get(&gate).and_then(|gate| gate.allow.as_ref());
            for allow in stored.into_iter().chain(in_wave.get(gate.as_str()).copied()) {
                if allow.mentioned {
                    roots.insert(root);
                }
                if allow.following {
                    follows.insert((owner.to_owned(), change.did.clone()));
                }
                if allow.followers {
                    follows.insert((change.did.clone(), owner.to_owned()));
                }
                listed.extend(allow.lists.iter().map(|list| (list.clone(), change.did.clone())));
            }
        }
        if !roots.is_empty() {
            let sql = "SELECT uri, json FROM record WHERE uri = ANY($1) AND json <> ''";
            let roots: Vec<&str> = roots.into_iter().collect();
            for row in statements.query(sql).bind(roots).fetch_all(&mut *connection).await? {
                let json: String = row.try_get(1)?;
                if let Ok(record) = Json::parse(&json) {
                    self.mentions.insert(row.try_get(0)?, parts::mentions(&record));
                }
            }
        }
        let follow_sql = r#"SELECT f.creator, f."subjectDid" FROM unnest($1::text[], $2::text[]) AS k(creator, subject)
            JOIN follow f ON f.creator = k.creator AND f."subjectDid" = k.subject"#;
        let listed_sql = r#"SELECT l."listUri", l."subjectDid" FROM unnest($1::text[], $2::text[]) AS k(list, subject)
            JOIN list_item l ON l."listUri" = k.list AND l."subjectDid" = k.subject"#;
        for (sql, pairs) in [(follow_sql, &follows), (listed_sql, &listed)] {
            if pairs.is_empty() {
                continue;
            }
            let query = statements
                .query(sql)
                .bind(pairs.iter().map(|(first, _)| first.as_str()).collect::<Vec<_>>())
                .bind(pairs.iter().map(|(_, second)| second.as_str()).collect::<Vec<_>>());
            for row in query.fetch_all(&mut *connection).await? {
                self.pairs.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        self.asked = follows;
        self.asked.extend(listed);
        Ok(())
    }

    /// A post has taken its place.
    pub(super) fn add_post(&mut self, change: &Change, content: &Content, invalid: bool) {
        let reply_root = ThreadRefs::of(change, content).map(|reply| reply.root.to_owned());
        self.records.insert(change.uri.clone(), RecordFacts { reply_root, invalid });
        if let Some(parts) = content.parts.post().filter(|parts| !parts.mentions.is_empty()) {
            self.mentions.insert(change.uri.clone(), parts.mentions.clone());
        }
    }

    /// Another record has taken its place.
    pub(super) fn add_other(&mut self, change: &Change, content: &Content) {
        match &content.parts {
            Parts::ThreadGate(gate) => {
                self.thread_gates.insert(change.uri.clone(), gate.as_ref().clone());
            }
            Parts::PostGate(gate) => {
                self.post_gates.insert(change.uri.clone(), *gate);
            }
            Parts::None | Parts::Post(_) => {}
        }
        if self.wanted.contains(&change.uri) {
            let reply_root = Json::parse(&content.json).ok().and_then(|record| reply_root(&record));
            self.records.insert(change.uri.clone(), RecordFacts { reply_root, invalid: false });
        }
        let is_asked_for = matches!(change.collection.nsid, refs::FOLLOW | refs::LIST_ITEM);
        if is_asked_for
            && !self.asked.is_empty()
            && let Some([first, second]) = change.duplicate_key().as_deref()
        {
            // Of a follow: author and subject; of a list item: list and subject.
            let pair = ((*first).to_owned(), (*second).to_owned());
            if self.asked.contains(&pair) {
                self.pairs.insert(pair);
            }
        }
    }
}

/// What the thread gates of a wave allow, by uri.
fn allowing<'c>(wave: &[&'c Change]) -> HashMap<&'c str, &'c Allow> {
    let gates = wave.iter().filter(|change| change.collection.parts == PartsKind::ThreadGate);
    gates
        .filter_map(|change| match &change.content()?.parts {
            Parts::ThreadGate(gate) => Some((change.uri.as_str(), gate.allow.as_ref()?)),
            _ => None,
        })
        .collect()
}

fn reply_root(record: &Json<'_>) -> Option<String> {
    record.get("reply")?.get("root")?.get("uri")?.as_str().map(str::to_owned)
}
