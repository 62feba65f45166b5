//! Decoded frames that wait to be written, and the batches they are cut into. No I/O.
//!
//! A frame is never cut: the cursor of a batch covers whole frames only.

use std::collections::VecDeque;

use rsky_common::atproto::FrameKind;
use rsky_common::redis::Batch;
use rsky_common::runtime::Charge;

use crate::config::BatchLimits;
use crate::decode::Decoded;
use crate::duplicates::Duplicates;
use crate::metrics::Written;
use crate::resyncs::{Resync, Resyncs};
use crate::source::{Kind, Source};

/// Frames that only move the cursor, before they are written although no entry came along.
const MOST_FRAMES: usize = 2_000;
/// The highest sequence number that is believed: what a JavaScript number holds exactly, as everywhere in the protocol. A
/// larger one is an accident, and as a cursor it would stand above every other for ever.
pub const MAX_SEQ: i64 = (1 << 53) - 1;

/// Decoded frames, oldest first.
#[derive(Debug)]
pub struct Backlog {
    frames: VecDeque<Decoded>,
    entries: usize,
    bytes: usize,
    outputs: usize,
    limits: BatchLimits,
}

/// A batch, and what is to be done once it is in Redis.
#[derive(Debug, Default)]
pub struct Cut {
    /// What to write; the cursor is its number, not yet its key.
    pub batch: Batch,
    /// The cursor after the batch, if a frame in it moves it.
    pub cursor: Option<i64>,
    /// The highest sequence number seen, moving the cursor or not.
    pub seen: Option<i64>,
    /// For the metrics.
    pub written: Written,
    /// Frames by kind.
    pub kinds: Vec<(&'static str, u64)>,
    /// Reasons of dead letters.
    pub reasons: Vec<String>,
    /// Commits to be remembered: (did, rev).
    pub commits: Vec<(String, String)>,
    /// Repositories whose events did not tell what changed.
    pub resyncs: Vec<Resync>,
    /// Frames in it.
    pub frames: usize,
    /// Bytes to be released.
    pub charges: Vec<Charge>,
}

/// How the frames of a source become a batch.
#[derive(Debug)]
pub struct Rules<'a> {
    /// Whose frames they are.
    pub source: &'a Source,
    /// What other relays have written; `None` with a single relay.
    pub duplicates: Option<&'a Duplicates>,
    /// Which repositories have been taken on to be fetched; `None`: they are not queued.
    pub resyncs: Option<&'a Resyncs>,
}

impl Backlog {
    /// Nothing waits.
    pub fn new(limits: BatchLimits) -> Self {
        Self { frames: VecDeque::new(), entries: 0, bytes: 0, outputs: 0, limits }
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Decoded) {
        self.entries += frame.entries();
        self.bytes += frame.bytes();
        self.outputs += usize::from(has_output(&frame));
        self.frames.push_back(frame);
    }

    /// Whether a whole batch waits.
    pub fn is_full(&self) -> bool {
        self.entries >= self.limits.entries
            || self.bytes >= self.limits.bytes
            || self.frames.len() >= MOST_FRAMES
    }

    /// Whether anything but cursors waits to be written.
    pub fn has_output(&self) -> bool {
        self.outputs > 0
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Drops the frames up to this number; how many it were.
    pub fn drop_through(&mut self, seq: i64) -> usize {
        let before = std::mem::replace(self, Self::new(self.limits)).frames;
        let all = before.len();
        before.into_iter().filter(|frame| !is_through(frame, seq)).for_each(|frame| self.push(frame));
        all.saturating_sub(self.frames.len())
    }

    /// Drops everything that waits; how many frames it was.
    pub fn clear(&mut self) -> usize {
        std::mem::replace(self, Self::new(self.limits)).frames.len()
    }

    /// Takes at most `entries` entries from the front, but at least one frame.
    pub fn cut(&mut self, entries: usize, rules: &Rules<'_>) -> Cut {
        let mut cut =
            Cut { batch: Batch { field: rules.source.field(), ..Batch::default() }, ..Cut::default() };
        let (mut used_entries, mut used_bytes) = (0, 0);
        while let Some(frame) = self.frames.front() {
            let (more_entries, more_bytes) = (frame.entries(), frame.bytes());
            let fits = used_entries + more_entries <= entries && used_bytes + more_bytes <= self.limits.bytes;
            let first = used_entries == 0 && used_bytes == 0;
            if !fits && !first {
                break;
            }
            let Some(frame) = self.frames.pop_front() else { break };
            self.entries -= more_entries;
            self.bytes -= more_bytes;
            self.outputs -= usize::from(has_output(&frame));
            used_entries += more_entries;
            used_bytes += more_bytes;
            cut.add(frame, rules);
        }
        cut
    }
}

/// Whether a frame has a number, and it is not above this one.
pub fn is_through(frame: &Decoded, seq: i64) -> bool {
    frame.converted.as_ref().and_then(|converted| converted.seq).is_some_and(|number| number <= seq)
}

fn has_output(frame: &Decoded) -> bool {
    let resync = frame.converted.as_ref().is_some_and(|converted| converted.resync.is_some());
    frame.entries() > 0 || frame.letter.is_some() || resync
}

impl Cut {
    fn add(&mut self, frame: Decoded, rules: &Rules<'_>) {
        self.frames += 1;
        self.charges.extend(frame.charge);
        if let Some(letter) = frame.letter {
            self.reasons.push(letter.reason().to_owned());
            self.batch.dead_letters.push(letter);
        }
        let Some(converted) = frame.converted else { return };
        let source = rules.source;
        let kind = converted.kind.label();
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.kinds.push((kind, 1)),
        }
        let seq = converted.seq.filter(|seq| *seq <= MAX_SEQ);
        self.seen = self.seen.max(seq);
        if converted.counted {
            self.cursor = self.cursor.max(seq);
        }
        let informs = source.kind == Kind::Labels && matches!(converted.kind, FrameKind::Info { .. });
        self.written.incoming += u64::from(converted.counted || informs);
        if let (Some(did), Some(rev), Some(duplicates)) = (&converted.did, &converted.rev, rules.duplicates)
            && converted.kind == FrameKind::Commit
        {
            if duplicates.known_from_another(did, rev, source.number) {
                self.written.duplicates += 1;
                return;
            }
            // A copy of which something was rejected is no reason to refuse a better one.
            if converted.rejected.is_empty() {
                self.commits.push((did.clone(), rev.clone()));
            }
        }
        if let (Some(did), Some(resyncs)) = (&converted.resync, rules.resyncs) {
            let resync = Resync { did: did.clone(), rev: converted.rev.clone() };
            // Relays repeat each other and themselves; each entry is a whole download.
            if resyncs.take_on(&resync, source.number) {
                self.resyncs.push(resync);
                self.written.resyncs += 1;
            } else {
                self.written.resyncs_repeated += 1;
            }
        }
        self.written.entries += u64::try_from(converted.entries.len()).unwrap_or(0);
        add_ops(&mut self.written.ops, &converted.ops);
        self.batch.entries.extend(converted.entries);
    }
}

fn add_ops(sum: &mut rsky_common::atproto::OpCounts, more: &rsky_common::atproto::OpCounts) {
    sum.creates += more.creates;
    sum.updates += more.updates;
    sum.deletes += more.deletes;
    sum.filtered += more.filtered;
    sum.missing += more.missing;
    sum.unknown += more.unknown;
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
