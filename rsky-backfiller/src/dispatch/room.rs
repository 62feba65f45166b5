//! Now and then: hosts that can be forgotten, troubles that are over, room for hosts that can be served.

use std::time::{Duration, Instant};

use rsky_common::clock::{millis, now_ms};

use super::Dispatcher;
use crate::job::{QUEUES, Queue};
use crate::ledger::{Until, Verdict};

/// Time between two goes of sending repositories to the end of their stream.
const ROTATE: Duration = Duration::from_secs(1);

impl Dispatcher {
    pub(super) async fn look_around(&mut self) {
        let now = Instant::now();
        self.metrics.rounds.one_more();
        {
            let mut lines = self.observed.lines();
            lines.line_up_all();
            lines.forget(now);
        }
        self.troubles.look(now);
        for queue in QUEUES {
            self.make_room(queue, now).await;
        }
    }

    /// When all places of a queue are taken by repositories that have to wait while others could be served, half of them
    /// are put off: as a host is set aside, its repositories are kept, but not here. When very many are put off already,
    /// they go to the end of their stream instead, which takes no more of Redis: one host's repositories, however many,
    /// cannot fill every place.
    async fn make_room(&mut self, queue: Queue, now: Instant) {
        let config = &self.worker.config;
        let (places, most) = (queue.of(&self.places), *queue.of(&config.places()));
        let busy = self.worker.is_crowded() || self.repositories() >= self.allowed();
        if places.available_permits() > 0 || busy {
            return;
        }
        let rotates = self.observed.delayed().is_none_or(|delayed| delayed >= config.delayed_max);
        if rotates {
            // Perhaps there is nothing else in the stream: a walk, not a run.
            let [urgent, normal] = &mut self.rotate_at;
            let rotate_at = if queue == Queue::Priority { urgent } else { normal };
            if *rotate_at > now {
                return;
            }
            *rotate_at = now + ROTATE;
        }
        let lengths = self.observed.lines().may_be_put_off(queue, now);
        if lengths.iter().sum::<usize>() <= most / 2 {
            return;
        }
        let share = (most / 4 / lengths.len().max(1)).max(1);
        let parked = self.observed.lines().take_surplus(queue, now, share);
        for (job, delay) in parked {
            self.metrics.parked.inc();
            if rotates {
                self.ledger.settle(job, Verdict::Later(Until::ItsTurn)).await;
                continue;
            }
            let due = now_ms().saturating_add(millis(delay));
            self.ledger.settle(job, Verdict::Later(Until::Due(due))).await;
        }
    }
}
