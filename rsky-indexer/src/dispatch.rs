//! Gives lanes their batches, in an order that has the outcome of the stream's ([`crate::order`]).
//!
//! ```text
//! pages, read ─► claims, look ─► queue ─► batch for an idle lane ─► done ─► settle
//!                                  ▲                                  │
//!                                  └── what depended on it ◄──────────┤
//!                          set aside: rows held by somebody else ◄────┘ (tried again with a growing pause)
//! ```
//!
//! One task decides; everything it does at once is in memory. Bounded: [`Sizes::most`] entries and a page wait or are set aside,
//! each lane holds one batch, and all of them are charged to the byte budget since they were read. When room is short, what
//! fails by itself is put back into the stream.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rsky_common::runtime::budget::ByteBudget;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acks::Fate;
use crate::aside::{Held, SetAside, Telling};
use crate::isolate::Written;
use crate::job::Job;
use crate::kind::Kind;
use crate::looker::{Answer, Looker};
use crate::order::claims::Rules;
use crate::order::look::Question;
use crate::order::queue::Limits;
use crate::order::registry::{Registered, Registry};
use crate::order::{Claims, Entry, Keys, Queue};
use crate::outcome::{self, Outcome};
use crate::prepare::Prepared;
use crate::settle::Settled;
use crate::supply::Supply;

/// Most bytes of one transaction, unless its only entry is larger. On their way into the database they stand in
/// memory about four times (payload, record, statement, connection), once a lane; what merely waits stands there once.
const BATCH_BYTES: usize = 4 << 20;

/// How long a lane waits for a full batch while more is about to come.
const PATIENCE: Duration = Duration::from_millis(100);

/// An entry on its way through the lanes.
#[derive(Debug)]
pub struct Pending<T> {
    /// The entry.
    pub job: Job,
    /// What it asks for.
    pub item: T,
    registered: Registered,
}

/// What a lane is to write.
pub struct Batch<K: Kind> {
    /// In stream order.
    pub entries: Vec<Entry<Pending<K::Item>>>,
    /// The rows that they need and somebody held a moment ago, if there are such.
    pub held: Option<Held>,
}

/// What a lane has written.
pub struct Done<K: Kind> {
    /// Which lane.
    pub lane: usize,
    /// What it was given.
    pub batch: Batch<K>,
    /// What became of it.
    pub written: Written,
}

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Most entries of a transaction.
    pub batch: usize,
    /// Most entries that wait for a lane or are set aside.
    pub most: usize,
}

impl Sizes {
    /// For lanes with batches of this size: a batch more for each, so that there is enough beside what waits for others.
    pub fn of(batch: usize, lanes: usize) -> Self {
        Self { batch, most: batch.saturating_mul(lanes).max(4000) }
    }
}

/// The ways in and out.
pub struct Ways<K: Kind> {
    /// Pages of entries, in stream order.
    pub pages: mpsc::Receiver<Vec<Prepared<K::Item>>>,
    /// One a lane, with room for one batch.
    pub lanes: Vec<mpsc::Sender<Batch<K>>>,
    /// From the lanes.
    pub done: mpsc::Receiver<Done<K>>,
    /// To the end.
    pub settle: mpsc::Sender<Settled>,
}

type LookedAt<T> = (Looker, Vec<Entry<Pending<T>>>, Answer);
type Looking<T> = Pin<Box<dyn Future<Output = LookedAt<T>> + Send>>;

/// See the module.
pub struct Dispatch<K: Kind> {
    ways: Ways<K>,
    idle: Vec<usize>,
    sizes: Sizes,
    keys: Keys,
    registry: Registry,
    queue: Queue<Pending<K::Item>>,
    aside: SetAside<K>,
    rules: Rules,
    looker: Option<Looker>,
    looking: Option<Looking<K::Item>>,
    /// Entries that are to be asked about, in stream order: a page, or the parts of one whose question failed.
    to_look_at: VecDeque<Vec<Entry<Pending<K::Item>>>>,
    /// Whether they are such parts.
    in_parts: bool,
    supply: Supply,
    /// Bytes of entries on their way, over all streams.
    budget: ByteBudget,
    /// Entries about which nothing could be asked any more.
    unanswered: Vec<Entry<Pending<K::Item>>>,
    /// Until when an idle lane waits for a full batch.
    patience: Option<Instant>,
    open: bool,
    stop: CancellationToken,
}

