//! Which repository is worked on next. One task owns all hosts; nothing else decides.
//!
//! Events: a job arrives, a step ends, a host may be asked again, the process shall stop. After each, everything that may
//! start is started: hosts stand in line, so that a host with many repositories does not hold up the others. A host that
//! cannot be asked now stands in no line: it comes back at its time, or when one of its requests has ended.
//!
//! Hosts that have not answered yet, or have failed, stand in a line of their own and get half of the places at most, and
//! those that are slow to begin are counted on top of the places: however many hosts hang, those that answer are served.

mod outcomes;
mod room;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::delayed::Seen;
use crate::download::host_key;
use crate::hosts::{Host, Turn};
use crate::job::Job;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::outcome::{Class, Failure};
use crate::troubles::Troubles;
use crate::worker::{Step, Worker};

/// Longest time between two looks at everything.
const TICK: Duration = Duration::from_millis(250);
/// How many times the places may be exceeded by requests that are slow to begin.
const SLOW_TIMES: usize = 3;

/// A host in one of its two roles: a PDS that is also a directory (did:web) has two limits.
type Key = (Role, Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Role {
    Directory,
    Repositories,
}

/// What requests are counted in, and hosts line up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    Directory,
    /// Hosts that answer.
    Proven,
    /// Hosts that have not answered yet, or have failed.
    Unproven,
}

/// One of each pool.
#[derive(Debug, Default)]
struct PerPool<T> {
    directory: T,
    proven: T,
    unproven: T,
}

impl<T> PerPool<T> {
    fn of(&mut self, pool: Pool) -> &mut T {
        match pool {
            Pool::Directory => &mut self.directory,
            Pool::Proven => &mut self.proven,
            Pool::Unproven => &mut self.unproven,
        }
    }
}

impl PerPool<usize> {
    fn repositories(&self) -> usize {
        self.proven + self.unproven
    }
}

type Finished = (Job, Result<Step, Failure>);

/// See the module.
pub struct Dispatcher {
    worker: Arc<Worker>,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    jobs: mpsc::Receiver<Job>,
    hosts: HashMap<Key, Host>,
    /// Hosts that may be asked, in the order of their turns.
    lines: PerPool<VecDeque<Key>>,
    /// Hosts that may be asked at a time to come.
    timed: BTreeSet<(Instant, Key)>,
    /// Whose turn it is when both kinds of hosts could be asked.
    unproven_next: bool,
    /// The directory that nearly all accounts are looked up in.
    plc: Key,
    tasks: JoinSet<Finished>,
    keys: HashMap<Id, (Key, Pool)>,
    running: PerPool<usize>,
    /// Places for jobs of each queue: priority, normal.
    places: [Arc<Semaphore>; 2],
    delayed: Arc<Seen>,
    troubles: Troubles,
    /// When repositories of a queue may be sent to the end of their stream again.
    rotate_at: [Instant; 2],
    stop: CancellationToken,
    finish: CancellationToken,
}

impl Dispatcher {
    /// `finish` ends what is in flight at the latest.
    pub fn new(
        worker: Arc<Worker>,
        ledger: Ledger,
        jobs: mpsc::Receiver<Job>,
        places: [Arc<Semaphore>; 2],
        delayed: Arc<Seen>,
        troubles: Troubles,
        finish: CancellationToken,
    ) -> Self {
        let plc = worker.config.plc.as_ref().map(host_key).unwrap_or_default();
        Self {
            plc: (Role::Directory, plc.into()),
            metrics: Arc::clone(&worker.metrics),
            stop: worker.stop.clone(),
            worker,
            ledger,
            jobs,
            hosts: HashMap::new(),
            lines: PerPool::default(),
            timed: BTreeSet::new(),
            unproven_next: false,
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            running: PerPool::default(),
            places,
            delayed,
            troubles,
            rotate_at: [Instant::now(); 2],
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
            let due = self.timed.first().map_or(next_look, |(time, _)| *time);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended).await,
                Some(job) = self.jobs.recv() => self.place(job).await,
                () = tokio::time::sleep_until(due.min(next_look).into()) => {}
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
            host.map(|host| (Role::Directory, host.into()))
                .map_err(|error| Failure::new(Class::UnsupportedDid, error.to_string()))
        } else {
            self.worker.url_of(&job).map(|url| (Role::Repositories, host_key(&url).into()))
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
        host.add(job);
        self.line_up(key);
    }

