//! Frames to the JSON of their entries: CPU work, in parallel, leaving in the order the frames came in.
//!
//! The reader hands over chunks of frames and puts the handle of each into the queue to the writer, which awaits them
//! in that order. A permit per core (fewer where memory is scarce) bounds how many chunks are decoded at a
//! time over all sources.
//!
//! What is decoded ahead of its turn is bounded, too: a frame that becomes many times its size (thousands of empty
//! labels) is put back, and decoded when the writer has nothing else in hand. A chunk is charged for its frames and for
//! what they may become before it is decoded ([`reserve`]), and for what it really holds afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rsky_common::atproto::frame::is_error;
use rsky_common::atproto::{CollectionFilter, Converted, FrameKind};
use rsky_common::redis::DeadLetter;
use rsky_common::runtime::Charge;
use rsky_common::wire::Entry;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::source::Source;

/// Bytes that what the frames of a chunk become may take ahead of its turn, beside twice their own size. Many deletions in
/// one commit take some dozens of KiB.
const AHEAD: usize = 256 << 10;

/// What a dead letter takes beside its size, about: strings that grew while they were put together.
const LETTER_OVERHEAD: usize = 512;

/// What a chunk of so many bytes of frames is charged until it is decoded.
pub fn reserve(bytes: usize) -> usize {
    bytes.saturating_add(most_ahead(bytes))
}

fn most_ahead(bytes: usize) -> usize {
    bytes.saturating_mul(2).saturating_add(AHEAD)
}

/// A frame whose conversion panicked: a bug of ours that must not stop the frames after it.
const PANIC: &str = "panic";

/// One frame, decoded.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Its entries and what else it means; `None` for what never was a frame (an oversized one).
    pub converted: Option<Converted>,
    /// The dead letter for what could not be converted.
    pub letter: Option<DeadLetter>,
    /// What its chunk was charged; the last frame of the chunk holds it.
    pub charge: Option<Charge>,
}

impl Decoded {
    /// Entries it will become.
    pub fn entries(&self) -> usize {
        self.converted.as_ref().map_or(0, |converted| converted.entries.len())
    }

    /// Bytes of what will be written for it.
    pub fn bytes(&self) -> usize {
        let entries = self.converted.iter().flat_map(|converted| &converted.entries).map(Entry::len);
        let letter = self.letter.as_ref().map(DeadLetter::size);
        entries.chain(letter).fold(0, usize::saturating_add)
    }

    /// Bytes of memory it takes.
    pub fn held_bytes(&self) -> usize {
        let converted = self.converted.as_ref().map_or(0, Converted::held_bytes);
        let letter = self.letter.as_ref().map_or(0, |letter| letter.size().saturating_add(LETTER_OVERHEAD));
        size_of::<Self>().saturating_add(converted).saturating_add(letter)
    }
}

/// A chunk as far as it was decoded.
#[derive(Debug)]
pub struct Chunk {
    /// Its first frames.
    pub frames: Vec<Decoded>,
    /// What would have taken too much memory, with the charge: to be handed to [`DecodePool::decode_now`] once `frames`
    /// are written.
    pub rest: Option<(Vec<Bytes>, Charge)>,
}

/// When a chunk is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// While chunks before it wait to be written.
    Ahead,
    /// As the next to be written.
    Now,
}

/// Where frames are decoded. Cloning gives another handle to the same pool.
#[derive(Clone, Debug)]
pub struct DecodePool {
    cores: Arc<Semaphore>,
    filter: Arc<CollectionFilter>,
}

impl DecodePool {
    /// A pool that decodes so many chunks at a time, at least one.
    pub fn new(filter: CollectionFilter, width: usize) -> Self {
        Self { cores: Arc::new(Semaphore::new(width.max(1))), filter: Arc::new(filter) }
    }

    /// Starts decoding a chunk as soon as a core is free.
    pub async fn submit(
        &self,
        source: &Arc<Source>,
        frames: Vec<Bytes>,
        charge: Charge,
    ) -> JoinHandle<Chunk> {
        self.start(source, frames, charge, Turn::Ahead).await
    }

