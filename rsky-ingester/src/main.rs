//! The `ingester` daemon.

use std::process::ExitCode;

use clap::Parser;
use rsky_common::config::{Environment, help};
use rsky_common::runtime::{MemoryLimit, daemon};
use rsky_ingester::config::Config;
use rsky_ingester::{NAME, VERSION, pipeline, variables};

/// Writes what relays and labelers send into Redis Streams, and stops reading when the streams are full.
///
/// Configured by environment variables only; `--help` lists them.
#[derive(Debug, Parser)]
#[command(name = NAME, version = VERSION, after_long_help = help(variables::all()))]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match Config::read(Environment::of_process()) {
        Ok(config) => {
            let config = config.within(MemoryLimit::detect());
            daemon::run(config.startup(), |context| pipeline::run(config, context))
        }
        Err(error) => daemon::refuse(NAME, &error),
    }
}
