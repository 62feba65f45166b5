//! Accounts that wait: for their turn with whom they ask, or for a moment.
//!
//! The directory, the hosts of did:web documents and the hosts that documents name have places of their own, so none of them
//! takes any from the others.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::hosts::{Hosts, Place};
use super::question::{Begun, Peer};

/// When an account is to be looked at again, and its number among those of the same time.
pub(super) type Moment = (Instant, u64);

/// An account whose question can be asked, or the next step of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) did: String,
    /// `None` before the first step.
    pub(super) begun: Option<Begun>,
}

/// Whose turn a question has. To be given back with [`Waiting::answered`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Directory,
    Web(Place),
    Host(Place),
}

/// The accounts that wait. Each is in it at most once, so it is no larger than what is in hand.
#[derive(Debug)]
pub(super) struct Waiting {
    places: usize,
    /// How many questions are with the directory.
    asked: usize,
    directory: VecDeque<Ready>,
    web: Hosts<Ready>,
    hosts: Hosts<Ready>,
    delayed: BTreeMap<Moment, String>,
    number: u64,
}

impl Waiting {
    /// With so many places for the directory, as many for hosts that documents name, and half as many for hosts of did:web.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            asked: 0,
            directory: VecDeque::new(),
            web: Hosts::new(places / 2),
            hosts: Hosts::new(places),
            delayed: BTreeMap::new(),
            number: 0,
        }
    }

    /// Its question can be asked, of this peer.
    pub(super) fn ready(&mut self, ready: Ready, peer: Peer) {
        match peer {
            // What is begun comes first: the sooner it is done with, the less is held.
            Peer::Directory if ready.begun.is_some() => self.directory.push_front(ready),
            Peer::Directory => self.directory.push_back(ready),
            Peer::Web(host) => self.web.push(host, ready),
            Peer::Host(host) => self.hosts.push(host, ready),
        }
    }

    /// It is to be looked at again at that time.
    pub(super) fn delay(&mut self, did: String, until: Instant) -> Moment {
        self.number += 1;
        let moment = (until, self.number);
        self.delayed.insert(moment, did);
        moment
    }

    /// The account that waits for this moment waits no longer.
    pub(super) fn end_delay(&mut self, moment: Moment) {
        drop(self.delayed.remove(&moment));
    }

    /// The next whose question can be asked.
    pub(super) fn take_ready(&mut self, directory_answers: bool) -> Option<(Turn, Ready)> {
        if directory_answers
            && self.has_place()
            && let Some(ready) = self.directory.pop_front()
        {
            self.asked += 1;
            return Some((Turn::Directory, ready));
        }
        if let Some((place, ready)) = self.hosts.take() {
            return Some((Turn::Host(place), ready));
        }
        self.web.take().map(|(place, ready)| (Turn::Web(place), ready))
    }

    /// A question has its answer, after so long.
    pub(super) fn answered(&mut self, turn: &Turn, took: Duration) {
        match turn {
            Turn::Directory => {}
            Turn::Web(place) => self.web.note(place, took),
            Turn::Host(place) => self.hosts.note(place, took),
        }
        self.not_asked(turn);
    }

    /// A question is not asked after all.
    pub(super) fn not_asked(&mut self, turn: &Turn) {
        match turn {
            Turn::Directory => self.asked = self.asked.saturating_sub(1),
            Turn::Web(place) => self.web.give_back(place),
            Turn::Host(place) => self.hosts.give_back(place),
        }
    }

    /// Whether a host that documents name has answered quickly of late.
    pub(super) fn is_quick(&self, host: &str) -> bool {
        self.hosts.is_quick(host)
    }

    /// Whether the directory could be asked one more question at a time.
    fn has_place(&self) -> bool {
        self.asked < self.places
    }

    /// The next whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<String> {
        let first = self.delayed.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next time comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((until, _), _)| *until)
    }

    /// Whether one that needs the directory could be asked.
    pub(super) fn needs_directory(&self) -> bool {
        self.has_place() && !self.directory.is_empty()
    }

    /// How many wait for their turn with a host.
    pub(super) fn for_hosts(&self) -> usize {
        self.web.waiting() + self.hosts.waiting()
    }

    /// How many wait for a moment.
    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ready(did: &str) -> Ready {
        Ready { did: did.to_owned(), begun: None }
    }

    fn next(waiting: &mut Waiting, directory_answers: bool) -> Option<String> {
        waiting.take_ready(directory_answers).map(|(_, ready)| ready.did)
    }

    #[test]
    fn accounts_of_their_own_hosts_and_the_directory_do_not_wait_for_each_other() {
        let mut waiting = Waiting::new(2);
        (0..5).for_each(|at| waiting.ready(ready("web"), Peer::Web(at.to_string())));
        (0..3).for_each(|_| waiting.ready(ready("plc"), Peer::Directory));
        let taken: Vec<String> = std::iter::from_fn(|| next(&mut waiting, true)).collect();
        assert_eq!(taken, ["plc", "plc", "web"]);
        assert!(!waiting.needs_directory());
        waiting.answered(&Turn::Directory, Duration::ZERO);
        assert!(waiting.needs_directory());
        assert_eq!(next(&mut waiting, false), None);
        assert_eq!(next(&mut waiting, true).as_deref(), Some("plc"));
        assert_eq!(waiting.for_hosts(), 4);
    }

    #[test]
    fn times_come_in_order() {
        let mut waiting = Waiting::new(1);
        let now = Instant::now();
        waiting.delay("late".into(), now + Duration::from_secs(9));
        waiting.delay("first".into(), now);
        waiting.delay("second".into(), now);
        let moment = waiting.delay("third".into(), now);
        waiting.end_delay(moment);
        assert_eq!((waiting.delayed(), waiting.next_due()), (3, Some(now)));
        assert_eq!(waiting.take_due(now).as_deref(), Some("first"));
        assert_eq!(waiting.take_due(now).as_deref(), Some("second"));
        assert_eq!(waiting.take_due(now), None);
    }
}
