//! Growth: one indexer and one database from no rows to millions, with the full mix, to see whether the rate stays.

use std::path::Path;

use anyhow::{Result, bail};
use rsky_testnet::servers::Postgres;

use super::Options;
use super::copy_limit;
use super::events::Growing;
use super::fifths::{Cut, Spent, compared, line, of_the_limit};
use super::report::process_lines;
use super::rig::Rig;

/// Most rows that a piece adds, at some 1.1 events a row and 800 bytes an event: bounds what Redis holds.
const PIECE: u64 = 50_000;

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    println!(
        "\ngrowth: from an empty database to {} rows of record, the full mix, seed {}, one run",
        options.rows, options.seed
    );
    // A quarter of the rows' size, as one would give it: what is measured is the engine, not a cache that is too small.
    let buffers = format!("{}MB", (options.rows / 1000).clamp(256, 4096));
    let mut postgres =
        Postgres::builder().durable(options.durable).setting("shared_buffers", &buffers).start()?;
    println!("Postgres has {buffers} of buffers");
    measure(options, &postgres, logs)?;
    postgres.stop_fast()
}

fn measure(options: &Options, postgres: &Postgres, logs: &Path) -> Result<()> {
    let mut rig = Rig::new(postgres)?;
    let before = rig.postgres_usage();
    let mut indexer = rig.start_ready_indexer(logs)?;
    let mut growing = Growing::new(options.seed);
    let mut fifths = Vec::new();
    for ends in Cut::new(options.rows, PIECE).fifths() {
        let mut pieces = Vec::new();
        for end in ends {
            pieces.push(rig.piece(&mut indexer, growing.up_to(end))?);
        }
        let spent = Spent::total(&pieces);
        // An event that was acknowledged without its effect would make the rate a lie.
        let rows = rig.database.sql("SELECT count(*), count(*) FILTER (WHERE cid = '') FROM record")?;
        let expected = format!("{}|{}", growing.rows(), growing.deleted());
        if rows != expected {
            bail!("record has (rows|deleted) {rows}, not {expected}");
        }
        fifths.push(spent);
        let size = rig.database.sql("SELECT pg_database_size(current_database()) / 1000000")?;
        let so_far = format!("{} rows, {size} MB", growing.rows());
        println!("{}", line(fifths.len(), &spent, "events", &so_far));
    }
    let processes = rig.usages(&indexer, before);
    indexer.stop()?;
    if let (Some(first), Some(last)) = (fifths.first(), fifths.last()) {
        println!("\ngrowth\n{}", compared("fifth", first, last, "events").join("\n"));
    }
    println!("{}", process_lines(&processes));
    // The limit sinks with the size of the database, too: deeper indexes, which no processor's cache holds.
    let total = Spent::total(&fifths);
    let copy_seconds = copy_limit::measure(postgres, &rig.database)?;
    println!("{}", of_the_limit(&total, copy_seconds));
    Ok(())
}
