//! The accounts whose handle was looked at of late because they committed, so that no commit costs a look-up that the
//! commit before has cost already.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashSet;

/// An account is looked at at most once in this time, and again before twice this time is over, if it commits: so much
/// later than the day is over may an old handle be noticed. Shorter costs look-ups in the database.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Accounts of a generation, in 5 MiB. Where more commit within the time, they are looked at more often.
const MOST: usize = 450_000;

/// The accounts of this generation and the one before, as hashes with a key that nobody knows: two accounts of one hash,
/// of which one is not looked at, cannot be made.
#[derive(Debug, Default)]
pub(super) struct LookedAt {
    key: RandomState,
    generations: Mutex<Generations>,
}

#[derive(Debug)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Instant,
}

impl Default for Generations {
    fn default() -> Self {
        Self { young: HashSet::default(), old: HashSet::default(), since: Instant::now() }
    }
}

impl LookedAt {
    /// Looks at an account unless that was done of late; `look` tells whether it could be done. It must not block.
    pub(super) fn once(&self, did: &str, look: impl FnOnce() -> bool) {
        let hash = self.key.hash_one(did);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.forget_old(Instant::now());
        if !generations.has(hash) && look() {
            generations.young.insert(hash);
        }
    }
}

impl Generations {
    fn forget_old(&mut self, now: Instant) {
        if self.young.len() >= MOST || now.saturating_duration_since(self.since) > REMEMBERED {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
    }

    fn has(&self, hash: u64) -> bool {
        self.young.contains(&hash) || self.old.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_looked_at(accounts: &LookedAt, did: &str, possible: bool) -> bool {
        let mut looked = false;
        accounts.once(did, || {
            looked = true;
            possible
        });
        looked
    }

    #[test]
    fn once_and_again_if_it_could_not_be_done() {
        let accounts = LookedAt::default();
        assert!(is_looked_at(&accounts, "a", false) && is_looked_at(&accounts, "a", true));
        assert!(!is_looked_at(&accounts, "a", true) && is_looked_at(&accounts, "b", true));
    }

    #[test]
    fn what_is_remembered_has_an_end_and_a_bound() {
        let mut generations = Generations::default();
        let start = generations.since;
        generations.young.insert(1);
        generations.forget_old(start + REMEMBERED);
        assert!(generations.has(1) && generations.old.is_empty());
        generations.forget_old(start + 2 * REMEMBERED);
        assert!(generations.has(1) && generations.young.is_empty());
        generations.forget_old(start + 4 * REMEMBERED);
        assert!(!generations.has(1));

        let accounts = LookedAt::default();
        for number in 0..2 * MOST + 1 {
            accounts.once(&number.to_string(), || true);
        }
        let generations = accounts.generations.lock().unwrap();
        assert_eq!((generations.young.len(), generations.old.len()), (1, MOST));
    }
}
