//! What the posts of a wave can see of other records: read before the wave writes, and added to while its changes
//! are gone through in batch order. Posts that came earlier than what they are judged by are judged again in it.
//!
//! Indexes used: `record_pkey`, `post_pkey`, the unique keys of `follow` and `list_item`.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::earlier::{Earlier, EarlierPosts, Gate};
use super::evaluate::{Facts, RecordFacts, is_invalid, violates};
use super::refs::{self, ThreadRefs};
use crate::collections::parts::{self, Allow, Parts, PostGate, ThreadGate};
use crate::collections::{Flags, PartsKind};
use crate::engine::change::{Change, Content};
use crate::engine::notifications::TakenBack;
use crate::engine::sql::Statements;
use crate::text::at_uri::AtUri;
use crate::text::json::Json;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    records: HashMap<String, RecordFacts>,
    mentions: HashMap<String, Vec<String>>,
    thread_gates: HashMap<String, ThreadGate>,
    post_gates: HashMap<String, PostGate>,
    pairs: HashSet<(String, String)>,
    /// Pairs of DIDs, or of list and DID, that a rule may ask for.
    asked: HashSet<(String, String)>,
    wanted: HashSet<String>,
    /// Posts that may be judged again.
    pub earlier: EarlierPosts,
    /// Those of them that were judged by a gate.
    pub judged_by_gates: HashSet<String>,
    /// What was said of them and holds no more, in order; who keeps the order takes it out.
    pub taken_back: Vec<TakenBack>,
}

/// A post that a view is made for: who wrote it, and what it refers to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer<'v> {
    pub did: &'v str,
    pub thread: Option<ThreadRefs<'v>>,
    pub quoted: Option<&'v str>,
}

impl<'v> Viewer<'v> {
    pub(super) fn of(change: &'v Change, content: &'v Content) -> Self {
        let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
        Self {
            did: &change.did,
            thread: ThreadRefs::of(change, content),
            quoted: quoted.map(|quoted| quoted.uri.as_str()),
        }
    }

