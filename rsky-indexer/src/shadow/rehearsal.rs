//! The loop: what is read is kept until the indexer has finished it, then held against the tables, in batches.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::future::OptionFuture;
use rsky_common::admin::{Health, STARTING};
use rsky_common::redis::{LinkError, RedisLink};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::finished::{self, Finished};
use super::judge::Verdict;
use super::looker::Looker;
use super::place::{before, written};
use super::report::{Ending, Progress, Report};
use super::source::{Known, News, Shared, Source};
use super::stands::Asked;
use super::window::{Taken, Window};
use crate::identity::EntryId;

/// Items of a look at most, and the bytes of their records.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 1 << 20;
/// Time between two looks for what is finished, and longest wait for what Redis says of it.
const TICK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what was read last may take to be decided, beyond --patience.
const LAST: Duration = Duration::from_secs(60);
/// Deleted accounts that are remembered.
const MOST_GONE: usize = 10_000;

/// What the operator wishes.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Reading ends then.
    pub(super) until: Option<Instant>,
    /// Reading ends after so many entries.
    pub(super) entries: Option<u64>,
    /// Pause before what differs is looked at again; zero: it is not.
    pub(super) settle: Duration,
    /// How long an entry may be pending.
    pub(super) patience: Duration,
    /// Most items a second.
    pub(super) rate: u32,
    /// Examples of each kind of difference.
    pub(super) examples: u64,
}

/// Somebody who looks, and what came of it.
type Looking = JoinHandle<(Looker, anyhow::Result<Vec<Verdict>>)>;

/// A stream, and how far it is.
struct Watched {
    source: Source,
    known: Shared,
    /// Entries that were taken, and the last of them.
    taken: u64,
    place: EntryId,
    /// How far the group was when it was asked last; `None`: it was not there.
    delivered: Option<EntryId>,
}

/// See the module.
pub(super) struct Rehearsal {
    wish: Wish,
    watched: Vec<Watched>,
    window: Window,
    report: Report,
    gone: HashSet<String>,
    /// Asks how far the groups are.
    link: RedisLink,
    health: Health,
    stop: CancellationToken,
    /// Whose turn it is to be asked first.
    turn: usize,
    not_before: Instant,
    /// Nobody reads the report any more.
    over: bool,
}

impl Rehearsal {
    /// `sources` with what is known of each and where it begins.
    pub(super) fn new(
        wish: Wish,
        sources: Vec<(Source, Shared)>,
        link: RedisLink,
        health: Health,
        stop: CancellationToken,
    ) -> Self {
        let window = Window::new(sources.len());
        let watched = sources.into_iter().map(|(source, known)| {
            let place = known.get().after;
            Watched { source, known, taken: 0, place, delivered: Some((0, 0)) }
        });
        Self {
            wish,
            watched: watched.collect(),
            window,
            report: Report::default(),
            gone: HashSet::new(),
            link,
            health,
            stop,
            turn: 0,
            not_before: Instant::now(),
            over: false,
        }
    }

    /// Runs until it is stopped or has read what it should, and prints the summary.
    ///
    /// # Errors
    /// Redis or Postgres refuse for a reason that stays; the summary is printed all the same.
    pub(super) async fn run(
        mut self,
        looker: Looker,
        mut watchers: JoinSet<Result<(), LinkError>>,
        mut news: mpsc::Receiver<News>,
        reading: CancellationToken,
    ) -> anyhow::Result<Report> {
        let mut stderr = io::stderr();
        let is_terminal = stderr.is_terminal();
        let mut progress = Progress::new(&mut stderr, is_terminal);
        let ended = self.turn_over(looker, &mut watchers, &mut news, &reading, &mut progress).await;
        reading.cancel();
        watchers.abort_all();
        progress.clear();
        if !self.over {
            self.summary()?;
        }
        ended.map(|()| self.report)
    }

