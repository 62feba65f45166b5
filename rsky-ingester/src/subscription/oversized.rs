//! Getting past a frame that is too large to be read.
//!
//! Its sequence number is in its first bytes, which are read by a connection of their own ([`measure`]); then reading goes
//! on after that number. A number that nobody can mean, or that the host then says it does not know, is not believed.
//!
//! Without a number only that is known that it is the first after the cursor. So the next connection
//! asks for what comes after the cursor plus one, then plus two: each step passes over one number of which nothing smaller
//! was left, so no good frame is lost. Every step is logged and counted, and one dead letter says what was passed.

use rsky_common::redis::DeadLetter;

use super::Subscription;
use super::measure::measure;
use crate::backlog::MAX_SEQ;
use crate::decode::Decoded;
use crate::sink::Job;

/// Attempts at the same cursor before stepping over what has no number: the host may come to its senses.
const ATTEMPTS: u32 = 3;

/// What is known about the frame in the way.
#[derive(Debug, Default)]
pub(super) struct Oversized {
    /// The cursor right before it.
    at: Option<i64>,
    attempts: u32,
    /// How far the cursor is moved over it.
    steps: i64,
    /// Whether the number in a beginning led nowhere.
    distrusts: bool,
    /// Whether a dead letter tells of frames without a number.
    told: bool,
}

impl Oversized {
    /// The cursor to ask for when everything up to `cursor` is written.
    pub(super) fn adjusted(&mut self, cursor: i64) -> i64 {
        if self.at != Some(cursor) {
            *self = Self::default();
        }
        cursor.saturating_add(self.steps)
    }

    /// The host does not know the cursor that was asked for.
    pub(super) fn refused(&mut self) {
        if self.steps > 0 && !self.distrusts {
            *self = Self { at: self.at, attempts: ATTEMPTS, distrusts: true, ..Self::default() };
        }
    }

    /// The first frame after `base`, and after what was passed over, was too large. Gives a dead letter for what is passed
    /// over now, unless an earlier one tells of it.
    pub(super) async fn met(&mut self, subscription: &Subscription, size: usize, base: i64) -> Option<Job> {
        if self.at != Some(base) {
            *self = Self { at: Some(base), ..Self::default() };
        }
        let (source, limit) = (&subscription.source, subscription.config.max_frame);
        let after = base.saturating_add(self.steps);
        if !self.distrusts
            && let Some(found) = measure(subscription, after).await
            && (after..=MAX_SEQ).contains(&found.seq)
            && found.seq != after
        {
            (self.steps, self.attempts) = (found.seq.saturating_sub(base), 0);
            subscription.metrics.cursor_skip(source);
            tracing::error!(
                source = source.name(),
                seq = found.seq,
                "passed over a frame of {size} bytes: INGESTER_MAX_FRAME_BYTES is {limit}"
            );
            let error = format!("a frame of {size} bytes, the limit is {limit}; only its beginning was read");
            let at = format!("{}@{}", source.host.configured(), found.seq);
            return Some(job(DeadLetter::binary(source.field(), &found.bytes, REASON, &error, &at)));
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts < ATTEMPTS {
            return None;
        }
        self.steps = self.steps.saturating_add(1);
        subscription.metrics.cursor_skip(source);
        tracing::error!(
            source = source.name(),
            "the frame after {after} has {size} bytes, INGESTER_MAX_FRAME_BYTES is {limit}: asking for what comes after {}",
            after.saturating_add(1)
        );
        (!std::mem::replace(&mut self.told, true)).then(|| {
            let error = format!("a frame of {size} bytes, the limit is {limit}; it was not read");
            let at = format!("{}@after {after}", source.host.configured());
            job(DeadLetter::new(source.field(), "", REASON, &error, &at))
        })
    }
}

/// What such a frame is counted under.
const REASON: &str = "oversized_frame";

fn job(letter: DeadLetter) -> Job {
    Job::Letter(Box::new(Decoded { letter: Some(letter), ..Decoded::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_cursor_is_asked_for_unless_something_is_in_the_way_right_after_it() {
        let mut oversized = Oversized { at: Some(7), attempts: 4, steps: 2, ..Oversized::default() };
        assert_eq!(oversized.adjusted(7), 9);
        assert_eq!(oversized.adjusted(10), 10);
        assert_eq!(oversized.adjusted(7), 7, "it was passed");
    }

    #[test]
    fn a_number_the_host_does_not_know_is_not_believed_again() {
        let mut oversized = Oversized { at: Some(7), steps: 1 << 52, ..Oversized::default() };
        oversized.refused();
        assert_eq!(oversized.adjusted(7), 7);
        assert!(oversized.distrusts);
        oversized.steps = 2;
        oversized.refused();
        assert_eq!(oversized.adjusted(7), 9, "steps of one are not given up");
    }
}
