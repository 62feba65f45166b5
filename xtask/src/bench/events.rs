//! The events of the index benchmark.

use rsky_testnet::network::load::{EventOptions, stream_events};

/// `count` entries of the live stream, the same for the same seed: likes, follows, reposts, blocks, and a few updates
/// and deletes of them.
pub(super) fn seeded(seed: u64, count: u64) -> impl Iterator<Item = String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    stream_events(EventOptions { seed, ..EventOptions::default() }).take(count)
}
