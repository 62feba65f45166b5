//! Splits a batch into waves so that running the waves in order ends in the rows that one change at a time ends in.
//!
//! Two changes depend on each other when one writes what the other reads or writes ([`super::keys`]): the same uri, the
//! same duplicate key (the second of two likes of one post by one author must find the first one's row), a reply's
//! parent, root, gate or thread. A deletion or replacement also touches the keys its record *had*: those of the row in
//! the database and those of earlier changes of the batch.
//!
//! Most changes are *fresh*: they add a record that was not there. What a fresh record means for a reader of the same
//! wave is known in memory, so a reader may share a wave with the fresh changes before it (a whole conversation is one
//! wave); everything else that is written can be read in the next wave only.
//!
//! A record that other records of the database stand behind as duplicates is a special case: its deletion
//! promotes one of them; which one, an earlier change of the batch may decide. Such a change touches the keys of them all
//! (a record may have had another key when they came to stand behind it), and is a barrier for its author's
//! collection: everything of that collection before it runs before it, everything after it after it.

use std::ops::Range;

use foldhash::{HashMap, HashSet};

use super::change::{Action, Change};
use super::keys::{Key, Keys, MOST_TOLD_APART, Touch};
use super::load::Known;
use super::posts::refs::Threads;

/// The changes of one wave, as indexes into the batch, in batch order.
pub(super) type Wave = Vec<usize>;

/// What is done with a batch.
#[derive(Debug, Default)]
pub(super) struct Plan<'c> {
    /// In this order.
    pub waves: Vec<Wave>,
    /// Records that more than one of its changes is about.
    pub repeated: HashSet<&'c str>,
}

/// Plans a batch. `known` and `threads` are what the database held of the batch's uris before it.
pub(super) fn plan<'c>(changes: &[&'c Change], known: &Known<'_>, threads: &Threads<'_>) -> Plan<'c> {
    let mut planner = Planner { has_barriers: known.has_any_duplicates(), ..Planner::default() };
    let Plan { mut waves, mut repeated } = Plan::default();
    for (index, change) in changes.iter().enumerate() {
        let Placed { wave, is_repeated } = planner.place(change, known, threads);
        if is_repeated {
            repeated.insert(change.uri.as_str());
        }
        while waves.len() <= wave {
            waves.push(Wave::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(index);
        }
    }
    Plan { waves, repeated }
}

/// Where a change has got its place.
struct Placed {
    wave: usize,
    /// Whether another change of its record came before it.
    is_repeated: bool,
}

/// What has been done to a key so far. Each number is the first wave after those that did it; 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    /// Something was deleted or replaced.
    settled: usize,
    /// Something was written that only one at a time may write.
    owned: usize,
    /// Something was added.
    added: usize,
    /// One of many was replaced or taken away.
    removed: usize,
    /// Something was read.
    read: usize,
}

impl Use {
    /// The first wave that may do this. What was added or read in a wave allows the other in the same wave, where
    /// they are done in batch order.
    fn first(self, touch: Touch, fresh: bool) -> usize {
        let beside = |after: usize| after.saturating_sub(1);
        match touch {
            Touch::Read if fresh => self.settled.max(self.removed).max(beside(self.added)),
            // Deletions are the first thing of a wave: what they read must be there before it.
            Touch::Read | Touch::ReadRows => self.settled.max(self.removed).max(self.added),
            Touch::Add | Touch::OneOf if fresh => self.settled.max(beside(self.read)),
            Touch::OneOf => self.settled.max(self.read),
            Touch::Own if fresh => self.settled.max(self.owned).max(beside(self.read)),
            Touch::Add | Touch::Own => {
                self.settled.max(self.owned).max(self.added).max(self.removed).max(self.read)
            }
        }
    }

