//! Everything `up` starts, in the order it is started and stopped.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rsky_testnet::servers::{Database, Postgres, Redis, RespClient, install, sql, target_dir};

use super::{Options, Source};
use crate::daemons::Daemon;
use crate::steps::{build_release, take_binaries_from};
use crate::streams::FIREHOSE_LIVE;
use crate::testnet::{Recording, Testnet};

/// Packages with the binaries that `up` runs.
const PACKAGES: [&str; 4] = ["rsky-ingester", "rsky-backfiller", "rsky-indexer", "rsky-testnet"];

/// The running pipeline. Fields are dropped in this order: daemons before what they use.
pub(crate) struct Pipeline {
    pub(crate) ingester: Daemon,
    pub(crate) backfiller: Daemon,
    pub(crate) indexer: Daemon,
    testnet: Option<Testnet>,
    database: Database,
    postgres: Postgres,
    redis: Redis,
    directory: PathBuf,
    _only_one: File,
}

impl Pipeline {
    /// Builds and starts everything; what was started ends again when a later part fails.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        install::all()?;
        take_binaries_from(options.binaries.as_deref());
        build_release(&PACKAGES)?;
        let directory = target_dir().join("up");
        let only_one = claim(&directory)?;

        // Entries survive a restart of Redis, as they should wherever streams are a queue.
        let redis = Redis::builder().appendonly(true).directory(&directory.join("redis")).start()?;
        let postgres = start_postgres(&directory.join("postgres"))?;
        let database = postgres.cluster().create_database_named("bsky".to_owned())?;
        let testnet = match options.source() {
            Source::Real => None,
            Source::World => Some(Testnet::world(&directory)?),
            Source::Replay => Some(Testnet::replay(options.corpus.as_deref(), &directory)?),
        };

        let settings = settings(options, testnet.as_ref(), &redis, &database);
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Some(testnet) = testnet.as_ref().filter(|testnet| testnet.recording().is_some()) {
            // Without a stored position the ingester starts at the live end; a recording is read from its start.
            let mut redis = redis.client()?;
            redis.command(&["SET", &format!("{FIREHOSE_LIVE}:cursor:{}", testnet.host()), "0"])?;
        }
        let daemon = |name| Daemon::start(name, &directory, &[], &settings);
        Ok(Self {
            indexer: daemon("indexer")?,
            backfiller: daemon("backfiller")?,
            ingester: daemon("ingester")?,
            testnet,
            database,
            postgres,
            redis,
            directory,
            _only_one: only_one,
        })
    }

    /// # Errors
    /// One of the processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for daemon in [&mut self.ingester, &mut self.backfiller, &mut self.indexer] {
            daemon.check()?;
        }
        self.testnet.as_mut().map_or(Ok(()), Testnet::check)
    }

    /// Stops in flow order: intake first, servers last. Everything is stopped; the first error is given.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for daemon in [&mut self.ingester, &mut self.backfiller, &mut self.indexer] {
            outcome = outcome.and(daemon.stop());
        }
        outcome.and(self.redis.stop()).and(self.postgres.stop_fast())
    }

    /// Takes Redis away from the daemons.
    pub(crate) fn end_redis(&mut self) -> Result<()> {
        self.redis.stop()
    }

    /// What to open in a browser, and where the rest is.
    pub(crate) fn addresses(&self) -> String {
        let mut lines = vec![String::new()];
        for daemon in [&self.ingester, &self.backfiller, &self.indexer] {
            let base = format!("http://127.0.0.1:{}", daemon.admin);
            lines.push(format!("{:<11} {base}/   (/status /metrics)", daemon.name));
        }
        if let Some(testnet) = &self.testnet {
            lines.push(format!("network     {}   (simulated)", testnet.url()));
        }
        lines.push(format!("redis       {}", self.redis.url()));
        lines.push(format!("postgres    {}", self.database.url));
        lines.push(format!("logs        {}/*.log", self.directory.display()));
        lines.join("\n") + "\n"
    }

    /// A connection to Redis.
    pub(crate) fn redis(&self) -> Result<RespClient> {
        self.redis.client()
    }

    /// The host of the simulated network, as cursors name it; `None` with a real one.
    pub(crate) fn network(&self) -> Option<&str> {
        self.testnet.as_ref().map(Testnet::host)
    }

    /// What is being replayed, and from where; `None` with a network that has no end.
    pub(crate) fn recording(&self) -> Option<(&Recording, &str)> {
        self.testnet.as_ref().and_then(|testnet| Some((testnet.recording()?, testnet.host())))
    }
    /// A line per table that has rows.
    pub(crate) fn row_counts(&self) -> Result<String> {
        let url = &self.database.url;
        let each = "SELECT string_agg(format('SELECT %L, count(*) FROM %s', relname, oid::regclass), ' UNION ALL ' \
                    ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text \
                    !~ '^(pg_|information_schema)'";
        let counts = sql(url, &sql(url, each)?)?;
        let filled =
            counts.lines().filter_map(|line| line.split_once('|')).filter(|(_, count)| *count != "0");
        let lines: Vec<String> = filled.map(|(table, count)| format!("{count:>9}  {table}")).collect();
        Ok(format!(
            "rows per table ({} others are empty):\n{}",
            counts.lines().count() - lines.len(),
            lines.join("\n")
        ))
    }
}

