//! The events of the index benchmark.

use rsky_testnet::network::load::{EventMix, EventOptions, stream_events};

/// `count` entries of the live stream, the same for the same seed: everything but profiles, whose handles would have to
/// be resolved.
pub(super) fn seeded(seed: u64, count: u64) -> impl Iterator<Item = String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    stream_events(EventOptions { seed, mix: EventMix::Full, ..EventOptions::default() }).take(count)
}
