//! `backfiller`: whole repositories from their PDS into Redis Streams.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use rsky_backfiller::config::Config;
use rsky_backfiller::metrics::DECLARED;
use rsky_backfiller::tools::{self, Tool};
use rsky_backfiller::{doctor, pipeline};
use rsky_common::admin::{healthcheck, print_document};
use rsky_common::config::{self, Environment};
use rsky_common::manual;
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::{MemoryLimit, daemon};

/// Fetches whole repositories, checks them, and queues their records for the indexer.
///
/// Without a subcommand it runs until SIGTERM or SIGINT. It is configured by environment variables.
#[derive(Debug, Parser)]
#[command(name = rsky_backfiller::NAME, version, after_long_help = config::help(Config::variables()))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at what the backfiller stands on: network, Redis and its groups, files, the database, memory, clocks.
    ///
    /// One line each: fine, look, or BROKEN, and what to do. Changes nothing. Exit code 0: all is fine; 3: something should be
    /// looked at; 1: something is broken; 64: the settings are not usable.
    Doctor,
    /// Asks the running daemon how it is, at METRICS_HOST and METRICS_PORT. Exit code 0: its work moves or has a reason to
    /// wait.
    Healthcheck {
        /// Also whether it is connected to what it needs.
        #[arg(long)]
        ready: bool,
    },
    /// Prints what /metrics tells: name, labels, unit, type and meaning of each metric, as Markdown.
    Metrics,
    /// Prints the settings: name, form, default and consequence of each, as Markdown.
    Settings,
    /// Writes manual pages and shell completions into a folder: for packages.
    #[command(hide = true)]
    Manual {
        /// The folder, which is made.
        folder: PathBuf,
    },
    #[command(flatten)]
    Tool(Tool),
}

fn main() -> ExitCode {
    let tool = match Cli::parse().command {
        // Before the configuration is read: only where the daemon listens matters.
        Some(Command::Healthcheck { ready }) => {
            return healthcheck(rsky_backfiller::NAME, Environment::of_process(), Config::port(), ready);
        }
        Some(Command::Doctor) => return doctor::run(Environment::of_process()),
        Some(Command::Metrics) => return print_document(rsky_backfiller::NAME, DECLARED),
        Some(Command::Settings) => {
            return config::print_settings(rsky_backfiller::NAME, Config::variables());
        }
        Some(Command::Manual { folder }) => return manual::write(Cli::command(), &folder),
        Some(Command::Tool(tool)) => Some(tool),
        None => None,
    };
    let config = match Config::read(Environment::of_process()) {
        Ok(config) => config.within(MemoryLimit::detect()),
        Err(error) => return daemon::refuse(rsky_backfiller::NAME, &error),
    };
    match tool {
        Some(tool) => tools::run(tool, config),
        None => daemon::run(config.startup(), |context| pipeline::run(config, context)),
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::config::settings_faults;

    use super::*;

    #[test]
    fn settings_are_documented_as_they_are_declared() {
        let (readme, example) = (include_str!("../../README.md"), include_str!("../../.env.example"));
        let faults = settings_faults(readme, example, rsky_backfiller::NAME, &Config::variables());
        assert_eq!(faults, Vec::<String>::new());
    }
}
