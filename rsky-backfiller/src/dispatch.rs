//! Which repository is worked on next. One task decides; the hosts and their lines are in [`crate::lines`].
//!
//! Events: a job arrives, a step ends, a host may be asked again, the process shall stop. After each, everything that may
//! start is started: hosts stand in line, so that a host with many repositories does not hold up the others.
//!
//! Hosts that have not answered yet, or have failed, get half of the places at most, and those that are slow to begin are
//! counted on top of the places: however many hosts hang, those that answer are served. The PLC directory and the hosts of
//! did:webs have places of their own.

mod outcomes;
mod room;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::download::host_key;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::lines::{Key, Pool, Role, Started};
use crate::metrics::Metrics;
use crate::observed::{Lived, Observed};
use crate::outcome::{Class, Failure};
use crate::troubles::Troubles;
use crate::worker::{Step, Worker};

/// Longest time between two looks at everything.
const TICK: Duration = Duration::from_millis(250);
/// How many times the places may be exceeded by requests that are slow to begin.
const SLOW_TIMES: usize = 3;

type Finished = (Job, Result<Step, Failure>);

/// See the module.
pub struct Dispatcher {
    worker: Arc<Worker>,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    jobs: mpsc::Receiver<Job>,
    /// Hosts and lines, what is under way, what is put off.
    observed: Observed,
    /// Whose turn it is when both kinds of hosts could be asked.
    unproven_next: bool,
    tasks: JoinSet<Finished>,
    keys: HashMap<Id, (Key, Pool)>,
    /// Places for jobs of each queue: priority, normal.
    places: [Arc<Semaphore>; 2],
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
        observed: Observed,
        troubles: Troubles,
        finish: CancellationToken,
    ) -> Self {
        Self {
            metrics: Arc::clone(&worker.metrics),
            stop: worker.stop.clone(),
            worker,
            ledger,
            jobs,
            observed,
            unproven_next: false,
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            places,
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
            let due = self.observed.lines().next_time().unwrap_or(next_look);
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
        self.observed.lines().enqueue(key, job, most);
    }

    fn start_what_may(&mut self) {
        let now = Instant::now();
        self.observed.lines().line_up_due(now);
        for directory in [Pool::Plc, Pool::Web] {
            while self.running(directory) < self.worker.config.concurrency && self.start_one(directory, now) {
            }
        }
        while !self.worker.is_crowded() && self.repositories() < self.allowed() {
            let unproven_may = self.running(Pool::Unproven) < self.allowed_unproven();
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
    }

    /// Starts one of a pool. `false`: none may be started.
    fn start_one(&mut self, pool: Pool, now: Instant) -> bool {
        let pressed = self.slow() >= self.worker.config.concurrency;
        let started = self.observed.lines().start_one(pool, now, pressed);
        started.map(|started| self.spawn(started)).is_some()
    }

    fn running(&self, pool: Pool) -> usize {
        self.observed.lines().running().of(pool)
    }

    fn repositories(&self) -> usize {
        self.observed.lines().running().repositories()
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

    fn spawn(&mut self, started: Started) {
        let Started { key, pool, job, slow } = started;
        let (worker, running) = (Arc::clone(&self.worker), self.observed.one_more());
        let handle = self.tasks.spawn(async move {
            let _running: Lived = running;
            let step = match pool {
                Pool::Plc | Pool::Web => worker.resolve(&job.did, job.fresh).await,
                Pool::Proven | Pool::Unproven => match worker.url_of(&job) {
                    Ok(url) => Box::pin(worker.fetch(&job, url, &slow)).await,
                    Err(failure) => Err(failure),
                },
            };
            (job, step)
        });
        self.keys.insert(handle.id(), (key, pool));
    }
}
