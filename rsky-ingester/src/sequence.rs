//! Whether a host still counts on from where it was, or has begun anew. No I/O.
//!
//! Sequence numbers only grow while a relay lives. A relay that was replaced, or restored from a copy, counts from a lower
//! number; so does everything after a single broken frame with a number near 2⁶³. The cursor would stay high for ever, and
//! with it would go whatever is sent while nobody is connected. So numbers below the highest are watched (DECISIONS 30):
//! when a hundred of them, or ten seconds, have brought none above, the sequence is followed down. Frames that were seen
//! before are a host that repeats itself and say nothing.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Frames below the highest number, none above, after which the sequence has begun anew.
const FRAMES: u32 = 100;
/// The same in time, for a quiet host.
const TIME: Duration = Duration::from_secs(10);
/// Frames that are recognised when they are repeated: 24 bytes each.
const REMEMBERED: usize = 4096;

/// The numbers of one source, as they come in.
#[derive(Debug)]
pub struct Sequence {
    highest: Option<i64>,
    below: Option<Below>,
    recent: VecDeque<(i64, u64)>,
    hasher: RandomState,
}

/// Numbers below the highest since the last one above.
#[derive(Clone, Copy, Debug)]
struct Below {
    frames: u32,
    since: Instant,
    highest: i64,
}

impl Sequence {
    /// Nothing is known.
    pub fn new() -> Self {
        Self { highest: None, below: None, recent: VecDeque::new(), hasher: RandomState::new() }
    }

    /// Reading begins after this number. What was seen below another one says nothing about it.
    pub fn begin(&mut self, after: Option<i64>) {
        if self.highest != after {
            (self.highest, self.below) = (after, None);
        }
    }

    /// A frame came with this number; `account` and `rev` tell it from another frame of the same number.
    pub fn see(&mut self, seq: i64, account: Option<&str>, rev: Option<&str>, now: Instant) {
        let frame = (seq, self.hasher.hash_one((account, rev)));
        if self.highest.is_none_or(|highest| seq > highest) {
            (self.highest, self.below) = (Some(seq), None);
        } else if self.highest != Some(seq) && !self.recent.contains(&frame) {
            let below = self.below.get_or_insert(Below { frames: 0, since: now, highest: seq });
            below.frames = below.frames.saturating_add(1);
            below.highest = below.highest.max(seq);
        }
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(frame);
    }

    /// The number to go on from, when the sequence has begun anew: the highest of the new one.
    pub fn begun_anew(&self, now: Instant) -> Option<i64> {
        let below = self.below?;
        let long = below.frames >= FRAMES || now.duration_since(below.since) >= TIME;
        long.then_some(below.highest)
    }

    /// Whether numbers below the highest wait for a verdict.
    pub fn is_doubtful(&self) -> bool {
        self.below.is_some()
    }

    /// The highest number.
    pub fn highest(&self) -> Option<i64> {
        self.highest
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(sequence: &mut Sequence, seqs: impl IntoIterator<Item = i64>, now: Instant) {
        for seq in seqs {
            sequence.see(seq, Some("did:plc:a"), Some(&format!("{seq}")), now);
        }
    }

    #[tokio::test]
    async fn a_hundred_numbers_below_and_none_above_is_a_new_beginning() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        sequence.begin(Some(1000));
        see(&mut sequence, 1..100, now);
        assert_eq!(sequence.begun_anew(now), None);
        see(&mut sequence, [100], now);
        assert_eq!(sequence.begun_anew(now), Some(100));
    }

    #[tokio::test]
    async fn one_is_enough_when_nothing_else_comes_for_a_while() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        see(&mut sequence, [1, i64::MAX, 2], now);
        assert!(sequence.is_doubtful());
        assert_eq!(sequence.begun_anew(now), None);
        assert_eq!(sequence.begun_anew(now + TIME), Some(2));
    }

    #[tokio::test]
    async fn one_above_in_between_and_repeated_frames_are_none() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        sequence.begin(Some(100));
        see(&mut sequence, (10..80).chain([101]).chain(10..80), now);
        assert_eq!(sequence.begun_anew(now + TIME), None, "the second time they were known");
        see(&mut sequence, 102..1000, now);
        see(&mut sequence, 102..1000, now);
        assert_eq!(sequence.begun_anew(now + TIME), None);
        assert!(!sequence.is_doubtful());
    }

    #[tokio::test]
    async fn another_frame_of_a_known_number_is_no_repetition() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        see(&mut sequence, 1..200, now);
        (1..=100).for_each(|seq| sequence.see(seq, Some("did:plc:b"), Some("r"), now));
        assert_eq!(sequence.begun_anew(now), Some(100));
    }

    #[tokio::test]
    async fn a_new_connection_at_the_same_place_keeps_what_was_seen_below() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        sequence.begin(Some(1000));
        see(&mut sequence, 1..60, now);
        sequence.begin(Some(1000));
        see(&mut sequence, 60..101, now);
        assert_eq!(sequence.begun_anew(now), Some(100));
        sequence.begin(Some(50));
        assert_eq!(sequence.begun_anew(now), None);
    }

    #[tokio::test]
    async fn the_highest_once_more_is_none_above() {
        let now = Instant::now();
        let mut sequence = Sequence::new();
        assert_eq!(sequence.highest(), None);
        see(&mut sequence, (1..100).chain([1000]), now);
        see(&mut sequence, 201..300, now);
        sequence.see(1000, Some("did:plc:b"), Some("r"), now);
        assert_eq!((sequence.highest(), sequence.begun_anew(now)), (Some(1000), None));
        see(&mut sequence, [300], now);
        assert_eq!(sequence.begun_anew(now), Some(300));
    }
}
