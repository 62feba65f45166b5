//! Splits a batch into waves so that no two changes of a wave depend on each other.
//!
//! Two changes depend on each other when they touch the same uri or the same duplicate key (the second of two
//! likes of one post by one author must find the first one's row). A deletion or replacement also touches the
//! keys its record *had*: those of the row in the database and those of earlier changes of the batch. What a
//! wave cannot see is therefore never decided inside it, and running the waves in order ends in the rows that
//! one change at a time ends in.
//!
//! A record that other records of the database stand behind as duplicates is a special case: its deletion
//! promotes one of them, whose keys are not known here. Such a change is a barrier for its author's
//! collection: everything of that collection before it runs before it, everything after it after it.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::change::Change;
use super::load::Known;

/// The changes of one wave, as indexes into the batch, in batch order.
pub(super) type Wave = Vec<usize>;

/// Plans a batch. `known` is what the database held of the batch's uris before it.
pub(super) fn plan(changes: &[&Change], known: &Known<'_>) -> Vec<Wave> {
    let mut planner = Planner::default();
    let mut waves: Vec<Wave> = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let wave = planner.place(change, known);
        while waves.len() <= wave {
            waves.push(Wave::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(index);
        }
    }
    waves
}

/// Hashes of keys stand for the keys: a collision costs a wave, never a wrong row.
#[derive(Default)]
struct Planner {
    hasher: RandomState,
    /// The first wave that may touch a key again.
    free_from: HashMap<u64, usize, RandomState>,
    /// Duplicate keys that a uri has had in the batch.
    keys_of_uri: HashMap<u64, Vec<u64>, RandomState>,
    /// The first wave that may follow any change seen so far of an author's collection.
    collection_free_from: HashMap<u64, usize, RandomState>,
    /// The first wave that anything of an author's collection may be in: set by a barrier.
    barrier: HashMap<u64, usize, RandomState>,
}

impl Planner {
    fn place(&mut self, change: &Change, known: &Known<'_>) -> usize {
        let uri = self.hasher.hash_one(("uri", &change.uri));
        let scope = self.hasher.hash_one(("scope", &change.did, change.collection.nsid));

        let own_key = change.duplicate_key().map(|key| self.key(change, &key));
        let mut keys = self.keys_of_uri.get(&uri).cloned().unwrap_or_default();
        if let Some(key) = known.duplicate_key(&change.uri) {
            let key: Vec<&str> = key.iter().map(String::as_str).collect();
            keys.push(self.key(change, &key));
        }
        keys.extend(own_key);
        if let Some(own) = own_key {
            self.keys_of_uri.entry(uri).or_default().push(own);
        }
        keys.push(uri);

        let barrier = known.has_duplicates(&change.uri);
        let mut wave = self.barrier.get(&scope).copied().unwrap_or(0);
        for key in &keys {
            wave = wave.max(self.free_from.get(key).copied().unwrap_or(0));
        }
        if barrier {
            wave = wave.max(self.collection_free_from.get(&scope).copied().unwrap_or(0));
            self.barrier.insert(scope, wave + 1);
        }
        for key in keys {
            self.free_from.insert(key, wave + 1);
        }
        let free = self.collection_free_from.entry(scope).or_insert(0);
        *free = (*free).max(wave + 1);
        wave
    }

    fn key(&self, change: &Change, values: &[&str]) -> u64 {
        self.hasher.hash_one(("key", change.collection.nsid, values))
    }
}
