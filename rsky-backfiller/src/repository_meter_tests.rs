//! What hostile repositories take of memory, and how much work is made of them.

use allocation_counter::measure;
use rsky_common::repo::{DiskBudget, StoreLimits};
use rsky_testnet::network::hostile;

use super::*;
use crate::config::REPO_OVERHEAD;
use crate::sizes::MAX_ENTRY_BYTES;

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
/// Memory for blocks: a large block does not fit, so both ways are gone.
const MEMORY: u64 = 4 << 20;

/// What became of a repository.
struct Done {
    outcome: Result<Summary, Failure>,
    chunks: Vec<Chunk>,
    /// Peaks of memory while it came in, and while it was read.
    peaks: [u64; 2],
}

impl Done {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| &chunk.entries)
    }
}

fn making() -> Making {
    let (filter, time) = (CollectionFilter::all(), "2025-01-01T00:00:00.000Z".to_owned());
    Making { filter, entries: 500, bytes: 1 << 20, time }
}

fn done(car: Vec<u8>, memory: u64) -> Done {
    let car = Bytes::from(car);
    let parts: Vec<Bytes> =
        (0..car.len()).step_by(16 << 10).map(|at| car.slice(at..car.len().min(at + (16 << 10)))).collect();
    let (sender, mut pieces) = mpsc::channel(parts.len().max(1));
    parts.into_iter().for_each(|part| sender.try_send(part).unwrap());
    drop(sender);
    let limits = StoreLimits { memory, directory: std::env::temp_dir(), disk: DiskBudget::unlimited() };
    let mut received = None;
    let coming = measure(|| received = Some(receive(&mut pieces, limits, 1 << 30)));
    let mut received = received.unwrap().unwrap();
    // Nothing is taken out while it is measured, so what waits counts as well.
    let (sender, mut waiting) = mpsc::channel::<Chunk>(10_000);
    let mut outcome = None;
    let reading = measure(|| {
        outcome = Some(
            received
                .check_tree()
                .map_err(Failure::from)
                .and_then(|_| make_entries(received, &making(), None, &sender)),
        );
    });
    drop(sender);
    let mut chunks = Vec::new();
    while let Some(chunk) = waiting.blocking_recv() {
        chunks.push(chunk);
    }
    Done { outcome: outcome.unwrap(), chunks, peaks: [coming.bytes_max, reading.bytes_max] }
}

/// Bytes that chunks hold: shared texts once.
fn held(chunks: &[Chunk]) -> u64 {
    let entries = chunks.iter().flat_map(|chunk| &chunk.entries).map(Entry::own_bytes).sum::<usize>();
    let letters = chunks.iter().flat_map(|chunk| &chunk.letters).map(DeadLetter::size).sum::<usize>();
    (entries + 2 * letters + chunks.len() * 40_000) as u64
}

#[test]
fn hostile_records_stay_within_what_a_repository_may_take() {
    for (name, block) in hostile::blocks() {
        let car = hostile::repository(DID, std::slice::from_ref(&block), 100);
        for memory in [MEMORY, 64 << 10] {
            let done = done(car.clone(), memory);
            let [coming, reading] = done.peaks;
            println!(
                "{name}, {} bytes of memory: {:?}, peaks {coming} and {reading}, chunks {}",
                memory,
                done.outcome,
                held(&done.chunks)
            );
            match &done.outcome {
                Ok(summary) => assert_eq!(summary.queued + summary.bad, 100, "{name}"),
                Err(failure) => assert_eq!(failure.class, Class::TooLarge, "{name}"),
            }
            assert!(coming <= memory + REPO_OVERHEAD, "{name}: {coming}");
            assert!(reading <= REPO_OVERHEAD + held(&done.chunks), "{name}: {reading}");
            // Chunks are cut by what is in them, dead letters too.
            for chunk in &done.chunks {
                let bytes =
                    chunk.entries.iter().map(Entry::len).chain(chunk.letters.iter().map(DeadLetter::size));
                assert!(bytes.sum::<usize>() <= (1 << 20) + MAX_ENTRY_BYTES, "{name}");
            }
        }
    }
}

/// A hundred keys that name a record which becomes `{}` took 891 MB.
#[test]
fn a_large_record_under_a_hundred_keys_is_in_memory_once() {
    let (_, block) = hostile::blocks().swap_remove(0);
    let lost = done(hostile::repository(DID, &[block], 100), MEMORY);
    assert_eq!(lost.outcome.as_ref().unwrap().queued, 100);
    assert!(lost.entries().take(100).all(|entry| entry.to_string().contains(r#""record":{},"#)));
    assert!(lost.peaks[1] < 3 << 20, "{:?}", lost.peaks);
    // The text of a good one is shared by what waits.
    let (_, block) = hostile::blocks().swap_remove(7);
    let shared = done(hostile::repository(DID, &[block], 15), MEMORY);
    let text: usize = shared.entries().map(Entry::len).sum();
    assert!(shared.outcome.as_ref().unwrap().queued == 15 && text > 20 << 20, "{:?}", shared.outcome);
    assert!(shared.peaks[1] < 8 << 20, "{:?}", shared.peaks);
}

/// Twenty thousand keys that name one block of 950 000 empty keys, in a CAR of three megabytes, took an hour and a half.
#[test]
fn work_is_bounded_by_the_size_of_a_repository() {
    let (_, block) = hostile::blocks().swap_remove(2);
    let refused = done(hostile::repository(DID, &[block], 20_000), MEMORY);
    let summary = refused.outcome.unwrap();
    assert_eq!((summary.queued, summary.bad), (0, 20_000));
    let letters: usize = refused.chunks.iter().map(|chunk| chunk.letters.len()).sum();
    assert_eq!(letters, 4, "each holds a mebibyte");
    // More large records, in turn, than are remembered: the first key of each block comes again when it was forgotten.
    let mut blocks = Vec::new();
    for number in 0..10_u8 {
        let (_, mut block) = hostile::blocks().swap_remove(7);
        block[1] = 0x61;
        block[2] = b'a' + number;
        blocks.push(block);
    }
    let thrashed = done(hostile::repository(DID, &blocks, 20_000), MEMORY);
    assert_eq!(thrashed.outcome.unwrap_err().class, Class::TooLarge);
}
