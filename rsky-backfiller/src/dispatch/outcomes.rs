//! What follows from a step's outcome: for the repository by the table of classes, and for its host.

use std::time::{Duration, Instant};

use rsky_common::clock::{millis, now_ms};
use rsky_common::runtime::backoff::jittered;
use tokio::task::{Id, JoinError};

use super::{Dispatcher, Finished};
use crate::job::{Job, Queue};
use crate::ledger::{Death, Until, Verdict, retry_delay};
use crate::lines::Key;
use crate::outcome::{Action, Class, Failure, Speaks};
use crate::worker::Step;

/// How often the document of an account is asked for again because its host has nothing: nobody is followed for ever.
const MOST_FOLLOWED: u8 = 3;

impl Dispatcher {
    pub(super) async fn ended(&mut self, ended: Result<(Id, Finished), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((key, pool)) = self.keys.remove(&id) else { return };
        self.observed.lines().ended(&key, pool);
        match ended {
            Ok((_, (job, Ok(step)))) => self.advance(&key, job, step).await,
            Ok((_, (job, Err(failure)))) => self.fail(Some(key.clone()), job, failure).await,
            // Its entry stays pending, and is claimed again.
            Err(error) => tracing::error!("a repository's task failed: {error}"),
        }
        // Only now: it may have become known that the host is to be left alone.
        self.observed.lines().line_up(key);
    }

    async fn advance(&mut self, key: &Key, mut job: Job, step: Step) {
        let now = Instant::now();
        match step {
            Step::Stopped => {}
            Step::Resolved { document, fresh } => {
                self.answered(key, now, None);
                if self.observed.lines().is_plc(key) {
                    self.troubles.over(Class::DirectoryDown);
                }
                if let Some((_, class)) = job.left.take_if(|(left, _)| *left == document) {
                    // The document says the same as before the host was asked: so it is.
                    self.metrics.outcome(class);
                    return self.ledger.settle(job, Verdict::Done).await;
                }
                job.document = Some(document);
                job.fresh = fresh;
                self.place(job).await;
            }
            Step::Queued(pace) => {
                self.answered(key, now, pace);
                self.metrics.outcome(Class::Queued);
                if job.queue == Queue::Priority {
                    self.troubles.over(Class::Database);
                }
                // It was acknowledged with its last entry.
                drop(job);
            }
        }
    }

    fn answered(&mut self, key: &Key, now: Instant, pace: Option<Duration>) {
        if let Some(host) = self.observed.lines().host(key) {
            host.answered(now, pace);
        }
    }

    pub(super) async fn fail(&mut self, key: Option<Key>, mut job: Job, failure: Failure) {
        let now = Instant::now();
        let class = failure.class;
        self.speak(key.as_ref(), &failure, now);
        self.troubles.seen(class, &failure.error, now);
        if self.asks_again(&mut job, class) {
            return Box::pin(self.place(job)).await;
        }
        self.metrics.outcome(class);
        let retry = self.worker.config.retry;
        match class.action() {
            Action::Done => self.ledger.settle(job, Verdict::Done).await,
            Action::Wait => match key {
                Some(key) => self.observed.lines().put_back(key, job),
                None => self.put_off(job, retry.0).await,
            },
            Action::Later => self.put_off(job, retry.0).await,
            Action::Bury => self.bury(job, class, failure.error).await,
            Action::Again | Action::Confirm => {
                job.attempts = job.attempts.saturating_add(1);
                if let Some(error) = key.as_ref().and_then(|key| self.given_up(key, now)) {
                    let error = format!("{error}; {}", failure.error);
                    self.bury(job, Class::HostGivenUp, error).await;
                } else if is_final(class, &job, self.worker.config.max_attempts) {
                    self.bury(job, class, failure.error).await;
                } else {
                    tracing::debug!(did = job.did, attempts = job.attempts, "{failure}; trying again later");
                    self.metrics.retried(class);
                    job.suspected = (class.action() == Action::Confirm).then_some(class);
                    let delay = retry_delay(job.attempts, retry);
                    self.put_off(job, delay).await;
                }
                if let Some(key) = key {
                    self.give_up_on(&key, now).await;
                }
            }
        }
    }

    /// What the failure says of the host that was asked.
    fn speak(&mut self, key: Option<&Key>, failure: &Failure, now: Instant) {
        let mut lines = self.observed.lines();
        let Some(host) = key.and_then(|key| lines.host(key)) else { return };
        let row = failure.class.row();
        let first_pause = self.worker.config.host_backoff;
        match row.speaks {
            Speaks::For => host.answered(now, failure.wait),
            Speaks::Neither => {}
            Speaks::Against => {
                if failure.wait.is_some() {
                    host.asked_for_patience(now, failure.wait);
                }
                host.failed(now, first_pause);
            }
            Speaks::Asks => {
                host.asked_for_patience(now, failure.wait);
                // One that only asks for patience works; one that is counted as a try has failed, too.
                if row.action != Action::Wait {
                    host.failed(now, first_pause);
                }
            }
        }
    }

    /// Whether the failure may come of an outdated DID document: the key was changed, or the account has moved. What ends a
    /// repository without another try is believed where the document says the same afterwards: the account may have moved while
    /// it waited in line, however new the document was.
    fn asks_again(&self, job: &mut Job, class: Class) -> bool {
        let Some(document) = job.document.clone().filter(|_| class.may_be_outdated()) else { return false };
        let is_final = class.action() == Action::Done;
        let outdated = if is_final { job.followed < MOST_FOLLOWED } else { !job.fresh };
        if outdated {
            self.worker.documents.remove(&job.did);
            job.document = None;
            job.fresh = true;
            if is_final {
                job.left = Some((document, class));
                job.followed = job.followed.saturating_add(1);
            }
        }
        outdated
    }

    async fn put_off(&self, job: Job, delay: Duration) {
        let delay = jittered(delay);
        let due = now_ms().saturating_add(millis(delay));
        self.ledger.settle(job, Verdict::Later(Until::Due(due))).await;
    }

    async fn bury(&self, job: Job, class: Class, error: String) {
        tracing::info!(did = job.did, reason = class.name(), "dead letter: {error}");
        self.metrics.buried(class);
        self.ledger.settle(job, Verdict::Dead(Death { reason: class.name(), error })).await;
    }

    /// Why nothing is expected of a host any more, if so. Of the PLC directory it always is: that it is not reached for
    /// long is more likely to be our fault, and it would take everything along.
    fn given_up(&self, key: &Key, now: Instant) -> Option<String> {
        let after = self.worker.config.host_give_up;
        let mut lines = self.observed.lines();
        let given_up = !lines.is_plc(key) && lines.host(key)?.is_given_up(now, after);
        given_up.then(|| format!("{} has given no answer for more than {after:?}", key.1))
    }

    /// A host that has not answered for very long takes what waits for it along.
    async fn give_up_on(&mut self, key: &Key, now: Instant) {
        let Some(error) = self.given_up(key, now) else { return };
        let waiting = self.observed.lines().take_all(key);
        for job in waiting {
            self.metrics.outcome(Class::HostGivenUp);
            self.bury(job, Class::HostGivenUp, error.clone()).await;
        }
    }
}

/// Whether a counted failure is the last one. What is wrong with the content has to be found twice, by fetches apart in
/// time; a host that gives something else each time has the tries that everybody has.
fn is_final(class: Class, job: &Job, max_attempts: u32) -> bool {
    if class.action() != Action::Confirm {
        return job.attempts >= max_attempts;
    }
    job.suspected == Some(class) || job.attempts >= max_attempts.max(2)
}
