//! Fair shares among the hosts of accounts: one that hangs takes little from the others, however many accounts name it, and
//! however many such hosts there are.
//!
//! Hosts that have answered quickly of late may take all places but a quarter each. All others together, those never heard of
//! and those that are slow, get half of the places; one that is known to be slow an eighth. Whoever waits has its turn host by
//! host, not account by account.
//!
//! Worked example, with 16 places and 150 hosts that never answer: 8 places wait for 8 of them, three seconds each. A host
//! that has answered before finds the other 8 free, and one that is new waits for its turn among the 150.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What takes longer is slow.
const QUICK: Duration = Duration::from_secs(1);
/// How long at least it is remembered how a host answered, unless too many others answer meanwhile.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Hosts of a generation that are remembered; one that is forgotten is taken for new.
const MOST: usize = 10_000;

/// Questions that wait for hosts, and how many are with each.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    places: usize,
    /// By host; no queue is empty.
    waiting: HashMap<String, VecDeque<T>>,
    /// The hosts that something waits for, in the order of their turns.
    turns: VecDeque<String>,
    /// How many questions are with each host; none is with others.
    asked: HashMap<String, usize>,
    total: usize,
    unproven: usize,
    known: Known,
}

/// A question's place. To be given back with [`Hosts::give_back`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    proven: bool,
}

impl<T> Hosts<T> {
    /// For so many questions at a time, at least two.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: places.max(2),
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            asked: HashMap::new(),
            total: 0,
            unproven: 0,
            known: Known::default(),
        }
    }

    /// A question waits for its turn with a host.
    pub(super) fn push(&mut self, host: String, question: T) {
        let queue = self.waiting.entry(host).or_insert_with_key(|host| {
            self.turns.push_back(host.clone());
            VecDeque::new()
        });
        queue.push_back(question);
    }

    /// The next question whose host may be asked. Looks at each host that something waits for once.
    pub(super) fn take(&mut self) -> Option<(Place, T)> {
        for _ in 0..self.turns.len() {
            if self.total >= self.places {
                return None;
            }
            let host = self.turns.pop_front()?;
            let quick = self.known.of(&host);
            if !self.has_place(&host, quick) {
                self.turns.push_back(host);
                continue;
            }
            let Some(queue) = self.waiting.get_mut(&host) else { continue };
            let question = queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&host);
            } else {
                self.turns.push_back(host.clone());
            }
            let Some(question) = question else { continue };
            let proven = quick == Some(true);
            *self.asked.entry(host.clone()).or_default() += 1;
            self.total += 1;
            self.unproven += usize::from(!proven);
            return Some((Place { host, proven }, question));
        }
        None
    }

    fn has_place(&self, host: &str, quick: Option<bool>) -> bool {
        let of_host = self.asked.get(host).copied().unwrap_or(0);
        let half = self.places / 2;
        match quick {
            Some(true) => of_host < self.places - self.places / 4,
            None => self.unproven < half && of_host < half.div_ceil(2),
            Some(false) => self.unproven < half && of_host < (self.places / 8).max(1),
        }
    }

    /// A host took so long for an answer.
    pub(super) fn note(&mut self, place: &Place, took: Duration) {
        self.known.note(&place.host, took < QUICK);
    }

    /// A place is free again.
    pub(super) fn give_back(&mut self, place: &Place) {
        self.total = self.total.saturating_sub(1);
        self.unproven = self.unproven.saturating_sub(usize::from(!place.proven));
        if let Some(count) = self.asked.get_mut(&place.host) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.asked.remove(&place.host);
            }
        }
    }

    /// Whether a host has answered quickly of late.
    pub(super) fn is_quick(&self, host: &str) -> bool {
        self.known.of(host) == Some(true)
    }

    /// How many questions wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

/// Whether hosts answered quickly when they were asked last.
#[derive(Debug)]
struct Known {
    young: HashMap<String, bool>,
    old: HashMap<String, bool>,
    since: Instant,
}

impl Default for Known {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), since: Instant::now() }
    }
}

impl Known {
    fn note(&mut self, host: &str, quick: bool) {
        if self.young.len() >= MOST || self.since.elapsed() > REMEMBERED {
            self.old = std::mem::take(&mut self.young);
            self.since = Instant::now();
        }
        self.young.insert(host.to_owned(), quick);
    }

    fn of(&self, host: &str) -> Option<bool> {
        self.young.get(host).or_else(|| self.old.get(host)).copied()
    }
}

/// The host of a name for these shares: its last two labels, since whoever has a domain has as many names in it as he likes;
/// an address as it is. Domains under one suffix of two labels (`co.uk`) share a turn, which costs them little.
pub(super) fn of_name(name: &str) -> String {
    let name = name.trim_end_matches('.');
    if name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok() {
        return name.to_owned();
    }
    let labels: Vec<&str> = name.rsplitn(3, '.').take(2).collect();
    labels.into_iter().rev().collect::<Vec<_>>().join(".").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3);

    fn answered(hosts: &mut Hosts<u32>, place: &Place, took: Duration) {
        hosts.note(place, took);
        hosts.give_back(place);
    }

    #[test]
    fn hosts_that_hang_leave_half_of_the_places_to_those_that_answer() {
        let mut hosts = Hosts::new(16);
        hosts.push("good".to_owned(), 0);
        let (good, _) = hosts.take().unwrap();
        answered(&mut hosts, &good, Duration::ZERO);
        for number in 1..=150 {
            hosts.push(format!("silent{number}"), number);
        }
        let mut hanging = Vec::new();
        while let Some((place, _)) = hosts.take() {
            hanging.push(place);
        }
        assert_eq!(hanging.len(), 8);
        (0..10).for_each(|_| hosts.push("good".to_owned(), 0));
        let places: Vec<Place> = std::iter::from_fn(|| hosts.take()).map(|(place, _)| place).collect();
        assert_eq!(places, vec![Place { proven: true, ..good }; 8]);
        assert_eq!(hosts.waiting(), 142 + 2);
        // Known to hang: of the same host two at a time, with 16 places.
        hanging.iter().for_each(|place| answered(&mut hosts, place, LONG));
        places.iter().for_each(|place| answered(&mut hosts, place, Duration::ZERO));
        assert_eq!((hosts.total, hosts.unproven, hosts.asked.len()), (0, 0, 0));
        let mut hosts = Hosts::new(16);
        hosts.known.note("hangs", false);
        (0..5).for_each(|number| hosts.push("hangs".to_owned(), number));
        assert_eq!(std::iter::from_fn(|| hosts.take()).count(), 2);
    }

    #[test]
    fn one_host_with_many_accounts_has_one_turn() {
        let mut hosts = Hosts::new(8);
        (0..100).for_each(|_| hosts.push("many".to_owned(), "many"));
        hosts.push("one".to_owned(), "one");
        let taken: Vec<&str> = std::iter::from_fn(|| hosts.take()).map(|(_, question)| question).collect();
        assert_eq!(taken, ["many", "one", "many"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        (0..3 * MOST).for_each(|number| known.note(&number.to_string(), true));
        assert!(known.young.len() + known.old.len() <= 2 * MOST);
        assert_eq!((known.of("0"), known.of(&(3 * MOST - 1).to_string())), (None, Some(true)));
    }

    #[test]
    fn names_of_a_domain_are_one_host() {
        for (name, host) in [
            ("alice.bsky.social", "bsky.social"),
            ("a.b.c.Example.com.", "example.com"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(of_name(name), host, "{name}");
        }
    }
}
