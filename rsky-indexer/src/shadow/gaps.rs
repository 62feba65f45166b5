//! Entries that were deleted before they were seen, by what the server counts: it knows how many entries a stream ever got.

use rsky_common::redis::tail::StreamState;

use crate::acks::entry_id;
use crate::identity::EntryId;

/// What was seen of a stream beside what it got.
#[derive(Debug)]
pub(super) struct Gaps {
    /// The newest entry when counting began, and how many there had been; `None`: the server does not count.
    base: EntryId,
    base_added: Option<u64>,
    /// Entries seen behind it.
    seen: u64,
    /// How the stream stood when it was asked about last, until everything up to there was seen.
    open: Option<(EntryId, u64)>,
    added: u64,
    missed: u64,
}

/// What a look at a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is the one it was.
    Same,
    /// It began anew: places in it mean nothing any more.
    Anew,
}

impl Gaps {
    /// Counts from how a stream stands now; `None`: it is not there yet.
    pub(super) fn new(state: Option<&StreamState>) -> Self {
        let (base, base_added) = match state {
            Some(state) => (entry_id(&state.last), state.added),
            None => ((0, 0), Some(0)),
        };
        Self { base, base_added, seen: 0, open: None, added: base_added.unwrap_or(0), missed: 0 }
    }

    /// How the stream stands, before more is read of it. `after` is the last entry that was read.
    pub(super) fn look(&mut self, state: Option<&StreamState>, after: EntryId) -> Look {
        let Some(state) = state else {
            return if self.base == (0, 0) && self.seen == 0 { Look::Same } else { Look::Anew };
        };
        let last = entry_id(&state.last);
        if last < after || last < self.base || state.added.is_some_and(|added| added < self.added) {
            return Look::Anew;
        }
        match state.added {
            Some(added) => {
                self.added = added;
                self.open = Some((last, added));
            }
            None => self.base_added = None,
        }
        Look::Same
    }

    /// An entry was read, in order. Whether it is known now that more were missed than before.
    pub(super) fn saw(&mut self, id: EntryId) -> bool {
        let more = self.open.is_some_and(|(last, _)| id > last) && self.close();
        if id > self.base {
            self.seen = self.seen.saturating_add(1);
        }
        more
    }

    /// Everything was read that there was. Whether it is known now that more were missed than before.
    pub(super) fn at_end(&mut self) -> bool {
        self.close()
    }

    fn close(&mut self) -> bool {
        let (Some((_, added)), Some(base)) = (self.open.take(), self.base_added) else { return false };
        let missed = added.saturating_sub(base).saturating_sub(self.seen);
        let more = missed > self.missed;
        self.missed = self.missed.max(missed);
        more
    }

    /// Entries missed; `None`: the server does not count.
    pub(super) fn missed(&self) -> Option<u64> {
        self.base_added.map(|_| self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(last: u64, added: u64) -> StreamState {
        StreamState { last: format!("{last}-0"), added: Some(added), deleted: None }
    }

    #[test]
    fn what_was_deleted_before_it_was_seen_is_counted_once() {
        let mut gaps = Gaps::new(Some(&state(10, 100)));
        assert_eq!(gaps.look(Some(&state(13, 103)), (10, 0)), Look::Same);
        assert!(!gaps.saw((11, 0)));
        // 12 and 13 are gone; 14 came after the look.
        assert!(gaps.saw((14, 0)));
        assert_eq!(gaps.missed(), Some(2));
        assert_eq!(gaps.look(Some(&state(14, 104)), (14, 0)), Look::Same);
        assert!(!gaps.at_end());
        assert_eq!(gaps.missed(), Some(2));
    }

    #[test]
    fn what_is_older_than_the_beginning_does_not_count() {
        let mut gaps = Gaps::new(Some(&state(10, 100)));
        gaps.look(Some(&state(10, 100)), (3, 0));
        assert!(!gaps.saw((4, 0)) && !gaps.saw((10, 0)) && !gaps.at_end());
        assert_eq!(gaps.missed(), Some(0));
    }

    #[test]
    fn a_stream_that_begins_anew_is_told_from_one_that_goes_on() {
        let mut gaps = Gaps::new(None);
        assert_eq!(gaps.look(None, (0, 0)), Look::Same);
        assert_eq!(gaps.look(Some(&state(5, 2)), (0, 0)), Look::Same);
        gaps.saw((4, 0));
        gaps.saw((5, 0));
        gaps.at_end();
        assert_eq!(gaps.missed(), Some(0));
        assert_eq!(gaps.look(None, (5, 0)), Look::Anew);
        assert_eq!(gaps.look(Some(&state(4, 3)), (5, 0)), Look::Anew);
        assert_eq!(gaps.look(Some(&state(9, 1)), (5, 0)), Look::Anew);
    }

    #[test]
    fn an_old_server_does_not_count() {
        let old = StreamState { last: "5-0".to_owned(), added: None, deleted: None };
        let mut gaps = Gaps::new(Some(&old));
        gaps.look(Some(&old), (5, 0));
        assert!(!gaps.saw((6, 0)) && !gaps.at_end());
        assert_eq!(gaps.missed(), None);
    }
}
