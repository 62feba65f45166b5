//! Accounts of which entries were put off because a domain has its share, so that no later one of theirs is done with first.
//!
//! What an entry wrote is written again when it is read again. Its domain is closed meanwhile; but who has to answer for an
//! account may be forgotten, or be another one by then, a later entry may be on its way already, and the round that reads
//! entries again passes over one that is not settled yet. So the accounts are remembered here themselves. (Where all is put off
//! everything later is, and needs no names.)

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deferral::EntryId;

/// Accounts at a time: some 2 MB. More are put off with everything.
const MOST: usize = 20_000;
/// When an entry is not waited for any longer that does not come back: somebody has taken it out of the stream by hand, or another
/// consumer has it, and with it, by and by, what came later.
const GONE: Duration = Duration::from_secs(3600);

/// See the module. Accounts are hashes with a key that nobody knows.
#[derive(Debug, Default)]
pub(super) struct LeftBehind {
    key: RandomState,
    accounts: HashMap<u64, Span>,
}

/// The entries of an account that were put off.
#[derive(Debug)]
struct Span {
    /// The earliest of those that have not come back.
    first: Option<EntryId>,
    last: EntryId,
    /// The domain by which they were put off.
    domain: Arc<str>,
    since: Instant,
}

impl LeftBehind {
    /// The domain by which an earlier entry of the account was put off that has not come back.
    pub(super) fn overtaken(&self, did: &str, id: EntryId) -> Option<Arc<str>> {
        let span = self.accounts.get(&self.key.hash_one(did))?;
        let overtakes = id > span.first.unwrap_or(span.last) && span.since.elapsed() < GONE;
        overtakes.then(|| Arc::clone(&span.domain))
    }

    /// Whether another account can be remembered, or this one is.
    pub(super) fn has_room(&mut self, did: &str) -> bool {
        if self.accounts.len() >= MOST {
            self.accounts.retain(|_, span| span.since.elapsed() < GONE);
        }
        self.accounts.len() < MOST || self.accounts.contains_key(&self.key.hash_one(did))
    }

    /// An entry of the account was put off by this domain.
    pub(super) fn put_off(&mut self, did: &str, id: EntryId, domain: &Arc<str>) {
        let (domain, since) = (Arc::clone(domain), Instant::now());
        let span = Span { first: Some(id), last: id, domain: Arc::clone(&domain), since };
        let span = self.accounts.entry(self.key.hash_one(did)).or_insert(span);
        span.first = Some(span.first.map_or(id, |first| first.min(id)));
        span.last = span.last.max(id);
        (span.domain, span.since) = (domain, since);
    }

    /// An entry of the account is on its way, which was put off perhaps.
    pub(super) fn goes(&mut self, did: &str, id: EntryId) {
        let account = self.key.hash_one(did);
        let Some(span) = self.accounts.get_mut(&account) else { return };
        if id == span.last {
            self.accounts.remove(&account);
        } else if span.first == Some(id) {
            span.first = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_entries_wait_until_all_earlier_ones_have_come_back() {
        let (mut left, slow) = (LeftBehind::default(), Arc::<str>::from("slow.example"));
        let id = |n| (7, n);
        assert_eq!(left.overtaken("a", id(9)), None);
        left.put_off("a", id(3), &slow);
        left.put_off("a", id(5), &slow);
        assert_eq!(left.overtaken("a", id(9)), Some(Arc::clone(&slow)));
        assert_eq!(left.overtaken("a", id(5)), Some(Arc::clone(&slow)), "the first has not come back");
        assert_eq!((left.overtaken("a", id(3)), left.overtaken("b", id(9))), (None, None));
        left.goes("a", id(9));
        left.goes("a", id(3));
        assert_eq!(left.overtaken("a", id(5)), None);
        assert!(left.overtaken("a", id(9)).is_some(), "the second has not come back");
        // It is put off once more.
        left.put_off("a", id(5), &slow);
        assert!(left.overtaken("a", id(9)).is_some() && left.overtaken("a", id(5)).is_none());
        left.goes("a", id(5));
        assert_eq!((left.overtaken("a", id(9)), left.accounts.len()), (None, 0));
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let (mut left, slow) = (LeftBehind::default(), Arc::<str>::from("slow.example"));
        for number in 0..MOST {
            assert!(left.has_room(&number.to_string()));
            left.put_off(&number.to_string(), (1, 0), &slow);
        }
        assert!(!left.has_room("more") && left.has_room("7"));
        left.goes("8", (1, 0));
        assert!(left.has_room("more"));
    }
}
