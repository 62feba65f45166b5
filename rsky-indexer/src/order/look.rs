//! What entries claim beyond what they say: by the version of their record that is stored, or on its way, which they
//! replace or delete; by duplicates that stand behind it, of which one moves up; by replies that wait for them; by posts
//! that may have to be told.
//!
//! An entry joins the registry of what is on its way before the database is asked about it. So an earlier version of its
//! record is either in the registry then, or has committed and is seen by the query.
//!
//! Indexes used: the primary keys of the typed tables and `post_embed_record`, `post`'s on `"replyParent"`, `quote`'s on
//! `subject`, and `duplicate_record`'s on `"duplicateOf"`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::claims::{self, Claims, Keys, Touch, is_looked_at, may_tell};
use crate::collections::PartsKind;
use crate::engine::above::{StoredParents, load_above, reach};
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{
    Action, Change, EngineError, Notifications, Statements, Work, begin, end, in_waiting, keys_behind,
};

/// What an entry makes others claim that come after it, while it is on its way.
#[derive(Debug, Default)]
pub struct Registry {
    /// By a record's key: the claims that go with the versions on their way.
    versions: HashMap<u64, Versions>,
    /// By the key of a post: how many replies to it are on their way.
    awaited: HashMap<u64, u32>,
    /// By the key of a post: what its thread gates on their way look at, `rules` keys of accounts.
    related: HashMap<u64, Vec<Vec<u64>>>,
    /// By the key of a post: the threads in which the quotes of it on their way answer.
    quoting: HashMap<u64, VecDeque<u64>>,
    /// What the posts on their way answer. A look at the database keeps what it was when it began.
    answers: Arc<Answers>,
    /// Counts the answers that were entered.
    entered: u64,
    /// Entries that another version may follow.
    on_their_way: usize,
}

/// By the key of a post on its way: what it answers, with the entry that says so. Several versions may be on their way.
type Answers = HashMap<u64, Vec<(u64, String)>>;

/// The claims that go with a version. Of none are there more.
type Left = [Option<(u64, Touch)>; 3];

/// The versions of a record that are on their way; mostly there is one.
#[derive(Debug)]
struct Versions {
    first: Left,
    later: VecDeque<Left>,
}

/// What the registry keeps of an entry until it is done.
#[derive(Debug, Default)]
pub struct Registered {
    record: Option<u64>,
    scope: Option<u64>,
    awaits: Option<u64>,
    gates: Option<u64>,
    quotes: Option<u64>,
    /// Which of the answers in the registry is its own.
    answer: Option<u64>,
    /// Whether replies to it were on their way before it.
    is_awaited: bool,
}

/// What a look at the database found for an entry.
#[derive(Debug, Default)]
pub struct Looked(pub Claims);

/// Most versions of a record on their way whose claims are told apart.
const MOST_VERSIONS: usize = 64;

