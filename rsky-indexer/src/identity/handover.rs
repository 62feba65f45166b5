//! From the lanes to the work beside them: never waiting, never more than there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::acks::{Fate, entry_id};
use crate::engine::AccountNews;
use crate::job::Job;

/// An entry whose rows are written and whose account is to be looked at.
#[derive(Debug)]
pub struct Task {
    /// The entry, without its payload.
    pub job: Job,
    /// What it says.
    pub news: AccountNews,
}

/// How many entries the work beside the lanes may hold, and how many it holds.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    held: AtomicUsize,
    delayed: AtomicUsize,
}

/// For each entry that is worked on, so many may wait for a moment that is to come.
const DELAYED: usize = 8;

impl Room {
    fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), held: AtomicUsize::new(0), delayed: AtomicUsize::new(0) }
    }

    /// Entries that may be held: those that wait for a moment take no place from the others, up to a bound.
    fn bound(&self) -> usize {
        self.limit + self.delayed.load(Ordering::Relaxed).min(DELAYED * self.limit)
    }

    fn take(&self) -> bool {
        let bound = self.bound();
        let taken = |held| (held < bound).then_some(held + 1);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }

    /// So many are done with.
    pub fn give_back(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::AcqRel);
    }

    /// So many wait for a moment that is to come.
    pub fn set_delayed(&self, count: usize) {
        self.delayed.store(count, Ordering::Relaxed);
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Free places, when there are at least half as many as may be worked on.
    fn free(&self) -> Option<usize> {
        let free = self.bound().saturating_sub(self.held());
        (free >= self.limit.div_ceil(2)).then_some(free)
    }
}

/// The lanes' end of the way to the work beside them.
#[derive(Debug, Clone)]
pub struct Handover {
    sender: mpsc::Sender<Task>,
    room: Arc<Room>,
    deferred: Counter,
}

/// The other end.
#[derive(Debug)]
pub struct Tasks {
    pub(super) receiver: mpsc::Receiver<Task>,
    pub(super) room: Arc<Room>,
}

impl Handover {
    /// A way for as many entries as may be worked on. `deferred` counts those that found no room.
    pub fn new(limit: usize, deferred: Counter) -> (Self, Tasks) {
        let room = Arc::new(Room::new(limit));
        let (sender, receiver) = mpsc::channel(room.limit);
        (Self { sender, room: Arc::clone(&room), deferred }, Tasks { receiver, room })
    }

    /// Hands an entry over: it is settled there then. Without room it is put off, and read again later.
    pub fn hand(&self, job: &Job, news: AccountNews) -> Fate {
        let deferral = &job.source.deferral;
        if deferral.is_open(job.round) && self.room.take() {
            match self.sender.try_send(Task { job: job.without_payload(), news }) {
                Ok(()) => return Fate::Handed,
                Err(error) => {
                    self.room.give_back(1);
                    if matches!(error, TrySendError::Closed(_)) {
                        // The process stops.
                        return Fate::Abandoned;
                    }
                }
            }
        }
        self.deferred.inc();
        deferral.put_off(job.round, entry_id(&job.id));
        Fate::Deferred
    }

    /// Free places, once there are enough to read entries again that were put off.
    pub fn room(&self) -> Option<usize> {
        self.room.free()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_moment_takes_no_place() {
        let room = Room::new(4);
        assert!((0..4).all(|_| room.take()) && !room.take());
        assert_eq!(room.free(), None);
        room.set_delayed(2);
        assert_eq!(room.free(), Some(2));
        assert!(room.take() && room.take() && !room.take());
        room.set_delayed(1_000_000);
        let mut more = 0;
        while room.take() {
            more += 1;
        }
        assert_eq!(6 + more, 4 + DELAYED * 4);
        room.give_back(36);
        assert_eq!(room.held(), 0);
    }
}
