//! What a stream endpoint sends, and where a subscriber with a cursor begins.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::frames::peek;

/// What is at a place of a generated script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A frame.
    Frame(Bytes),
    /// Nothing: a number that no frame has.
    Nothing,
    /// A message of text, which is no frame.
    Text(String),
    /// Silence for so long, and then the next.
    Silence(Duration),
    /// So many bytes of a frame's message, and the end of the connection in the middle of it.
    Cut(Bytes, usize),
    /// A frame after which the connection is closed with this code of RFC 6455.
    Last(Bytes, u16),
    /// The end of the connection, without a word.
    Reset,
}

type Maker = Arc<dyn Fn(u64) -> Sent + Send + Sync>;
type Oldest = Arc<dyn Fn() -> u64 + Send + Sync>;
type Greet = Arc<dyn Fn(bool) -> Option<Greeting> + Send + Sync>;

/// What becomes of a subscriber that could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// To a cursor that is known: `FutureCursor`, and the end of the connection.
    Future,
    /// To a cursor that is kept: `OutdatedCursor`, and then all that follows the cursor.
    Outdated,
    /// Without a cursor: what comes next, as of a real relay, and not the beginning.
    Live,
}

/// The frames of one stream endpoint, in order: a fixed list, or a generator by seq.
#[derive(Clone, Default)]
pub struct Script {
    generated: Option<Generated>,
    fixed: Vec<Entry>,
    greet: Option<Greet>,
}

#[derive(Clone)]
struct Generated {
    first_seq: u64,
    count: u64,
    make: Maker,
    /// The first seq that can still be made; `None`: all can.
    oldest: Option<Oldest>,
}

#[derive(Clone, Debug)]
struct Entry {
    seq: Option<u64>,
    frame: Bytes,
}

impl Script {
    /// Frames with their seqs, which need not be what the frames say.
    pub fn fixed(frames: Vec<(Option<u64>, Bytes)>) -> Self {
        let fixed = frames.into_iter().map(|(seq, frame)| Entry { seq, frame }).collect();
        Self { generated: None, fixed, greet: None }
    }

    /// Frames without seqs, which no cursor passes over.
    pub fn unnumbered(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self::fixed(frames.into_iter().map(|frame| (None, frame)).collect())
    }

    /// Frames whose seqs are read from them.
    pub fn frames(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self::fixed(frames.into_iter().map(|frame| (peek(&frame).seq, frame)).collect())
    }

    /// Frames made on demand, for ever, from `first_seq` on. The generator may be called for the same seq any number
    /// of times, once per subscriber.
    pub fn endless(first_seq: u64, make: impl Fn(u64) -> Bytes + Send + Sync + 'static) -> Self {
        Self::generated(first_seq, u64::MAX - first_seq, make)
    }

    /// `count` frames made on demand, from `first_seq` on.
    pub fn generated(
        first_seq: u64,
        count: u64,
        make: impl Fn(u64) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(move |seq| Sent::Frame(make(seq)));
        Self { generated: Some(Generated { first_seq, count, make, oldest: None }), ..Self::default() }
    }

    /// `count` places from `first_seq` on, of which only those from `oldest` on are kept: who asks for earlier ones is told `OutdatedCursor` and
    /// begins there. `oldest` never falls.
    pub fn kept(
        first_seq: u64,
        count: u64,
        make: impl Fn(u64) -> Sent + Send + Sync + 'static,
        oldest: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let generated = Generated { first_seq, count, make: Arc::new(make), oldest: Some(Arc::new(oldest)) };
        Self { generated: Some(generated), ..Self::default() }
    }

    /// Says this to subscribers that could be served: asked for each of them, whether it has a cursor.
    #[must_use]
    pub fn greeting(mut self, greet: impl Fn(bool) -> Option<Greeting> + Send + Sync + 'static) -> Self {
        self.greet = Some(Arc::new(greet));
        self
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generated = self.generated.as_ref().map(|generated| (generated.first_seq, generated.count));
        f.debug_struct("Script").field("generated", &generated).field("fixed", &self.fixed.len()).finish()
    }
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At this position of the log.
    At(u64),
    /// What follows the cursor is not kept any more: `OutdatedCursor`, and then from this position on.
    Outdated(u64),
    /// The cursor is beyond the last seq: `FutureCursor`.
    Future,
}