impl Registry {
    /// An entry joins: `claims` gets what the versions on their way make it claim.
    pub fn enter(&mut self, keys: &Keys, work: &Work, claims: &mut Claims) -> Registered {
        let Some(change) = &work.change else { return Registered::default() };
        let mut registered = Registered::default();
        if let Some((post, accounts)) = refs::gate_by_relations(change) {
            let post = keys.record(&post);
            let rules: Vec<u64> = accounts.iter().map(|did| keys.rules(did)).collect();
            if self.awaited.contains_key(&post) {
                rules.iter().for_each(|rules| claims.push(*rules, Touch::Read));
            }
            self.related.entry(post).or_default().push(rules);
            registered.gates = Some(post);
        }
        if change.collection.parts == PartsKind::PostGate {
            self.judge_quotes(keys.record(&refs::post_of_gate(change)), claims);
        }
        if !is_looked_at(change) {
            return registered;
        }
        let record = keys.record(&change.uri);
        let scope = change.collection.has_key().then(|| keys.scope(change));
        let left = claims_of_version(keys, change, scope);
        match self.versions.entry(record) {
            Entry::Vacant(vacant) => {
                vacant.insert(Versions { first: left, later: VecDeque::new() });
            }
            Entry::Occupied(mut occupied) => {
                let versions = occupied.get_mut();
                if versions.later.len() < MOST_VERSIONS {
                    let before = [&versions.first].into_iter().chain(&versions.later);
                    claims.extend(before.flatten().flatten().copied());
                } else {
                    claims.push_everything();
                }
                versions.later.push_back(left);
            }
        }
        (registered.record, registered.scope) = (Some(record), scope);
        self.on_their_way = self.on_their_way.saturating_add(1);
        let post = change.content().filter(|_| change.collection.parts == PartsKind::Post);
        let Some(content) = post else { return registered };
        if self.awaited.contains_key(&record) {
            // It judges them, whoever wrote them.
            let root = refs::root_of(change, content);
            claims.push(keys.thread(root), Touch::Own);
            claims.extend(self.related_to(keys.record(root)).map(|rules| (rules, Touch::Read)));
            registered.is_awaited = true;
        }
        self.judge_quotes(record, claims);
        let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
        if let (Some(quoted), Some(ThreadRefs { root, .. })) = (quoted, ThreadRefs::of(change, content)) {
            let quoted = keys.record(&quoted.uri);
            self.quoting.entry(quoted).or_default().push_back(keys.thread(root));
            registered.quotes = Some(quoted);
        }
        if let Some(ThreadRefs { parent, .. }) = ThreadRefs::of(change, content) {
            let awaits = keys.record(parent);
            *self.awaited.entry(awaits).or_default() += 1;
            registered.awaits = Some(awaits);
            self.entered = self.entered.wrapping_add(1);
            let answers = Arc::make_mut(&mut self.answers).entry(record).or_default();
            answers.push((self.entered, parent.to_owned()));
            registered.answer = Some(self.entered);
        }
        registered
    }

    /// An entry is done with.
    pub fn leave(&mut self, registered: &Registered) {
        if registered.record.is_some() {
            self.on_their_way = self.on_their_way.saturating_sub(1);
        }
        if let Some(record) = registered.record
            && let Some(versions) = self.versions.get_mut(&record)
        {
            // The versions of one record are done with in order.
            match versions.later.pop_front() {
                Some(next) => versions.first = next,
                None => drop(self.versions.remove(&record)),
            }
        }
        if let Some(post) = registered.gates
            && let Some(gates) = self.related.get_mut(&post)
        {
            if gates.len() > 1 {
                gates.remove(0);
            } else {
                self.related.remove(&post);
            }
        }
        if let Some(quoted) = registered.quotes
            && let Entry::Occupied(mut quoting) = self.quoting.entry(quoted)
        {
            // So are the quotes of one post.
            quoting.get_mut().pop_front();
            if quoting.get().is_empty() {
                quoting.remove();
            }
        }
        if let Some(awaits) = registered.awaits {
            one_less(&mut self.awaited, awaits);
        }
        if let (Some(record), Some(answer)) = (registered.record, registered.answer)
            && let Entry::Occupied(mut answers) = Arc::make_mut(&mut self.answers).entry(record)
        {
            answers.get_mut().retain(|(entered, _)| *entered != answer);
            if answers.get().is_empty() {
                answers.remove();
            }
        }
    }

    /// What the gates on their way of a thread look at, by its root's key; not more than is told apart, and one more.
    fn related_to(&self, root: u64) -> impl Iterator<Item = u64> {
        self.related.get(&root).into_iter().flatten().flatten().copied().take(claims::MOST + 1)
    }

    /// Who judges the quotes of a post has a say in whom they tell, as those have who judge them as answers.
    fn judge_quotes(&self, post: u64, claims: &mut Claims) {
        let threads = self.quoting.get(&post).into_iter().flatten().take(claims::MOST + 1);
        claims.extend(threads.map(|thread| (*thread, Touch::Add)));
    }

