//! Ingest: a relay that sends as fast as it is read → `ingester` → Redis, beside a client that only pipelines XADD.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rsky_testnet::servers::Redis;

use super::report::{Run, run_line, summary};
use super::{Options, xadd_limit};
use crate::daemons::Daemon;
use crate::procfs::{Usage, usage, usage_with_children};
use crate::streams::{FIREHOSE_LIVE, length, written_within};
use crate::testnet::Testnet;
use crate::{admin, interrupt};

/// How long the load of one run may take.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    println!("\ningest: {} commits a run, seed {}", options.commits, options.seed);
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let run = measure(options, logs)?;
        println!("{}", run_line(number, &run, "commits", "XADD"));
        runs.push(run);
    }
    println!("\n{}", summary("ingest", &runs, "commits", "XADD", &[]));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a number of commits is far below 2^53")]
fn measure(options: &Options, logs: &Path) -> Result<Run> {
    let redis = Redis::start()?;
    let mut client = redis.client()?;
    let mut network = Testnet::load(options.commits, options.seed, logs)?;
    // Without a stored position the ingester starts at the live end.
    client.command(&["SET", &format!("{FIREHOSE_LIVE}:cursor:{}", network.host()), "0"])?;
    // Never reached: a commit may have several operations, and the mark is not what is measured.
    let mark = options.commits.saturating_mul(4).to_string();
    let (redis_url, relay) = (redis.url(), network.url().to_owned());
    let settings = [
        ("REDIS_URL", redis_url.as_str()),
        ("INGESTER_RELAY_HOSTS", &relay),
        ("INGESTER_MODE", "firehose"),
        ("INGESTER_HIGH_WATER_MARK", &mark),
        ("ALLOW_PRIVATE_ADDRESSES", "true"),
        ("RUST_LOG", "warn"),
    ];
    let mut ingester = Daemon::start("ingester", logs, &[], &settings)?;

    let started = Instant::now();
    while taken_in(&ingester) < options.commits as f64 {
        ingester.check()?;
        network.check()?;
        if started.elapsed() > LIMIT {
            let entries = length(&mut client, FIREHOSE_LIVE)?;
            bail!("after {LIMIT:?} only {} commits were counted, {entries} entries", taken_in(&ingester));
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
    // The ids of the entries are Redis' own clock: more exact than any polling.
    let seconds = written_within(&mut client, FIREHOSE_LIVE)?;
    let processes = vec![
        ("ingester", usage(ingester.pid())),
        ("redis", redis.pid().map_or_else(Usage::default, usage_with_children)),
        ("network", usage(network.pid())),
    ];
    ingester.stop()?;
    drop(network);
    let payloads = xadd_limit::payloads(&mut client, FIREHOSE_LIVE)?;
    let limit = xadd_limit::measure(&mut client, &payloads)?;
    Ok(Run { rate: options.commits as f64 / seconds, limit, processes })
}

/// Commits whose entries are in Redis.
fn taken_in(ingester: &Daemon) -> f64 {
    let page = admin::get(ingester.admin, "/metrics").unwrap_or_default();
    admin::sum(&page, "firehose_ingester_incoming_events_total").unwrap_or(0.0)
}
