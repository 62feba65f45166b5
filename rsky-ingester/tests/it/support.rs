//! Starting the daemon, and looking at what it wrote.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::frames::{self, Op};
use rsky_testnet::servers::{Process, Redis, Signal, Value, command};

/// How long anything may take before a test fails. Far above what it takes; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running ingester.
pub struct Ingester {
    process: Process,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

impl Ingester {
    /// Starts one with these settings (and quick reconnects, any admin port, no memory breaker).
    pub fn start(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        let fixed = [
            ("REDIS_URL", redis_url),
            ("METRICS_PORT", "0"),
            ("RUST_LOG", "info"),
            ("INGESTER_RECONNECT_MIN_MS", "20"),
            ("INGESTER_RECONNECT_MAX_MS", "200"),
            ("INGESTER_MEMORY_PERCENT", "0"),
        ];
        let kept = fixed.iter().filter(|(name, _)| settings.iter().all(|(other, _)| other != name));
        let environment = kept.chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::start_with(environment.collect())
    }

    fn start_with(environment: Vec<(String, String)>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("ingester-{}-{number}.log", std::process::id()));
        drop(std::fs::remove_file(&log));
        let mut daemon = command(env!("CARGO_BIN_EXE_ingester"), None);
        for name in ["INGESTER_HOSTS", "INGESTER_RELAY_HOSTS", "INGESTER_MODE", "REDIS_HOST"] {
            daemon.env_remove(name);
        }
        daemon.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(daemon, &log).unwrap();
        Self { process, environment, log }
    }

    /// Kills it and starts it again with the same settings.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        drop(std::fs::remove_file(&self.log));
        *self = Self::start_with(self.environment.clone());
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.process.signal(Signal::Term).unwrap();
        let status = self.process.wait(PATIENCE).unwrap().expect("it ends after SIGTERM");
        status.code()
    }

    /// Waits for its end; the exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.wait(PATIENCE).unwrap().expect("it ends").code()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.exited().unwrap().is_none()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Peak of resident memory in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// A page of the admin port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut address = String::new();
        wait_until("the admin port", || {
            let log = self.log();
            let found =
                log.split("admin pages on http://").nth(1).and_then(|rest| rest.split_whitespace().next());
            address = found.unwrap_or_default().to_owned();
            !address.is_empty()
        });
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sum of a metric's series whose labels contain `label`; `None` when there is none.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let lines =
            text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        let values: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

/// Waits for a condition; the test fails when it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn length(redis: &Redis, stream: &str) -> i64 {
    redis.command(&["XLEN", stream]).unwrap().as_int().unwrap()
}

pub fn get(redis: &Redis, key: &str) -> Option<String> {
    redis.command(&["GET", key]).unwrap().as_text()
}

/// The fields of every entry of a stream, in order.
pub fn entries(redis: &Redis, stream: &str) -> Vec<BTreeMap<String, String>> {
    let mut client = redis.client().unwrap();
    let (mut all, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let page = client.command(&["XRANGE", stream, &from, "+", "COUNT", "1000"]).unwrap();
        let Some(last) = page.items().last() else { return all };
        from = format!("({}", last.items()[0].as_text().unwrap());
        all.extend(page.items().iter().map(fields));
    }
}

fn fields(entry: &Value) -> BTreeMap<String, String> {
    let texts: Vec<String> = entry.items()[1].items().iter().map(|text| text.as_text().unwrap()).collect();
    texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
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

/// A commit that makes one record.
pub fn record_commit(seq: u64, record: Cbor) -> Bytes {
    let did = format!("did:plc:{:0>24}", seq % 100);
    let rev = rev(seq);
    frames::commit(seq, &did, &rev, TIME, &[Op::create(format!("app.bsky.feed.like/r{seq}"), record)])
}

/// A rev of its own for each seq.
pub fn rev(seq: u64) -> String {
    const ALPHABET: &[u8] = b"234567abcdefghijklmnopqrstuvwxyz";
    let digits = (0..12).rev().map(|place| char::from(ALPHABET[(seq >> (5 * place)) as usize & 31]));
    std::iter::once('3').chain(digits).collect()
}

pub fn range(from: u64, to: u64) -> Vec<i64> {
    (from..=to).map(|seq| i64::try_from(seq).unwrap()).collect()
}
