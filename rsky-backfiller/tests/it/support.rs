//! Starting the daemon, and looking at what it wrote.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rsky_testnet::servers::{Process, Redis, Signal, Value, command};

/// How long anything may take before a test fails. Far above what it takes; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running backfiller.
pub struct Backfiller {
    process: Process,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

/// The settings every test starts from: private addresses, quick retries, any admin port, no memory breaker.
pub fn settings<'a>(redis_url: &'a str, plc: &'a str, own: &[(&'a str, &'a str)]) -> Vec<(String, String)> {
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
    let kept = fixed.iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name));
    kept.chain(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Backfiller {
    pub fn start(redis_url: &str, plc: &str, own: &[(&str, &str)]) -> Self {
        Self::start_with(settings(redis_url, plc, own))
    }

    pub fn start_with(environment: Vec<(String, String)>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("backfiller-{}-{number}.log", std::process::id()));
        drop(std::fs::remove_file(&log));
        let mut daemon = command(env!("CARGO_BIN_EXE_backfiller"), None);
        daemon.env_remove("REDIS_HOST");
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
        self.process.wait(PATIENCE).unwrap().expect("it ends after SIGTERM").code()
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

    /// How many tries ended in a class.
    pub fn class(&self, class: &str) -> f64 {
        self.metric("backfiller_outcomes_total", &format!("\"{class}\"")).unwrap()
    }
}

/// Waits for a condition; the test fails when it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn length(redis: &Redis, stream: &str) -> i64 {
    redis.command(&["XLEN", stream]).unwrap().as_int().unwrap()
}

/// Repositories that are queued, in work, or put off. Counted at one moment: they move from one to the other.
pub fn left(redis: &Redis) -> i64 {
    const COUNT: &str = "return redis.call('XLEN', 'repo_backfill') \
        + redis.call('XLEN', 'repo_backfill_priority') + redis.call('ZCARD', 'repo_backfill:delayed')";
    redis.command(&["EVAL", COUNT, "0"]).unwrap().as_int().unwrap()
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
