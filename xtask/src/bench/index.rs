//! Index: a filled stream → `indexer` → Postgres, beside COPY of the resulting rows into the same tables, and beside the
//! same indexer that takes one event at a time.

use std::path::Path;

use anyhow::Result;
use rsky_testnet::servers::Postgres;

use super::report::{Run, median, run_line, summary};
use super::rig::Rig;
use super::{Options, copy_limit, events, xadd_limit};
use crate::streams::FIREHOSE_LIVE;

/// Events of the run at batch size 1: some ten seconds. They meet small tables, which is to its advantage.
const ONE_AT_A_TIME: u64 = 5_000;

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
    let single = one_at_a_time(options, &postgres, logs)?;
    println!("  one event a transaction: {single:.0} events/s");
    let times = format!(
        "  {:>9.1} times the engine at batch size 1",
        median(runs.iter().map(|run| run.rate)) / single
    );
    println!("\n{}", summary("index", &runs, "events", "COPY events", &[times]));
    postgres.stop_fast()
}

#[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^53")]
fn measure(options: &Options, postgres: &Postgres, logs: &Path) -> Result<Run> {
    let mut rig = filled(options.seed, options.events, postgres)?;
    let before = rig.postgres_usage();
    let mut indexer = rig.start_indexer(logs, &[])?;
    let (counted, seconds) = rig.drain(&mut indexer)?;
    let processes = rig.usages(&indexer, before);
    indexer.stop()?;
    let copy_seconds = copy_limit::measure(postgres, &rig.database)?;
    let limit = options.events as f64 / copy_seconds;
    Ok(Run { rate: counted as f64 / seconds, limit, processes })
}

/// Events a second at batch size 1, all else as in the other runs: the first events of the same load.
#[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^53")]
fn one_at_a_time(options: &Options, postgres: &Postgres, logs: &Path) -> Result<f64> {
    let mut rig = filled(options.seed, options.events.min(ONE_AT_A_TIME), postgres)?;
    let mut indexer = rig.start_indexer(logs, &[("INDEXER_BATCH_SIZE", "1")])?;
    let (counted, seconds) = rig.drain(&mut indexer)?;
    indexer.stop()?;
    Ok(counted as f64 / seconds)
}

/// Servers whose stream has the first `count` events of the load.
fn filled(seed: u64, count: u64, postgres: &Postgres) -> Result<Rig<'_>> {
    let mut rig = Rig::new(postgres)?;
    xadd_limit::fill(&mut rig.client, FIREHOSE_LIVE, events::seeded(seed, count))?;
    rig.database.sql("CHECKPOINT")?;
    Ok(rig)
}
