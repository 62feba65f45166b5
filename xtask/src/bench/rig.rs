//! An indexer with a Redis and a database of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rsky_testnet::servers::{Database, Postgres, Redis, RespClient, Value};

use super::fifths::Spent;
use super::xadd_limit::fill_transaction;
use crate::daemons::Daemon;
use crate::procfs::{Usage, usage, usage_with_children};
use crate::streams::{FIREHOSE_LIVE, length, pending};
use crate::{admin, interrupt};

/// How long the indexer may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the entries that are in the stream at a time may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What an indexer needs: a Redis, and an empty database of a cluster.
pub(super) struct Rig<'p> {
    /// The stream is here.
    pub(super) redis: Redis,
    /// A connection to it.
    pub(super) client: RespClient,
    /// The tables are here.
    pub(super) database: Database,
    postgres: &'p Postgres,
}

impl<'p> Rig<'p> {
    /// # Errors
    /// Redis does not start, or the database cannot be created.
    pub(super) fn new(postgres: &'p Postgres) -> Result<Self> {
        let redis = Redis::start()?;
        let client = redis.client()?;
        let database = postgres.create_database("bench")?;
        Ok(Self { redis, client, database, postgres })
    }

    /// An indexer with its default settings but for `settings`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start_indexer(&self, logs: &Path, settings: &[(&str, &str)]) -> Result<Daemon> {
        let redis_url = self.redis.url();
        let mut all = vec![
            ("REDIS_URL", redis_url.as_str()),
            ("DATABASE_URL", &self.database.url),
            ("INDEXER_CONSUMER", "bench"),
            ("RUST_LOG", "warn"),
        ];
        all.extend(settings);
        Daemon::start("indexer", logs, &[], &all)
    }

    /// As [`Rig::start_indexer`], and waits until it says that it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready within 60 s.
    pub(super) fn start_ready_indexer(&self, logs: &Path) -> Result<Daemon> {
        let mut indexer = self.start_indexer(logs, &[])?;
        let launched = Instant::now();
        while admin::get(indexer.admin, "/readyz").is_err() {
            indexer.check()?;
            if launched.elapsed() > START_LIMIT {
                bail!("the indexer is not ready after {START_LIMIT:?}: {}", indexer.log_tail(5));
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
        Ok(indexer)
    }

    /// Waits until a stream that was filled before the indexer started is empty; gives the entries that went, and the
    /// seconds it took, from the first moment on at which some had gone: the start of the process is not measured, and
    /// neither is what it did until then.
    ///
    /// # Errors
    /// The indexer ends, takes more than 10 minutes, or took everything at once.
    pub(super) fn drain(&mut self, indexer: &mut Daemon) -> Result<(i64, f64)> {
        let redis = &mut self.client;
        let full = length(redis, FIREHOSE_LIVE)?;
        let launched = Instant::now();
        let mut first: Option<(Instant, i64)> = None;
        loop {
            let left = length(redis, FIREHOSE_LIVE)?;
            if left < full && first.is_none() {
                first = Some((Instant::now(), left));
            }
            if left == 0 && pending(redis, FIREHOSE_LIVE)? == 0 {
                return match first {
                    Some((since, counted)) if counted > 0 => Ok((counted, since.elapsed().as_secs_f64())),
                    _ => bail!("all {full} events went at once; give more with --events"),
                };
            }
            indexer.check()?;
            if launched.elapsed() > LIMIT {
                bail!("{left} of {full} events are left after {LIMIT:?}: {}", indexer.log_tail(5));
            }
            interrupt::sleep(Duration::from_millis(5))?;
        }
    }

    /// Gives a running indexer, which has nothing to do, one more piece, and waits until it is drained.
    ///
    /// The piece enters the stream in one transaction, so the indexer sees nothing of it until all of it is there:
    /// neither making nor writing the entries is measured. What is measured is from there to the last acknowledgement,
    /// by Redis' clock; that each piece begins and ends with lanes that have less to do makes all of them slower alike.
    /// Between two pieces, while the next is made, Postgres can catch up with what it does in the background; the CPU
    /// time has that, too.
    ///
    /// # Errors
    /// The indexer ends or takes more than 10 minutes, or an entry became a dead letter.
    pub(super) fn piece<P: AsRef<[u8]>>(
        &mut self,
        indexer: &mut Daemon,
        entries: impl IntoIterator<Item = P>,
    ) -> Result<Spent> {
        let cpu_before = self.cpu_seconds(indexer);
        let (entries, began) = fill_transaction(&mut self.client, FIREHOSE_LIVE, entries)?;
        let launched = Instant::now();
        loop {
            let left = length(&mut self.client, FIREHOSE_LIVE)?;
            if left == 0 && pending(&mut self.client, FIREHOSE_LIVE)? == 0 {
                break;
            }
            indexer.check()?;
            if launched.elapsed() > LIMIT {
                bail!("{left} of {entries} events are left after {LIMIT:?}: {}", indexer.log_tail(5));
            }
            interrupt::sleep(Duration::from_millis(2))?;
        }
        let seconds = clock(&self.client.command(&["TIME"])?)? - began;
        let cpu_seconds = self.cpu_seconds(indexer) - cpu_before;
        let dead = length(&mut self.client, &format!("{FIREHOSE_LIVE}_dlq"))?;
        if dead > 0 {
            bail!("{dead} events became dead letters: {}", indexer.log_tail(5));
        }
        Ok(Spent { entries, seconds, cpu_seconds })
    }

    /// What the cluster's processes have used so far.
    pub(super) fn postgres_usage(&self) -> Usage {
        self.postgres.pid().map_or_else(Usage::default, usage_with_children)
    }

    /// What each process has used, the cluster's from `before` on.
    pub(super) fn usages(&self, indexer: &Daemon, before: Usage) -> Vec<(&'static str, Usage)> {
        let mut server = self.postgres_usage();
        server.cpu_seconds -= before.cpu_seconds;
        vec![
            ("indexer", usage(indexer.pid())),
            ("redis", self.redis.pid().map_or_else(Usage::default, usage)),
            ("postgres", server),
        ]
    }

    fn cpu_seconds(&self, indexer: &Daemon) -> f64 {
        usage(indexer.pid()).cpu_seconds + self.postgres_usage().cpu_seconds
    }
}

/// Seconds since 1970 of a reply to TIME.
///
/// # Errors
/// It is something else.
#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 are below 2^53")]
pub(super) fn clock(reply: &Value) -> Result<f64> {
    let mut numbers = reply.items().iter().map(Value::as_int);
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(seconds), Some(micros)) => Ok(seconds as f64 + micros as f64 / 1e6),
        _ => None.context("TIME gave no time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_clock_of_redis() {
        let word = |text: &str| Value::Data(text.as_bytes().to_vec());
        assert_eq!(clock(&Value::Array(vec![word("17"), word("250000")])).unwrap(), 17.25);
        assert!(clock(&Value::Nil).is_err());
        assert!(clock(&Value::Array(vec![word("17"), word("x")])).is_err());
    }
}
