//! What the writer does when the past is not what it left: a Redis that went back, a second ingester, a host that begins
//! anew.

use std::time::Duration;

use rsky_common::redis::{Batch, Found, LinkError, Outcome};
use rsky_common::runtime::CancellationToken;
use tokio::time::Instant;

use super::writing::{Mode, Writing};
use crate::place::{Change, Place, change, number};

/// Time between two looks at the stored cursor while there is nothing to write: a Redis that went back is noticed
/// although its host is quiet.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Time between two complaints about somebody else's cursor.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Writing {
    /// Where to read on. The cursor in Redis decides if somebody else changed it (the other implementation, an
    /// operator); otherwise what was seen, which frames that do not move the cursor may have brought further.
    pub(super) async fn place(&mut self, probe: bool) -> Result<Place, LinkError> {
        let found = self.sink.writer.look().await?;
        self.last_look = Instant::now();
        self.over = CancellationToken::new();
        let place = |after| Place { after, probe: false, over: self.over.clone() };
        let stored = match number(self.sink.writer.key(), found.stored.as_deref()) {
            Ok(stored) => stored,
            Err(why) => return Ok(place(Err(why))),
        };
        let place = place(Ok(None));
        if self.settled && (stored != self.cursor || found.doubtful) {
            self.note_change(&found, change(&found, self.cursor));
            self.forget();
        }
        if !self.settled {
            self.began = stored;
        }
        (self.settled, self.cursor, self.mode) = (true, stored, Mode::Write);
        self.written_elsewhere = None;
        self.sink.source.note(|state| state.cursor = stored.map(|cursor| cursor.to_string()));
        if let (true, Some(cursor)) = (probe, stored) {
            self.mode = Mode::Probe(cursor);
            self.sequence.begin(stored);
            return Ok(Place { probe: true, ..place });
        }
        // Without a cursor in Redis a relay would start live, over a hole, if this process has written anything.
        let after = stored.max(self.seen).or(self.began.filter(|_| self.wrote));
        self.sequence.begin(after);
        Ok(Place { after: Ok(after), ..place })
    }

    /// The cursor turned out to be another while a batch was to be written, whose highest number is `reaches`.
    pub(super) fn moved(&mut self, found: &Found, reaches: Option<i64>) {
        let change = change(found, self.cursor);
        self.note_change(found, change);
        match change {
            // Another one has written all of it, with the cursor: nothing is left to be done.
            Change::Ahead(stored) if reaches.is_some_and(|reaches| reaches <= stored) => {
                let after = self.written_elsewhere.map(|(after, _)| after).or(self.cursor);
                self.written_elsewhere = Some((after.unwrap_or(i64::MIN), stored));
                (self.cursor, self.seen) = (Some(stored), self.seen.max(Some(stored)));
                let dropped = self.backlog.drop_through(stored);
                self.sink.source.done(dropped, None);
            }
            Change::Ahead(stored) => self.read_again(Some(stored)),
            Change::Back(stored) => self.read_again(stored),
            Change::Unreadable => self.read_again(None),
        }
    }

    /// Drops what is in hand and makes the reader start from what is stored.
    fn read_again(&mut self, stored: Option<i64>) {
        let dropped = self.backlog.clear();
        self.sink.source.done(dropped, None);
        self.forget();
        self.cursor = stored;
        self.waiting_since = None;
        self.mode = Mode::Drop;
        self.over.cancel();
    }

    /// What is remembered as written may be lost.
    fn forget(&mut self) {
        self.seen = None;
        if let Some(duplicates) = &self.sink.duplicates {
            duplicates.forget();
        }
        if let Some(resyncs) = &self.sink.resyncs {
            resyncs.forget();
        }
    }

    fn note_change(&mut self, found: &Found, change: Change) {
        let (source, key) = (&self.sink.source, self.sink.writer.key());
        let stored = found
            .stored
            .as_deref()
            .map_or_else(|| "gone".to_owned(), |stored| rsky_common::admin::shown(stored, 40));
        let ours = self.cursor.map_or_else(|| "none".to_owned(), |ours| ours.to_string());
        let (direction, said) = match change {
            Change::Ahead(_) => (
                "ahead",
                format!(
                    "the cursor {key} is {stored}, this process left {ours}: somebody else reads this host as well, a second ingester? What it has written is not written again; stop one of the two"
                ),
            ),
            Change::Back(_) if found.stored.as_deref() == Some(&ours) => (
                "doubtful",
                format!(
                    "what was written after the cursor {key} ({ours}) may be lost with the connection to Redis; reading again from there"
                ),
            ),
            Change::Back(_) | Change::Unreadable => (
                "back",
                format!(
                    "the cursor {key} is {stored}, this process left {ours}: Redis has lost what was written since, or somebody set it back; reading again from there"
                ),
            ),
        };
        self.sink.metrics.cursor_changed(source, direction);
        let often =
            direction == "ahead" && self.last_complaint.is_some_and(|at| at.elapsed() < COMPLAIN_EVERY);
        if !often {
            self.last_complaint = Some(Instant::now());
            tracing::warn!(source = source.name(), "{said}");
        }
        source.note(|state| state.last_error = Some(said));
    }

    /// While nothing comes: is the cursor still what it was, has a quiet host begun anew?
    pub(super) async fn look_around(&mut self) -> Result<(), LinkError> {
        self.judge_sequence().await?;
        if self.settled && self.mode == Mode::Write && self.last_look.elapsed() >= LOOK_EVERY {
            self.last_look = Instant::now();
            if let Some(found) = self.sink.writer.check().await? {
                self.moved(&found, self.seen);
            }
        }
        Ok(())
    }

    /// Follows a host whose numbers have begun anew.
    pub(super) async fn judge_sequence(&mut self) -> Result<(), LinkError> {
        match self.mode {
            Mode::Drop => Ok(()),
            Mode::Write => match self.sequence.begun_anew(Instant::now()) {
                Some(highest) => self.follow(highest).await,
                None => Ok(()),
            },
            Mode::Probe(cursor) => {
                if self.sequence.highest().is_some_and(|highest| highest > cursor) {
                    tracing::info!(
                        source = self.sink.source.name(),
                        cursor,
                        "the host has come to know the cursor"
                    );
                    self.mode = Mode::Drop;
                    self.over.cancel();
                } else if self.sequence.begun_anew(Instant::now()).is_some() {
                    // Nothing of this was written. The new sequence is short: all of it is read.
                    let missing = "What it keeps is read from its beginning";
                    self.set_cursor(cursor, 0, missing).await?;
                    self.mode = Mode::Drop;
                    self.over.cancel();
                }
                Ok(())
            }
        }
    }

    /// What came in the new sequence is written, then the cursor goes down to it.
    async fn follow(&mut self, highest: i64) -> Result<(), LinkError> {
        let before = self.sequence.highest().unwrap_or_default();
        self.write_all().await?;
        if self.mode == Mode::Write {
            let missing = "What it sent while nobody was connected may be missing";
            self.set_cursor(before, highest, missing).await?;
        }
        Ok(())
    }

    async fn set_cursor(&mut self, before: i64, after: i64, missing: &str) -> Result<(), LinkError> {
        match self.sink.writer.write(&Batch::default(), Some(&after.to_string())).await? {
            Outcome::Written { .. } => {
                let source = &self.sink.source;
                tracing::warn!(
                    source = source.name(),
                    before,
                    after,
                    "the host's sequence numbers have begun anew (it was reset or replaced): the cursor follows. {missing}"
                );
                self.sink.metrics.sequence_began_anew(source);
                self.sink.metrics.position(source, Some(after));
                (self.cursor, self.seen, self.began) = (Some(after), Some(after), Some(after));
                self.sequence.begin(Some(after));
                source.note(|state| state.cursor = Some(after.to_string()));
            }
            Outcome::Moved(found) => self.moved(&found, None),
        }
        Ok(())
    }
}
