//! What became of repositories, written to Redis: acknowledged, put off, or a dead letter.
//!
//! A repository that was written is acknowledged with its last entry (`worker`), not here: a server that comes back with an
//! older state has both or neither.
//!
//! Four tasks, each with a connection of its own. Acknowledgements need no room in Redis, they make some: nothing that a
//! full server refuses may stand before them. Putting off moves an entry into a sorted set, by the time it is due, or to
//! the end of its stream, in the transaction that acknowledges it, so it outlives this process and holds no place in
//! memory. Burying has a task a stream: letters of repositories are never trimmed, so what is to be buried waits, with its
//! place, while there are too many (`rsky_common::redis::letter_room`).

use std::time::Duration;

use redis::Value;
use rsky_common::config::LetterBounds;
use rsky_common::redis::consumer::Consumer;
use rsky_common::redis::letter_room::wait_for_room;
use rsky_common::redis::{DeadLetter, LinkError, RedisLink};
use rsky_common::wire::names::FIELD_REPO;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::job::{Job, QUEUES, Queue};
use crate::put_off::PutOff;

/// Verdicts in one transaction.
const MOST: usize = 100;

/// What is to become of a job's entry.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing more is to be done.
    Done,
    /// Again.
    Later(Until),
    /// A dead letter.
    Dead(Death),
}

/// When a job that is put off comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At this time, in milliseconds since the epoch.
    Due(u64),
    /// Behind all others that wait in its stream.
    ItsTurn,
}

/// Why a job is given up.
#[derive(Debug)]
pub struct Death {
    /// Of a closed set.
    pub reason: &'static str,
    /// For people.
    pub error: String,
}

/// The way to the ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    done: mpsc::Sender<Job>,
    later: mpsc::Sender<(Job, Until)>,
    dead: [mpsc::Sender<(Job, Death)>; 2],
}

impl Ledger {
    /// Hands a job over. When the process ends before it is written, its entry stays pending. Does not wait: there is
    /// room for every job that can be on its way.
    pub async fn settle(&self, job: Job, verdict: Verdict) {
        // A ledger that is gone means the process is ending.
        match verdict {
            Verdict::Done => drop(self.done.send(job).await),
            Verdict::Later(until) => drop(self.later.send((job, until)).await),
            Verdict::Dead(death) => drop(job.queue.of(&self.dead).send((job, death)).await),
        }
    }
}

/// What both writing sides need.
#[derive(Debug)]
pub struct Writing {
    /// Ended only when the process gives up what is in flight.
    pub link: RedisLink,
    /// The consumer on each stream.
    pub consumers: [Consumer; 2],
}

/// Acknowledges.
#[derive(Debug)]
pub struct Acknowledging {
    inbox: mpsc::Receiver<Job>,
    writing: Writing,
}

/// Puts off.
#[derive(Debug)]
pub struct PuttingOff {
    inbox: mpsc::Receiver<(Job, Until)>,
    writing: Writing,
    /// Key of the set of what is put off.
    delayed: String,
}

/// Buries what comes from one of the streams.
#[derive(Debug)]
pub struct Burying {
    inbox: mpsc::Receiver<(Job, Death)>,
    writing: Writing,
    queue: Queue,
    letters: LetterBounds,
    stop: CancellationToken,
}

/// The writing sides.
#[derive(Debug)]
pub struct Sides {
    /// Acknowledges.
    pub acknowledging: Acknowledging,
    /// Puts off.
    pub putting_off: PuttingOff,
    /// Buries, by stream: priority, normal.
    pub burying: [Burying; 2],
}

/// What the ledger is made with.
#[derive(Debug)]
pub struct Settings {
    /// Key of the set of what is put off.
    pub delayed: String,
    /// Letters of a stream from which on burying waits.
    pub letters: LetterBounds,
    /// How many jobs there can be at a time, which is what holds the channels in bounds.
    pub jobs: usize,
    /// The wish to stop: room for letters is not waited for after it.
    pub stop: CancellationToken,
}