    /// The question to the database about these entries.
    pub fn question<'w>(
        &self,
        keys: &Keys,
        works: impl Iterator<Item = (Option<&'w Work>, &'w Registered)>,
        mode: Notifications,
    ) -> Question {
        let mut question =
            Question { most_before: self.on_their_way.saturating_add(1), ..Question::default() };
        for (at, (work, registered)) in works.enumerate() {
            let Some(change) = work.and_then(|work| work.change.as_ref()) else { continue };
            if let Some((post, accounts)) = refs::gate_by_relations(change) {
                question.gates.push((at, post, accounts.iter().map(|did| keys.rules(did)).collect()));
            }
            if mode == Notifications::Live
                && let Some(post) = judges_quotes_of(change)
            {
                question.quoted.push((at, post));
            }
            let (Some(record), Some(table)) = (registered.record, change.collection.table) else { continue };
            let post = change.content().filter(|_| change.collection.parts == PartsKind::Post);
            let thread = post.map(|content| {
                let root = refs::root_of(change, content).to_owned();
                let related = self.related_to(keys.record(&root)).collect();
                Box::new(Thread { root, related, is_awaited: registered.is_awaited })
            });
            question.places.push(Place { record, at, scope: registered.scope, thread });
            question.tables.entry(table.name).or_default().push(change.uri.clone());
            if registered.scope.is_some() && !matches!(change.action, Action::Create(_)) {
                question.taking_away.push((table.name, change.uri.clone()));
            }
            let reply = post.and_then(|content| ThreadRefs::of(change, content));
            if let Some(reply) = reply.filter(|_| may_tell(mode, change)) {
                question.tellers.push((at, reply.parent.to_owned()));
            }
        }
        if !question.tellers.is_empty() {
            question.answers = Arc::clone(&self.answers);
        }
        question
    }
}

/// The post whose quotes a change may judge.
fn judges_quotes_of(change: &Change) -> Option<String> {
    change.content()?;
    match change.collection.parts {
        PartsKind::Post => Some(change.uri.clone()),
        PartsKind::PostGate => Some(refs::post_of_gate(change)),
        PartsKind::None | PartsKind::ThreadGate => None,
    }
}

fn one_less(counts: &mut HashMap<u64, u32>, key: u64) {
    let Some(count) = counts.get_mut(&key) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(&key);
    }
}

fn claims_of_version(keys: &Keys, change: &Change, scope: Option<u64>) -> Left {
    let Some(content) = change.content() else { return Left::default() };
    if change.collection.parts == PartsKind::Post {
        let shown = content.parts.post().and_then(|parts| parts.record.as_ref());
        return [
            Some((keys.thread(refs::root_of(change, content)), Touch::Add)),
            // Another version of a post takes the items of its reposts along.
            Some((keys.reposted(&change.uri), Touch::Own)),
            shown.map(|shown| (keys.quoted(&shown.uri), Touch::Own)),
        ];
    }
    // Whoever replaces it frees its key.
    let scope = scope.map(|scope| (scope, Touch::Own));
    match (change.collection.nsid, change.duplicate_key().as_deref()) {
        (refs::FOLLOW, Some([creator, subject])) => {
            let [follow, rules] = keys.of_follow(creator, subject);
            [scope, Some(follow), Some(rules)]
        }
        (refs::LIST_ITEM, Some([_, subject])) => [scope, Some((keys.listed(subject), Touch::Own)), None],
        (_, Some([_, subject])) => [scope, Some((keys.reposted(subject), Touch::Add)), None],
        _ => [scope, None, None],
    }
}

