//! Entries that were put off because a domain has its share, by their accounts, so that no later one of an account is done with
//! first.
//!
//! What an entry wrote is written again when it is read again. Its domain is closed meanwhile; but who has to answer for an
//! account may be forgotten, or be another one by then, a later entry may be on its way already, and the round that reads
//! entries again passes over one that is not settled yet. So they are remembered here by themselves. (Where all is put off
//! everything later is, and needs no names.)

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::deferral::EntryId;

/// Entries at a time (less than 3 MiB), of one domain, and of one account. What is beyond that is put off by its domain alone: whoever has very
/// many entries put off harms his own accounts, and holds up nobody.
const MOST: usize = 8_000;
const MOST_OF_DOMAIN: usize = 1_000;
const MOST_OF_ACCOUNT: usize = 16;

/// A round of reading: its number, and after which id it began.
pub(super) type Round = (u64, EntryId);

/// See the module. Accounts are hashes with a key that nobody knows.
#[derive(Debug, Default)]
pub(super) struct LeftBehind {
    key: RandomState,
    /// In order.
    accounts: HashMap<u64, Vec<EntryId>>,
    entries: HashMap<EntryId, Left>,
    of_domains: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Left {
    account: u64,
    /// The domain by which it was put off.
    domain: Arc<str>,
    /// The round in which it was settled: the next ones read it, if it is still ours.
    settled_in: Option<u64>,
}

impl LeftBehind {
    /// The domain by which an earlier entry of the account was put off that has not come back. `walk` is the last round that has
    /// read entries again, and the entry was read in `round`.
    pub(super) fn overtaken(
        &mut self,
        did: &str,
        id: EntryId,
        round: u64,
        walk: Option<Round>,
    ) -> Option<Arc<str>> {
        let account = self.key.hash_one(did);
        loop {
            let first = *self.accounts.get(&account)?.first()?;
            if first >= id {
                return None;
            }
            let left = self.entries.get(&first)?;
            // A round that has come as far has passed it: it is ours no longer. Another consumer has it, or nobody.
            let settled_before = |number| left.settled_in.is_some_and(|settled| settled < number);
            let is_gone = walk
                .is_some_and(|(number, after)| number == round && after < first && settled_before(number));
            if !is_gone {
                return Some(Arc::clone(&left.domain));
            }
            self.forget(account, first);
        }
    }

    /// An entry of the account was put off by this domain. It is remembered if there is room.
    pub(super) fn put_off(&mut self, did: &str, id: EntryId, domain: &Arc<str>) {
        self.goes(id);
        let account = self.key.hash_one(did);
        let of_domain = self.of_domains.get(domain).copied().unwrap_or(0);
        let of_account = self.accounts.get(&account).map_or(0, Vec::len);
        if self.entries.len() >= MOST || of_domain >= MOST_OF_DOMAIN || of_account >= MOST_OF_ACCOUNT {
            return;
        }
        *self.of_domains.entry(Arc::clone(domain)).or_default() += 1;
        let ids = self.accounts.entry(account).or_default();
        ids.insert(ids.partition_point(|other| *other < id), id);
        self.entries.insert(id, Left { account, domain: Arc::clone(domain), settled_in: None });
    }

    /// An entry is put off with everything: it is on its way until it is settled.
    pub(super) fn put_off_with_all(&mut self, id: EntryId) {
        if let Some(left) = self.entries.get_mut(&id) {
            left.settled_in = None;
        }
    }

    /// An entry that was put off is on its way no longer: what reads entries again does not pass over it any more.
    pub(super) fn settled(&mut self, id: EntryId, round: u64) {
        if let Some(left) = self.entries.get_mut(&id) {
            left.settled_in = Some(round);
        }
    }

    /// An entry goes on, which was put off perhaps.
    pub(super) fn goes(&mut self, id: EntryId) {
        if let Some(account) = self.entries.get(&id).map(|left| left.account) {
            self.forget(account, id);
        }
    }

