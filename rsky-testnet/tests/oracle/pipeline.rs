//! The three daemons on a simulated world.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rsky_testnet::daemon::{Daemon, Launch};
use rsky_testnet::network::world::{Serving, WorldNetwork};
use rsky_testnet::servers::{Database, Postgres, Redis};
use tokio::runtime::Runtime;

use crate::outages;
use crate::plan::{Plan, Servers};

/// How long nothing at all may move before a run has failed. Handles wait a minute where they were asked for just before.
const STANDSTILL: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(25);

pub const LIVE: &str = "firehose_live";
pub const BACKFILL: &str = "firehose_backfill";
pub const LABELS: &str = "label_live";
pub const REPOSITORIES: &str = "repo_backfill";

/// Everything that a run needs.
pub struct Rig {
    pub redis: Redis,
    // Dropped before its server.
    pub database: Database,
    /// One of its own, where it is to be killed.
    pub postgres: Option<Postgres>,
    pub network: WorldNetwork,
    pub servers: Servers,
    /// How often Redis or Postgres was killed.
    pub kills: usize,
    runtime: Runtime,
}

impl Rig {
    pub fn new(plan: &Plan) -> Self {
        let runtime = Runtime::new().unwrap();
        let network = runtime.block_on(WorldNetwork::start(plan.world(), Serving::default())).unwrap();
        let postgres = outages::postgres(plan.servers);
        let cluster =
            postgres.as_ref().map_or_else(|| Postgres::shared().unwrap().clone(), Postgres::cluster);
        let database = cluster.create_database_of(plan.generation, "world").unwrap();
        let redis = outages::redis(plan.servers);
        Self { redis, database, postgres, network, servers: plan.servers, kills: 0, runtime }
    }

    pub fn stop(self) {
        self.runtime.block_on(self.network.stop()).unwrap();
    }

    pub fn start(&self, name: &str, own: &[(&str, &str)]) -> Daemon {
        let (redis, network) = (self.redis.url(), self.network.relays()[0].url());
        let fixed = [
            ("REDIS_URL", redis.as_str()),
            ("DATABASE_URL", &self.database.url),
            ("INGESTER_RELAY_HOSTS", &network),
            ("INGESTER_LABELER_HOSTS", &network),
            ("PLC_URL", &network),
            ("HANDLE_RESOLVER_URL", &network),
            ("ALLOW_PRIVATE_ADDRESSES", "true"),
            ("METRICS_PORT", "0"),
            ("RUST_LOG", "info"),
            ("INGESTER_MEMORY_PERCENT", "0"),
            ("INGESTER_RECONNECT_MIN_MS", "20"),
            ("INGESTER_RECONNECT_MAX_MS", "200"),
            // Far above any frame of the world, and below what is too large on purpose.
            ("INGESTER_MAX_FRAME_BYTES", "600KiB"),
            // How long those are waited for who do not answer.
            ("INGESTER_LIST_TIMEOUT_MS", "2000"),
            ("BACKFILLER_DID_TIMEOUT_MS", "2000"),
            ("BACKFILLER_HTTP_TIMEOUT_SECS", "2"),
            ("BACKFILLER_STALL_TIMEOUT_SECS", "2"),
            ("BACKFILLER_CONSUMER", "test"),
            ("BACKFILLER_MEMORY_PERCENT", "0"),
            ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "50"),
            ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "200"),
            ("BACKFILLER_HOST_BACKOFF_MS", "50"),
            ("INDEXER_CONSUMER", "test"),
            // More moments to be hit in.
            ("INDEXER_BATCH_SIZE", "40"),
        ];
        let program = binary(name);
        let program = program.to_str().unwrap();
        Daemon::start(Launch::new(program, env!("CARGO_TARGET_TMPDIR"), &[], &fixed, own).bare())
    }

    /// Entries of a stream.
    pub fn length(&self, stream: &str) -> i64 {
        rsky_testnet::streams::length(&self.redis, stream)
    }

    /// Entries that a stream ever had.
    pub fn added(&self, stream: &str) -> i64 {
        if self.redis.command(&["EXISTS", stream]).unwrap().as_int() == Some(0) {
            return 0;
        }
        let reply = self.redis.command(&["XINFO", "STREAM", stream]).unwrap();
        let mut members = reply.items().iter();
        while let Some(name) = members.next() {
            let value = members.next();
            if name.as_text().as_deref() == Some("entries-added") {
                return value.and_then(rsky_testnet::servers::Value::as_int).unwrap();
            }
        }
        panic!("Redis does not say how many entries {stream} had")
    }

    pub fn cursor(&self, stream: &str) -> Option<String> {
        let host = self.network.relays()[0].addr();
        self.redis.command(&["GET", &format!("{stream}:cursor:{host}")]).unwrap().as_text()
    }

    /// Waits until `done`, for as long as anything moves.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        let (mut seen, mut since) = (Vec::new(), Instant::now());
        while !done(self) {
            let now: Vec<i64> = [LIVE, BACKFILL, LABELS, REPOSITORIES]
                .iter()
                .flat_map(|stream| [self.length(stream), self.added(stream)])
                .collect();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < STANDSTILL, "{what}: nothing has moved for long; streams: {seen:?}");
            std::thread::sleep(POLL);
        }
        println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    }
}

/// A daemon's program, built by the command that built this test (`cargo test --workspace`).
fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.parent().and_then(std::path::Path::parent).unwrap().join(name);
    assert!(
        program.is_file(),
        "{} is not built: run `cargo build --workspace --bins`, or all tests with `cargo xtask test`",
        program.display()
    );
    program
}
