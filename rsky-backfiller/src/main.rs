//! `backfiller`: whole repositories from their PDS into Redis Streams.

use std::process::ExitCode;

use clap::Parser;
use rsky_backfiller::config::Config;
use rsky_backfiller::pipeline;
use rsky_backfiller::tools::{self, Tool};
use rsky_common::config::{self, Environment};
use rsky_common::runtime::{MemoryLimit, daemon};

/// Fetches whole repositories, checks them, and queues their records for the indexer.
///
/// Without a subcommand it runs until SIGTERM or SIGINT. It is configured by environment variables.
#[derive(Debug, Parser)]
#[command(name = rsky_backfiller::NAME, version, after_long_help = config::help(Config::variables()))]
struct Cli {
    #[command(subcommand)]
    tool: Option<Tool>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::read(Environment::of_process()) {
        Ok(config) => config.within(MemoryLimit::detect()),
        Err(error) => return daemon::refuse(rsky_backfiller::NAME, &error),
    };
    match cli.tool {
        Some(tool) => tools::run(tool, config),
        None => daemon::run(config.startup(), |context| pipeline::run(config, context)),
    }
}
