//! Starting the daemon, and looking at what it wrote.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use rsky_testnet::daemon::{Daemon, Launch};
use rsky_testnet::servers::Redis;

pub use rsky_testnet::daemon::{PATIENCE, wait_until};
pub use rsky_testnet::streams::{entries, length};

/// A running backfiller.
pub struct Backfiller(Daemon);

impl Backfiller {
    /// Starts one with these settings (and private addresses, quick retries, any admin port, no memory breaker).
    pub fn start(redis_url: &str, plc: &str, own: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, plc, own)))
    }

    /// The same, in so many bytes of address space.
    pub fn start_within(bytes: u64, redis_url: &str, plc: &str, own: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, plc, own).within(bytes)))
    }

    fn launch(redis_url: &str, plc: &str, own: &[(&str, &str)]) -> Launch {
        let fixed = [
            ("REDIS_URL", redis_url),
            ("PLC_URL", plc),
            ("METRICS_PORT", "0"),
            ("RUST_LOG", "info"),
            ("ALLOW_PRIVATE_ADDRESSES", "true"),
            ("BACKFILLER_CONSUMER", "test"),
            ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "50"),
            ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "200"),
            ("BACKFILLER_HOST_BACKOFF_MS", "50"),
            ("BACKFILLER_MEMORY_PERCENT", "0"),
        ];
        let (program, folder) = (env!("CARGO_BIN_EXE_backfiller"), env!("CARGO_TARGET_TMPDIR"));
        Launch::new(program, folder, &["REDIS_HOST"], &fixed, own)
    }

    /// How many tries ended in a class.
    pub fn class(&self, class: &str) -> f64 {
        self.metric("backfiller_outcomes_total", &format!("\"{class}\"")).unwrap()
    }

    /// Waits until so many tries have ended in a class: what is acknowledged is counted a moment later.
    #[track_caller]
    pub fn assert_class(&self, class: &str, count: f64) {
        wait_until(&format!("{count} tries have ended as {class}"), || self.class(class) == count);
    }
}

impl Deref for Backfiller {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for Backfiller {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}

/// Repositories that are queued, in work, or put off. Counted at one moment: they move from one to the other.
pub fn left(redis: &Redis) -> i64 {
    const COUNT: &str = "return redis.call('XLEN', 'repo_backfill') \
        + redis.call('XLEN', 'repo_backfill_priority') + redis.call('ZCARD', 'repo_backfill:delayed')";
    redis.command(&["EVAL", COUNT, "0"]).unwrap().as_int().unwrap()
}

/// Every event of the output stream, parsed.
pub fn events(redis: &Redis) -> Vec<serde_json::Value> {
    let all = entries(redis, "firehose_backfill");
    all.iter().map(|entry| serde_json::from_str(&entry["event"]).unwrap()).collect()
}

/// DID and reason of every dead letter.
pub fn dead(redis: &Redis) -> BTreeMap<String, String> {
    let one = |entry: &BTreeMap<String, String>| {
        let repo: serde_json::Value = serde_json::from_str(&entry["repo"]).unwrap_or_default();
        (repo["did"].as_str().unwrap_or_default().to_owned(), entry["reason"].clone())
    };
    entries(redis, "repo_backfill_dlq").iter().map(one).collect()
}

/// Queues repositories as the ingester does.
pub fn queue(redis: &Redis, host: &str, dids: impl IntoIterator<Item = impl AsRef<str>>) {
    queue_in("repo_backfill", redis, host, dids);
}

/// The same, in another stream.
pub fn queue_in(stream: &str, redis: &Redis, host: &str, dids: impl IntoIterator<Item = impl AsRef<str>>) {
    let mut client = redis.client().unwrap();
    for did in dids {
        let entry =
            format!(r#"{{"did":"{}","host":"{host}","rev":"3zzzzzzzzzzzz","active":true}}"#, did.as_ref());
        client.command(&["XADD", stream, "*", "repo", &entry]).unwrap();
    }
}
