//! Backfill: a local host with repositories → `backfiller` → Redis, beside a client that only pipelines XADD, and beside
//! hashing the same bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rsky_testnet::network::repos::Library;
use rsky_testnet::servers::Redis;

use super::report::{Run, median, run_line, summary};
use super::{Options, xadd_limit};
use crate::daemons::Daemon;
use crate::interrupt;
use crate::procfs::{Usage, usage, usage_with_children};
use crate::streams::{FIREHOSE_BACKFILL, REPO_BACKFILL, length, pending, written_within};
use crate::testnet::Testnet;

/// How long the repositories of one run may take.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    let library = Library::build(options.repos);
    println!("\nbackfill: {} repositories, {} records a run", options.repos, library.records);
    let mut runs = Vec::new();
    let mut hashing = Vec::new();
    for number in 1..=options.runs {
        let run = measure(options, &library, logs)?;
        hashing.push(per_second(library.records, library.hash_seconds()));
        println!("{}", run_line(number, &run, "records", "XADD"));
        runs.push(run);
    }
    println!("\n{}", summary("backfill", &runs, "records", "XADD", &[]));
    println!("  {:>9.0} records/s by hashing the same bytes on one core", median(hashing));
    Ok(())
}

fn measure(options: &Options, library: &Library, logs: &Path) -> Result<Run> {
    let redis = Redis::start()?;
    let mut client = redis.client()?;
    let mut network = Testnet::repos(options.repos, logs)?;
    for (did, _) in &library.repos {
        let entry =
            format!(r#"{{"did":"{did}","host":"{}","rev":"3aaaaaaaaaa22","active":true}}"#, network.url());
        client.command(&["XADD", REPO_BACKFILL, "*", "repo", &entry])?;
    }
    let (redis_url, plc) = (redis.url(), network.url().to_owned());
    let settings = [
        ("REDIS_URL", redis_url.as_str()),
        ("PLC_URL", &plc),
        ("ALLOW_PRIVATE_ADDRESSES", "true"),
        // Never reached: the mark is not what is measured.
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000000000"),
        ("RUST_LOG", "warn"),
    ];
    let mut backfiller = Daemon::start("backfiller", logs, &[], &settings)?;
    let started = Instant::now();
    while length(&mut client, REPO_BACKFILL)? > 0 || pending(&mut client, REPO_BACKFILL)? > 0 {
        backfiller.check()?;
        network.check()?;
        if started.elapsed() > LIMIT {
            bail!("after {LIMIT:?} {} repositories are left", length(&mut client, REPO_BACKFILL)?);
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
    // One entry a record, and one a repository.
    let expected = i64::try_from(library.records + options.repos).unwrap_or(i64::MAX);
    let queued = length(&mut client, FIREHOSE_BACKFILL)?;
    if queued != expected {
        bail!("{queued} entries were queued, not {expected}");
    }
    // The ids of the entries are Redis' own clock: more exact than any polling.
    let seconds = written_within(&mut client, FIREHOSE_BACKFILL)?;
    let processes = vec![
        ("backfiller", usage(backfiller.pid())),
        ("redis", redis.pid().map_or_else(Usage::default, usage_with_children)),
        ("network", usage(network.pid())),
    ];
    backfiller.stop()?;
    drop(network);
    let payloads = xadd_limit::payloads(&mut client, FIREHOSE_BACKFILL)?;
    let limit = xadd_limit::measure(&mut client, &payloads)?;
    Ok(Run { rate: per_second(library.records, seconds), limit, processes })
}

#[expect(clippy::cast_precision_loss, reason = "a number of records is far below 2^53")]
fn per_second(records: usize, seconds: f64) -> f64 {
    records as f64 / seconds
}
