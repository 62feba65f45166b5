//! The most memory the process takes: a sum of constants and settings. It is planned for the limit that the process is
//! under ([`Planned`](rsky_common::runtime::Planned)), said at start, and shown by `tests/it/stays_within_memory.rs`; what the terms for frames rest
//! on, by `decode_meter_tests.rs`.

use rsky_common::atproto::reject::MAX_ENTRY_BYTES;

use crate::budgets::SHARE;
use crate::config::{Config, Mode, to_u64};
use crate::decode::reserve;
use crate::listing::MOST_PAGE_BYTES;
use crate::subscription::CHUNK_BYTES;

/// Code, runtime, connections to Redis, admin pages and what is remembered of wishes.
const BASE: u64 = 32 << 20;
/// Commits remembered where there are several relays.
const DUPLICATES: u64 = 32 << 20;
/// What decoding a chunk takes beside it: the text of one record while it is written, in a string that has just doubled, and
/// what is remembered of its members.
pub const PER_DECODER: u64 = 28 << 20;
/// Bytes that the frames of a chunk take in tables while they are read, for each of theirs.
pub const TABLES: u64 = 4;
/// A batch while it is written, for each byte of its entries: its commands, and the packed ones in a buffer that has just
/// doubled.
const BATCH_COPIES: u64 = 4;
/// A page of a listing, for each byte of its text: the text, what was read from it, and its dead letters. There is the one
/// that is written, and the next.
const PAGE_COPIES: u64 = 2 * (1 + 4 + BATCH_COPIES);
/// What a socket has read ahead, beside the frame that is being put together.
const READ_AHEAD: u64 = 1 << 20;

impl Config {
    /// The sum, in bytes.
    pub(crate) fn sum_of_memory(&self) -> u64 {
        let decoders = to_u64(self.decoders);
        let [relays, labelers, listings] = self.sources();
        let kinds = kinds(relays, labelers);
        let max_frame = to_u64(self.socket.max_frame);
        let largest_chunk = self.largest_chunk();
        // What waits for its charge, in pieces or whole.
        let socket = max_frame.saturating_mul(2).saturating_add(READ_AHEAD);
        let budgets = self
            .queue_bytes
            .max(self.least_queue())
            .saturating_add(relays.saturating_add(labelers).saturating_mul(SHARE));
        // While a chunk is decoded it takes its charge once more, and its tables; all chunks are charged.
        let tables = TABLES.saturating_mul(to_u64(largest_chunk));
        let decoded = decoders.saturating_mul(tables.saturating_add(to_u64(reserve(largest_chunk))));
        let decoded = decoded.min(budgets.saturating_add(budgets.saturating_mul(TABLES) / 3));
        let grown = to_u64(MAX_ENTRY_BYTES).saturating_add(max_frame.saturating_mul(2));
        let batch = to_u64(self.batch.bytes.max(MAX_ENTRY_BYTES)).saturating_mul(BATCH_COPIES);
        [
            BASE,
            if relays > 1 { DUPLICATES } else { 0 },
            budgets,
            relays.saturating_add(labelers).saturating_mul(socket),
            decoders.saturating_mul(PER_DECODER),
            decoded,
            kinds.saturating_mul(grown.saturating_add(batch)),
            listings.saturating_mul(PAGE_COPIES).saturating_mul(to_u64(MOST_PAGE_BYTES)),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Bytes of `queue_bytes` below which less takes no less memory: a chunk that is larger than what is common passes alone.
    pub(crate) fn least_queue(&self) -> u64 {
        let [relays, labelers, _] = self.sources();
        kinds(relays, labelers).saturating_mul(to_u64(reserve(self.largest_chunk())))
    }

    fn largest_chunk(&self) -> usize {
        CHUNK_BYTES.saturating_add(self.socket.max_frame)
    }

    /// How many relays, labelers and listings are read.
    fn sources(&self) -> [u64; 3] {
        let count =
            |hosts: &[crate::host::Host], mode| if self.reads(mode) { to_u64(hosts.len()) } else { 0 };
        [
            count(&self.relays, Mode::Firehose),
            count(&self.labelers, Mode::Labeler),
            count(&self.relays, Mode::Backfill),
        ]
    }
}

fn kinds(relays: u64, labelers: u64) -> u64 {
    u64::from(relays > 0).saturating_add(u64::from(labelers > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsky_common::config::Environment;

    fn bound(pairs: &[(&str, &str)]) -> u64 {
        let least = [("REDIS_URL", "redis://r"), ("INGESTER_RELAY_HOSTS", "a")];
        let all = least.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut config = Config::read(Environment::from_pairs(all)).unwrap();
        config.decoders = 2;
        config.sum_of_memory()
    }

    #[test]
    fn it_follows_the_settings() {
        let firehose = bound(&[("INGESTER_MODE", "firehose")]);
        println!("one relay: {} MiB", firehose >> 20);
        let more = bound(&[("INGESTER_MODE", "firehose"), ("INGESTER_QUEUE_BYTES", "128MiB")]);
        assert_eq!(more - firehose, 64 << 20);
        let small = bound(&[("INGESTER_MODE", "firehose"), ("INGESTER_MAX_FRAME_BYTES", "1MiB")]);
        assert!(small < firehose);
        let labels = bound(&[("INGESTER_LABELER_HOSTS", "l,m")]);
        let one = bound(&[("INGESTER_LABELER_HOSTS", "l")]);
        assert_eq!(labels - one, SHARE + 21 * (1 << 20));
        assert!(one > bound(&[]) && bound(&[]) > firehose);
    }
}
