//! Who has to answer for accounts whose DID does not say so: the domain that their documents named of late, where it is not
//! known to be quick. By it their next entries have their place in the crowd of that domain before anybody is asked.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long at least it is remembered, unless too many others are learned meanwhile. What is forgotten is asked of the
/// directory once more.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Accounts of a generation: both together take 12 MiB at most, with the longest domains.
const MOST: usize = 20_000;
/// Longest domain that is remembered, in bytes: the longest that DNS has. The host of a PDS is whatever a document says.
const MOST_BYTES: usize = 253;

/// Domains of accounts, these as hashes with a key that nobody knows. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Learned {
    key: Arc<RandomState>,
    generations: Arc<Mutex<Generations>>,
}

#[derive(Debug)]
struct Generations {
    young: HashMap<u64, Box<str>>,
    old: HashMap<u64, Box<str>>,
    since: Instant,
}

impl Default for Generations {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), since: Instant::now() }
    }
}

impl Learned {
    /// This domain has to answer for the account.
    pub(super) fn note(&self, did: &str, domain: &str) {
        if domain.len() > MOST_BYTES {
            return;
        }
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= MOST || generations.since.elapsed() > REMEMBERED {
            generations.old = std::mem::take(&mut generations.young);
            generations.since = Instant::now();
        }
        generations.young.insert(self.key.hash_one(did), domain.into());
    }

    /// The domain that had to answer for the account of late.
    pub(super) fn of(&self, did: &str) -> Option<String> {
        let hash = self.key.hash_one(did);
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let domain = generations.young.get(&hash).or_else(|| generations.old.get(&hash))?;
        Some(domain.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_domain_counts_and_what_is_remembered_is_bounded() {
        let learned = Learned::default();
        assert_eq!(learned.of("a"), None);
        learned.note("a", "one.example");
        learned.clone().note("a", "two.example");
        assert_eq!(learned.of("a").as_deref(), Some("two.example"));
        learned.note("long", &"x".repeat(MOST_BYTES + 1));
        assert_eq!(learned.of("long"), None, "no name of a host is as long");
        (0..3 * MOST).for_each(|number| learned.note(&number.to_string(), "x.example"));
        assert_eq!(learned.of("a"), None);
        let generations = learned.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
    }
}
