//! `cargo xtask bench`: release binaries on seeded load, beside the limit of what they stand on, in the same runs.

mod backfill;
mod copy_limit;
mod events;
mod index;
mod ingest;
mod report;
mod xadd_limit;

use anyhow::Result;
use clap::{Args, ValueEnum};
use rsky_testnet::servers::{install, target_dir};

use crate::steps::build_release;

/// Packages with the binaries that are measured or make the load.
const PACKAGES: [&str; 4] = ["rsky-ingester", "rsky-backfiller", "rsky-indexer", "rsky-testnet"];

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Runs of each measurement; medians are given
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Commits of each ingest run
    #[arg(long, default_value_t = 300_000)]
    commits: u64,
    /// Events of each index run
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Repositories of each backfill run, of 10 to 50 000 records
    #[arg(long, default_value_t = 40)]
    repos: usize,
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Postgres syncs to disk (default: it does not, so that the processor is measured and not the disk)
    #[arg(long)]
    durable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Ingest,
    Index,
    Backfill,
    All,
}

/// Builds, measures and prints.
///
/// # Errors
/// Something could not be built or started, has died, or did not finish in time.
pub(crate) fn bench(options: &Options) -> Result<()> {
    install::all()?;
    println!("building (release)");
    build_release(&PACKAGES)?;
    let logs = target_dir().join("bench");
    std::fs::create_dir_all(&logs)?;
    println!("logs: {}/*.log", logs.display());
    let asked = |what| options.what == What::All || options.what == what;
    if asked(What::Ingest) {
        ingest::bench(options, &logs)?;
    }
    if asked(What::Index) {
        index::bench(options, &logs)?;
    }
    if asked(What::Backfill) {
        backfill::bench(options, &logs)?;
    }
    Ok(())
}
