//! What entries claim beyond what they say, as far as only the database tells: by the stored version of their record, which they
//! replace or delete; by duplicates that stand behind it, of which one moves up; by replies that wait for them; by posts
//! that may have to be told. What is on its way tells the rest ([`super::registry`]).

mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use sqlx::PgConnection;

use super::claims::{self, Claims, Keys, Touch, may_tell};
use super::registry::{Answers, Registered, Registry};
use crate::collections::PartsKind;
use crate::engine::above::reach;
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{Action, Change, EngineError, Notifications, Statements, Work, begin, end};
use stored::{Found, Stored};

/// What a look at the database found for an entry.
#[derive(Debug, Default)]
pub struct Looked(pub Claims);

/// What was found, by the places of the entries.
#[derive(Default)]
struct AtPlaces(HashMap<usize, Looked>);

impl AtPlaces {
    fn at(&mut self, place: usize) -> &mut Claims {
        &mut self.0.entry(place).or_default().0
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

impl Question {
    /// About these entries, beside what is on its way.
    pub fn about<'w>(
        registry: &Registry,
        keys: &Keys,
        works: impl Iterator<Item = (Option<&'w Work>, &'w Registered)>,
        mode: Notifications,
    ) -> Self {
        let mut question = Self { most_before: registry.on_their_way.saturating_add(1), ..Self::default() };
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
                let related = registry.related_to(keys.record(&root)).collect();
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
            question.answers = Arc::clone(&registry.answers);
        }
        question
    }

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
        let found = end(connection, read.map_err(EngineError::from)).await?;
        let mut looked = AtPlaces::default();
        self.of_stored_versions(&found, keys, &mut looked);
        self.of_waiting_replies(&found, keys, &mut looked);
        self.of_gates(&found, &mut looked);
        self.of_quotes(&found, keys, &mut looked);
        self.of_whom_they_tell(&found, keys, &mut looked);
        Ok(looked.0.into_iter().collect())
    }

    /// By what the version of their record that is stored, or stands behind another, makes them claim.
    fn of_stored_versions(&self, found: &Found, keys: &Keys, looked: &mut AtPlaces) {
        let rowless =
            |table: &'static str, uri: &String| Stored { table, uri: uri.clone(), values: [None, None] };
        // What stands behind another has no row, and moves up when an earlier entry takes that away.
        let waiting = found.waiting.iter().map(|(uri, (table, _))| rowless(table, uri));
        // Nor has it one that is yet to come in front of what another of its name has left behind.
        let taking_away = self.taking_away.iter().filter(|(_, uri)| found.behind.contains_key(uri));
        let rowless: Vec<Stored> =
            waiting.chain(taking_away.map(|(table, uri)| rowless(table, uri))).collect();
        // Mostly nothing is stored, and nobody asks.
        if found.stored.is_empty() && rowless.is_empty() {
            return;
        }
        let mut places: HashMap<u64, Vec<&Place>> = HashMap::default();
        for place in &self.places {
            places.entry(place.record).or_default().push(place);
        }
        for stored in found.stored.iter().chain(&rowless) {
            let claims = found.claims_of(stored, keys);
            for place in places.get(&keys.record(&stored.uri)).into_iter().flatten() {
                let looked = looked.at(place.at);
                looked.join(&claims);
                looked.extend(place.scope.map(|scope| (scope, Touch::Own)));
            }
        }
    }

    /// A post that replies wait for judges them, by what the gate of its thread looks at.
    fn of_waiting_replies(&self, found: &Found, keys: &Keys, looked: &mut AtPlaces) {
        for place in &self.places {
            let Some(thread) = &place.thread else { continue };
            let is_awaited = found.awaited.contains(&place.record);
            if !is_awaited && !thread.is_awaited {
                continue;
            }
            let looked = looked.at(place.at);
            if is_awaited {
                looked.push(keys.thread(&thread.root), Touch::Own);
            }
            looked.extend(thread.related.iter().map(|rules| (*rules, Touch::Read)));
            let stored = found.related.get(&thread.root).into_iter().flatten();
            looked.extend(stored.map(|did| (keys.rules(did), Touch::Read)));
        }
    }

    /// A gate that comes after replies may judge them by what it looks at.
    fn of_gates(&self, found: &Found, looked: &mut AtPlaces) {
        for (at, post, rules) in &self.gates {
            if found.answered.contains(post) {
                looked.at(*at).extend(rules.iter().map(|rules| (*rules, Touch::Read)));
            }
        }
    }

    /// Who judges quotes has a say in whom they tell, as those have who judge them as answers.
    fn of_quotes(&self, found: &Found, keys: &Keys, looked: &mut AtPlaces) {
        for (at, post) in &self.quoted {
            let Some(roots) = found.quoting.get(post) else { continue };
            let looked = looked.at(*at);
            looked.extend(roots.iter().map(|root| (keys.thread(root), Touch::Add)));
            if roots.len() > claims::MOST {
                looked.push_everything();
            }
        }
    }

    /// A reply tells those above it: that they are there is read.
    fn of_whom_they_tell(&self, found: &Found, keys: &Keys, looked: &mut AtPlaces) {
        for (at, nearest) in &self.tellers {
            let stored = |uri: &str| found.parents.get(uri).and_then(Option::as_deref);
            let told = reach([nearest.as_str()], |uri| self.on_their_way(keys, uri).chain(stored(uri)));
            looked.at(*at).extend(told.into_iter().map(|uri| (keys.record(uri), Touch::Read)));
        }
    }

    /// What the versions of a post answer that were on their way when the question was made.
    fn on_their_way<'q>(&'q self, keys: &Keys, uri: &str) -> impl Iterator<Item = &'q str> + use<'q> {
        self.answers.get(&keys.record(uri)).into_iter().flatten().map(|(_, parent)| parent.as_str())
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
