//! Brings repositories that were put off back into their stream when they are due, and accounts that are to be compared
//! once more when what was unread has been indexed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;
use rsky_common::clock::{millis, now_ms};
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::backoff::sleep_or_stop;
use tokio_util::sync::CancellationToken;

use crate::job::Queue;
use crate::put_off::PutOff;
use crate::unread::{Again, LOOK_AGAIN, Unread};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Members brought back in one go.
const MOST: usize = 200;
/// Accounts that are looked at in one go: each is a search through what is unread.
const MOST_AGAIN: usize = 20;

/// Moves one member, unless another backfiller has just done so. A script, because only one of several may add the entry.
const MOVE: &str = "if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then \
return redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2)) end return false";

/// How many are put off, as last seen: not for long, since what Redis does not say any more is not known.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Option<(u64, Instant)>>);

/// Age at which what was seen is no longer known.
const OLD: Duration = Duration::from_secs(5);

impl Seen {
    fn note(&self, length: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((length, Instant::now()));
    }

    /// How many; `None`: not known now.
    pub fn get(&self) -> Option<u64> {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|(_, at)| at.elapsed() < OLD).map(|(length, _)| length)
    }
}

/// The mover.
#[derive(Debug)]
pub struct Delayed {
    /// A connection of its own.
    pub link: RedisLink,
    /// Key of the set.
    pub key: String,
    /// Key of the set of accounts that are to be compared once more.
    pub again: String,
    /// What they wait for.
    pub unread: Unread,
    /// The streams.
    pub streams: [String; 2],
    /// Told how many are put off.
    pub length: Arc<Seen>,
    /// The wish to stop.
    pub stop: CancellationToken,
}

impl Delayed {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let outcome = match self.compare_again().await {
                Ok(()) => self.move_due().await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(moved) => {
                    self.link.succeeded();
                    if moved == MOST {
                        continue;
                    }
                }
                Err(LinkError::Stopped) => return Ok(()),
                Err(error) => match self.link.wait_out(error).await {
                    Ok(()) => continue,
                    Err(LinkError::Stopped) => return Ok(()),
                    Err(error) => return Err(error.into()),
                },
            }
            if !sleep_or_stop(EVERY, &self.stop).await {
                return Ok(());
            }
        }
    }

    async fn move_due(&mut self) -> Result<usize, LinkError> {
        let length: u64 = self.link.query(redis::cmd("ZCARD").arg(&self.key)).await?;
        self.length.note(length);
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(&self.key).arg("-inf").arg(now_ms()).arg("LIMIT").arg(0).arg(MOST);
        let due: Vec<String> = self.link.query(&command).await?;
        for member in &due {
            let Some(put_off) = PutOff::read(member) else {
                tracing::warn!(
                    key = self.key,
                    "not an entry that was put off; removed: {}",
                    member.escape_debug()
                );
                self.link.query::<Value>(redis::cmd("ZREM").arg(&self.key).arg(member)).await?;
                continue;
            };
            let script = move_member(&self.key, member, put_off.queue.pick(&self.streams), &put_off);
            self.link.query::<Value>(&script).await?;
        }
        Ok(due.len())
    }

    async fn compare_again(&mut self) -> Result<(), LinkError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(&self.again).arg("-inf").arg(now_ms()).arg("LIMIT").arg(0).arg(MOST_AGAIN);
        let due: Vec<String> = self.link.query(&command).await?;
        for member in &due {
            let Some(again) = Again::read(member) else {
                tracing::warn!(key = self.again, "not a wish of ours; removed: {}", member.escape_debug());
                self.link.query::<Value>(redis::cmd("ZREM").arg(&self.again).arg(member)).await?;
                continue;
            };
            let command = if self.unread.holds(&mut self.link, &again.reached, &again.did).await? {
                let mut later = redis::cmd("ZADD");
                let due = now_ms().saturating_add(millis(LOOK_AGAIN));
                later.arg(&self.again).arg("XX").arg(due).arg(member);
                later
            } else {
                let put_off = PutOff {
                    queue: Queue::Priority,
                    attempts: 0,
                    suspected: None,
                    read_up_to: Some(again.reached),
                    payload: &again.payload,
                };
                move_member(&self.again, member, put_off.queue.pick(&self.streams), &put_off)
            };
            self.link.query::<Value>(&command).await?;
        }
        Ok(())
    }
}

fn move_member(set: &str, member: &str, stream: &str, put_off: &PutOff<'_>) -> redis::Cmd {
    let mut script = redis::cmd("EVAL");
    script.arg(MOVE).arg(2).arg(set).arg(stream).arg(member);
    for (name, value) in put_off.fields() {
        script.arg(name).arg(value);
    }
    script
}