/// All sides. `writing`: what each task writes with, by the purpose that its connection is named after.
pub fn ledger(settings: Settings, writing: impl Fn(&'static str) -> Writing) -> (Ledger, Sides) {
    let Settings { delayed, letters, jobs, stop } = settings;
    let ((done, finished), (later, unfinished)) = (mpsc::channel(jobs), mpsc::channel(jobs));
    let burying = |queue: Queue, purpose| {
        let (dead, inbox) = mpsc::channel(jobs);
        (dead, Burying { inbox, writing: writing(purpose), queue, letters, stop: stop.clone() })
    };
    let (urgent, burying_urgent) = burying(Queue::Priority, "dead letters of the priority stream");
    let (normal, burying_normal) = burying(Queue::Normal, "dead letters");
    let sides = Sides {
        acknowledging: Acknowledging { inbox: finished, writing: writing("acknowledgements") },
        putting_off: PuttingOff { inbox: unfinished, writing: writing("delays"), delayed },
        burying: [burying_urgent, burying_normal],
    };
    (Ledger { done, later, dead: [urgent, normal] }, sides)
}

impl Writing {
    /// Connected before there is anything to write, so that readiness tells the truth.
    async fn connect(&mut self) -> Result<(), LinkError> {
        self.link.connection().await.map(drop)
    }

    /// Writes, trying until it is in.
    async fn write(&mut self, transaction: &redis::Pipeline) -> Result<(), LinkError> {
        while let Err(error) = self.link.pipeline::<Value>(transaction).await {
            self.link.wait_out(error).await?;
        }
        self.link.succeeded();
        Ok(())
    }
}

impl Acknowledging {
    /// Writes until all senders are gone.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        ended(self.write_all().await)
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        self.writing.connect().await?;
        let mut jobs = Vec::with_capacity(MOST);
        while self.inbox.recv_many(&mut jobs, MOST).await > 0 {
            for (queue, consumer) in QUEUES.into_iter().zip(&self.writing.consumers) {
                let ids: Vec<&str> =
                    jobs.iter().filter(|job| job.queue == queue).map(|job| job.id.as_str()).collect();
                let link = &mut self.writing.link;
                while let Err(error) = consumer.acknowledge(link, &ids).await {
                    link.wait_out(error).await?;
                }
                link.succeeded();
            }
            jobs.clear();
        }
        Ok(())
    }
}

impl PuttingOff {
    /// Writes until all senders are gone.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        ended(self.write_all().await)
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        self.writing.connect().await?;
        let mut jobs = Vec::with_capacity(MOST);
        while self.inbox.recv_many(&mut jobs, MOST).await > 0 {
            let mut transaction = redis::pipe();
            transaction.atomic();
            for (job, until) in &jobs {
                let member = PutOff::of(job);
                match until {
                    Until::Due(due) => {
                        transaction.cmd("ZADD").arg(&self.delayed).arg(*due).arg(member.member());
                    }
                    Until::ItsTurn => {
                        let stream = &job.queue.of(&self.writing.consumers).stream;
                        let mut entry = redis::cmd("XADD");
                        entry.arg(stream).arg("*");
                        for (name, value) in member.fields() {
                            entry.arg(name).arg(value);
                        }
                        transaction.add_command(entry);
                    }
                }
            }
            for (queue, consumer) in QUEUES.into_iter().zip(&self.writing.consumers) {
                let own = jobs.iter().filter(|(job, _)| job.queue == queue);
                remove(&mut transaction, consumer, own.map(|(job, _)| job));
            }
            self.writing.write(&transaction).await?;
            jobs.clear();
        }
        Ok(())
    }
}

impl Burying {
    /// Writes until all senders are gone.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        ended(self.write_all().await)
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        self.writing.connect().await?;
        let consumer = self.queue.of(&self.writing.consumers).clone();
        let mut dead = Vec::with_capacity(MOST);
        while self.inbox.recv_many(&mut dead, MOST).await > 0 {
            // What waits here holds its places: in the end nothing more is read.
            wait_for_room(&mut self.writing.link, &consumer.stream, self.letters, &self.stop).await?;
            let mut transaction = redis::pipe();
            transaction.atomic();
            for (job, Death { reason, error }) in &dead {
                let letter = DeadLetter::new(FIELD_REPO, &job.payload, reason, error, &job.id);
                letter.attempts(job.attempts.max(1)).append(&mut transaction, &consumer.stream);
            }
            remove(&mut transaction, &consumer, dead.iter().map(|(job, _)| job));
            self.writing.write(&transaction).await?;
            dead.clear();
        }
        Ok(())
    }
}

/// Acknowledges and deletes the entries of jobs.
fn remove<'a>(transaction: &mut redis::Pipeline, consumer: &Consumer, jobs: impl Iterator<Item = &'a Job>) {
    let ids: Vec<&str> = jobs.map(|job| job.id.as_str()).collect();
    if !ids.is_empty() {
        for command in consumer.ending(&ids) {
            transaction.add_command(command);
        }
    }
}

fn ended(outcome: Result<(), LinkError>) -> anyhow::Result<()> {
    match outcome {
        Ok(()) | Err(LinkError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How long a failed repository waits: `first · 4ⁿ`, at most `most`.
pub fn retry_delay(attempts: u32, (first, most): (Duration, Duration)) -> Duration {
    first.saturating_mul(4_u32.saturating_pow(attempts.saturating_sub(1).min(15))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest() {
        let minute = Duration::from_secs(60);
        let delay = |attempts| retry_delay(attempts, (minute, minute * 100)).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 100].map(delay), [60, 240, 960, 3840, 6000, 6000]);
    }
}
