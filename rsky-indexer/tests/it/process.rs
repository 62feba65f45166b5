//! The real `indexer` as a process, and the streams it is given.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::servers::{Process, Redis, Signal, Value, command};
use serde_json::Map;
use sqlx::{Connection, PgConnection};

use crate::support::{Db, dump, reference_statements, unlike};

/// How long anything may take before a test fails. Far above what it takes; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub const LIVE: &str = "firehose_live";
pub const LABELS: &str = "label_live";
const BACKFILL: &str = "firehose_backfill";

/// A running indexer.
pub struct Indexer {
    process: Process,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

impl Indexer {
    /// Starts one with these settings, named `a` unless they say otherwise.
    pub fn start(redis_url: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        let fixed = [
            ("REDIS_URL", redis_url),
            ("DATABASE_URL", database_url),
            ("METRICS_PORT", "0"),
            ("INDEXER_CONSUMER", "a"),
            // There is no directory to ask, unless a test brings one.
            ("INDEXER_HANDLE_CONCURRENCY", "0"),
        ];
        let kept = fixed.iter().filter(|(name, _)| settings.iter().all(|(other, _)| other != name));
        let environment = kept.chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::start_with(environment.collect())
    }

    fn start_with(environment: Vec<(String, String)>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("indexer-{}-{}.log", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(std::fs::remove_file(&log));
        let mut daemon = command(env!("CARGO_BIN_EXE_indexer"), None);
        daemon.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        Self { process: Process::spawn(daemon, &log).unwrap(), environment, log }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Starts it again with the same settings, killed if it still runs.
    pub fn restart(&mut self) {
        self.kill();
        let environment = self.environment.clone();
        drop(std::fs::remove_file(&self.log));
        *self = Self::start_with(environment);
    }

    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::Term);
        self.exit_code()
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

    /// Peak of resident memory in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() / 1024
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

    /// The sum of a metric's series that have all these labels (`name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let (_, text) = self.get("/metrics");
        let wanted = |line: &&str| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        text.lines().filter(wanted).map(value).sum::<f64>() as u64
    }

    /// Waits until a metric has this value: what is acknowledged is counted a moment later.
    #[track_caller]
    pub fn assert_metric(&self, name: &str, labels: &[&str], value: u64) {
        wait_until(&format!("{name} {labels:?} is {value}"), || self.metric(name, labels) == value);
    }

    /// Waits until this many entries are counted as dead letters for a reason.
    #[track_caller]
    pub fn assert_dead(&self, reason: &str, count: u64) {
        let labels = ["outcome=\"dead_letter\"", &format!("reason=\"{reason}\"")];
        self.assert_metric("indexer_entries_total", &labels, count);
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.process.log_tail(25));
        } else {
            drop(std::fs::remove_file(&self.log));
        }
    }
}

/// What a run of the program that ends by itself printed and gave.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the program to its end; for subcommands and refused settings.
pub fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_indexer"));
    program.args(arguments).env_clear().envs(environment.iter().copied());
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// Waits for a condition; the test fails when it does not come true.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Appends entries with one field each.
pub fn add_field(redis: &Redis, stream: &str, field: &str, payloads: &[impl AsRef<[u8]>]) {
    let mut client = redis.client().unwrap();
    for chunk in payloads.chunks(200) {
        for payload in chunk {
            client.queue(&[b"XADD", stream.as_bytes(), b"*", field.as_bytes(), payload.as_ref()]);
        }
        for reply in client.flush().unwrap() {
            assert!(reply.as_text().is_some(), "{reply:?}");
        }
    }
}

/// Appends entries as the ingester writes them.
pub fn add(redis: &Redis, stream: &str, payloads: &[impl AsRef<[u8]>]) {
    add_field(redis, stream, "event", payloads);
}

pub fn length(redis: &Redis, stream: &str) -> i64 {
    redis.command(&["XLEN", stream]).unwrap().as_int().unwrap()
}

fn group(stream: &str) -> &'static str {
    if stream == LABELS { "label_group" } else { "firehose_group" }
}

/// Entries delivered and not acknowledged; `None` while there is no group.
pub fn pending(redis: &Redis, stream: &str) -> Option<i64> {
    redis.command(&["XPENDING", stream, group(stream)]).ok()?.items().first()?.as_int()
}

/// Pending entries of one consumer.
pub fn pending_of(redis: &Redis, stream: &str, consumer: &str) -> Vec<String> {
    let reply = redis.command(&["XPENDING", stream, group(stream), "-", "+", "1000000", consumer]).unwrap();
    reply.items().iter().map(|entry| entry.items()[0].as_text().unwrap()).collect()
}

/// Length and pending entries of a stream; absent keys count as such.
pub fn state(redis: &Redis, stream: &str) -> (i64, i64) {
    (length(redis, stream), pending(redis, stream).unwrap_or(-1))
}

/// Waits until nothing is left of a stream.
#[track_caller]
pub fn wait_drained(redis: &Redis, stream: &str) {
    wait_until(&format!("{stream} is drained"), || state(redis, stream) == (0, 0));
}

