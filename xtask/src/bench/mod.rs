//! `cargo xtask bench`: release binaries on seeded load, beside the limit of what they stand on, in the same runs; and
//! whether the indexer's rate stays the same while its database, or one row of it, grows; and how long a record takes
//! through all of it.

mod awaited;
mod backfill;
mod copy_limit;
mod events;
mod fifths;
mod growth;
mod hot_subject;
mod index;
mod ingest;
mod latency;
mod likes;
mod report;
mod rig;
mod sent;
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
    /// Runs of each measurement; medians are given. growth, hot-subject and latency are one run each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Commits of each ingest run
    #[arg(long, default_value_t = 300_000)]
    commits: u64,
    /// Events of each index run
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Rows of `record` at the end of growth: 2 KB of disk each with all that hangs on them, and up to 4 GB for the log
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(5_000..=1_000_000_000))]
    rows: u64,
    /// Likes of the hot subject
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(5_000..=1_000_000_000))]
    likes: u64,
    /// Commits a second of latency, one run each
    #[arg(long, value_delimiter = ',', default_value = "500,2000", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rates: Vec<u32>,
    /// Seconds of each latency run, after a warm-up of 3; every commit takes 4.5 KB of the network's memory
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
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
    /// A relay → ingester → Redis, beside a client that only pipelines XADD
    Ingest,
    /// Redis → indexer → Postgres, the full mix: beside COPY of the same rows, and beside batch size 1
    Index,
    /// Repositories → backfiller → Redis, beside a client that only pipelines XADD, and beside hashing
    Backfill,
    /// One indexer from an empty database to millions of rows: the rate of each fifth (takes minutes)
    Growth,
    /// Likes of one post, each by another account: whether the last ones cost what the first did
    HotSubject,
    /// A relay at a given rate → ingester → Redis → indexer → Postgres: the time from the socket to the row
    Latency,
    /// ingest, index and backfill
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
    match options.what {
        What::Ingest => ingest::bench(options, &logs),
        What::Index => index::bench(options, &logs),
        What::Backfill => backfill::bench(options, &logs),
        What::Growth => growth::bench(options, &logs),
        What::HotSubject => hot_subject::bench(options, &logs),
        What::Latency => latency::bench(options, &logs),
        What::All => {
            ingest::bench(options, &logs)?;
            index::bench(options, &logs)?;
            backfill::bench(options, &logs)
        }
    }
}
