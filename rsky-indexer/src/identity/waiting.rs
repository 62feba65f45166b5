//! Accounts that wait: for a free place, or for a moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// When an account is to be looked at again, and its number among those of the same time.
pub(super) type Moment = (Instant, u64);

/// The accounts that wait. Each is in it at most once, so it is no larger than what is in hand.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those that need the directory, and those that do not.
    ready: [VecDeque<String>; 2],
    delayed: BTreeMap<Moment, String>,
    number: u64,
}

impl Waiting {
    /// Its question can be asked.
    pub(super) fn ready(&mut self, did: String, needs_directory: bool) {
        let [with, without] = &mut self.ready;
        if needs_directory { with.push_back(did) } else { without.push_back(did) }
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

    /// The next whose question can be asked, and whether it needs the directory.
    pub(super) fn take_ready(&mut self, directory_answers: bool) -> Option<(String, bool)> {
        let [with, without] = &mut self.ready;
        if let Some(did) = without.pop_front() {
            return Some((did, false));
        }
        if directory_answers { with.pop_front().map(|did| (did, true)) } else { None }
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

    /// How many need the directory and could be asked.
    pub(super) fn for_directory(&self) -> usize {
        self.ready.first().map_or(0, VecDeque::len)
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

    #[test]
    fn accounts_of_their_own_hosts_do_not_wait_for_the_directory() {
        let mut waiting = Waiting::default();
        waiting.ready("plc".into(), true);
        waiting.ready("web".into(), false);
        assert_eq!(waiting.take_ready(false), Some(("web".into(), false)));
        assert_eq!(waiting.take_ready(false), None);
        assert_eq!(waiting.take_ready(true), Some(("plc".into(), true)));
    }

    #[test]
    fn times_come_in_order() {
        let mut waiting = Waiting::default();
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