/// Creates the group as an earlier indexer would have, and reads entries in another consumer's name without ever
/// acknowledging them; their ids.
pub fn read_and_vanish(redis: &Redis, stream: &str, consumer: &str, count: usize) -> Vec<String> {
    drop(redis.command(&["XGROUP", "CREATE", stream, group(stream), "0", "MKSTREAM"]));
    let count = count.to_string();
    let read = ["XREADGROUP", "GROUP", group(stream), consumer, "COUNT", &count, "STREAMS", stream, ">"];
    let reply = redis.command(&read).unwrap();
    let entries = reply.items().first().map(|stream| stream.items()[1].items().to_vec()).unwrap_or_default();
    entries.iter().map(|entry| entry.items()[0].as_text().unwrap()).collect()
}

/// The dead letters of a stream, in order.
pub fn dead_letters(redis: &Redis, stream: &str) -> Vec<BTreeMap<String, String>> {
    let page = redis.command(&["XRANGE", &format!("{stream}_dlq"), "-", "+"]).unwrap();
    page.items().iter().map(fields).collect()
}

fn fields(entry: &Value) -> BTreeMap<String, String> {
    let texts: Vec<String> = entry.items()[1].items().iter().map(|text| text.as_text().unwrap()).collect();
    texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// No stream has dead letters.
#[track_caller]
pub fn assert_no_dead_letters(redis: &Redis) {
    for stream in [LIVE, BACKFILL, LABELS] {
        assert_eq!(dead_letters(redis, stream), Vec::new());
    }
}

/// The number of rows of a query's `count(*)`.
pub fn count(db: &Db, from: &str) -> i64 {
    db.sql(&format!("SELECT count(*) FROM {from}")).parse().unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Every row as JSON, by table.
type Rows = BTreeMap<&'static str, Vec<String>>;

/// Every row of a database.
pub fn rows(url: &str) -> Rows {
    block_on(async { dump(&mut PgConnection::connect(url).await.unwrap()).await })
}

/// The rows that entries make one after the other, without any fault.
fn undisturbed(payloads: &[String]) -> Rows {
    let db = Db::new("undisturbed");
    let works: Vec<Work> = payloads
        .iter()
        .filter_map(|payload| match intake::read(payload) {
            Intake::Work(work) => Some(work),
            Intake::Nothing(_) | Intake::Rejected { .. } => None,
        })
        .collect();
    let rows = block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        for batch in works.chunks(500) {
            let batch: Vec<&Work> = batch.iter().collect();
            engine::apply(&mut connection, &reference_statements(), &batch).await.unwrap();
        }
        dump(&mut connection).await
    });
    assert!(rows["record"].len() > 100, "too few rows to say anything");
    rows
}

/// Leaves out the time of day that profiles without `createdAt` get.
fn without_clock(mut rows: Rows) -> Rows {
    for row in rows.get_mut("profile").into_iter().flatten() {
        let mut parsed: Map<String, serde_json::Value> = serde_json::from_str(row).unwrap();
        parsed.remove("createdAt");
        *row = serde_json::Value::from(parsed).to_string();
    }
    for row in rows.get_mut("notification").into_iter().flatten() {
        let mut parsed: Map<String, serde_json::Value> = serde_json::from_str(row).unwrap();
        parsed.remove("id");
        if parsed["reason"] == "unverified" {
            parsed.remove("sortAt");
        }
        *row = serde_json::Value::from(parsed).to_string();
    }
    rows.get_mut("notification").into_iter().for_each(|rows| rows.sort());
    rows
}

/// The rows are those of the same entries in the same order.
#[track_caller]
pub fn assert_as_undisturbed(url: &str, payloads: &[String]) {
    assert_same(&without_clock(undisturbed(payloads)), &without_clock(rows(url)));
}

/// The rows are those of the same entries, but for what tells in which order several consumers took them: when a
/// record that is gone was deleted or first heard of, a counter that was never above zero, and who is told of an update
/// that another consumer writes before the create it belongs to.
#[track_caller]
pub fn assert_as_undisturbed_in_any_order(url: &str, payloads: &[String]) {
    assert_same(&without_order(undisturbed(payloads)), &without_order(rows(url)));
}

fn without_order(mut rows: Rows) -> Rows {
    rows.remove("notification");
    for (table, rows) in &mut rows {
        let parsed =
            rows.iter().map(|row| serde_json::from_str::<Map<String, serde_json::Value>>(row).unwrap());
        let kept = parsed.filter_map(|mut row| {
            if *table == "record" && row["json"] == "" {
                row.remove("indexedAt");
            }
            let counts = row.iter().filter(|(name, _)| name.ends_with("Count")).collect::<Vec<_>>();
            let says_nothing = !counts.is_empty() && counts.iter().all(|(_, count)| **count == 0);
            (!says_nothing).then(|| serde_json::Value::from(row).to_string())
        });
        let mut kept: Vec<String> = kept.collect();
        kept.sort();
        *rows = kept;
    }
    rows
}

#[track_caller]
fn assert_same(expected: &Rows, found: &Rows) {
    if expected != found {
        let unlike = unlike(expected, found);
        let shown: Vec<&str> = unlike.lines().take(30).collect();
        panic!("missing (-) and surplus (+) rows, {} of them:{}", unlike.lines().count(), shown.join("\n"));
    }
}