    fn note(&mut self, touch: Touch, fresh: bool, wave: usize) {
        let after = wave + 1;
        match touch {
            Touch::Read | Touch::ReadRows => self.read = self.read.max(after),
            Touch::OneOf if !fresh => {
                self.removed = self.removed.max(after);
                return;
            }
            Touch::Add | Touch::OneOf => self.added = self.added.max(after),
            Touch::Own => {
                self.added = self.added.max(after);
                self.owned = self.owned.max(after);
            }
        }
        if !matches!(touch, Touch::Read | Touch::ReadRows) && !fresh {
            self.settled = self.settled.max(after);
        }
    }
}

#[derive(Default)]
struct Planner {
    keys: Keys,
    uses: HashMap<u64, Use>,
    /// The keys of the changes so far.
    keys_so_far: Vec<Key>,
    /// Those that a uri has had in the batch, by the last of its changes.
    keys_of_uri: HashMap<u64, Range<usize>>,
    /// Whether there are barriers at all.
    has_barriers: bool,
    /// The first wave that may follow any change seen so far of an author's collection.
    collection_free_from: HashMap<u64, usize>,
    /// The first wave that anything of an author's collection may be in: set by a barrier.
    barrier: HashMap<u64, usize>,
    /// The first wave that anything may be in: set by a change with more keys than are told apart.
    floor: usize,
    /// The first wave after any change seen so far.
    top: usize,
}

impl Planner {
    fn place(&mut self, change: &Change, known: &Known<'_>, threads: &Threads<'_>) -> Placed {
        let uri = self.keys.uri(&change.uri);
        let earlier = self.keys_of_uri.get(&uri).cloned();
        let is_repeated = earlier.is_some();
        let fresh = !is_repeated && is_fresh(change, known);

        let from = self.keys_so_far.len();
        let mut keys = std::mem::take(&mut self.keys_so_far);
        self.keys.of_change(change, uri, fresh, threads, &mut keys);
        keys.extend(threads.told_by(&change.uri).into_iter().map(|uri| (self.keys.uri(uri), Touch::Read)));
        if let Some(earlier) = earlier {
            keys.extend_from_within(earlier);
        }
        if !fresh {
            keys.extend(self.keys.of_known(change, known, threads));
        }
        if is_repeated || keys.len() - from > MOST_TOLD_APART {
            let mut own = keys.split_off(from);
            own.sort_unstable();
            own.dedup();
            keys.append(&mut own);
        }
        let is_crowded = keys.len() - from > MOST_TOLD_APART;
        if is_crowded {
            keys.truncate(from);
        }

        let scope = if self.has_barriers { self.keys.scope(change) } else { 0 };
        let barrier = self.has_barriers && known.has_duplicates(&change.uri);
        let mut wave = self.barrier.get(&scope).copied().unwrap_or(0).max(self.floor);
        let own = keys.get(from..).unwrap_or_default();
        for (key, touch) in own {
            wave = wave.max(self.uses.get(key).copied().unwrap_or_default().first(*touch, fresh));
        }
        if is_crowded {
            wave = wave.max(self.top);
            self.floor = wave + 1;
        }
        if barrier {
            wave = wave.max(self.collection_free_from.get(&scope).copied().unwrap_or(0));
            self.barrier.insert(scope, wave + 1);
        }
        for (key, touch) in own {
            self.uses.entry(*key).or_default().note(*touch, fresh, wave);
        }
        self.keys_of_uri.insert(uri, from..keys.len());
        self.keys_so_far = keys;
        if self.has_barriers {
            let free = self.collection_free_from.entry(scope).or_insert(0);
            *free = (*free).max(wave + 1);
        }
        self.top = self.top.max(wave + 1);
        Placed { wave, is_repeated }
    }
}

/// Whether a change adds a record that was not there, or what is there already.
pub(super) fn is_fresh(change: &Change, known: &Known<'_>) -> bool {
    match (&change.action, known.stored(&change.uri)) {
        (Action::Create(_) | Action::Update(_), None) => true,
        (Action::Create(content), Some(stored)) => stored.cid == content.cid,
        (Action::Update(_) | Action::Delete, _) => false,
    }
}