    async fn turn_over(
        &mut self,
        looker: Looker,
        watchers: &mut JoinSet<Result<(), LinkError>>,
        news: &mut mpsc::Receiver<News>,
        reading: &CancellationToken,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<()> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = Some(looker);
        let mut looking: Option<(Looking, Vec<Taken>)> = None;
        let (mut open, mut last) = (true, None);
        let stop = self.stop.clone();
        while !self.over {
            let look = OptionFuture::from(looking.as_mut().map(|(look, _)| look));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = watchers.join_next() => ended.context("watch a stream")?.context("watch a stream")?,
                Some(done) = look => {
                    let (looker, verdicts) = done.context("look at the tables")?;
                    let batch = looking.take().map(|(_, batch)| batch).unwrap_or_default();
                    idle = Some(looker);
                    progress.clear();
                    self.decide(&batch, &verdicts.context("look at the tables")?)?;
                }
                _ = tick.tick() => {
                    self.tell(progress);
                    if let Some(looker) = idle.take() {
                        match self.next_batch().await? {
                            batch if batch.is_empty() => idle = Some(looker),
                            batch => looking = Some((self.start(looker, &batch), batch)),
                        }
                    }
                    if last.is_none() && self.has_read_enough() {
                        reading.cancel();
                        // What fails for ever is compared by then.
                        last = Some(Instant::now() + self.wish.patience + self.wish.settle + LAST);
                        progress.read_all(self.read(), self.window.len());
                    }
                    let is_done = !open && looking.is_none() && self.window.len() == 0;
                    if last.is_some_and(|last| is_done || last <= Instant::now()) {
                        break;
                    }
                }
                some = news.recv(), if open => match some {
                    // What comes when there is enough is left to the next time.
                    Some(_) if last.is_some() || self.has_read_enough() => {}
                    Some(News::Entry { source, id, reading, charge }) => {
                        if let Some(watched) = self.watched.get_mut(source) {
                            watched.taken = watched.taken.saturating_add(1);
                            watched.place = id;
                        }
                        reading.passed.iter().for_each(|why| self.report.passed(why));
                        if let Some(did) = reading.gone {
                            if self.gone.len() >= MOST_GONE {
                                self.gone.clear();
                            }
                            self.gone.insert(did);
                        }
                        let replaced = self.window.add(source, id, reading.items, charge, Instant::now());
                        self.report.replaced(replaced);
                    }
                    Some(News::Anew { source }) => {
                        let lost = self.window.forget(source);
                        self.report.lost(lost);
                        if let Some(watched) = self.watched.get_mut(source) {
                            watched.place = (0, 0);
                            progress.began_anew(&watched.source.stream, lost);
                        }
                    }
                    None => open = false,
                },
            }
        }
        match (looking, idle) {
            (Some((look, _)), _) => look.abort(),
            (None, Some(looker)) => looker.close().await,
            (None, None) => {}
        }
        Ok(())
    }

    fn read(&self) -> u64 {
        self.watched.iter().map(|watched| watched.taken).sum()
    }

    fn has_read_enough(&self) -> bool {
        let enough = self.wish.entries.is_some_and(|entries| self.read() >= entries);
        enough || self.wish.until.is_some_and(|until| until <= Instant::now())
    }

    /// What the indexer has finished and nobody has looked at, as far as the rate allows.
    async fn next_batch(&mut self) -> anyhow::Result<Vec<Taken>> {
        let mut batch: Vec<Taken> = Vec::new();
        if Instant::now() < self.not_before {
            return Ok(batch);
        }
        let sources = self.watched.len();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let mut bytes = 0_usize;
        for number in (0..sources).map(|at| at.wrapping_add(turn).checked_rem(sources).unwrap_or(0)) {
            let room = BATCH.saturating_sub(batch.len());
            if room == 0 || bytes >= BATCH_BYTES || self.window.oldest(number).is_none() {
                continue;
            }
            let Some(finished) = self.finished(number, room).await? else { continue };
            for (place, overdue) in finished.places {
                if bytes >= BATCH_BYTES {
                    break;
                }
                match self.window.take(number, place, overdue) {
                    Some(taken) => {
                        bytes = bytes.saturating_add(taken.item.size());
                        batch.push(taken);
                    }
                    None => self.report.replaced(1),
                }
            }
        }
        let pause =
            f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)) / f64::from(self.wish.rate.max(1));
        self.not_before = Instant::now() + Duration::from_secs_f64(pause);
        Ok(batch)
    }

    /// `None`: that cannot be told now.
    async fn finished(&mut self, number: usize, most: usize) -> anyhow::Result<Option<Finished>> {
        let Some(watched) = self.watched.get(number) else { return Ok(None) };
        let stop = self.stop.clone();
        let asking =
            finished::find(&mut self.link, &self.window, (number, &watched.source), self.wish.patience, most);
        let asked = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            asked = timeout(PATIENCE, asking) => match asked {
                Ok(asked) => asked,
                Err(_) => return Ok(None),
            },
        };
        match asked {
            Ok(finished) => {
                self.link.succeeded();
                if let Some(watched) = self.watched.get_mut(number) {
                    watched.delivered = finished.delivered;
                }
                Ok(Some(finished))
            }
            Err(LinkError::Stopped) => Ok(None),
            Err(error) if error.is_transient() => {
                self.link.held_up(error.to_string());
                self.not_before = Instant::now() + PATIENCE;
                Ok(None)
            }
            Err(error) => Err(error).context("ask how far the indexer is"),
        }
    }

    fn start(&self, mut looker: Looker, batch: &[Taken]) -> Looking {
        let known: Vec<(Known, Option<EntryId>)> =
            self.watched.iter().map(|watched| (watched.known.get(), watched.delivered)).collect();
        let is_blind = |taken: &Taken| {
            known.iter().any(|(known, delivered)| {
                let missed = known.missed_at.is_some_and(|at| at >= taken.read_at);
                missed || delivered.is_some_and(|delivered| delivered > known.after)
            })
        };
        let asked: Vec<Asked> = batch
            .iter()
            .map(|taken| Asked {
                item: Arc::clone(&taken.item),
                blind: is_blind(taken),
                gone: taken.item.did().is_some_and(|did| self.gone.contains(did)),
            })
            .collect();
        tokio::spawn(async move {
            let verdicts = looker.look(&asked).await;
            (looker, verdicts)
        })
    }

    fn decide(&mut self, batch: &[Taken], verdicts: &[Verdict]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for (taken, verdict) in batch.iter().zip(verdicts) {
            let Taken { source, place, .. } = *taken;
            if matches!(verdict, Verdict::Differs(_)) && !taken.again && !self.wish.settle.is_zero() {
                self.window.look_again(source, place, Instant::now() + self.wish.settle);
                continue;
            }
            // Something later about the same decides.
            if !self.window.settle(source, place) {
                continue;
            }
            let stream = self.watched.get(source).map_or("", |watched| watched.source.stream.as_str());
            let told = self.report.tell(&mut out, stream, taken, verdict, self.wish.examples);
            self.over |= is_over(told)?;
        }
        Ok(())
    }

    fn tell(&self, progress: &mut Progress<'_>) {
        let reasons = self.health.reasons().into_iter().map(|(_, reason)| reason);
        let mut waits: Vec<String> = reasons.filter(|reason| reason != STARTING).collect();
        for watched in &self.watched {
            let Source { stream, group, .. } = &watched.source;
            if watched.delivered.is_none() {
                waits.push(format!("{stream} has no group {group}"));
            } else if watched.known.get().full {
                waits.push(format!("{stream}: no more is read until {group} has finished some (--window)"));
            }
        }
        progress.tell(&self.report, self.read(), self.window.len(), &waits);
    }

    fn summary(&self) -> anyhow::Result<()> {
        let known = |watched: &Watched| Known { read: watched.taken, ..watched.known.get() };
        let streams: Vec<(&Source, Known)> =
            self.watched.iter().map(|watched| (&watched.source, known(watched))).collect();
        let place = |(at, watched): (usize, &Watched)| {
            let place = self.window.oldest(at).map_or(watched.place, before);
            format!("{}={}", watched.source.stream, written(place))
        };
        let places: Vec<String> = self.watched.iter().enumerate().map(place).collect();
        let ending = Ending {
            streams: &streams,
            left: self.window.len(),
            in_doubt: u64::try_from(self.window.in_doubt()).unwrap_or(u64::MAX),
            places: places.join(","),
        };
        let mut out = io::stdout().lock();
        is_over(self.report.write(&mut out, &ending).and_then(|()| out.flush())).map(drop)
    }
}

/// Whether the reader has seen enough (`| head`).
fn is_over(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => bail!("write the report: {error}"),
    }
}
