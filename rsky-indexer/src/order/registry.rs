//! What is on its way: which claims an entry makes others have that come after it, by the version of a record that it writes, by
//! replies that wait for a post, by gates and quotes.
//!
//! An entry joins before the database is asked about it ([`super::look`]). So an earlier version of its record is either here then,
//! or has committed and is seen by the query.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;

use super::claims::{self, Claims, Keys, Touch, is_looked_at};
use crate::collections::PartsKind;
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{Change, Work};

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
    pub(super) answers: Arc<Answers>,
    /// Counts the answers that were entered.
    entered: u64,
    /// Entries that another version may follow.
    pub(super) on_their_way: usize,
}

/// By the key of a post on its way: what it answers, with the entry that says so. Several versions may be on their way.
pub(super) type Answers = HashMap<u64, Vec<(u64, String)>>;

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
    pub(super) record: Option<u64>,
    pub(super) scope: Option<u64>,
    awaits: Option<u64>,
    gates: Option<u64>,
    quotes: Option<u64>,
    /// Which of the answers in the registry is its own.
    answer: Option<u64>,
    /// Whether replies to it were on their way before it.
    pub(super) is_awaited: bool,
}

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
    pub(super) fn related_to(&self, root: u64) -> impl Iterator<Item = u64> {
        self.related.get(&root).into_iter().flatten().flatten().copied().take(claims::MOST + 1)
    }

    /// Who judges the quotes of a post has a say in whom they tell, as those have who judge them as answers.
    fn judge_quotes(&self, post: u64, claims: &mut Claims) {
        let threads = self.quoting.get(&post).into_iter().flatten().take(claims::MOST + 1);
        claims.extend(threads.map(|thread| (*thread, Touch::Add)));
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
