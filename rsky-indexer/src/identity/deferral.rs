//! Entries that are put off because the work beside the lanes has no room, or a domain has its share of it.
//!
//! They stay pending in Redis and nothing is kept of them here but where they begin; the reader of their stream reads
//! them again when there is room. What an account event wrote is written again then, so an event that is put off must
//! not be followed by a newer one of the same account that is settled: from the first entry that is put off, all are,
//! until the reader has come back to it. Where it was for its domain's share, all of that domain are, and no others; and all
//! of its account, whoever has to answer for that by then ([`LeftBehind`]).
//! Rounds of reading tell the two apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::left_behind::{LeftBehind, Round};

/// Domains that are put off by themselves. With more, everything is.
const MOST_DOMAINS: usize = 64;

/// Pause before entries are read again that wait for an earlier one of their account: it may be held up elsewhere.
const PAUSE: Duration = Duration::from_secs(1);

/// The two numbers of a stream id.
pub type EntryId = (u64, u64);

/// Whether an entry may be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// An earlier one of its domain was put off.
    ClosedForDomain,
    /// An earlier one was put off.
    Closed,
}

/// The entries of one stream that were put off.
#[derive(Debug, Default)]
pub struct Deferral(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The round that entries are read in now.
    round: u64,
    all: Scope,
    domains: HashMap<Arc<str>, Scope>,
    left_behind: LeftBehind,
    /// The last round that has read entries again.
    walk: Option<Round>,
    /// Domains that are not known here are open from this round on.
    floor: u64,
}

/// Those of a domain, or all.
#[derive(Debug)]
struct Scope {
    /// The rounds whose entries are not put off, as long as none of them had to be: from the first to before the second.
    open: Option<(u64, u64)>,
    /// Entries after this one were put off.
    after: Option<EntryId>,
    /// When they are read again at the earliest.
    not_before: Option<Instant>,
}

impl Default for Scope {
    fn default() -> Self {
        Self::from(0)
    }
}

impl Deferral {
    /// The round that entries are read in now.
    pub fn round(&self) -> u64 {
        self.with(|state| state.round)
    }

    /// Whether entries of a round may be handed over, and of this domain if they have one.
    pub fn admits(&self, domain: Option<&str>, round: u64) -> Admission {
        self.with(|state| {
            if !state.all.is_open(round) {
                return Admission::Closed;
            }
            let open = domain.is_none_or(|domain| match state.domains.get(domain) {
                Some(scope) => scope.is_open(round),
                None => round >= state.floor,
            });
            if open { Admission::Open } else { Admission::ClosedForDomain }
        })
    }

    /// Puts an entry off, and with it everything of its round that comes later. It is on its way no longer.
    pub fn put_off(&self, round: u64, id: EntryId) {
        self.with(|state| {
            state.left_behind.settled(id, state.round);
            state.all.put_off(round, id);
        });
    }

    /// Puts an entry off, and with it everything of its domain and round that comes later. It is on its way no longer.
    pub fn put_off_of(&self, domain: &str, round: u64, id: EntryId) {
        self.with(|state| {
            state.left_behind.settled(id, state.round);
            state.scope_of(domain).1.put_off(round, id);
        });
    }

    /// Puts an entry of an account off that is still on its way, by a domain or with everything, and with it everything later of
    /// both. The domain that it waits for: that for which an earlier one of the account waits, if there is one; `None` where it is
    /// put off with everything, also where there are too many domains to tell apart.
    pub fn put_off_behind(&self, did: &str, domain: Option<&str>, round: u64, id: EntryId) -> Option<String> {
        self.with(|state| {
            let earlier = state.left_behind.overtaken(did, id, round, state.walk);
            let (domain, scope) = match domain {
                Some(domain) => state.scope_of(earlier.as_deref().unwrap_or(domain)),
                None => (None, &mut state.all),
            };
            scope.put_off(round, id);
            if earlier.is_some() && domain.is_some() {
                scope.not_before = Some(Instant::now() + PAUSE);
            }
            match &domain {
                Some(domain) => state.left_behind.put_off(did, id, domain),
                None => state.left_behind.put_off_with_all(id),
            }
            domain.map(|domain| domain.to_string())
        })
    }

    /// The domain for which an earlier entry of the account waits, before which this one must not be done with.
    pub fn overtaken(&self, did: &str, round: u64, id: EntryId) -> Option<String> {
        self.with(|state| {
            let earlier = state.left_behind.overtaken(did, id, round, state.walk)?;
            Some(earlier.to_string())
        })
    }

    /// An entry goes on to the work beside the lanes.
    pub fn goes(&self, id: EntryId) {
        self.with(|state| state.left_behind.goes(id));
    }

