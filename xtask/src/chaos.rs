//! `cargo xtask chaos`: the simulated world through the whole pipeline, with kills, for as long as one likes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use rsky_testnet::servers::{Postgres, install};

use crate::steps::{cargo, run};

/// The test that is repeated, and the variable that gives it a seed.
const TEST: &str = "every_row_is_right";
const SEED: &str = "RSKY_WORLD_SEED";

#[derive(Args)]
pub(crate) struct Options {
    /// Begin no further run after so many minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first seed; each run takes the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs seed after seed, also after one has failed, and says which did.
///
/// # Errors
/// A run failed, the tests could not be built, or we were interrupted.
pub(crate) fn chaos(options: &Options) -> Result<()> {
    install::all()?;
    if !run(cargo(&["build", "--workspace", "--bins"]))?.success() {
        bail!("the daemons could not be built");
    }
    let mut postgres = Postgres::start()?;
    let until = Instant::now() + Duration::from_secs(options.minutes.saturating_mul(60));
    let (mut seed, mut failed) = (options.seed, Vec::new());
    while seed == options.seed || Instant::now() < until {
        println!("\n=== seed {seed}");
        let mut test = cargo(&["test", "--workspace", "--test", "oracle", TEST]);
        test.env(SEED, seed.to_string()).env("RSKY_TEST_POSTGRES", postgres.url());
        if !run(test)?.success() {
            failed.push(seed);
        }
        seed = seed.wrapping_add(1);
    }
    postgres.stop_fast()?;
    let runs = seed.wrapping_sub(options.seed);
    println!("\n{} of {runs} runs failed, seeds {} to {}", failed.len(), options.seed, seed.wrapping_sub(1));
    for seed in &failed {
        println!("repeat with: {SEED}={seed} cargo test --workspace --test oracle {TEST}");
    }
    if failed.is_empty() { Ok(()) } else { bail!("{} of {runs} runs failed", failed.len()) }
}
