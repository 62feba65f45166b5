//! What was sent and when, by the notes that the simulated network writes down.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

/// A frame that was handed to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Microseconds since 1970.
    pub(super) micros: u64,
    /// Frames up to this one.
    pub(super) number: u64,
    /// The record that it creates; `None` for the last frame of all.
    pub(super) uri: Option<String>,
}

impl Note {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (micros, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { micros, number, uri: words.next().map(str::to_owned) })
    }
}

/// The notes, as they are written.
pub(super) struct Notes<R = File> {
    file: R,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
}

impl Notes {
    /// # Errors
    /// There is no such file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, begun: Vec::new() })
    }
}

impl<R: Read> Notes<R> {
    /// Those that were written since the last call.
    ///
    /// # Errors
    /// The file cannot be read, or has something else.
    pub(super) fn new_ones(&mut self) -> Result<Vec<Note>> {
        self.file.read_to_end(&mut self.begun)?;
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.begun.split_off(end + 1);
        let whole = String::from_utf8(std::mem::replace(&mut self.begun, rest))?;
        let note = |line| Note::parse(line).with_context(|| format!("not a note: {line}"));
        whole.lines().map(note).collect()
    }
}

/// How much of the load was sent, after a warm-up.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    warm_up: u64,
    first: Option<(u64, u64)>,
    last: Option<(u64, u64)>,
    /// The last frame of all was sent.
    pub(super) complete: bool,
}

impl Progress {
    /// The first `warm_up` frames do not count.
    pub(super) fn after(warm_up: u64) -> Self {
        Self { warm_up, ..Self::default() }
    }

    /// Whether a frame is one that counts.
    pub(super) fn counts(&self, note: &Note) -> bool {
        note.number > self.warm_up
    }

    /// One more note, in order.
    pub(super) fn add(&mut self, note: &Note) {
        self.complete |= note.uri.is_none();
        if self.counts(note) {
            let at = (note.number, note.micros);
            self.first.get_or_insert(at);
            self.last = Some(at);
        }
    }

    /// Commits after the warm-up, as far as they were noted.
    pub(super) fn commits(&self) -> u64 {
        self.last.map_or(0, |(number, _)| number - self.warm_up)
    }

    /// Commits a second between the first and the last note; 0 without them.
    #[expect(clippy::cast_precision_loss, reason = "commits and microseconds of minutes are far below 2^53")]
    pub(super) fn rate(&self) -> f64 {
        match (self.first, self.last) {
            (Some((from, since)), Some((to, until))) if until > since => {
                to.saturating_sub(from) as f64 * 1e6 / (until - since) as f64
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Gives a piece for each reading to the end.
    struct Pieces(VecDeque<&'static str>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let piece = self.0.pop_front().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(piece.as_bytes());
            Ok(piece.len())
        }
    }

    #[test]
    fn lines_are_taken_when_they_are_whole() {
        let pieces = ["", "17 1 at:", "", "//a\n18 20 at://b\n19", "", " 21\n", "", "x\n", ""];
        let mut notes = Notes { file: Pieces(pieces.into()), begun: Vec::new() };
        let note = |micros, number, uri: Option<&str>| Note { micros, number, uri: uri.map(str::to_owned) };
        assert_eq!(notes.new_ones().unwrap(), []);
        assert_eq!(notes.new_ones().unwrap(), []);
        assert_eq!(notes.new_ones().unwrap(), [note(17, 1, Some("at://a")), note(18, 20, Some("at://b"))]);
        assert_eq!(notes.new_ones().unwrap(), [note(19, 21, None)]);
        assert!(notes.new_ones().is_err());
    }

    #[test]
    fn progress_begins_after_the_warm_up() {
        let mut progress = Progress::after(100);
        let note = |micros, number, uri: Option<&str>| Note { micros, number, uri: uri.map(str::to_owned) };
        progress.add(&note(5, 90, Some("a")));
        assert_eq!((progress.commits(), progress.rate()), (0, 0.0));
        progress.add(&note(1_000_000, 110, Some("b")));
        assert_eq!((progress.commits(), progress.rate()), (10, 0.0));
        progress.add(&note(1_500_000, 160, Some("c")));
        progress.add(&note(3_000_000, 310, None));
        assert_eq!((progress.commits(), progress.rate()), (210, 100.0));
        assert!(progress.complete);
    }
}
