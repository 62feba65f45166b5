//! Which repository is worked on next. One task owns all hosts; nothing else decides.
//!
//! Events: a job arrives, a step ends, a host may be asked again, the process shall stop. After each, everything that may
//! start is started: hosts take turns, so that a host with many repositories does not hold up the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::{jittered, now_ms};
use crate::download::host_key;
use crate::hosts::{Host, HostState};
use crate::job::{Job, Queue};
use crate::ledger::{Ledger, Verdict, retry_delay};
use crate::metrics::{Metrics, StateLabel};
use crate::outcome::{Action, Class, Failure};
use crate::worker::{Step, Worker};

/// Hosts that are remembered; of more, those that nothing is known against are forgotten.
const MOST_HOSTS: usize = 20_000;
/// Longest time between two looks at everything.
const TICK: Duration = Duration::from_millis(250);

/// A host in one of its two roles: a PDS that is also a directory (did:web) has two limits.
type Key = (Role, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Role {
    Directory,
    Repositories,
}

type Finished = (Job, Result<Step, Failure>);

/// See the module.
pub struct Dispatcher {
    worker: Arc<Worker>,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    jobs: mpsc::Receiver<Job>,
    hosts: HashMap<Key, Host>,
    /// Every host with a queue, in the order of their turns.
    turns: VecDeque<Key>,
    tasks: JoinSet<Finished>,
    keys: HashMap<Id, Key>,
    running: [usize; 2],
    /// Places for jobs of the normal queue.
    places: Arc<Semaphore>,
    delayed: Arc<AtomicU64>,
    stop: CancellationToken,
    finish: CancellationToken,
}

impl Dispatcher {
    /// `finish` ends what is in flight at the latest.
    pub fn new(
        worker: Arc<Worker>,
        ledger: Ledger,
        jobs: mpsc::Receiver<Job>,
        places: Arc<Semaphore>,
        delayed: Arc<AtomicU64>,
        finish: CancellationToken,
    ) -> Self {
        Self {
            metrics: Arc::clone(&worker.metrics),
            stop: worker.stop.clone(),
            worker,
            ledger,
            jobs,
            hosts: HashMap::new(),
            turns: VecDeque::new(),
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            running: [0, 0],
            places,
            delayed,
            finish,
        }
    }

    /// Runs until told to stop, and until what is in flight has ended or `finish` comes.
    ///
    /// # Errors
    /// None; the signature is that of a stage.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut next_look = Instant::now();
        while !self.stop.is_cancelled() {
            let wake = self.wakes_at(Instant::now()).unwrap_or(next_look).min(next_look);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended).await,
                Some(job) = self.jobs.recv() => self.place(job).await,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.start_what_may();
            if Instant::now() >= next_look {
                self.look_around().await;
                next_look = Instant::now() + TICK;
            }
        }
        self.drain().await;
        Ok(())
    }

    async fn drain(&mut self) {
        while !self.tasks.is_empty() {
            tokio::select! {
                () = self.finish.cancelled() => return,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await,
            }
        }
    }

    /// Puts a job where its next step is done.
    async fn place(&mut self, mut job: Job) {
        if job.document.is_none() && self.worker.needs_document() && !job.fresh {
            job.document = self.worker.documents.get(&job.did);
        }
        let key = if job.document.is_none() && self.worker.needs_document() {
            let host = self.worker.resolver.host_of(&job.did);
            host.map(|host| (Role::Directory, host))
                .map_err(|error| Failure::new(Class::Unresolvable, error.to_string()))
        } else {
            self.worker.url_of(&job).map(|url| (Role::Repositories, host_key(&url)))
        };
        match key {
            Ok(key) => self.enqueue(key, job),
            Err(failure) => self.fail(None, job, failure).await,
        }
    }

    fn enqueue(&mut self, key: Key, job: Job) {
        let most = match key.0 {
            Role::Directory => self.worker.config.plc_concurrency,
            Role::Repositories => self.worker.config.host_concurrency,
        };
        let host = self.hosts.entry(key.clone()).or_insert_with(|| Host::new(most));
        if host.queue.is_empty() {
            self.turns.push_back(key);
        }
        if job.queue == Queue::Priority { host.queue.push_front(job) } else { host.queue.push_back(job) }
    }

    fn start_what_may(&mut self) {
        let now = Instant::now();
        let mut idle_turns = 0;
        while idle_turns < self.turns.len() {
            let Some(key) = self.turns.pop_front() else { break };
            let role = usize::from(key.0 == Role::Repositories);
            let free = self.running.get(role).is_some_and(|running| *running < self.allowed(key.0));
            let Some(host) = self.hosts.get_mut(&key) else { continue };
            let job = if free { host.start(now) } else { None };
            let waits = !host.queue.is_empty();
            match job {
                Some(job) => {
                    idle_turns = 0;
                    self.spawn(key.clone(), role, job);
                }
                None => idle_turns += 1,
            }
            if waits {
                self.turns.push_back(key);
            }
        }
        self.metrics.running.set(i64::try_from(self.tasks.len()).unwrap_or(i64::MAX));
    }

    /// Steps of a kind that may be under way. Hosts that are slow to begin are counted on top, up to three times as many.
    fn allowed(&self, role: Role) -> usize {
        let concurrency = self.worker.config.concurrency;
        let slow = if role == Role::Repositories { self.worker.slow.load(Ordering::Relaxed) } else { 0 };
        concurrency.saturating_add(slow.min(concurrency.saturating_mul(3)))
    }

    fn spawn(&mut self, key: Key, role: usize, job: Job) {
        if let Some(running) = self.running.get_mut(role) {
            *running += 1;
        }
        let worker = Arc::clone(&self.worker);
        let handle = match key.0 {
            Role::Directory => self.tasks.spawn(async move {
                let step = worker.resolve(&job.did, job.fresh).await;
                (job, step)
            }),
            Role::Repositories => self.tasks.spawn(async move {
                let step = match worker.url_of(&job) {
                    Ok(url) => Box::pin(worker.fetch(&job, url)).await,
                    Err(failure) => Err(failure),
                };
                (job, step)
            }),
        };
        self.keys.insert(handle.id(), key);
    }

    async fn ended(&mut self, ended: Result<(Id, Finished), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let role = usize::from(key.0 == Role::Repositories);
        if let Some(running) = self.running.get_mut(role) {
            *running = running.saturating_sub(1);
        }
        if let Some(host) = self.hosts.get_mut(&key) {
            host.ended();
        }
        match ended {
            Ok((_, (job, Ok(step)))) => self.advance(&key, job, step).await,
            Ok((_, (job, Err(failure)))) => self.fail(Some(key), job, failure).await,
            // Its entry stays pending, and is claimed again.
            Err(error) => tracing::error!("a repository's task failed: {error}"),
        }
    }

    async fn advance(&mut self, key: &Key, mut job: Job, step: Step) {
        let now = Instant::now();
        match step {
            Step::Stopped => {}
            Step::Resolved { document, fresh } => {
                self.answered(key, now, None);
                job.document = Some(document);
                job.fresh = fresh;
                self.place(job).await;
            }
            Step::Queued(pace) => {
                self.answered(key, now, pace);
                self.metrics.outcome(Class::Queued);
                self.ledger.settle(job, Verdict::Done).await;
            }
        }
    }

    fn answered(&mut self, key: &Key, now: Instant, pace: Option<Duration>) {
        if let Some(host) = self.hosts.get_mut(key) {
            host.answered(now, pace);
        }
    }

    async fn fail(&mut self, key: Option<Key>, mut job: Job, failure: Failure) {
        let now = Instant::now();
        let class = failure.class;
        let host = key.as_ref().and_then(|key| self.hosts.get_mut(key));
        if let Some(host) = host {
            match class {
                Class::RateLimited => host.asked_for_patience(now, failure.wait),
                Class::Overloaded => {
                    host.asked_for_patience(now, failure.wait);
                    host.failed(now, self.worker.config.host_backoff);
                }
                _ if class.blames_host() => host.failed(now, self.worker.config.host_backoff),
                _ => host.answered(now, failure.wait),
            }
        }
        if self.asks_again(&mut job, class) {
            return Box::pin(self.place(job)).await;
        }
        self.metrics.outcome(class);
        match class.action() {
            Action::Done => self.ledger.settle(job, Verdict::Done).await,
            Action::Wait => match key {
                Some(key) => self.wait_for(key, job),
                None => self.later(job).await,
            },
            Action::Bury => self.bury(job, class, failure.error).await,
            Action::Retry => {
                job.attempts = job.attempts.saturating_add(1);
                if job.attempts >= self.worker.config.max_attempts {
                    self.bury(job, class, failure.error).await;
                } else {
                    tracing::debug!(did = job.did, attempts = job.attempts, "{failure}; trying again later");
                    self.metrics.retries.inc();
                    self.later(job).await;
                }
                if let Some(key) = key {
                    self.give_up_on(&key, now).await;
                }
            }
        }
    }

    /// Whether the failure may come of an outdated DID document: the key was changed, or the account has moved.
    fn asks_again(&self, job: &mut Job, class: Class) -> bool {
        let outdated = match class {
            Class::BadSignature | Class::NoKey => self.worker.needs_document() && !job.refreshed,
            Class::Gone | Class::Deactivated | Class::ClientError | Class::Unreachable => {
                job.document.is_some() && !job.fresh
            }
            _ => false,
        };
        if outdated {
            self.worker.documents.remove(&job.did);
            job.document = None;
            job.refreshed = class == Class::BadSignature || class == Class::NoKey;
            job.fresh = true;
        }
        outdated
    }

    fn wait_for(&mut self, key: Key, job: Job) {
        if let Some(host) = self.hosts.get_mut(&key) {
            if host.queue.is_empty() {
                self.turns.push_back(key);
            }
            host.queue.push_front(job);
        }
    }

    async fn later(&self, job: Job) {
        let delay = jittered(retry_delay(job.attempts, self.worker.config.retry));
        let due = now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self.ledger.settle(job, Verdict::Later(due)).await;
    }

    async fn bury(&self, job: Job, class: Class, error: String) {
        tracing::info!(did = job.did, reason = class.name(), "dead letter: {error}");
        self.metrics.dead.inc();
        self.ledger.settle(job, Verdict::Dead { reason: class.name(), error }).await;
    }

    /// A host that has not answered for very long takes what waits for it along.
    async fn give_up_on(&mut self, key: &Key, now: Instant) {
        let after = self.worker.config.host_give_up;
        let Some(host) = self.hosts.get_mut(key).filter(|host| host.is_given_up(now, after)) else { return };
        let queue = std::mem::take(&mut host.queue);
        self.turns.retain(|turn| turn != key);
        for job in queue {
            self.metrics.outcome(Class::HostGivenUp);
            let error = format!("{} has given no answer for more than {after:?}", key.1);
            self.bury(job, Class::HostGivenUp, error).await;
        }
    }

    /// When the next host may be asked again.
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        self.turns.iter().filter_map(|key| self.hosts.get(key)?.waits_until(now)).min()
    }

    async fn look_around(&mut self) {
        let now = Instant::now();
        if self.hosts.len() > MOST_HOSTS {
            self.hosts.retain(|_, host| {
                !host.is_idle(now) || now.duration_since(host.used()) < Duration::from_secs(60)
            });
        }
        let mut states = HashMap::new();
        let mut waiting = 0_usize;
        for host in self.hosts.values() {
            *states.entry(host.state(now)).or_insert(0_i64) += 1;
            waiting += host.queue.len();
        }
        for state in HostState::ALL {
            let label = StateLabel { state: state.name() };
            self.metrics.hosts.get_or_create(&label).set(states.get(&state).copied().unwrap_or(0));
        }
        self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let delayed = self.delayed.load(Ordering::Relaxed);
        self.metrics.delayed.set(i64::try_from(delayed).unwrap_or(i64::MAX));
        self.make_room(now, delayed).await;
    }

    /// When all places are taken by repositories that have to wait while others could be served, half of them are put
    /// off: as a host is set aside, its repositories are kept, but not here.
    async fn make_room(&mut self, now: Instant, delayed: u64) {
        let config = &self.worker.config;
        let [_, repositories] = self.running;
        let busy = repositories >= self.allowed(Role::Repositories);
        if self.places.available_permits() > 0 || busy || delayed >= config.delayed_max {
            return;
        }
        // All hosts wait for the directory: that it has a queue keeps nobody else from being served.
        let may_be_put_off =
            |role: Role, host: &Host| role == Role::Repositories || host.state(now) == HostState::SetAside;
        let queued = self.hosts.iter().filter(|((role, _), host)| may_be_put_off(*role, host));
        let lengths: Vec<usize> =
            queued.map(|(_, host)| host.queue.len()).filter(|length| *length > 0).collect();
        if lengths.iter().sum::<usize>() <= config.queue / 2 {
            return;
        }
        let share = (config.queue / 4 / lengths.len().max(1)).max(1);
        let mut parked = Vec::new();
        for ((role, _), host) in &mut self.hosts {
            if may_be_put_off(*role, host) {
                parked.extend(host.take_surplus(now, share));
            }
        }
        for (job, delay) in parked {
            self.metrics.parked.inc();
            let due = now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            self.ledger.settle(job, Verdict::Later(due)).await;
        }
    }
}