/// What is asked of the database about some entries.
#[derive(Debug, Default)]
pub struct Question {
    /// The uris that are asked about, by table.
    tables: BTreeMap<&'static str, Vec<String>>,
    /// The entries that ask.
    places: Vec<Place>,
    /// Gates that look at follows or lists: their posts, and what they look at.
    gates: Vec<(usize, String, Vec<u64>)>,
    /// Entries that judge the quotes of a post, if that may be heard of.
    quoted: Vec<(usize, String)>,
    /// Records that are replaced or deleted, by table: others may stand behind them, though they are not stored yet.
    taking_away: Vec<(&'static str, String)>,
    /// Entries on their way, at most so many of which can take a record away from in front of others.
    most_before: usize,
    /// Replies that may tell those above them: the post that each answers.
    tellers: Vec<(usize, String)>,
    /// What the posts answer that were on their way when the question was made.
    answers: Arc<Answers>,
}

/// An entry that asks.
#[derive(Debug)]
struct Place {
    /// The key of its record.
    record: u64,
    at: usize,
    /// Of a record that another can be a duplicate of.
    scope: Option<u64>,
    /// Of a post that comes.
    thread: Option<Box<Thread>>,
}

/// The thread of a post by its new version.
#[derive(Debug)]
struct Thread {
    root: String,
    /// What gates on their way look at.
    related: Vec<u64>,
    /// Whether replies to the post are on their way.
    is_awaited: bool,
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
const AWAITED: &str = r#"SELECT v.uri FROM unnest($1::text[]) AS v(uri)
    WHERE EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri AND c."invalidReplyRoot")"#;

/// Posts that have replies.
const ANSWERED: &str = r#"SELECT v.uri FROM unnest($1::text[]) AS v(uri)
    WHERE EXISTS (SELECT FROM post c WHERE c."replyParent" = v.uri)"#;

/// What is found of one uri.
struct Stored {
    table: &'static str,
    uri: String,
    values: [Option<String>; 2],
}

impl Question {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.gates.is_empty() && self.quoted.is_empty()
    }

