//! When records of the load were sent, for those who measure how long they take to arrive somewhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use rsky_common::clock::now_us;

use super::commits::CommitRing;

/// A file of lines `<microseconds since 1970> <number of the frame> <URI>`, one for every n-th record that is created,
/// written when its frame is handed to a socket; and one without URI for the last frame.
///
/// Frames count from 1. Each is noted once, however many read it, and not again when the ring comes round.
#[derive(Debug)]
pub struct Notes {
    file: File,
    sampled: HashMap<u64, String>,
    last: u64,
    noted: AtomicU64,
}

impl Notes {
    /// Notes every `every`-th record that the first `frames` frames create.
    pub fn new(ring: &CommitRing, frames: u64, every: NonZeroUsize, file: File) -> Self {
        let before_last = ring.created().take_while(|(number, _)| *number < frames);
        let sampled = before_last.step_by(every.get()).map(|(number, uri)| (number, uri.to_owned()));
        Self { file, sampled: sampled.collect(), last: frames, noted: AtomicU64::new(0) }
    }

    /// The frame with this number is handed to a socket now.
    pub(super) fn sent(&self, number: u64) {
        let uri = self.sampled.get(&number).map(String::as_str);
        if uri.is_none() && number != self.last {
            return;
        }
        if self.noted.fetch_max(number, Ordering::Relaxed) >= number {
            return;
        }
        let now = now_us();
        let line = match uri {
            Some(uri) => format!("{now} {number} {uri}\n"),
            None => format!("{now} {number}\n"),
        };
        // In one piece, past any buffer: somebody is waiting for it.
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            tracing::error!(%error, "a note is lost");
        }
    }
}