    /// Puts a host with work at the end of its line, unless it is in one.
    fn line_up(&mut self, key: Key) {
        let Some(host) = self.hosts.get_mut(&key).filter(|host| !host.listed && !host.queue.is_empty())
        else {
            return;
        };
        host.listed = true;
        self.lines.of(pool(&key, host)).push_back(key);
    }

    /// Hosts that keep us waiting may be asked again when others no longer do; nothing ends then.
    fn line_up_all(&mut self) {
        let waiting = self.hosts.iter().filter(|(_, host)| !host.listed && !host.queue.is_empty());
        let keys: Vec<Key> = waiting.map(|(key, _)| key.clone()).collect();
        keys.into_iter().for_each(|key| self.line_up(key));
    }

    fn start_what_may(&mut self) {
        let now = Instant::now();
        while let Some((time, _)) = self.timed.first()
            && *time <= now
            && let Some((_, key)) = self.timed.pop_first()
        {
            if let Some(host) = self.hosts.get_mut(&key) {
                host.listed = false;
            }
            self.line_up(key);
        }
        while self.running.directory < self.worker.config.concurrency && self.start_one(Pool::Directory, now)
        {
        }
        while !self.worker.is_crowded() && self.running.repositories() < self.allowed() {
            let unproven_may = self.running.unproven < self.allowed_unproven();
            self.unproven_next = !self.unproven_next;
            let started = if self.unproven_next && unproven_may {
                self.start_one(Pool::Unproven, now) || self.start_one(Pool::Proven, now)
            } else {
                self.start_one(Pool::Proven, now) || unproven_may && self.start_one(Pool::Unproven, now)
            };
            if !started {
                break;
            }
        }
        self.metrics.running.set(i64::try_from(self.tasks.len()).unwrap_or(i64::MAX));
    }

    /// Starts the first of a line that may be; those before it leave the line. `false`: none may.
    fn start_one(&mut self, line: Pool, now: Instant) -> bool {
        let pressed = self.slow() >= self.worker.config.concurrency;
        while let Some(key) = self.lines.of(line).pop_front() {
            let Some(host) = self.hosts.get_mut(&key) else { continue };
            host.listed = false;
            if pool(&key, host) != line {
                self.line_up(key);
                continue;
            }
            match host.turn(now, pressed) {
                Turn::Idle | Turn::AfterAnother => {}
                Turn::NotBefore(time) => {
                    host.listed = true;
                    self.timed.insert((time, key));
                }
                Turn::Start(job) => {
                    self.spawn(key.clone(), line, *job);
                    self.line_up(key);
                    return true;
                }
            }
        }
        false
    }

    fn slow(&self) -> usize {
        self.worker.slow.load(Ordering::Relaxed)
    }

    /// Repositories that may be asked for at a time. Those that are slow to begin are counted on top: they take no memory.
    fn allowed(&self) -> usize {
        let concurrency = self.worker.config.concurrency;
        concurrency.saturating_add(self.slow().min(concurrency.saturating_mul(SLOW_TIMES)))
    }

    /// How many of these from hosts that have not shown that they answer.
    fn allowed_unproven(&self) -> usize {
        self.allowed().saturating_sub(self.worker.config.concurrency / 2)
    }

    fn spawn(&mut self, key: Key, pool: Pool, job: Job) {
        *self.running.of(pool) += 1;
        let worker = Arc::clone(&self.worker);
        let handle = match key.0 {
            Role::Directory => self.tasks.spawn(async move {
                let step = worker.resolve(&job.did, job.fresh).await;
                (job, step)
            }),
            Role::Repositories => {
                let slow = self.hosts.get(&key).map(|host| Arc::clone(&host.slow)).unwrap_or_default();
                self.tasks.spawn(async move {
                    let step = match worker.url_of(&job) {
                        Ok(url) => Box::pin(worker.fetch(&job, url, &slow)).await,
                        Err(failure) => Err(failure),
                    };
                    (job, step)
                })
            }
        };
        self.keys.insert(handle.id(), (key, pool));
    }
}

fn pool(key: &Key, host: &Host) -> Pool {
    match key.0 {
        Role::Directory => Pool::Directory,
        Role::Repositories if host.is_proven() => Pool::Proven,
        Role::Repositories => Pool::Unproven,
    }
}