/// A script that frames can be appended to while it is served. Positions count from 0; the frames of a generator
/// come first.
pub(super) struct Log {
    generated: Option<Generated>,
    greet: Option<Greet>,
    tail: RwLock<Vec<Entry>>,
    length: watch::Sender<u64>,
    /// The position after the last frame sent to anyone: where "live" is for a generator.
    head: watch::Sender<u64>,
}

impl Log {
    pub(super) fn new(script: Script) -> Self {
        let length = script.generated.as_ref().map_or(0, |generated| generated.count);
        let length = length.saturating_add(script.fixed.len() as u64);
        Self {
            generated: script.generated,
            greet: script.greet,
            tail: RwLock::new(script.fixed),
            length: watch::Sender::new(length),
            head: watch::Sender::new(0),
        }
    }

    pub(super) fn push(&self, frame: Bytes) {
        let entry = Entry { seq: peek(&frame).seq, frame };
        self.tail.write().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.length.send_modify(|length| *length = length.saturating_add(1));
    }

    /// Wakes when a frame is appended.
    pub(super) fn growth(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }

    pub(super) fn length(&self) -> u64 {
        *self.length.borrow()
    }

    pub(super) fn get(&self, position: u64) -> Option<Sent> {
        let made = match &self.generated {
            Some(generated) if position < generated.count => {
                return Some((generated.make)(generated.first_seq + position));
            }
            generated => generated.as_ref().map_or(0, |generated| generated.count),
        };
        let index = usize::try_from(position - made).ok()?;
        self.tail
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(index)
            .map(|entry| Sent::Frame(entry.frame.clone()))
    }

    pub(super) fn note_sent(&self, position: u64) {
        self.head.send_if_modified(|head| {
            let ahead = position > *head;
            *head = position.max(*head);
            ahead
        });
    }

    /// `None` is a subscriber without a cursor: it begins at the beginning, or at the end with `from_end`.
    ///
    /// With a cursor it begins at the first frame with a greater seq, or at the frames without a seq just before that.
    pub(super) fn start(&self, cursor: Option<u64>, from_end: bool) -> Start {
        let start = self.place(cursor, from_end);
        let (Start::At(position), Some(greet)) = (start, &self.greet) else { return start };
        match (greet(cursor.is_some()), cursor) {
            (Some(Greeting::Future), Some(_)) => Start::Future,
            (Some(Greeting::Outdated), Some(_)) => Start::Outdated(position),
            (Some(Greeting::Live), None) => self.place(None, true),
            _ => start,
        }
    }

