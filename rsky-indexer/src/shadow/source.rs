//! A stream, watched: its entries as they come, taken apart, with the memory that each takes; and what is known of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rsky_common::redis::tail::{self, StreamState, Tail};
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::budget::{ByteBudget, Charge};
use tokio::sync::mpsc;

use super::gaps::{Gaps, Look};
use super::item::{Reading, read_event, read_labels};
use crate::acks::entry_id;
use crate::engine::Statements;
use crate::identity::EntryId;
use crate::job::Payload;
use crate::kind::{Events, Kind as _, Labels};
use crate::prepare::TREE;

/// How long a read waits at the end of a stream.
pub(super) const BLOCK: Duration = Duration::from_secs(1);
/// Time between two looks at how many entries there were.
const EVERY: Duration = Duration::from_secs(2);

/// A stream and who reads it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) labels: bool,
}

/// What a stream brings.
#[derive(Debug)]
pub(super) enum News {
    /// An entry.
    Entry { source: usize, id: EntryId, reading: Reading, charge: Charge },
    /// The stream is another than it was: what was read of it says nothing about what stands there now.
    Anew { source: usize },
}

/// What is known of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Entries that were read.
    pub(super) read: u64,
    /// The last of them, or where reading began.
    pub(super) after: EntryId,
    /// Entries that were deleted before they were read; `None`: the server does not count.
    pub(super) missed: Option<u64>,
    /// When it was known last that some were.
    pub(super) missed_at: Option<Instant>,
    /// Of what was to be read at the beginning, whether some had been deleted already.
    pub(super) began_late: bool,
    /// Whether reading waits for room.
    pub(super) full: bool,
}

/// [`Known`] for several.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Known>>);

impl Shared {
    pub(super) fn get(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a stream until it is stopped.
pub(super) struct Watcher {
    number: usize,
    source: Source,
    statements: Arc<Statements>,
    link: RedisLink,
    tail: Tail,
    gaps: Gaps,
    looked: Option<Instant>,
    known: Shared,
    room: ByteBudget,
    /// Of trees, over all streams ([`crate::prepare`]).
    trees: ByteBudget,
    news: mpsc::Sender<News>,
}

impl Watcher {
    /// Reads behind an id; `state` is how the stream stands now.
    pub(super) fn new(
        (number, source): (usize, Source),
        statements: Arc<Statements>,
        (link, state, after): (RedisLink, Option<&StreamState>, String),
        [room, trees]: [ByteBudget; 2],
        news: mpsc::Sender<News>,
    ) -> Self {
        let (gaps, known) = (Gaps::new(state), Shared::default());
        let deleted = state.and_then(|state| state.deleted.as_deref()).map(entry_id);
        {
            let mut known = known.lock();
            known.after = entry_id(&after);
            known.missed = gaps.missed();
            known.began_late = deleted.is_some_and(|deleted| deleted > known.after);
        }
        let tail = Tail::new(&source.stream, after);
        Self { number, source, statements, link, tail, gaps, looked: None, known, room, trees, news }
    }

    pub(super) fn known(&self) -> Shared {
        self.known.clone()
    }

    /// Reads until it is stopped, or nobody listens.
    ///
    /// # Errors
    /// Redis refuses for a reason that stays.
    pub(super) async fn watch(mut self) -> Result<(), LinkError> {
        let stop = self.link.stop().clone();
        loop {
            let step = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                step = self.step() => step,
            };
            match step {
                Ok(true) => self.link.succeeded(),
                Ok(false) => return Ok(()),
                Err(error) => match self.link.wait_out(error).await {
                    Ok(()) => {}
                    Err(LinkError::Stopped) => return Ok(()),
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// `false`: nobody listens any more.
    async fn step(&mut self) -> Result<bool, LinkError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= EVERY) {
            let state = tail::state(&mut self.link, &self.source.stream).await?;
            self.looked = Some(Instant::now());
            if self.gaps.look(state.as_ref(), entry_id(self.tail.after())) == Look::Anew {
                self.tail.rewind();
                self.gaps = Gaps::new(None);
                self.known.lock().after = (0, 0);
                return Ok(self.news.send(News::Anew { source: self.number }).await.is_ok());
            }
        }
        let caught = self.tail.read(&mut self.link, BLOCK).await?;
        let mut more = false;
        for entry in &caught.entries {
            more |= self.gaps.saw(entry_id(&entry.id));
        }
        more |= caught.at_end && self.gaps.at_end();
        {
            let mut known = self.known.lock();
            known.missed = self.gaps.missed();
            if more {
                known.missed_at = Some(Instant::now());
            }
        }
        for mut entry in caught.entries {
            let fields = if self.source.labels { Labels::FIELDS } else { Events::FIELDS };
            let payload = Payload::of(fields, &mut entry);
            let id = entry_id(&entry.id);
            if !self.send(id, &payload).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn send(&mut self, id: EntryId, payload: &Payload) -> bool {
        let reading = {
            let _tree = self.trees.charge(TREE.saturating_mul(payload.len())).await;
            let read = if self.source.labels { read_labels } else { read_event };
            read(&self.statements, payload)
        };
        self.known.lock().full = !self.room.has_room(reading.bytes);
        let charge = self.room.charge(reading.bytes).await;
        {
            let mut known = self.known.lock();
            known.full = false;
            known.read = known.read.saturating_add(1);
            known.after = id;
        }
        let source = self.number;
        self.news.send(News::Entry { source, id, reading, charge }).await.is_ok()
    }
}