    /// Goes on with the rest of a chunk whose turn it is: at least one frame, whatever it becomes.
    pub async fn decode_now(
        &self,
        source: &Arc<Source>,
        frames: Vec<Bytes>,
        charge: Charge,
    ) -> JoinHandle<Chunk> {
        self.start(source, frames, charge, Turn::Now).await
    }

    async fn start(
        &self,
        source: &Arc<Source>,
        frames: Vec<Bytes>,
        charge: Charge,
        turn: Turn,
    ) -> JoinHandle<Chunk> {
        // The semaphore is never closed; without a permit the chunk would merely not be counted.
        let core = Arc::clone(&self.cores).acquire_owned().await.ok();
        let (source, filter) = (Arc::clone(source), Arc::clone(&self.filter));
        tokio::task::spawn_blocking(move || {
            let chunk = decode_chunk(&source, frames, charge, turn, &filter);
            drop(core);
            chunk
        })
    }
}

fn decode_chunk(
    source: &Source,
    mut raw: Vec<Bytes>,
    mut charge: Charge,
    turn: Turn,
    filter: &CollectionFilter,
) -> Chunk {
    let all = bytes_of(&raw);
    let most = most_ahead(all);
    let mut frames: Vec<Decoded> = Vec::with_capacity(raw.len());
    let mut held = 0_usize;
    for frame in &raw {
        let decoded = decode(source, frame, filter);
        let more = decoded.held_bytes();
        let needed = turn == Turn::Now && frames.is_empty();
        if held.saturating_add(more) > most && !needed {
            break;
        }
        held = held.saturating_add(more);
        frames.push(decoded);
    }
    let rest = raw.split_off(frames.len());
    drop(raw);
    if !rest.is_empty() {
        // Both are charged: the rest, and what is ahead of it.
        charge.settle(reserve(all).max(held.saturating_add(bytes_of(&rest))));
        return Chunk { frames, rest: Some((rest, charge)) };
    }
    charge.settle(held);
    if let Some(last) = frames.last_mut() {
        last.charge = Some(charge);
    }
    Chunk { frames, rest: None }
}

fn bytes_of(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).fold(0, usize::saturating_add)
}

fn decode(source: &Source, frame: &Bytes, filter: &CollectionFilter) -> Decoded {
    let decoding = AssertUnwindSafe(|| {
        let converted = source.convert(frame, filter);
        let letter = letter(source, frame, &converted);
        Decoded { converted: Some(converted), letter, charge: None }
    });
    match catch_unwind(decoding) {
        Ok(decoded) => decoded,
        Err(_) => {
            let host = source.host.configured();
            let letter =
                DeadLetter::binary(source.field(), frame, PANIC, "the frame made the decoder fail", host);
            Decoded { converted: None, letter: Some(letter), charge: None }
        }
    }
}

/// One dead letter a frame, however many of its operations were rejected: a frame of bad operations must not become
/// hundreds of copies of itself.
fn letter(source: &Source, frame: &Bytes, converted: &Converted) -> Option<DeadLetter> {
    let first = converted.rejected.first()?;
    let mut error = String::new();
    for rejected in converted.rejected.iter().take(5) {
        if !error.is_empty() {
            error.push_str("; ");
        }
        if let Some(did) = &rejected.did {
            error.push_str(did);
            error.push(' ');
        }
        if let Some(path) = &rejected.path {
            error.push_str(path);
            error.push_str(": ");
        }
        error.push_str(&rejected.error);
    }
    if converted.rejected.len() > 5 {
        error.push_str(&format!("; and {} more", converted.rejected.len() - 5));
    }
    let seq = converted.seq.map_or_else(|| "?".to_owned(), |seq| seq.to_string());
    let at = format!("{}@{seq}", source.host.configured());
    Some(DeadLetter::binary(source.field(), frame, first.reason, &error, &at))
}

