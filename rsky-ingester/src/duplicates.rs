//! Commits that several relays carry: the first to be written wins.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Commits remembered. Relays are minutes apart at most; at 1 000 commits a second this is five minutes, in some 20 MB.
const WINDOW: usize = 300_000;

/// The commits written lately, by (did, rev). Cloning gives another handle to the same memory.
#[derive(Clone, Debug)]
pub struct Duplicates {
    hashers: Arc<[RandomState; 2]>,
    seen: Arc<Mutex<Seen>>,
    window: usize,
}

#[derive(Debug, Default)]
struct Seen {
    by_key: HashMap<Key, usize>,
    order: VecDeque<Key>,
}

/// 128 bits under random keys: nobody can make two commits collide.
type Key = (u64, u64);

impl Duplicates {
    /// An empty memory.
    pub fn new() -> Self {
        Self::with_window(WINDOW)
    }

    /// An empty memory of another size, in commits.
    pub fn with_window(window: usize) -> Self {
        Self { hashers: Arc::new([RandomState::new(), RandomState::new()]), seen: Arc::default(), window }
    }

    /// Whether another relay than `number` has written this commit. A relay that repeats itself is not a duplicate: it
    /// may have sent two commits of one revision.
    pub fn known_from_another(&self, did: &str, rev: &str, number: usize) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.by_key.get(&self.key(did, rev)).is_some_and(|first| *first != number)
    }

    /// Remembers that relay `number` has written this commit.
    pub fn remember(&self, did: &str, rev: &str, number: usize) {
        self.claim(did, rev, number);
    }

    /// As [`Duplicates::remember`]; `false`: it was remembered before.
    pub fn claim(&self, did: &str, rev: &str, number: usize) -> bool {
        let key = self.key(did, rev);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.by_key.contains_key(&key) {
            return false;
        }
        seen.by_key.insert(key, number);
        seen.order.push_back(key);
        if seen.order.len() > self.window
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.by_key.remove(&oldest);
        }
        true
    }

    /// Forgets everything: what was written may have been lost.
    pub fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    fn key(&self, did: &str, rev: &str) -> Key {
        let [first, second] = &*self.hashers;
        (first.hash_one((did, rev)), second.hash_one((did, rev)))
    }
}

impl Default for Duplicates {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_another_relay_wrote_within_the_window() {
        let duplicates = Duplicates::with_window(2);
        duplicates.remember("a", "1", 0);
        assert!(duplicates.known_from_another("a", "1", 1));
        assert!(!duplicates.known_from_another("a", "1", 0));
        assert!(!duplicates.known_from_another("a", "2", 1));
        duplicates.remember("a", "1", 1);
        assert!(duplicates.known_from_another("a", "1", 1), "the first writer stays the first");
        duplicates.remember("b", "1", 0);
        duplicates.remember("c", "1", 0);
        assert!(!duplicates.known_from_another("a", "1", 1), "outside of the window");
        assert_eq!(duplicates.seen.lock().unwrap().by_key.len(), 2);
    }
}
