//! What became of repositories, written to Redis: acknowledged, put off, or a dead letter.
//!
//! Two tasks, each with a connection of its own. Acknowledgements need no room in Redis, they make some: nothing that a
//! full server refuses may stand before them. The other task puts off and buries, one transaction for many. Putting off
//! moves an entry into a sorted set, by the time it is due, in the transaction that acknowledges it, so it outlives this
//! process and holds no place in the stream or in memory.

use std::time::Duration;

use redis::Value;
use rsky_common::redis::consumer::Consumer;
use rsky_common::redis::{DeadLetter, LinkError, RedisLink};
use rsky_common::wire::names::FIELD_REPO;
use tokio::sync::mpsc;

use crate::job::{Job, Queue};

/// Verdicts in one transaction.
const MOST: usize = 100;

/// What is to become of a job's entry.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing more is to be done.
    Done,
    /// Again at this time, in milliseconds since the epoch.
    Later(u64),
    /// A dead letter.
    Dead {
        /// Its reason, of a closed set.
        reason: &'static str,
        /// For people.
        error: String,
    },
}

/// The way to the ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    done: mpsc::Sender<Job>,
    others: mpsc::Sender<(Job, Verdict)>,
}

impl Ledger {
    /// Hands a job over. When the process ends before it is written, its entry stays pending. Does not wait: there is
    /// room for every job that can be on its way.
    pub async fn settle(&self, job: Job, verdict: Verdict) {
        // A ledger that is gone means the process is ending.
        match verdict {
            Verdict::Done => drop(self.done.send(job).await),
            verdict => drop(self.others.send((job, verdict)).await),
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

/// Puts off and buries.
#[derive(Debug)]
pub struct PuttingOff {
    inbox: mpsc::Receiver<(Job, Verdict)>,
    writing: Writing,
    /// Key of the set of what is put off.
    delayed: String,
    /// Length dead-letter streams are kept to.
    dlq_max_len: u64,
}

/// All sides. `jobs`: how many there can be at a time, which is what holds the channels in bounds.
pub fn ledger(
    [acknowledging, putting_off]: [Writing; 2],
    delayed: String,
    dlq_max_len: u64,
    jobs: usize,
) -> (Ledger, Acknowledging, PuttingOff) {
    let ((done, finished), (others, unfinished)) = (mpsc::channel(jobs), mpsc::channel(jobs));
    (
        Ledger { done, others },
        Acknowledging { inbox: finished, writing: acknowledging },
        PuttingOff { inbox: unfinished, writing: putting_off, delayed, dlq_max_len },
    )
}

impl Writing {
    /// Connected before there is anything to write, so that readiness tells the truth.
    async fn connect(&mut self) -> Result<(), LinkError> {
        self.link.connection().await.map(drop)
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
            for (queue, consumer) in [Queue::Priority, Queue::Normal].into_iter().zip(&self.writing.consumers)
            {
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
        let mut verdicts = Vec::with_capacity(MOST);
        while self.inbox.recv_many(&mut verdicts, MOST).await > 0 {
            let transaction = self.transaction(&verdicts);
            let link = &mut self.writing.link;
            while let Err(error) = link.pipeline::<Value>(&transaction).await {
                link.wait_out(error).await?;
            }
            link.succeeded();
            verdicts.clear();
        }
        Ok(())
    }

    fn transaction(&self, verdicts: &[(Job, Verdict)]) -> redis::Pipeline {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for (queue, consumer) in [Queue::Priority, Queue::Normal].into_iter().zip(&self.writing.consumers) {
            let own = || verdicts.iter().filter(move |(job, _)| job.queue == queue);
            for (job, verdict) in own() {
                match verdict {
                    Verdict::Done => {}
                    Verdict::Later(due) => {
                        transaction.cmd("ZADD").arg(&self.delayed).arg(*due).arg(delayed_member(job));
                    }
                    Verdict::Dead { reason, error } => {
                        let letter = DeadLetter::new(FIELD_REPO, &job.payload, reason, error, &job.id);
                        letter.attempts(job.attempts.max(1)).append(
                            &mut transaction,
                            &consumer.stream,
                            self.dlq_max_len,
                        );
                    }
                }
            }
            let ids: Vec<&str> = own().map(|(job, _)| job.id.as_str()).collect();
            if !ids.is_empty() {
                transaction.cmd("XACK").arg(&consumer.stream).arg(&consumer.group).arg(&ids);
                transaction.cmd("XDEL").arg(&consumer.stream).arg(&ids);
            }
        }
        transaction
    }
}

fn ended(outcome: Result<(), LinkError>) -> anyhow::Result<()> {
    match outcome {
        Ok(()) | Err(LinkError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `<queue>|<attempts>|<entry's value>`.
fn delayed_member(job: &Job) -> String {
    let queue = if job.queue == Queue::Priority { 'p' } else { 'n' };
    format!("{queue}|{}|{}", job.attempts, job.payload)
}

/// Reads [`delayed_member`].
pub fn read_delayed(member: &str) -> Option<(Queue, u32, &str)> {
    let mut parts = member.splitn(3, '|');
    let queue = match parts.next()? {
        "p" => Queue::Priority,
        "n" => Queue::Normal,
        _ => return None,
    };
    Some((queue, parts.next()?.parse().ok()?, parts.next()?))
}

/// How long a failed repository waits: `first · 4ⁿ`, at most `most`.
pub fn retry_delay(attempts: u32, (first, most): (Duration, Duration)) -> Duration {
    first.saturating_mul(4_u32.saturating_pow(attempts.saturating_sub(1).min(15))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back() {
        assert_eq!(read_delayed("p|3|{\"a\":\"|\"}"), Some((Queue::Priority, 3, "{\"a\":\"|\"}")));
        assert_eq!(read_delayed("n|0|"), Some((Queue::Normal, 0, "")));
        for bad in ["", "x|0|", "n|x|", "n|0"] {
            assert_eq!(read_delayed(bad), None, "{bad}");
        }
    }

    #[test]
    fn delays_grow_to_the_longest() {
        let minute = Duration::from_secs(60);
        let delay = |attempts| retry_delay(attempts, (minute, minute * 100)).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 100].map(delay), [60, 240, 960, 3840, 6000, 6000]);
    }
}
