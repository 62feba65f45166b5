//! The events of the index and growth benchmarks.

use rsky_testnet::network::load::{EventMix, EventOptions, StreamEvents, stream_events};

/// `count` entries of the live stream, the same for the same seed: everything but profiles, whose handles would have to
/// be resolved.
pub(super) fn seeded(seed: u64, count: u64) -> impl Iterator<Item = String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    endless(seed).take(count)
}

fn endless(seed: u64) -> StreamEvents {
    stream_events(EventOptions { seed, mix: EventMix::Full, ..EventOptions::default() })
}

/// The same events in pieces, as long as somebody wants more; nothing is kept but what the generator itself remembers,
/// so that each piece likes, answers, updates and deletes what earlier ones made.
pub(super) struct Growing {
    events: StreamEvents,
    rows: u64,
    deleted: u64,
}

impl Growing {
    pub(super) fn new(seed: u64) -> Self {
        Self { events: endless(seed), rows: 0, deleted: 0 }
    }

    /// Rows of `record` when everything that was given has been indexed, those of deleted records among them (INDEXING
    /// 2.4). No two records of the load have one uri.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many of them are of deleted records.
    pub(super) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// The next events, up to the one that makes the `rows`-th row.
    pub(super) fn up_to(&mut self, rows: u64) -> impl Iterator<Item = String> {
        std::iter::from_fn(move || {
            if self.rows >= rows {
                return None;
            }
            let event = self.events.next()?;
            if event.starts_with(r#"{"type":"create""#) {
                self.rows += 1;
            } else if event.starts_with(r#"{"type":"delete""#) {
                self.deleted += 1;
            }
            Some(event)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_events_and_end_at_their_number_of_rows() {
        let mut growing = Growing::new(3);
        let mut all: Vec<String> = growing.up_to(700).collect();
        assert_eq!(growing.rows(), 700);
        all.extend(growing.up_to(1_000));
        assert_eq!((growing.rows(), growing.up_to(1_000).count()), (1_000, 0));
        let whole: Vec<String> = seeded(3, all.len() as u64).collect();
        assert!(all == whole, "the pieces are other events");
        let of = |kind: &str| {
            let start = format!(r#"{{"type":"{kind}""#);
            whole.iter().filter(|event| event.starts_with(&start)).count()
        };
        assert_eq!(of("create"), 1_000);
        assert_eq!(of("delete") as u64, growing.deleted());
        assert_eq!(of("create") + of("delete") + of("update"), whole.len());
        assert!(of("delete") > 10 && of("update") > 5);
    }
}
