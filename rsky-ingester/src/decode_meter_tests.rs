//! What hostile frames take of memory while they are decoded, and afterwards, beside what they are charged.

use allocation_counter::measure;
use futures::FutureExt as _;
use rsky_common::runtime::ByteBudget;
use rsky_testnet::network::hostile;

use super::*;
use crate::host::Host;
use crate::memory_bound::{PER_DECODER, TABLES};
use crate::source::Kind;

fn source(kind: Kind) -> Arc<Source> {
    Source::new(kind, Host::parse("host").unwrap(), "stream", 0)
}

/// Decodes frames, as their turn says, and gives the peak of memory, what is still held, and what that is charged.
fn metered(source: &Source, frames: Vec<Bytes>, turn: Turn) -> (u64, u64, u64, Chunk) {
    let budget = ByteBudget::new(u64::MAX);
    let charge = budget.charge(reserve(bytes_of(&frames))).now_or_never().unwrap();
    let (mut chunk, all) = (None, CollectionFilter::all());
    let info = measure(|| chunk = Some(decode_chunk(source, frames, charge, turn, &all)));
    let held = u64::try_from(info.bytes_current).unwrap_or(0);
    (info.bytes_max, held, budget.bytes(), chunk.unwrap())
}

fn check(source: &Source, name: &str, frame: Bytes) {
    let size = frame.len() as u64;
    for turn in [Turn::Ahead, Turn::Now] {
        // Its bytes are shared with this function, so they are not seen to go.
        let (peak, held, charged, chunk) = metered(source, vec![frame.clone()], turn);
        let frames: Vec<usize> = chunk.frames.iter().map(Decoded::entries).collect();
        println!(
            "{name}, {turn:?}: {size} bytes, {frames:?} entries, peak {peak}, held {held}, charged {charged}, {:?}",
            chunk.frames.first().and_then(|frame| frame.converted.as_ref()?.rejected.first())
        );
        assert!(
            peak <= PER_DECODER + TABLES * size + 2 * charged,
            "{name}: {peak} of {size}, charged {charged}"
        );
        assert!(held <= charged, "{name}: {held} held, {charged} charged");
        let done = chunk.rest.is_none();
        assert!(done || turn == Turn::Ahead, "{name}: what has its turn is done");
        assert!(!done || charged <= held + held / 2 + 1024, "{name}: {held} held, {charged} charged");
        if done {
            return;
        }
    }
}

#[test]
fn hostile_commits_take_what_they_are_charged() {
    let relay = source(Kind::Firehose);
    for (name, frame) in hostile::commits() {
        check(&relay, &name, frame);
    }
}

#[test]
fn hostile_frames_of_labelers_take_what_they_are_charged() {
    let labeler = source(Kind::Labels);
    for (name, frame) in hostile::labels() {
        check(&labeler, name, frame);
    }
}

/// Six such frames, each of one block of 1.9 MB that becomes `{}` two hundred times, took 2.4 GB while the gate was shut.
#[test]
fn what_javascript_loses_is_not_kept_two_hundred_times() {
    let relay = source(Kind::Firehose);
    let (_, block) = hostile::blocks().swap_remove(0);
    let frames = (1..=6).map(|seq| hostile::commit_naming(seq, &block, 200)).collect();
    let (peak, held, charged, chunk) = metered(&relay, frames, Turn::Ahead);
    assert_eq!(chunk.frames.iter().map(Decoded::entries).collect::<Vec<_>>(), [200; 6]);
    assert!(held < 1 << 20 && charged < 1 << 20 && peak < 16 << 20, "{peak} {held} {charged}");
    assert!(chunk.frames[5].converted.as_ref().unwrap().entries[199].to_string().contains(r#""record":{},"#));
}

/// A block of 950 000 empty keys took 44 s of one core, once for each of two hundred operations.
#[test]
fn a_block_that_is_refused_is_refused_once() {
    let relay = source(Kind::Firehose);
    let (_, block) = hostile::blocks().swap_remove(2);
    let frame = hostile::commit_naming(1, &block, 200);
    let (.., chunk) = metered(&relay, vec![frame], Turn::Ahead);
    let converted = chunk.frames[0].converted.as_ref().unwrap();
    assert_eq!((converted.entries.len(), converted.rejected.len()), (0, 100));
    assert_eq!(
        (converted.rejected_unlisted, converted.rejected[0].error.as_str()),
        (100, "a map has a key twice")
    );
    // Large, and good: the text is made once and in memory once.
    let (_, block) = hostile::blocks().swap_remove(7);
    let (_, held, _, chunk) = metered(&relay, vec![hostile::commit_naming(1, &block, 11)], Turn::Now);
    let converted = chunk.frames[0].converted.as_ref().unwrap();
    let text: usize = converted.entries.iter().map(Entry::len).sum();
    assert_eq!(converted.entries.len(), 11);
    assert!(text > 14 << 20 && held < 2 << 20, "{text} {held}");
}
