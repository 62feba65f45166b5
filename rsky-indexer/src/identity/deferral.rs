//! Entries that are put off because the work beside the lanes has no room.
//!
//! They stay pending in Redis and nothing is kept of them here but where they begin; the reader of their stream reads
//! them again when there is room. What an account event wrote is written again then, so an event that is put off must
//! not be followed by a newer one of the same account that is settled: from the first entry that is put off, all are,
//! until the reader has come back to it. Rounds of reading tell the two apart.

use std::sync::{Mutex, PoisonError};

/// The two numbers of a stream id.
pub type EntryId = (u64, u64);

/// The entries of one stream that were put off.
#[derive(Debug, Default)]
pub struct Deferral(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The round that entries are read in now.
    round: u64,
    /// The round whose entries are not put off, as long as none of them had to be.
    open: Option<u64>,
    /// Entries after this one were put off.
    after: Option<EntryId>,
}

impl Default for State {
    fn default() -> Self {
        Self { round: 0, open: Some(0), after: None }
    }
}

impl Deferral {
    /// The round that entries are read in now.
    pub fn round(&self) -> u64 {
        self.with(|state| state.round)
    }

    /// Whether entries of a round may be handed over.
    pub fn is_open(&self, round: u64) -> bool {
        self.with(|state| state.open == Some(round))
    }

    /// Puts an entry off, and with it everything of its round that comes later.
    pub fn put_off(&self, round: u64, id: EntryId) {
        self.with(|state| {
            if state.open == Some(round) {
                state.open = None;
            }
            state.remember(before(id));
        });
    }

    /// Begins a round that reads the entries again which were put off: those after the id that is returned. `None` if
    /// there are none.
    pub fn next_round(&self) -> Option<EntryId> {
        self.with(|state| {
            let after = state.after.take()?;
            state.round += 1;
            state.open = Some(state.round);
            Some(after)
        })
    }

    /// The round ends at this id, before it has read everything. What is read from now on is newer than what is left,
    /// and is put off.
    pub fn interrupt(&self, id: EntryId) {
        self.with(|state| {
            state.round += 1;
            state.remember(id);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
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

    #[test]
    fn what_follows_an_entry_that_was_put_off_is_put_off_too() {
        let deferral = Deferral::default();
        assert!(deferral.is_open(deferral.round()));
        assert_eq!(deferral.next_round(), None);
        deferral.put_off(0, (7, 3));
        assert!(!deferral.is_open(0));
        deferral.put_off(0, (5, 0));
        deferral.put_off(0, (9, 0));
        assert_eq!(deferral.next_round(), Some((4, u64::MAX)));
        assert!(deferral.is_open(1) && !deferral.is_open(0));
        // A late one of the old round brings another round, and leaves the open one open.
        deferral.put_off(0, (8, 0));
        assert!(deferral.is_open(1));
        assert_eq!(deferral.next_round(), Some((7, u64::MAX)));
        assert!(!deferral.is_open(1));
    }

    #[test]
    fn after_an_interrupted_round_new_entries_wait_for_the_rest() {
        let deferral = Deferral::default();
        deferral.put_off(0, (1, 1));
        assert_eq!(deferral.next_round(), Some((1, 0)));
        let walked = deferral.round();
        deferral.interrupt((50, 0));
        assert!(deferral.is_open(walked) && !deferral.is_open(deferral.round()));
        deferral.put_off(deferral.round(), (90, 0));
        assert_eq!(deferral.next_round(), Some((50, 0)));
    }

    #[test]
    fn ids_have_predecessors() {
        assert_eq!(before((3, 1)), (3, 0));
        assert_eq!(before((3, 0)), (2, u64::MAX));
        assert_eq!(before((0, 0)), (0, 0));
    }
}
