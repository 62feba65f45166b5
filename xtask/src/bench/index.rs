//! Index: a filled stream → `indexer` → Postgres, beside COPY of the resulting rows into the same tables.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rsky_testnet::servers::{Postgres, Redis, RespClient};

use super::report::{Run, run_line, summary};
use super::{Options, copy_limit, events, xadd_limit};
use crate::daemons::Daemon;
use crate::interrupt;
use crate::procfs::{Usage, usage, usage_with_children};
use crate::streams::{FIREHOSE_LIVE, length, pending};

/// How long the events of one run may take.
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    println!(
        "\nindex: {} events a run (likes 43 %, posts 19 %, follows 14 %, reposts 10 %, others 9 %, 5 % updates and deletes), seed {}",
        options.events, options.seed
    );
    let mut postgres = Postgres::builder().durable(options.durable).start()?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let run = measure(options, &postgres, logs)?;
        println!("{}", run_line(number, &run, "events", "COPY events"));
        runs.push(run);
    }
    println!("\n{}", summary("index", &runs, "events", "COPY events"));
    postgres.stop_fast()
}

#[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^53")]
fn measure(options: &Options, postgres: &Postgres, logs: &Path) -> Result<Run> {
    let redis = Redis::start()?;
    let mut client = redis.client()?;
    let database = postgres.create_database("bench")?;
    xadd_limit::fill(&mut client, FIREHOSE_LIVE, events::seeded(options.seed, options.events))?;
    database.sql("CHECKPOINT")?;
    let before = postgres_usage(postgres);

    let redis_url = redis.url();
    let settings = [
        ("REDIS_URL", redis_url.as_str()),
        ("DATABASE_URL", &database.url),
        ("INDEXER_CONSUMER", "bench"),
        ("RUST_LOG", "warn"),
    ];
    let mut indexer = Daemon::start("indexer", logs, &[], &settings)?;
    let (counted, seconds) = drain(&mut client, &mut indexer)?;

    let mut server = postgres_usage(postgres);
    server.cpu_seconds -= before.cpu_seconds;
    let processes = vec![
        ("indexer", usage(indexer.pid())),
        ("redis", redis.pid().map_or_else(Usage::default, usage)),
        ("postgres", server),
    ];
    indexer.stop()?;
    let copy_seconds = copy_limit::measure(postgres, &database)?;
    let limit = options.events as f64 / copy_seconds;
    Ok(Run { rate: counted as f64 / seconds, limit, processes })
}

/// Waits until the stream is empty; gives the entries that went, and the seconds it took, from the first moment on at
/// which some had gone: the start of the process is not measured, and neither is what it did until then.
fn drain(redis: &mut RespClient, indexer: &mut Daemon) -> Result<(i64, f64)> {
    let full = length(redis, FIREHOSE_LIVE)?;
    let launched = Instant::now();
    let mut first: Option<(Instant, i64)> = None;
    loop {
        let left = length(redis, FIREHOSE_LIVE)?;
        if left < full && first.is_none() {
            first = Some((Instant::now(), left));
        }
        if left == 0 && pending(redis, FIREHOSE_LIVE)? == 0 {
            return match first {
                Some((since, counted)) if counted > 0 => Ok((counted, since.elapsed().as_secs_f64())),
                _ => bail!("all {full} events went at once; give more with --events"),
            };
        }
        indexer.check()?;
        if launched.elapsed() > LIMIT {
            bail!("{left} of {full} events are left after {LIMIT:?}: {}", indexer.log_tail(5));
        }
        interrupt::sleep(Duration::from_millis(5))?;
    }
}

fn postgres_usage(postgres: &Postgres) -> Usage {
    postgres.pid().map_or_else(Usage::default, usage_with_children)
}