    fn place(&self, cursor: Option<u64>, from_end: bool) -> Start {
        let oldest = self.generated.as_ref().and_then(|generated| {
            let oldest = generated.oldest.as_ref()?;
            Some(oldest().saturating_sub(generated.first_seq))
        });
        let Some(cursor) = cursor else {
            return Start::At(match (&self.generated, from_end) {
                (_, false) => oldest.unwrap_or(0),
                (Some(generated), true) if oldest.is_some() || generated.count > u64::from(u32::MAX) => {
                    oldest.unwrap_or(0).max(*self.head.borrow())
                }
                (_, true) => self.length(),
            });
        };
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let made = self.generated.as_ref().map_or(0, |generated| generated.count);
        let last_made = self.generated.as_ref().and_then(|g| g.count.checked_sub(1).map(|n| g.first_seq + n));
        let last = tail.iter().filter_map(|entry| entry.seq).max().max(last_made);
        if cursor > last.unwrap_or(0) {
            return Start::Future;
        }
        if let Some(generated) = &self.generated
            && last_made.is_some_and(|last| cursor < last)
        {
            let next = (cursor + 1).saturating_sub(generated.first_seq);
            return match oldest {
                Some(oldest) if next < oldest => Start::Outdated(oldest),
                _ => Start::At(next),
            };
        }
        let next =
            tail.iter().position(|entry| entry.seq.is_some_and(|seq| seq > cursor)).unwrap_or(tail.len());
        let before = tail.get(..next).unwrap_or_default();
        let unnumbered = before.iter().rev().take_while(|entry| entry.seq.is_none()).count();
        Start::At(made + (next - unnumbered) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::frames;
    use super::*;

    fn log() -> Log {
        let seqs = [Some(1), Some(3), None, Some(7), None];
        Log::new(Script::fixed(seqs.map(|seq| (seq, Bytes::from(format!("{seq:?}")))).to_vec()))
    }

    #[test]
    fn a_cursor_continues_after_its_seq_and_keeps_unnumbered_frames() {
        let log = log();
        for (cursor, position) in [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (6, 2), (7, 4)] {
            assert_eq!(log.start(Some(cursor), false), Start::At(position), "cursor {cursor}");
        }
        assert_eq!(log.start(Some(8), false), Start::Future);
    }

    #[test]
    fn no_cursor_is_the_beginning_or_the_end() {
        assert_eq!(log().start(None, false), Start::At(0));
        assert_eq!(log().start(None, true), Start::At(5));
        assert_eq!(Log::new(Script::default()).start(Some(0), false), Start::At(0));
    }

    #[test]
    fn a_generator_is_followed_by_appended_frames() {
        let log = Log::new(Script::generated(10, 3, |seq| Bytes::from(seq.to_string())));
        log.push(frames::unknown(20, "#x"));
        let length = |sent| match sent {
            Sent::Frame(frame) => frame.len(),
            other => panic!("{other:?} is no frame"),
        };
        let all: Vec<_> = (0..5).map(|position| log.get(position).map(length)).collect();
        assert_eq!(all[..3], [Some(2), Some(2), Some(2)]);
        assert!(all[3].is_some_and(|length| length > 2) && all[4].is_none());
        for (cursor, position) in [(0, 0), (9, 0), (10, 1), (11, 2), (12, 3), (19, 3), (20, 4)] {
            assert_eq!(log.start(Some(cursor), false), Start::At(position), "cursor {cursor}");
        }
        assert_eq!(log.start(Some(21), false), Start::Future);
    }

    #[test]
    fn what_is_not_kept_is_outdated() {
        let log = Log::new(Script::kept(10, 20, |_| Sent::Nothing, || 15));
        for (cursor, start) in
            [(0, Start::Outdated(5)), (13, Start::Outdated(5)), (14, Start::At(5)), (28, Start::At(19))]
        {
            assert_eq!(log.start(Some(cursor), false), start, "cursor {cursor}");
        }
        assert_eq!(log.start(None, false), Start::At(5));
        log.note_sent(7);
        assert_eq!(log.start(None, true), Start::At(7));
        assert_eq!(log.start(Some(30), false), Start::Future);
    }

    #[test]
    fn who_comes_may_be_greeted_with_what_is_not_so() {
        let greetings = Mutex::new(vec![Greeting::Live, Greeting::Outdated, Greeting::Future]);
        let script = Script::kept(10, 20, |_| Sent::Nothing, || 10);
        let log = Log::new(script.greeting(move |_| greetings.lock().ok()?.pop()));
        log.note_sent(7);
        assert_eq!([(); 2].map(|()| log.start(Some(14), false)), [Start::Future, Start::Outdated(5)]);
        assert_eq!([(); 2].map(|()| log.start(None, false)), [Start::At(7), Start::At(0)]);
        assert_eq!(log.start(Some(14), false), Start::At(5));
    }

    #[test]
    fn live_on_an_endless_generator_is_after_what_was_sent() {
        let log = Log::new(Script::endless(10, |_| Bytes::new()));
        log.note_sent(7);
        log.note_sent(5);
        assert_eq!(log.start(None, true), Start::At(7));
    }
}
