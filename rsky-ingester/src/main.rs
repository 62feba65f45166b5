//! The `ingester` daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use rsky_common::admin::{healthcheck, print_document};
use rsky_common::config::{Environment, help, print_settings};
use rsky_common::manual;
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::{MemoryLimit, daemon};
use rsky_ingester::config::Config;
use rsky_ingester::metrics::DECLARED;
use rsky_ingester::{NAME, VERSION, doctor, pipeline, variables};

/// Writes what relays and labelers send into Redis Streams, and stops reading when the streams are full.
///
/// Without a subcommand it runs until SIGTERM or SIGINT. It is configured by environment variables.
#[derive(Debug, Parser)]
#[command(name = NAME, version = VERSION, after_long_help = help(variables::all()))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at what the ingester stands on: network, relays and cursors, Redis and who reads what is written, memory, clocks.
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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Some(Command::Healthcheck { ready }) => {
            return healthcheck(NAME, Environment::of_process(), &variables::METRICS_PORT, ready);
        }
        Some(Command::Doctor) => return doctor::run(Environment::of_process()),
        Some(Command::Metrics) => return print_document(NAME, DECLARED),
        Some(Command::Settings) => return print_settings(NAME, variables::all()),
        Some(Command::Manual { folder }) => return manual::write(Arguments::command(), &folder),
        None => {}
    }
    match Config::read(Environment::of_process()) {
        Ok(config) => {
            let config = config.within(MemoryLimit::detect());
            daemon::run(config.startup(), |context| pipeline::run(config, context))
        }
        Err(error) => daemon::refuse(NAME, &error),
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::config::settings_faults;

    use super::*;

    #[test]
    fn settings_are_documented_as_they_are_declared() {
        let (readme, example) = (include_str!("../../README.md"), include_str!("../../.env.example"));
        let faults = settings_faults(readme, example, NAME, &variables::all().collect::<Vec<_>>());
        assert_eq!(faults, Vec::<String>::new());
    }
}
