//! Starting the daemon, and looking at what it wrote.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use rsky_common::atproto::tid;
use rsky_testnet::daemon::{Daemon, Launch};
use rsky_testnet::network::RunningNetwork;
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::frames::{self, Op};
use rsky_testnet::servers::Redis;
use rsky_testnet::streams::fields;

pub use rsky_testnet::daemon::wait_until;
pub use rsky_testnet::streams::{entries, length};

/// A running ingester.
pub struct Ingester(Daemon);

impl Ingester {
    /// Starts one with these settings (and quick reconnects, any admin port, no memory breaker).
    pub fn start(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, settings)))
    }

    /// Starts one that reads these relays in this mode.
    pub fn of_relays(mode: &str, redis: &Redis, hosts: &str, more: &[(&str, &str)]) -> Self {
        let settings = [&[("INGESTER_RELAY_HOSTS", hosts), ("INGESTER_MODE", mode)], more].concat();
        Self::start(&redis.url(), &settings)
    }

    /// Starts one that reads the firehose of a network's relay.
    pub fn of_firehose(redis: &Redis, network: &RunningNetwork, more: &[(&str, &str)]) -> Self {
        Self::of_relays("firehose", redis, &network.url(), more)
    }

    /// The same as [`Ingester::start`] in a limited address space.
    pub fn start_within(bytes: u64, redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, settings).within(bytes)))
    }

    /// Waits until a metric has this value. What follows from a batch is counted after it is in Redis: a test that has
    /// seen it there is sometimes faster.
    pub fn wait_for(&self, name: &str, label: &str, value: f64) {
        wait_until(&format!("{name} {label} is {value}"), || self.metric(name, label) == Some(value));
    }

    fn launch(redis_url: &str, settings: &[(&str, &str)]) -> Launch {
        let fixed = [
            ("REDIS_URL", redis_url),
            ("METRICS_PORT", "0"),
            ("RUST_LOG", "info"),
            ("INGESTER_RECONNECT_MIN_MS", "20"),
            ("INGESTER_RECONNECT_MAX_MS", "200"),
            ("INGESTER_MEMORY_PERCENT", "0"),
        ];
        let hidden = &["INGESTER_HOSTS", "INGESTER_RELAY_HOSTS", "INGESTER_MODE", "REDIS_HOST"];
        let (program, folder) = (env!("CARGO_BIN_EXE_ingester"), env!("CARGO_TARGET_TMPDIR"));
        Launch::new(program, folder, hidden, &fixed, settings)
    }
}

impl Deref for Ingester {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for Ingester {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}

pub fn get(redis: &Redis, key: &str) -> Option<String> {
    redis.command(&["GET", key]).unwrap().as_text()
}

/// One field of every entry.
pub fn values(redis: &Redis, stream: &str, field: &str) -> Vec<String> {
    entries(redis, stream).into_iter().map(|mut entry| entry.remove(field).unwrap()).collect()
}

/// The seq of every event.
pub fn seqs(redis: &Redis, stream: &str) -> Vec<i64> {
    values(redis, stream, "event").iter().map(|event| seq_of(event)).collect()
}

pub fn seq_of(event: &str) -> i64 {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    event["seq"].as_i64().unwrap()
}

/// Takes up to `count` entries off the front of a stream, as a consumer does; their events.
pub fn drain(redis: &Redis, stream: &str, count: usize) -> Vec<String> {
    let mut client = redis.client().unwrap();
    let page = client.command(&["XRANGE", stream, "-", "+", "COUNT", &count.to_string()]).unwrap();
    let ids: Vec<String> = page.items().iter().map(|entry| entry.items()[0].as_text().unwrap()).collect();
    if !ids.is_empty() {
        let delete: Vec<&str> = ["XDEL", stream].into_iter().chain(ids.iter().map(String::as_str)).collect();
        client.command(&delete).unwrap();
    }
    page.items().iter().map(|entry| fields(entry).remove("event").unwrap()).collect()
}

/// The first occurrence of each value, in order.
pub fn first_occurrences(seqs: &[i64]) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    seqs.iter().copied().filter(|seq| seen.insert(*seq)).collect()
}

pub const TIME: &str = "2025-10-01T00:00:00.000Z";

/// A commit with one like.
pub fn like(seq: u64) -> Bytes {
    padded_like(seq, 0)
}

/// A commit with one like that carries `padding` bytes of text.
pub fn padded_like(seq: u64, padding: usize) -> Bytes {
    let record = Cbor::map([
        ("$type", Cbor::text("app.bsky.feed.like")),
        ("createdAt", Cbor::text(TIME)),
        ("padding", Cbor::text("x".repeat(padding))),
    ]);
    record_commit(seq, record)
}

/// A commit with one like that the relay saw at a certain time.
pub fn like_at(seq: u64, time: &str) -> Bytes {
    let record = Cbor::map([("$type", Cbor::text("app.bsky.feed.like")), ("createdAt", Cbor::text(TIME))]);
    let did = format!("did:plc:{:0>24}", seq % 100);
    frames::commit(seq, &did, &rev(seq), time, &[Op::create(format!("app.bsky.feed.like/r{seq}"), record)])
}

/// A commit that makes one record.
pub fn record_commit(seq: u64, record: Cbor) -> Bytes {
    let did = format!("did:plc:{:0>24}", seq % 100);
    let rev = rev(seq);
    frames::commit(seq, &did, &rev, TIME, &[Op::create(format!("app.bsky.feed.like/r{seq}"), record)])
}

/// A rev of its own for each seq.
pub fn rev(seq: u64) -> String {
    tid::of_number((1 << 60) | seq)
}

/// Repositories as `listRepos` lists them.
pub fn repos(count: u64) -> Vec<serde_json::Value> {
    let repo = |number| {
        serde_json::json!({
            "did": format!("did:plc:{number:0>24}"),
            "head": "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "rev": rev(number),
            "active": true
        })
    };
    (0..count).map(repo).collect()
}

pub fn range(from: u64, to: u64) -> Vec<i64> {
    (from..=to).map(|seq| i64::try_from(seq).unwrap()).collect()
}