    /// Asks; returns what each of the entries claims by it, by their place.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        keys: &Keys,
    ) -> Result<Vec<(usize, Looked)>, EngineError> {
        begin(connection, statements).await?;
        let read = self.read(connection, statements, keys).await;
        let Read { mut stored, waiting, behind, awaited, related, answered, quoting, parents } =
            end(connection, read.map_err(EngineError::from)).await?;
        let mut found: HashMap<usize, Looked> = HashMap::default();
        // Mostly nothing is stored, and nobody asks.
        let mut places: HashMap<u64, Vec<&Place>> = HashMap::default();
        // What stands behind another has no row, and moves up when an earlier entry takes that away.
        let waits = |(uri, (table, _)): (&String, &(&'static str, String))| Stored {
            table,
            uri: uri.clone(),
            values: [None, None],
        };
        stored.extend(waiting.iter().map(waits));
        // Nor has it one that is yet to come in front of what another of its name has left behind.
        let left_behind = self.taking_away.iter().filter(|(_, uri)| behind.contains_key(uri));
        stored.extend(left_behind.map(|(table, uri)| Stored {
            table,
            uri: uri.clone(),
            values: [None, None],
        }));
        for place in self.places.iter().filter(|_| !stored.is_empty()) {
            places.entry(place.record).or_default().push(place);
        }
        for Stored { table, uri, values: [first, second] } in stored {
            let mut claims = Claims::default();
            match (table, first, second) {
                ("post", Some(root), shown) => {
                    claims.push(keys.thread(&root), Touch::Add);
                    claims.push(keys.reposted(&uri), Touch::Own);
                    claims.extend(shown.map(|shown| (keys.quoted(&shown), Touch::Own)));
                }
                ("follow", Some(creator), Some(subject)) => {
                    claims.extend(keys.of_follow(&creator, &subject));
                }
                ("list_item", Some(subject), _) => claims.push(keys.listed(&subject), Touch::Own),
                ("repost", Some(subject), _) => claims.push(keys.reposted(&subject), Touch::Add),
                _ => {}
            }
            // When it goes, one of those behind it moves up, which may say something else.
            let in_front = waiting.get(&uri).map(|(_, in_front)| in_front);
            for key in
                [Some(&uri), in_front].into_iter().flatten().filter_map(|uri| behind.get(uri)).flatten()
            {
                match (table, key.as_slice()) {
                    ("follow", [creator, subject]) => claims.extend(keys.of_follow(creator, subject)),
                    ("list_item", [_, subject]) => claims.push(keys.listed(subject), Touch::Own),
                    ("repost", [_, subject]) => claims.push(keys.reposted(subject), Touch::Add),
                    _ => {}
                }
            }
            for place in places.get(&keys.record(&uri)).into_iter().flatten() {
                let looked = found.entry(place.at).or_default();
                looked.0.join(&claims);
                looked.0.extend(place.scope.map(|scope| (scope, Touch::Own)));
            }
        }
        for place in &self.places {
            let Some(thread) = &place.thread else { continue };
            let is_awaited = awaited.contains(&place.record);
            if !is_awaited && !thread.is_awaited {
                continue;
            }
            let looked = found.entry(place.at).or_default();
            if is_awaited {
                looked.0.push(keys.thread(&thread.root), Touch::Own);
            }
            looked.0.extend(thread.related.iter().map(|rules| (*rules, Touch::Read)));
            let stored = related.get(&thread.root).into_iter().flatten();
            looked.0.extend(stored.map(|did| (keys.rules(did), Touch::Read)));
        }
        for (at, post, rules) in &self.gates {
            if answered.contains(post) {
                found.entry(*at).or_default().0.extend(rules.iter().map(|rules| (*rules, Touch::Read)));
            }
        }
        for (at, post) in &self.quoted {
            let Some(roots) = quoting.get(post) else { continue };
            let looked = found.entry(*at).or_default();
            looked.0.extend(roots.iter().map(|root| (keys.thread(root), Touch::Add)));
            if roots.len() > claims::MOST {
                looked.0.push_everything();
            }
        }
        for (at, nearest) in &self.tellers {
            let stored = |uri: &str| parents.get(uri).and_then(Option::as_deref);
            let told = reach([nearest.as_str()], |uri| self.on_their_way(keys, uri).chain(stored(uri)));
            let looked = found.entry(*at).or_default();
            looked.0.extend(told.into_iter().map(|uri| (keys.record(uri), Touch::Read)));
        }
        Ok(found.into_iter().collect())
    }

    async fn read(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        keys: &Keys,
    ) -> Result<Read, sqlx::Error> {
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
        Ok(Read { stored, waiting, behind, awaited, related, answered, quoting, parents })
    }

    /// What the versions of a post answer that were on their way when the question was made.
    fn on_their_way<'q>(&'q self, keys: &Keys, uri: &str) -> impl Iterator<Item = &'q str> + use<'q> {
        self.answers.get(&keys.record(uri)).into_iter().flatten().map(|(_, parent)| parent.as_str())
    }
}

/// Uris that Postgres can hold, and so be asked about. It refuses a question with one that it cannot, which is the
/// fault of one entry and would keep all others waiting.
fn storable<'q>(uris: impl Iterator<Item = &'q str>) -> Vec<&'q str> {
    uris.filter(|uri| !uri.contains('\0')).collect()
}

/// What the database has.
struct Read {
    stored: Vec<Stored>,
    /// Records that stand behind another: their table, and the one in front.
    waiting: HashMap<String, (&'static str, String)>,
    /// By records that others stand behind: the duplicate keys of these.
    behind: HashMap<String, HashSet<Vec<String>>>,
    /// Keys of posts that flagged replies wait for.
    awaited: HashSet<u64>,
    /// By roots of awaited posts: the accounts whose follows or lists their gates look at.
    related: HashMap<String, Vec<String>>,
    /// Posts with replies, of those with a gate that comes.
    answered: HashSet<String>,
    /// By posts whose quotes may be judged: the roots of the threads in which these answer, once more than is told apart.
    quoting: HashMap<String, Vec<String>>,
    parents: StoredParents,
}
