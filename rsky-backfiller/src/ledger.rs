//! What became of repositories, written to Redis: acknowledged, put off, or a dead letter.
//!
//! One transaction for many. Putting off moves an entry into a sorted set, by the time it is due, in the transaction that
//! acknowledges it, so it outlives this process and holds no place in the stream or in memory.

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
pub struct Ledger(mpsc::Sender<(Job, Verdict)>);

impl Ledger {
    /// Hands a job over. When the process ends before it is written, its entry stays pending.
    pub async fn settle(&self, job: Job, verdict: Verdict) {
        // A ledger that is gone means the process is ending.
        drop(self.0.send((job, verdict)).await);
    }
}

/// The writing side.
#[derive(Debug)]
pub struct LedgerTask {
    inbox: mpsc::Receiver<(Job, Verdict)>,
    /// Ended only when the process gives up what is in flight.
    pub link: RedisLink,
    /// The consumer on each stream.
    pub consumers: [Consumer; 2],
    /// Key of the set of what is put off.
    pub delayed: String,
    /// Length dead-letter streams are kept to.
    pub dlq_max_len: u64,
}

/// Both sides.
pub fn ledger(
    link: RedisLink,
    consumers: [Consumer; 2],
    delayed: String,
    dlq_max_len: u64,
) -> (Ledger, LedgerTask) {
    let (sender, inbox) = mpsc::channel(MOST);
    (Ledger(sender), LedgerTask { inbox, link, consumers, delayed, dlq_max_len })
}

impl LedgerTask {
    /// Writes until all senders are gone.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        // Connected before there is anything to write, so that readiness tells the truth.
        match self.link.connection().await {
            Ok(_) => {}
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut verdicts = Vec::with_capacity(MOST);
        while self.inbox.recv_many(&mut verdicts, MOST).await > 0 {
            // Dead letters and delays need room in Redis, acknowledgements do not: a full server still drains.
            let (done, others): (Vec<_>, Vec<_>) =
                verdicts.drain(..).partition(|(_, verdict)| matches!(verdict, Verdict::Done));
            for part in [done, others] {
                match self.write(&part).await {
                    Ok(()) => {}
                    Err(LinkError::Stopped) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, verdicts: &[(Job, Verdict)]) -> Result<(), LinkError> {
        if verdicts.is_empty() {
            return Ok(());
        }
        let transaction = self.transaction(verdicts);
        loop {
            match self.link.pipeline::<Value>(&transaction).await {
                Ok(_) => {
                    self.link.succeeded();
                    return Ok(());
                }
                Err(error) => self.link.wait_out(error).await?,
            }
        }
    }

    fn transaction(&self, verdicts: &[(Job, Verdict)]) -> redis::Pipeline {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for (queue, consumer) in [Queue::Priority, Queue::Normal].into_iter().zip(&self.consumers) {
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