/// The error of an error frame, with which the connection ends. Of other frames only the header is looked at.
pub fn error_of(source: &Source, frame: &[u8]) -> Option<(String, String)> {
    if !is_error(frame) {
        return None;
    }
    match source.convert(frame, &CollectionFilter::all()).kind {
        FrameKind::Error { error, message } => Some((error, message.unwrap_or_default())),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decode_meter_tests.rs"]
mod meter;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::source::Kind;
    use rsky_common::runtime::ByteBudget;

    fn source() -> Arc<Source> {
        Source::new(Kind::Firehose, Host::parse("relay").unwrap(), "firehose_live", 0)
    }

    /// `{"op": -1} {"error": "FutureCursor"}`
    const ERROR_FRAME: &[u8] = b"\xa1\x62op\x20\xa1\x65error\x6cFutureCursor";

    #[test]
    fn error_frames_are_recognised_and_others_are_not() {
        let found = error_of(&source(), ERROR_FRAME);
        assert_eq!(found, Some(("FutureCursor".to_owned(), String::new())));
        assert_eq!(error_of(&source(), b"\xa2\x61t\x67#commit\x62op\x01\xa0"), None);
        // Looks like one in its beginning, and is as costly as a frame can be: not for the reader.
        let header = b"\xa3\x61t\x67#commit\x61x\x64bop \x62op\x01\xa0";
        assert!(!is_error(header) && error_of(&source(), header).is_none());
        assert_eq!(error_of(&source(), b""), None);
    }

    #[tokio::test]
    async fn chunks_leave_in_order_and_the_last_frame_holds_the_charge() {
        let pool = DecodePool::new(CollectionFilter::all(), 2);
        let budget = ByteBudget::new(1000);
        let frames = vec![Bytes::from_static(b"junk"), Bytes::from_static(ERROR_FRAME)];
        let handle = pool.submit(&source(), frames, budget.charge(1000).await).await;
        let Chunk { frames: decoded, rest } = handle.await.unwrap();
        assert!(rest.is_none());
        let held: usize = decoded.iter().map(Decoded::held_bytes).sum();
        assert_eq!(budget.bytes(), held as u64);
        let kinds: Vec<_> = decoded.iter().map(|one| one.converted.as_ref().unwrap().kind.label()).collect();
        assert_eq!(kinds, ["undecodable", "error"]);
        assert_eq!(decoded[0].letter.as_ref().unwrap().reason(), "bad_frame");
        assert!(decoded[0].charge.is_none() && decoded[1].charge.is_some());
        drop(decoded);
        assert_eq!(budget.bytes(), 0);
    }

    /// A frame of a byte per label, each of which becomes an entry.
    fn empty_labels(seq: u8, count: u16) -> Bytes {
        let mut frame = b"\xa2\x61t\x67#labels\x62op\x01\xa2\x63seq".to_vec();
        frame.push(seq);
        frame.extend(b"\x66labels\x99");
        frame.extend(count.to_be_bytes());
        frame.resize(frame.len() + usize::from(count), 0xa0);
        frame.into()
    }

    #[tokio::test]
    async fn what_becomes_many_times_its_size_waits_for_its_turn() {
        let host = Host::parse("labeler").unwrap();
        let labels = Source::new(Kind::Labels, host, "label_live", 0);
        let (pool, budget) = (DecodePool::new(CollectionFilter::all(), 2), ByteBudget::new(1 << 20));
        let frames =
            vec![empty_labels(1, 1), empty_labels(2, 40_000), empty_labels(3, 40_000), empty_labels(4, 1)];
        let charge = budget.charge(100).await;
        let mut chunk = pool.submit(&labels, frames, charge).await.await.unwrap();
        let mut steps = Vec::new();
        loop {
            let seqs = chunk.frames.iter().filter_map(|frame| frame.converted.as_ref()?.seq);
            steps.push(seqs.collect::<Vec<_>>());
            let Some((rest, charge)) = chunk.rest.take() else { break };
            assert!(chunk.frames.iter().all(|frame| frame.charge.is_none()), "the rest holds it");
            let held = chunk.frames.iter().map(Decoded::held_bytes).sum::<usize>() + bytes_of(&rest);
            assert!(charge.bytes() >= held as u64, "{} {held}", charge.bytes());
            chunk = pool.decode_now(&labels, rest, charge).await.await.unwrap();
        }
        assert_eq!(steps, [vec![1], vec![2], vec![3], vec![4]]);
        assert_eq!(budget.bytes(), chunk.frames[0].held_bytes() as u64);
        drop(chunk);
        assert_eq!(budget.bytes(), 0);
    }
}