    /// Begins a round that reads the entries again which were put off: those after the id that is returned. `None` if
    /// there are none.
    pub fn next_round(&self) -> Option<EntryId> {
        self.with(|state| {
            let after = state.all.after.take()?;
            state.round += 1;
            state.all.open = Some((state.round, u64::MAX));
            state.walk = Some((state.round, after));
            Some(after)
        })
    }

    /// The same for one domain that has `room` again, the one that has waited longest.
    pub fn next_round_of(&self, room: impl Fn(&str) -> bool) -> Option<(String, EntryId)> {
        self.with(|state| {
            let State { domains, round, walk, .. } = state;
            let now = Instant::now();
            let may = |scope: &Scope| scope.after.is_some() && scope.not_before.is_none_or(|at| at <= now);
            let waiting = domains.iter_mut().filter(|(domain, scope)| may(scope) && room(domain));
            let (domain, scope) = waiting.min_by_key(|(_, scope)| scope.after)?;
            let after = scope.after.take()?;
            *round += 1;
            scope.open = Some((*round, u64::MAX));
            scope.not_before = None;
            *walk = Some((*round, after));
            Some((domain.to_string(), after))
        })
    }

    /// The round, of a domain or of all, ends at this id, before it has read everything. What is read from now on is newer
    /// than what is left, and is put off.
    pub fn interrupt(&self, domain: Option<&str>, id: EntryId) {
        self.with(|state| {
            state.round += 1;
            let round = state.round;
            let scope = match domain {
                Some(domain) => state.scope_of(domain).1,
                None => &mut state.all,
            };
            if let Some((from, _)) = scope.open {
                scope.open = Some((from, round));
            }
            scope.remember(id);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// The scope of a domain, and its name; that of all where there are too many.
    fn scope_of(&mut self, domain: &str) -> (Option<Arc<str>>, &mut Scope) {
        if !self.domains.contains_key(domain) {
            if self.domains.len() >= MOST_DOMAINS {
                self.forget_open();
            }
            if self.domains.len() >= MOST_DOMAINS {
                return (None, &mut self.all);
            }
        }
        let floor = self.floor;
        let name =
            self.domains.get_key_value(domain).map_or_else(|| domain.into(), |(name, _)| Arc::clone(name));
        (Some(Arc::clone(&name)), self.domains.entry(name).or_insert_with(|| Scope::from(floor)))
    }

    /// Forgets the domains of which nothing is put off. What was read before their last round is still put off, for it may
    /// be newer than what that round read.
    fn forget_open(&mut self) {
        let floor = &mut self.floor;
        self.domains.retain(|_, scope| match scope.open {
            Some((from, u64::MAX)) if scope.after.is_none() => {
                *floor = from.max(*floor);
                false
            }
            _ => true,
        });
    }
}

impl Scope {
    fn from(round: u64) -> Self {
        Self { open: Some((round, u64::MAX)), after: None, not_before: None }
    }

    fn is_open(&self, round: u64) -> bool {
        self.open.is_some_and(|(from, to)| (from..to).contains(&round))
    }

    fn put_off(&mut self, round: u64, id: EntryId) {
        if self.is_open(round) {
            self.open = None;
        }
        self.remember(before(id));
    }

    fn remember(&mut self, after: EntryId) {
        self.after = Some(self.after.map_or(after, |known| known.min(after)));
    }
}

/// The greatest id below this one.
fn before((ms, n): EntryId) -> EntryId {
    match (ms, n) {
        (ms, 1..) => (ms, n - 1),
        (1.., 0) => (ms - 1, u64::MAX),
        (0, 0) => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(deferral: &Deferral, round: u64) -> bool {
        deferral.admits(None, round) == Admission::Open
    }

    #[test]
    fn what_follows_an_entry_that_was_put_off_is_put_off_too() {
        let deferral = Deferral::default();
        assert!(is_open(&deferral, deferral.round()));
        assert_eq!(deferral.next_round(), None);
        deferral.put_off(0, (7, 3));
        assert!(!is_open(&deferral, 0));
        deferral.put_off(0, (5, 0));
        deferral.put_off(0, (9, 0));
        assert_eq!(deferral.next_round(), Some((4, u64::MAX)));
        assert!(is_open(&deferral, 1) && !is_open(&deferral, 0));
        // A late one of the old round brings another round, and leaves the open one open.
        deferral.put_off(0, (8, 0));
        assert!(is_open(&deferral, 1));
        assert_eq!(deferral.next_round(), Some((7, u64::MAX)));
        assert!(!is_open(&deferral, 1));
    }

    #[test]
    fn after_an_interrupted_round_new_entries_wait_for_the_rest() {
        let deferral = Deferral::default();
        deferral.put_off(0, (1, 1));
        assert_eq!(deferral.next_round(), Some((1, 0)));
        let walked = deferral.round();
        deferral.interrupt(None, (50, 0));
        assert!(is_open(&deferral, walked) && !is_open(&deferral, deferral.round()));
        deferral.put_off(deferral.round(), (90, 0));
        assert_eq!(deferral.next_round(), Some((50, 0)));
    }

    #[test]
    fn ids_have_predecessors() {
        assert_eq!(before((3, 1)), (3, 0));
        assert_eq!(before((3, 0)), (2, u64::MAX));
        assert_eq!(before((0, 0)), (0, 0));
    }

    #[test]
    fn a_domain_that_is_put_off_holds_up_no_other() {
        let deferral = Deferral::default();
        let admits = |domain, round| deferral.admits(Some(domain), round);
        deferral.put_off_of("slow", 0, (7, 0));
        assert_eq!((admits("slow", 0), admits("other", 0)), (Admission::ClosedForDomain, Admission::Open));
        assert_eq!((deferral.admits(None, 0), deferral.next_round()), (Admission::Open, None));
        assert_eq!(deferral.next_round_of(|_| false), None);
        assert_eq!(deferral.next_round_of(|_| true), Some(("slow".to_owned(), (6, u64::MAX))));
        // What was read before is newer than what is read again.
        assert_eq!((admits("slow", 0), admits("slow", 1)), (Admission::ClosedForDomain, Admission::Open));
        assert_eq!((admits("other", 0), admits("other", 1)), (Admission::Open, Admission::Open));
        deferral.interrupt(Some("slow"), (9, 0));
        assert_eq!((admits("slow", 1), admits("slow", 2)), (Admission::Open, Admission::ClosedForDomain));
        assert_eq!(deferral.admits(None, 2), Admission::Open);
        assert_eq!(deferral.next_round_of(|_| true), Some(("slow".to_owned(), (9, 0))));
        deferral.put_off(3, (20, 0));
        assert_eq!((admits("slow", 3), admits("other", 3)), (Admission::Closed, Admission::Closed));
    }

    #[test]
    fn an_account_waits_for_its_earlier_entry_whatever_becomes_of_its_domain() {
        let deferral = Deferral::default();
        let (earlier, later) = ((7, 0), (9, 0));
        assert_eq!(deferral.put_off_behind("a", Some("slow"), 0, earlier).as_deref(), Some("slow"));
        // The round passes over the earlier one, which is not settled yet, and comes to the later one.
        assert!(deferral.next_round_of(|_| true).is_some());
        let round = deferral.round();
        assert_eq!(deferral.admits(Some("slow"), round), Admission::Open);
        assert_eq!(deferral.overtaken("a", round, later).as_deref(), Some("slow"));
        // Another domain has to answer for it by then: it waits where the earlier one does.
        assert_eq!(deferral.put_off_behind("a", Some("other"), round, later).as_deref(), Some("slow"));
        assert_eq!(deferral.admits(Some("other"), round), Admission::Open);
        assert_eq!(deferral.overtaken("a", round, earlier), None);
        deferral.goes(earlier);
        assert_eq!(deferral.overtaken("a", round, later), None);
        deferral.goes(later);
        assert_eq!(deferral.overtaken("a", round, (11, 0)), None);
    }

    #[test]
    fn an_entry_that_a_round_does_not_find_holds_nothing_back() {
        let deferral = Deferral::default();
        let (gone, later) = ((7, 0), (9, 0));
        deferral.put_off_behind("a", Some("slow"), 0, gone);
        deferral.put_off_of("slow", 0, gone);
        assert!(deferral.overtaken("a", 0, later).is_some());
        assert!(deferral.next_round_of(|_| true).is_some());
        assert_eq!(deferral.overtaken("a", deferral.round(), later), None);
    }

    #[test]
    fn beyond_so_many_domains_everything_is_put_off() {
        let deferral = Deferral::default();
        (0..MOST_DOMAINS).for_each(|number| deferral.put_off_of(&number.to_string(), 0, (5, 0)));
        assert!(is_open(&deferral, 0));
        deferral.put_off_of("more", 0, (6, 0));
        assert_eq!(deferral.admits(None, 0), Admission::Closed);
        assert!(deferral.next_round().is_some());
        // One that is open again makes room, and what was read before its round is not let past it.
        let (open, _) = deferral.next_round_of(|domain| domain == "0").unwrap();
        let round = deferral.round();
        deferral.put_off_of("more", round, (8, 0));
        assert_eq!(deferral.admits(Some("more"), round), Admission::ClosedForDomain);
        assert_eq!(deferral.admits(Some(&open), round), Admission::Open);
        assert_eq!(deferral.admits(Some(&open), round - 1), Admission::ClosedForDomain);
        assert!(is_open(&deferral, round));
    }
}
