//! The work beside the lanes: entries come in, questions go out, answers are written, entries are acknowledged.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::admin::Status;
use rsky_common::clock::now_ms;
use rsky_common::redis::{LinkError, RedisLink};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::account::{Account, Delay, Next, overtaken, put_off};
use super::actors::{Look, Looked};
use super::ahead::Ahead;
use super::directory::Directory;
use super::follow::Follow;
use super::handover::{Task, Tasks};
use super::held_up::HeldUp;
use super::question::{Answered, Asker, Begun, Network, Question, Step};
use super::recent::Recent;
use super::shared_cache::SharedCache;
use super::unindex::{Going, Unindex};
use super::waiting::{Ready, Turn, Waiting};
use crate::acks::{Acks, Fate};
use crate::isolate::{WhenHeld, Writer, Written};
use crate::job::Job;
use crate::metrics::Metrics;

/// Entries, and answers, that are taken at a time.
const BATCH: usize = 500;
/// How long an account waits that failed in a way that nobody foresaw, or whose rows somebody holds.
const PUT_OFF: Duration = Duration::from_secs(15);
/// How often the status page is told.
const TICK: Duration = Duration::from_secs(1);
/// When nothing is known to come.
const LONG: Duration = Duration::from_secs(3600);

/// How much and how often.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Questions asked of the directory at the same time; of others about as many beside.
    pub concurrency: usize,
    /// Tries of an account that fails for a reason of its own.
    pub max_attempts: u32,
    /// Least time between two resolutions of one account that identity events ask for.
    pub identity_interval: Duration,
}

/// What the stage works with.
#[derive(Debug)]
pub struct Parts {
    /// Where entries come from.
    pub tasks: Tasks,
    /// Its hand on Redis.
    pub acks: Acks,
    /// Connection for looks at what is left of the streams.
    pub ahead: RedisLink,
    /// Connection for deletions that are followed into the other event streams, and these streams, that of live events first.
    pub follow: (RedisLink, Vec<String>),
    /// Connection for the shared cache.
    pub cache: RedisLink,
    /// Where questions go.
    pub network: Network,
    /// How much and how often.
    pub limits: Limits,
    /// The status page.
    pub status: Status,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// When to stop.
    pub stop: CancellationToken,
}

/// A page of an account is taken out.
struct Taken {
    remover: Writer,
    going: Going,
    written: Written,
}

/// See [`crate::identity`].
pub struct Stage {
    pub(super) tasks: Tasks,
    pub(super) acks: Acks,
    pub(super) cache: SharedCache,
    pub(super) asker: Arc<Asker>,
    pub(super) writer: Writer,
    pub(super) limits: Limits,
    pub(super) status: Status,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) accounts: HashMap<String, Account>,
    pub(super) waiting: Waiting,
    pub(super) asked: JoinSet<Answered>,
    pub(super) leaving: VecDeque<String>,
    /// Who takes accounts out, unless it is busy with a page.
    remover: Option<Writer>,
    going: JoinSet<Taken>,
    pub(super) held_up: HeldUp,
    follow: Follow,
    pub(super) directory: Directory,
    pub(super) recent: Recent,
    pub(super) done: Vec<(Job, Fate)>,
}

