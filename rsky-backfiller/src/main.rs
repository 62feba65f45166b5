//! `backfiller`: whole repositories from their PDS into Redis Streams.

mod config;
mod pipeline;

use std::process::ExitCode;

use clap::Parser;
use config::Config;
use rsky_common::config::{Environment, help};
use rsky_common::runtime::daemon;

/// Fetches the repositories that `repo_backfill` lists and queues their records.
///
/// It runs until SIGTERM or SIGINT. It is configured by environment variables. This version starts up, serves its
/// admin pages and leaves the queue as it is: fetching is not built yet.
#[derive(Debug, Parser)]
#[command(name = pipeline::NAME, version, after_long_help = help(Config::variables()))]
struct Cli {}

fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    match Config::read(Environment::of_process()) {
        Ok(config) => daemon::run(config.startup(), |context| pipeline::run(config, context)),
        Err(error) => daemon::refuse(pipeline::NAME, &error),
    }
}
