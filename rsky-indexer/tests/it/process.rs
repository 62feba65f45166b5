//! The real `indexer` as a process, and the streams it is given.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::process::{Command, Stdio};

use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::daemon::{Daemon, Launch};
use rsky_testnet::servers::{Redis, Value};
use serde_json::Map;
use sqlx::{Connection, PgConnection};

use crate::support::{Db, dump, reference_statements, unlike};

use rsky_testnet::daemon::wait_for_end;
pub use rsky_testnet::daemon::{PATIENCE, wait_until};

pub const LIVE: &str = "firehose_live";
pub const LABELS: &str = "label_live";
const BACKFILL: &str = "firehose_backfill";

/// A running indexer.
pub struct Indexer(Daemon);

impl Deref for Indexer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for Indexer {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}

impl Indexer {
    /// Starts one with these settings, named `a` unless they say otherwise.
    pub fn start(redis_url: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, database_url, settings)))
    }

    /// As [`Self::start`], in at most so many bytes of address space.
    pub fn start_within(bytes: u64, redis_url: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Daemon::start(Self::launch(redis_url, database_url, settings).within(bytes)))
    }

    fn launch(redis_url: &str, database_url: &str, settings: &[(&str, &str)]) -> Launch {
        let fixed = [
            ("REDIS_URL", redis_url),
            ("DATABASE_URL", database_url),
            ("METRICS_PORT", "0"),
            ("INDEXER_CONSUMER", "a"),
            // There is no directory to ask, unless a test brings one.
            ("INDEXER_HANDLE_CONCURRENCY", "0"),
        ];
        Launch::new(env!("CARGO_BIN_EXE_indexer"), env!("CARGO_TARGET_TMPDIR"), &[], &fixed, settings).bare()
    }

    /// Starts it again with the same settings, killed if it still runs.
    pub fn restart(&mut self) {
        self.kill_and_restart();
    }

    /// Peak of resident memory in MiB.
    pub fn peak_mib(&self) -> u64 {
        self.peak_memory() >> 20
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

/// Waits until nothing is left of a stream, as long as it becomes less.
#[track_caller]
pub fn wait_drained(redis: &Redis, stream: &str) {
    wait_for_end(&format!("{stream} is drained"), &(0, 0), || state(redis, stream));
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
