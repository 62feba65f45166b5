//! Brings repositories that were put off back into their stream when they are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::backoff::sleep_or_stop;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::put_off::PutOff;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Members brought back in one go.
const MOST: usize = 200;

/// Moves one member, unless another backfiller has just done so. A script, because only one of several may add the entry.
const MOVE: &str = "if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then \
return redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2)) end return false";

/// The mover.
#[derive(Debug)]
pub struct Delayed {
    /// A connection of its own.
    pub link: RedisLink,
    /// Key of the set.
    pub key: String,
    /// The streams.
    pub streams: [String; 2],
    /// How many are put off, as last seen.
    pub length: Arc<AtomicU64>,
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
            let outcome = self.move_due().await;
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
        self.length.store(length, Ordering::Relaxed);
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
            let mut script = redis::cmd("EVAL");
            script.arg(MOVE).arg(2).arg(&self.key).arg(put_off.queue.pick(&self.streams)).arg(member);
            for (name, value) in put_off.fields() {
                script.arg(name).arg(value);
            }
            self.link.query::<Value>(&script).await?;
        }
        Ok(due.len())
    }
}