    fn forget(&mut self, account: u64, id: EntryId) {
        if let Some(Left { domain, .. }) = self.entries.remove(&id)
            && let Some(count) = self.of_domains.get_mut(&domain)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_domains.remove(&domain);
            }
        }
        if let Some(ids) = self.accounts.get_mut(&account) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EntryId {
        (7, n)
    }

    #[test]
    fn later_entries_wait_until_each_earlier_one_has_come_back() {
        let (mut left, slow) = (LeftBehind::default(), Arc::<str>::from("slow.example"));
        assert_eq!(left.overtaken("a", id(9), 0, None), None);
        for n in [5, 3, 7] {
            left.put_off("a", id(n), &slow);
        }
        let waits = |left: &mut LeftBehind, n| left.overtaken("a", id(n), 0, None).is_some();
        assert_eq!([3, 5, 7, 9].map(|n| waits(&mut left, n)), [false, true, true, true]);
        assert_eq!(left.overtaken("b", id(9), 0, None), None);
        left.goes(id(9));
        left.goes(id(3));
        assert_eq!([5, 7, 9].map(|n| waits(&mut left, n)), [false, true, true], "one after the other");
        // The second is put off once more.
        left.goes(id(5));
        left.put_off("a", id(5), &slow);
        assert!(waits(&mut left, 7));
        left.goes(id(5));
        left.goes(id(7));
        assert!(!waits(&mut left, 9) && left.accounts.is_empty() && left.entries.is_empty());
    }

    #[test]
    fn what_a_round_has_not_found_is_not_waited_for() {
        let (mut left, slow) = (LeftBehind::default(), Arc::<str>::from("slow.example"));
        left.put_off("a", id(3), &slow);
        let waits =
            |left: &mut LeftBehind, round, walk| left.overtaken("a", id(9), round, Some(walk)).is_some();
        assert!(waits(&mut left, 1, (1, id(2))), "the round may have passed over it: it was not settled");
        left.settled(id(3), 1);
        assert!(waits(&mut left, 1, (1, id(2))), "it was settled while the round went on");
        assert!(waits(&mut left, 2, (2, id(3))), "this round began behind it");
        assert!(waits(&mut left, 1, (2, id(2))), "read before this round");
        assert!(!waits(&mut left, 2, (2, id(2))));
        assert!(left.entries.is_empty());
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for_and_of_one_domain_a_part() {
        let mut left = LeftBehind::default();
        let fill = |left: &mut LeftBehind| {
            for domain in 0..20 {
                let name = Arc::<str>::from(format!("{domain}.example"));
                for n in 0..2 * MOST_OF_DOMAIN as u64 {
                    left.put_off(&format!("{domain} {n}"), (domain, n), &name);
                }
            }
        };
        let used = allocation_counter::measure(|| fill(&mut left));
        assert!(used.bytes_max < 3 << 20, "{} bytes", used.bytes_max);
        assert_eq!((left.entries.len(), left.of_domains.len()), (MOST, MOST / MOST_OF_DOMAIN));
        assert!(left.overtaken("0 7", (1, 0), 0, None).is_some());
        assert_eq!(left.overtaken("0 1999", (1, 0), 0, None), None, "beyond the part of its domain");
        let slow = Arc::<str>::from("slow.example");
        left.put_off("a", (50, 0), &slow);
        left.goes((0, 7));
        (0..2 * MOST_OF_ACCOUNT as u64).for_each(|n| left.put_off("a", (50, n), &slow));
        assert_eq!(left.of_domains[&slow], 1, "one place was free");
        let mut left = LeftBehind::default();
        (0..2 * MOST_OF_ACCOUNT as u64).for_each(|n| left.put_off("a", id(n), &slow));
        assert_eq!(left.entries.len(), MOST_OF_ACCOUNT);
        (0..2 * MOST_OF_ACCOUNT as u64).for_each(|n| left.goes(id(n)));
        assert!(left.accounts.is_empty() && left.of_domains.is_empty());
    }
}