impl Stage {
    /// `writer` looks accounts up and writes what is found out, `remover` takes accounts out.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(parts: Parts, writer: Writer, remover: Writer) -> anyhow::Result<Self> {
        let Parts {
            tasks,
            acks,
            ahead,
            follow: (follow, streams),
            cache,
            network,
            limits,
            status,
            metrics,
            stop,
        } = parts;
        let follow = Follow::new(follow, &streams);
        Ok(Self {
            tasks,
            acks,
            cache: SharedCache::new(cache),
            asker: Arc::new(Asker::new(network).context("set up the resolution of handles")?),
            writer,
            waiting: Waiting::new(limits.concurrency),
            recent: Recent::new(limits.identity_interval),
            limits,
            status,
            metrics,
            stop,
            accounts: HashMap::new(),
            asked: JoinSet::new(),
            leaving: VecDeque::new(),
            remover: Some(remover),
            going: JoinSet::new(),
            held_up: HeldUp::new(Ahead::new(ahead)),
            follow,
            directory: Directory::default(),
            done: Vec::new(),
        })
    }

    /// Works until the process stops. What is not done by then stays pending.
    ///
    /// # Errors
    /// A question panicked.
    pub async fn run(mut self) -> anyhow::Result<()> {
        self.acks.connect().await;
        let stop = self.stop.clone();
        let mut tick = tokio::time::interval(TICK);
        let mut batch: Vec<Task> = Vec::with_capacity(BATCH);
        loop {
            self.ask();
            self.look_ahead();
            self.take_out();
            self.acknowledge().await;
            self.tasks.room.set_delayed(self.waiting.delayed() + self.waiting.for_hosts());
            self.tasks.room.set_held_up(self.held_up.len());
            let wake = self.wake_at();
            tokio::select! {
                () = stop.cancelled() => {
                    // A page that is begun comes to its end.
                    drop(self.going.join_next().await);
                    return Ok(());
                }
                count = self.tasks.receiver.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.take_in(&mut batch).await;
                }
                Some(answered) = self.asked.join_next() => {
                    let mut answers = vec![answered.context("ask about an account")?];
                    while answers.len() < BATCH && let Some(answered) = self.asked.try_join_next() {
                        answers.push(answered.context("ask about an account")?);
                    }
                    self.take_answers(answers).await;
                }
                () = tokio::time::sleep_until(wake.into()) => self.wake(),
                Some(taken) = self.going.join_next() => {
                    self.taken_out(taken.context("take an account out")?).await;
                }
                Some(looked) = self.held_up.looked() => {
                    self.looked_ahead(looked.context("look for what an account wrote")?);
                }
                _ = tick.tick() => self.tell(),
            }
        }
    }

    /// Accounts that nothing is being done about are looked at, and those that wait for a moment: what has come may
    /// need no moment, or another question. For others the entries wait their turn.
    async fn take_in(&mut self, batch: &mut Vec<Task>) {
        let mut to_look_at = BTreeSet::new();
        for task in batch.drain(..) {
            if let Some(domain) = overtaken(&task) {
                self.metrics.handle_deferred.inc();
                self.done.extend(put_off(task, Some(domain)));
                continue;
            }
            let did = task.news.did.clone();
            let account = self.accounts.entry(did.clone()).or_default();
            account.push(task);
            if !std::mem::replace(&mut account.busy, true) || account.delay.is_some() {
                to_look_at.insert(did);
            }
        }
        self.look(to_look_at.into_iter().collect()).await;
    }

    /// Looks accounts up, and decides what to do about them.
    pub(super) async fn look(&mut self, dids: Vec<String>) {
        if dids.is_empty() {
            return;
        }
        let looked: Vec<Looked> = dids.into_iter().map(|did| Looked { did, row: OnceLock::new() }).collect();
        let written = self.writer.write::<Look>(&looked.iter().collect::<Vec<_>>(), WhenHeld::PutOff).await;
        let mut looked: Vec<Option<Looked>> = looked.into_iter().map(Some).collect();
        for at in written.abandoned {
            drop(looked.get_mut(at).and_then(Option::take));
        }
        for (at, error, attempts) in written.refused {
            if let Some(Looked { did, .. }) = looked.get_mut(at).and_then(Option::take) {
                self.bury(&did, "refused_by_postgres", &error, attempts);
            }
        }
        for (at, why) in written.put_off {
            if let Some(Looked { did, .. }) = looked.get_mut(at).and_then(Option::take) {
                self.put_off(did, &why);
            }
        }
        for Looked { did, row } in looked.into_iter().flatten() {
            if let Some(account) = self.accounts.get_mut(&did) {
                account.looked_up(row.into_inner());
                self.decide(did);
            }
        }
    }

    /// Puts an account where its next step waits.
    pub(super) fn decide(&mut self, did: String) {
        let last = self.recent.of(&did);
        let Some(account) = self.accounts.get_mut(&did) else { return };
        let now = Instant::now();
        let delay = account.delay.take();
        if let Some(delay) = delay {
            self.waiting.end_delay(delay.moment);
        }
        match account.next(last) {
            Next::Done => {
                self.done.extend(account.settle(|| Fate::Indexed));
                self.accounts.remove(&did);
                self.count("not_needed");
            }
            Next::Ask(question) => match delay {
                // That more asks for it is no reason to ask before its time what had no answer.
                Some(Delay { moment: (until, _), unanswered })
                    if unanswered == Some(question) && until > now =>
                {
                    self.delay(did, until, unanswered);
                }
                _ => {
                    if delay.and_then(|delay| delay.unanswered).is_some_and(|other| other != question) {
                        account.forget_failures();
                    }
                    self.ready(did);
                }
            },
            Next::Later(pause) => self.delay(did, now + pause, None),
            // That more asks for it is no reason to ask before its time what had no answer.
            Next::LookAhead => match delay {
                Some(Delay { moment: (until, _), unanswered }) if unanswered.is_some() && until > now => {
                    self.delay(did, until, unanswered);
                }
                _ => self.held_up.push(did),
            },
        }
    }

    /// Its question can be asked, from the first step.
    pub(super) fn ready(&mut self, did: String) {
        let peer = self.asker.first(&did);
        self.waiting.ready(Ready { did, begun: None }, peer);
    }

    /// Lets an account wait for a moment, without its entries that need nothing.
    pub(super) fn delay(&mut self, did: String, until: Instant, unanswered: Option<Question>) {
        let last = self.recent.of(&did);
        let Some(account) = self.accounts.get_mut(&did) else { return };
        self.done.extend(account.settle_idle(last));
        if account.len() == 0 {
            self.accounts.remove(&did);
        } else {
            let moment = self.waiting.delay(did, until);
            account.delay = Some(Delay { moment, unanswered });
        }
    }

    /// An account cannot be written, for no fault of its own. It keeps its entries and is tried again later.
    pub(super) fn put_off(&mut self, did: String, why: &str) {
        self.count("failed");
        warn!(did, "an account is put off, and tried again later: {why}");
        if let Some(delay) = self.accounts.get_mut(&did).and_then(|account| account.delay.take()) {
            self.waiting.end_delay(delay.moment);
        }
        self.delay(did, Instant::now() + PUT_OFF, None);
    }

    /// Asks as many questions as may be asked.
    fn ask(&mut self) {
        loop {
            let may = self.directory.may_be_asked(Instant::now());
            let Some((turn, Ready { did, begun })) = self.waiting.take_ready(may) else { return };
            let last = self.recent.of(&did);
            let begun = begun.or_else(|| match self.accounts.get_mut(&did)?.next(last) {
                Next::Ask(question) => Some(Begun { question, step: Step::Document, began_ms: now_ms() }),
                Next::Done | Next::Later(_) | Next::LookAhead => None,
            });
            // Entries that came in meanwhile may have changed what is to be asked.
            let Some(begun) = begun else {
                self.waiting.not_asked(&turn);
                self.decide(did);
                continue;
            };
            let probe = turn == Turn::Directory && self.directory.asked();
            let asker = Arc::clone(&self.asker);
            self.asked.spawn(async move { asker.ask(did, begun, turn, probe).await });
        }
    }

    /// Takes a page out of the next account that goes, in turn, beside everything else: a page may take long.
    fn take_out(&mut self) {
        let Some(mut remover) = self.remover.take_if(|_| !self.leaving.is_empty()) else { return };
        let Some(did) = self.leaving.pop_front() else { return };
        self.going.spawn(async move {
            let going = Going { did, gone: AtomicBool::new(false) };
            let written = remover.write::<Unindex>(&[&going], WhenHeld::PutOff).await;
            Taken { remover, going, written }
        });
    }

    async fn taken_out(&mut self, Taken { remover, going, written }: Taken) {
        self.remover = Some(remover);
        let mut fresh = Vec::new();
        let gone = going.gone.load(Ordering::Acquire);
        let did = going.did;
        if let Some((_, error, attempts)) = written.refused.into_iter().next() {
            self.settle_dead(did, &mut fresh, "refused_by_postgres", &error, attempts);
        } else if let Some((_, why)) = written.put_off.into_iter().next() {
            self.put_off(did, &why);
        } else if gone {
            match self.follow(&did).await {
                Ok(()) => {
                    self.count("deleted");
                    self.settled(did, &mut fresh, |account| account.settle(|| Fate::Indexed));
                }
                Err(error) => {
                    self.put_off(did, &format!("its deletion cannot be written behind a backfill: {error}"))
                }
            }
        } else if written.abandoned.is_empty() {
            self.leaving.push_back(did);
        }
        self.look(fresh).await;
    }

    async fn follow(&mut self, did: &str) -> Result<(), LinkError> {
        let time = self.accounts.get(did).and_then(|account| account.deleted_at(self.follow.live()));
        match time.map(str::to_owned) {
            Some(time) => self.follow.follow(did, &time).await,
            None => Ok(()),
        }
    }

    async fn acknowledge(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let (jobs, fates): (Vec<Job>, Vec<Fate>) = self.done.drain(..).unzip();
        self.acks.settle(&jobs, fates, &self.metrics).await;
        self.tasks.room.give_back(jobs.len());
    }

    fn wake_at(&self) -> Instant {
        let directory = self.directory.next().filter(|_| self.waiting.needs_directory());
        let next = [self.waiting.next_due(), directory].into_iter().flatten().min();
        next.unwrap_or_else(|| Instant::now() + LONG)
    }

    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(did) = self.waiting.take_due(now) {
            self.decide(did);
        }
    }

    /// Tells the pages how it stands.
    fn tell(&self) {
        let (held, delayed) = (self.tasks.room.held(), self.waiting.delayed());
        self.status.put(
            "handles",
            json!({
                "directory": self.directory.describe(),
                "entries": held,
                "accounts": self.accounts.len(),
                "accounts_asked_about": self.asked.len(),
                "accounts_waiting_for_hosts": self.waiting.for_hosts(),
                "accounts_delayed": delayed,
                "accounts_being_deleted": self.leaving.len() + self.going.len(),
                "accounts_waiting_for_other_consumers": self.held_up.len(),
                "waiting_for_other_consumers": self.held_up.describe(),
                "entries_put_off_total": self.metrics.handle_deferred.get(),
            }),
        );
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.metrics.looked_at(outcome);
    }
}