/// An empty directory for this run, and the lock that keeps a second `up` out of it.
fn claim(directory: &std::path::Path) -> Result<File> {
    let parent = directory.parent().context("no parent directory")?;
    fs::create_dir_all(parent)?;
    let lock = File::create(parent.join("up.lock"))?;
    lock.try_lock()
        .ok()
        .context("another `cargo xtask up` uses this directory; set CARGO_TARGET_DIR for a second")?;
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory)?;
    Ok(lock)
}

/// In the run's directory; where Postgres' user cannot reach it (a home directory of root), in a temporary one.
fn start_postgres(directory: &std::path::Path) -> Result<Postgres> {
    Postgres::builder().directory(directory).start().or_else(|error| {
        println!("Postgres data goes to the system's temporary directory: {error:#}");
        Postgres::start()
    })
}

/// One set for all three daemons: each takes what concerns it.
fn settings(
    options: &Options,
    testnet: Option<&Testnet>,
    redis: &Redis,
    database: &Database,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("REDIS_URL", redis.url()),
        ("DATABASE_URL", database.url.clone()),
        ("INDEXER_CONSUMER", "up".to_owned()),
        ("BACKFILLER_CONSUMER", "up".to_owned()),
    ];
    if let Some(testnet) = testnet {
        settings.extend([
            ("INGESTER_RELAY_HOSTS", testnet.url().to_owned()),
            ("INGESTER_LABELER_HOSTS", options.labeler.clone().unwrap_or_else(|| testnet.url().to_owned())),
            ("PLC_URL", testnet.url().to_owned()),
            ("HANDLE_RESOLVER_URL", testnet.url().to_owned()),
            ("ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ]);
    } else {
        settings.push(("INGESTER_RELAY_HOSTS", options.relay.join(",")));
        settings.extend(options.labeler.clone().map(|labeler| ("INGESTER_LABELER_HOSTS", labeler)));
    }
    if testnet.is_some_and(|testnet| testnet.recording().is_some()) {
        settings.extend([
            // A recording does not change: some of its repositories are broken on purpose, some of its accounts are not in
            // the recorded directory, and the second answer is that of the fifth. Nobody wants to wait a minute for it.
            ("MAX_ATTEMPTS", "2".to_owned()),
            ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "500".to_owned()),
            ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "2000".to_owned()),
            // Identity events that one account sent over days come within a second here, and would wait a minute for each
            // other.
            ("INDEXER_IDENTITY_INTERVAL_SECS", "0".to_owned()),
        ]);
    }
    settings
}