    fn of_earlier(post: &'v Earlier) -> Self {
        Self { did: &post.did, thread: post.thread(), quoted: post.quoted.as_deref() }
    }
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
    /// Reads what these posts, and the earlier ones, may ask for. `wave` holds all changes of the wave: gates among them
    /// count as gates that a post may meet. `roots` are posts whose time is asked for.
    pub(super) async fn load(
        connection: &mut PgConnection,
        statements: &Statements,
        posts: &[Viewer<'_>],
        wave: &[&Change],
        earlier: EarlierPosts,
        roots: impl Iterator<Item = String>,
    ) -> Result<Self, sqlx::Error> {
        let mut view = Self { wanted: roots.collect(), ..Self::default() };
        let viewers = || posts.iter().copied().chain(earlier.all().map(Viewer::of_earlier));
        for viewer in viewers() {
            if let Some(ThreadRefs { root, parent }) = viewer.thread {
                view.wanted.extend([root.to_owned(), parent.to_owned()]);
                view.wanted.extend(refs::gate(root, refs::THREAD_GATE).map(|(_, gate)| gate));
            }
            if let Some(quoted) = viewer.quoted {
                view.wanted.extend(refs::gate(quoted, refs::POST_GATE).map(|(_, gate)| gate));
            }
        }
        // Of earlier quotes the post counts, too: they may be older than it.
        view.wanted.extend(earlier.all().filter_map(|post| post.quoted.clone()));
        if !view.wanted.is_empty() {
            view.load_records(connection, statements).await?;
            view.load_for_rules(connection, statements, viewers(), wave).await?;
        }
        view.earlier = earlier;
        Ok(view)
    }

    async fn load_records(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
    ) -> Result<(), sqlx::Error> {
        let sql = r#"SELECT r.uri, p."replyRoot", p."invalidReplyRoot", p."indexedAt",
                CASE WHEN p.uri IS NULL THEN r.json END
            FROM record r LEFT JOIN post p ON p.uri = r.uri WHERE r.uri = ANY($1) AND r.json <> ''"#;
        let uris: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        for row in statements.query(sql).bind(uris).fetch_all(connection).await? {
            let uri: String = row.try_get(0)?;
            let invalid: Option<bool> = row.try_get(2)?;
            let mut facts = RecordFacts {
                reply_root: row.try_get(1)?,
                invalid: invalid.unwrap_or(false),
                post_time: row.try_get(3)?,
            };
            // What is no post: a gate, or something that can be replied to all the same.
            if let Some(json) = row.try_get::<Option<String>, _>(4)?
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
        viewers: impl Iterator<Item = Viewer<'_>>,
        wave: &[&Change],
    ) -> Result<(), sqlx::Error> {
        let mut roots: HashSet<&str> = HashSet::default();
        let mut follows: HashSet<(String, String)> = HashSet::default();
        let mut listed: HashSet<(String, String)> = HashSet::default();
        let in_wave = allowing(wave);
        for Viewer { did, thread, .. } in viewers {
            let Some(ThreadRefs { root, .. }) = thread else { continue };
            let Some((owner, gate)) = refs::gate(root, refs::THREAD_GATE) else { continue };
            let stored = self.thread_gates.get(&gate).and_then(|gate| gate.allow.as_ref());
            for allow in stored.into_iter().chain(in_wave.get(gate.as_str()).copied()) {
                if allow.mentioned {
                    roots.insert(root);
                }
                if allow.following {
                    follows.insert((owner.to_owned(), did.to_owned()));
                }
                if allow.followers {
                    follows.insert((did.to_owned(), owner.to_owned()));
                }
                listed.extend(allow.lists.iter().map(|list| (list.clone(), did.to_owned())));
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
        let facts = RecordFacts { reply_root, invalid, post_time: Some(change.time.clone()) };
        self.records.insert(change.uri.clone(), facts);
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
            let facts = RecordFacts { reply_root, invalid: false, post_time: None };
            self.records.insert(change.uri.clone(), facts);
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

    /// `"indexedAt"` of a post that is there.
    pub(super) fn post_time(&self, post: &str) -> Option<String> {
        self.records.get(post)?.post_time.clone()
    }

    /// The gates that are known.
    pub(super) fn gates(&self) -> impl Iterator<Item = &str> {
        self.thread_gates.keys().chain(self.post_gates.keys()).map(String::as_str)
    }

    /// The gate of a thread.
    pub(super) fn gate_of_thread(&self, root: &str) -> Option<&ThreadGate> {
        self.thread_gates.get(&refs::gate(root, refs::THREAD_GATE)?.1)
    }

    /// Whether a reply's author may not reply.
    pub(super) fn is_kept_out(&self, did: &str, root: &str) -> bool {
        refs::gate(root, refs::THREAD_GATE)
            .is_some_and(|(owner, _)| violates(did, owner, root, self.gate_of_thread(root), self))
    }

    /// Whether an author may not quote a post.
    pub(super) fn is_forbidden(&self, did: &str, quoted: &str) -> bool {
        refs::gate(quoted, refs::POST_GATE).is_some_and(|(owner, gate)| {
            owner != did && self.post_gates.get(&gate).is_some_and(|gate| gate.forbids_quotes)
        })
    }

    /// Whether a post is there and not flagged.
    pub(super) fn is_sound(&self, post: &str) -> bool {
        self.records.get(post).is_some_and(|facts| facts.post_time.is_some() && !facts.invalid)
    }

    /// A post has come (or has lost its flag), and is sound: the replies to it that are flagged and do not deserve it any
    /// more are judged in full, and then the replies to those. Returns them in that order.
    pub(super) fn judge_answers(&mut self, post: &str) -> Vec<String> {
        let mut sound: Vec<String> = Vec::new();
        let mut open = vec![post.to_owned()];
        // Ends: a reply loses its flag once.
        while let Some(post) = open.pop() {
            for uri in self.earlier.answers(&post) {
                let Some(reply) = self.earlier.get(&uri) else { continue };
                let Some(thread) = reply.thread() else { continue };
                if reply.flags.invalid_reply_root != Some(true) || is_invalid(thread, self) {
                    continue;
                }
                let violates = self.is_kept_out(&reply.did, thread.root);
                if self.gate_of_thread(thread.root).is_some() {
                    self.judged_by_gates.insert(uri.clone());
                }
                if let Some(facts) = self.records.get_mut(&uri) {
                    facts.invalid = false;
                } else {
                    let (root, time) = (thread.root.to_owned(), reply.time.clone());
                    let facts = RecordFacts { reply_root: Some(root), invalid: false, post_time: Some(time) };
                    self.records.insert(uri.clone(), facts);
                }
                self.judge_again(&uri, |flags| flags.set_reply(false, violates));
                sound.push(uri.clone());
                open.push(uri);
            }
        }
        sound
    }

    /// A post has come: the quotes of it that came before are judged by its gate. Returns those that are found sound.
    pub(super) fn judge_quotes(&mut self, post: &str) -> Vec<String> {
        self.judge_quotes_that(post, |_| true)
    }

    /// A post has come before, and it is not known whether its quotes have been judged since: those that are older than it
    /// are, as far as none is allowed again.
    pub(super) fn judge_quotes_again(&mut self, post: &str) {
        let Some(post_time) = self.post_time(post) else { return };
        let is_judged =
            |quote: &Earlier| quote.time < post_time && quote.flags.violates_embedding_rules != Some(true);
        self.judge_quotes_that(post, is_judged);
    }

    fn judge_quotes_that(&mut self, post: &str, is_judged: impl Fn(&Earlier) -> bool) -> Vec<String> {
        let mut sound = Vec::new();
        for uri in self.earlier.quotes(post) {
            let Some(quote) = self.earlier.get(&uri).filter(|quote| is_judged(quote)) else { continue };
            let forbidden = self.is_forbidden(&quote.did, post);
            if refs::gate(post, refs::POST_GATE).is_some_and(|(_, gate)| self.post_gates.contains_key(&gate))
            {
                self.judged_by_gates.insert(uri.clone());
            }
            let was_forbidden = quote.flags.violates_embedding_rules == Some(true);
            self.judge_again(&uri, |flags| flags.violates_embedding_rules = forbidden.then_some(true));
            if was_forbidden && !forbidden {
                sound.push(uri);
            }
        }
        sound
    }

    /// A post is found to be something else than before.
    fn judge_again(&mut self, uri: &str, verdict: impl FnOnce(&mut Flags)) {
        let Some(post) = self.earlier.get_mut(uri) else { return };
        let before = post.flags;
        verdict(&mut post.flags);
        for (reason, of) in [
            ("reply", (|flags| flags.violates_thread_gate) as fn(&Flags) -> Option<bool>),
            ("quote", |flags| flags.violates_embedding_rules),
        ] {
            if of(&post.flags) == Some(true) && of(&before) != Some(true) {
                self.taken_back.push(TakenBack { uri: uri.to_owned(), reason });
            }
        }
    }

    /// A gate has come: the replies in its thread, or the quotes of its post, that came before the post are judged by it,
    /// and those that came after the gate by their own time: they have overtaken it. Not those of `except`.
    pub(super) fn judge_by_gate(&mut self, gate: &Gate, kind: PartsKind, except: &HashSet<String>) {
        // The post that the gate found, or the one that is there now.
        let Some(post_time) = gate.post_time.clone().or_else(|| self.post_time(&gate.post)) else { return };
        let is_judged = |post: &Earlier| {
            let is_hidden = match kind {
                PartsKind::PostGate => post.flags.violates_embedding_rules == Some(true),
                _ => post.flags.violates_thread_gate == Some(true),
            };
            (post.time < post_time || post.time > gate.time)
                && !(gate.again && is_hidden)
                && !except.contains(&post.uri)
        };
        if kind == PartsKind::PostGate {
            self.judge_quotes_that(&gate.post, is_judged);
            return;
        }
        // What is flagged for what it answers is judged in full when it loses the flag.
        let is_sound = |reply: &&Earlier| reply.flags.invalid_reply_root != Some(true);
        for uri in self.earlier.of_thread(&gate.post) {
            let found = self.earlier.get(&uri).filter(is_sound).filter(|reply| is_judged(reply));
            let Some(reply) = found else { continue };
            let violates = self.is_kept_out(&reply.did, &gate.post);
            self.judged_by_gates.insert(uri.clone());
            self.judge_again(&uri, |flags| flags.set_reply(false, violates));
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