impl<K: Kind> Dispatch<K> {
    /// `looker` is asked about what is stored; `telling` tells what is held.
    pub fn new(
        ways: Ways<K>,
        sizes: Sizes,
        looker: Looker,
        supply: Supply,
        budget: ByteBudget,
        telling: Telling,
        stop: CancellationToken,
    ) -> Self {
        Self {
            idle: (0..ways.lanes.len()).rev().collect(),
            ways,
            sizes,
            keys: Keys::default(),
            registry: Registry::default(),
            queue: Queue::default(),
            aside: SetAside::new(telling),
            rules: looker.rules(),
            looker: Some(looker),
            looking: None,
            to_look_at: VecDeque::new(),
            in_parts: false,
            supply,
            budget,
            unanswered: Vec::new(),
            patience: None,
            open: true,
            stop,
        }
    }

    /// Works until there are no more pages and everything is done, or cannot be done any more because the process stops.
    ///
    /// # Errors
    /// None: a stage that is gone ends this one.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            if !self.put_back().await {
                return Ok(());
            }
            self.hand_out();
            if self.is_at_the_end() {
                self.abandon_the_rest().await;
                return Ok(());
            }
            let for_a_lane = [self.patience, self.aside.next_try()];
            let wake = wake(for_a_lane, !self.idle.is_empty(), self.aside.next_word());
            let may_take_in = self.open && self.looking.is_none() && self.room() > 0;
            tokio::select! {
                biased;
                done = self.ways.done.recv() => {
                    let Some(done) = done else { return Ok(()) };
                    if !self.take_back(done).await {
                        return Ok(());
                    }
                }
                (looker, entries, answer) = looked(&mut self.looking), if self.looking.is_some() => {
                    self.looking = None;
                    self.looker = Some(looker);
                    self.take_answer(entries, answer);
                    self.look();
                }
                page = self.ways.pages.recv(), if may_take_in => match page {
                    Some(page) => {
                        if !self.take_in(page).await {
                            return Ok(());
                        }
                    }
                    None => self.open = false,
                },
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
    }

    /// How many more entries may wait.
    fn room(&self) -> usize {
        self.sizes.most.saturating_sub(self.queue.len() + self.aside.len())
    }

    /// Takes pages in: what they claim is known, or is being looked up.
    async fn take_in(&mut self, first: Vec<Prepared<K::Item>>) -> bool {
        let mut settled: Settled = Vec::new();
        let mut entries: Vec<Entry<Pending<K::Item>>> = Vec::new();
        let most = self.sizes.batch.min(self.room());
        let mut page = Some(first);
        while let Some(prepared) = page.take() {
            for prepared in prepared {
                match prepared {
                    Prepared::Work(job, item) => entries.push(self.enter(job, item)),
                    Prepared::Settled(job, fate) => {
                        job.source.started(1);
                        settled.push((job, fate));
                    }
                }
            }
            if entries.len() < most {
                page = self.ways.pages.try_recv().ok();
            }
        }
        if !settled.is_empty() && self.ways.settle.send(settled).await.is_err() {
            return false;
        }
        self.to_look_at.push_back(entries);
        self.look();
        true
    }

    /// Asks about what is next to be asked about.
    fn look(&mut self) {
        while let Some(looker) = self.looker.take_if(|_| !self.to_look_at.is_empty()) {
            let entries = self.to_look_at.pop_front().unwrap_or_default();
            let works = entries.iter().map(|entry| (K::work(&entry.item.item), &entry.item.registered));
            let question = Question::about(&self.registry, &self.keys, works, self.rules.notifications);
            if question.is_empty() {
                self.looker = Some(looker);
                entries.into_iter().for_each(|entry| self.queue.push(entry));
            } else {
                let (keys, stop) = (self.keys.clone(), self.stop.clone());
                let look = looker.look(question, keys, entries, self.in_parts, stop);
                self.looking = Some(Box::pin(look));
            }
        }
        self.in_parts &= self.looking.is_some();
    }

    fn take_answer(&mut self, mut entries: Vec<Entry<Pending<K::Item>>>, answer: Answer) {
        match answer {
            Answer::Fails if entries.len() > 1 => {
                let later = entries.split_off(entries.len() / 2);
                self.to_look_at.push_front(later);
                self.to_look_at.push_front(entries);
                self.in_parts = true;
            }
            Answer::Given | Answer::Fails => entries.into_iter().for_each(|entry| self.queue.push(entry)),
            Answer::Stopped => {
                // Nothing that comes later may be taken before these.
                self.open = false;
                self.ways.pages.close();
                self.unanswered = entries;
                self.unanswered.extend(self.to_look_at.drain(..).flatten());
            }
        }
    }

    fn enter(&mut self, job: Job, item: K::Item) -> Entry<Pending<K::Item>> {
        let bytes = job.payload.len();
        let mut claims = K::claims(&item, &self.keys, self.rules);
        let registered = match K::work(&item) {
            Some(work) => self.registry.enter(&self.keys, work, &mut claims),
            None => Registered::default(),
        };
        Entry { item: Box::new(Pending { job, item, registered }), claims, bytes }
    }

    /// Leaves what fails by itself pending in the stream, where it leaves too little room; what depends on it goes on.
    async fn put_back(&mut self) -> bool {
        self.aside.tell_in_time();
        if !self.is_short_of_room() {
            return true;
        }
        let entries = self.aside.take_failing();
        if entries.is_empty() {
            return true;
        }
        let mut settled: Settled = Vec::with_capacity(entries.len());
        for Entry { item, claims, .. } in entries {
            self.release(&claims, &item.registered);
            settled.push((item.job, Fate::PutBack));
        }
        warn!(
            entries = settled.len(),
            "they fail by themselves, and room is short: left pending, to be read again"
        );
        self.aside.tell();
        self.ways.settle.send(settled).await.is_ok()
    }

    /// Whether what fails by itself takes a quarter of the room, or all that is left of it waits for that.
    fn is_short_of_room(&self) -> bool {
        let (entries, bytes) = self.aside.failing();
        if entries == 0 {
            return false;
        }
        let memory = self.budget.total();
        let is_full =
            self.room() == 0 || !self.budget.has_room(usize::try_from(memory / 8).unwrap_or(usize::MAX));
        let waits = self.idle.len() == self.ways.lanes.len() && self.queue.promising() == 0;
        entries >= self.sizes.most / 4 || bytes >= memory / 4 || (is_full && waits)
    }

    /// Gives every idle lane a batch, as far as there is one.
    fn hand_out(&mut self) {
        while let Some(lane) = self.idle.last().copied() {
            let Some(batch) = self.next_batch() else { return };
            for entry in &batch.entries {
                if batch.held.is_none() {
                    entry.item.job.source.started(1);
                }
            }
            self.idle.pop();
            // An idle lane has room. One that is gone has ended with an error, and so does the process.
            if let Some(Err(_)) = self.ways.lanes.get(lane).map(|way| way.try_send(batch)) {
                warn!(lane, "a lane is gone");
            }
        }
    }

    fn next_batch(&mut self) -> Option<Batch<K>> {
        let now = Instant::now();
        if let Some(batch) = self.aside.due(now) {
            return Some(batch);
        }
        let promising = self.queue.promising();
        if promising == 0 {
            self.patience = None;
            return None;
        }
        if promising < self.sizes.batch && self.open && self.supply.is_ample() {
            let until = *self.patience.get_or_insert(now + PATIENCE);
            if now < until {
                return None;
            }
        }
        self.patience = None;
        let limits = Limits { entries: self.sizes.batch, bytes: BATCH_BYTES };
        let aside = &self.aside;
        let mut entries = self.queue.take(limits, |pending| aside.is_needed(&pending.item));
        if aside.keeps_any() {
            self.queue.mark_passing(&mut entries);
        }
        (!entries.is_empty()).then_some(Batch { entries, held: None })
    }

    /// A lane is done with its batch: what is done with is released and goes to its end.
    async fn take_back(&mut self, done: Done<K>) -> bool {
        let Done { lane, batch, written } = done;
        self.idle.push(lane);
        let outcomes = outcome::of_each(written, batch.entries.len());
        let (mut held, mut rows, mut too_early) = (Vec::new(), Vec::new(), Vec::new());
        let mut settled: Settled = Vec::with_capacity(batch.entries.len());
        for (mut entry, outcome) in batch.entries.into_iter().zip(outcomes) {
            let fate = match outcome {
                Outcome::Done(fate) => fate,
                Outcome::SetAside { rows: needed, is_new } => {
                    rows.extend(needed);
                    self.queue.set_aside(&mut entry, is_new);
                    held.push(entry);
                    continue;
                }
                Outcome::TooEarly => {
                    entry.item.job.source.not_started(1);
                    too_early.push(entry);
                    continue;
                }
            };
            let Entry { item, claims, .. } = entry;
            let Pending { job, item, registered } = *item;
            // What the process leaves undone while it stops must not be followed by what depends on it.
            if !matches!(fate, Fate::Abandoned) {
                self.release(&claims, &registered);
            }
            let fate = match (fate, K::left_to_do(item)) {
                (Fate::Indexed, Some(news)) => Fate::Left(news),
                (fate, _) => fate,
            };
            settled.push((job, fate));
        }
        if let Some(before) = &batch.held {
            self.aside.tried(before);
        }
        if !held.is_empty() {
            self.aside.put(held, rows, batch.held.as_ref());
        } else if let Some(before) = &batch.held {
            info!(entries = settled.len(), seconds = before.since.elapsed().as_secs(), "held rows are free");
        }
        self.queue.put_back(too_early);
        self.aside.tell();
        settled.is_empty() || self.ways.settle.send(settled).await.is_ok()
    }

    fn release(&mut self, claims: &Claims, registered: &Registered) {
        self.queue.release(claims);
        self.registry.leave(registered);
    }

    /// Whether nothing more will come, and nothing that is left can be done.
    fn is_at_the_end(&self) -> bool {
        let all_idle = self.idle.len() == self.ways.lanes.len();
        let nothing_to_come = !self.open && self.looking.is_none();
        let nothing_to_do =
            self.queue.promising() == 0 && (self.aside.is_empty() || self.stop.is_cancelled());
        all_idle && nothing_to_come && nothing_to_do
    }

    /// Leaves pending what could not be done before the process stops.
    async fn abandon_the_rest(&mut self) {
        let waiting = self.queue.drain().chain(self.unanswered.drain(..));
        let waiting: Vec<Job> = waiting.map(|entry| entry.item.job).collect();
        for job in &waiting {
            job.source.started(1);
        }
        let rest = waiting.into_iter().chain(self.aside.drain().map(|entry| entry.item.job));
        let settled: Settled = rest.map(|job| (job, Fate::Abandoned)).collect();
        if !settled.is_empty() {
            info!(entries = settled.len(), "left pending: they wait for rows that somebody else holds");
            // Nobody to tell: the entries stay pending either way.
            drop(self.ways.settle.send(settled).await);
        }
    }
}

async fn looked<T>(looking: &mut Option<Looking<T>>) -> LookedAt<T> {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// When there is something to do that nobody tells of. While no lane is idle, a batch whose time has come has to wait for one,
/// which tells: to ask again and again until then would take a core. A word to the outside needs no lane.
fn wake(for_a_lane: [Option<Instant>; 2], any_is_idle: bool, for_a_word: Option<Instant>) -> Option<Instant> {
    let for_a_lane = for_a_lane.into_iter().flatten().filter(|_| any_is_idle);
    for_a_lane.chain(for_a_word).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wakes_for_a_batch_that_no_lane_can_take() {
        let now = Instant::now();
        let later = now + PATIENCE;
        assert_eq!(wake([Some(later), Some(now)], true, None), Some(now));
        assert_eq!(wake([None, Some(later)], true, None), Some(later));
        assert_eq!(wake([Some(now), Some(now)], false, None), None);
        assert_eq!(wake([Some(now), Some(now)], false, Some(later)), Some(later));
        assert_eq!(wake([None, None], true, None), None);
    }
}
