//! `indexer`: Redis Streams into the AppView's Postgres.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use rsky_common::admin::{healthcheck, print_document};
use rsky_common::config::{self, Environment};
use rsky_common::manual;
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::{MemoryLimit, daemon};
use rsky_indexer::check_records::check_records;
use rsky_indexer::config::Config;
use rsky_indexer::dead_letters::{self, DeadLetters};
use rsky_indexer::doctor;
use rsky_indexer::index_repo::{self, IndexRepo};
use rsky_indexer::inspect::{self, Inspect};
use rsky_indexer::metrics::DECLARED;
use rsky_indexer::pipeline;
use rsky_indexer::recount;
use rsky_indexer::shadow::{self, Shadow};
use rsky_indexer::verify::{self, Verify};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drains the event streams and the label stream into the AppView's Postgres.
///
/// Without a subcommand it runs until SIGTERM or SIGINT. It is configured by environment variables.
#[derive(Debug, Parser)]
#[command(name = pipeline::NAME, version, after_long_help = config::help(Config::variables()))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says of records whether they are valid, and why not.
    ///
    /// Reads JSON lines {"collection": …, "record": …} and prints one line for each: {"valid": true} or
    /// {"valid": false, "reason": …}. Needs neither Redis nor Postgres.
    CheckRecords {
        /// The file; `-` or nothing for standard input.
        file: Option<PathBuf>,
    },
    /// Lists, shows, retries or drops entries that could not be indexed.
    ///
    /// They are kept in `<stream>_dlq`, oldest first, with the reason. Needs Redis and no Postgres.
    #[command(subcommand, after_long_help = config::help(dead_letters::variables()))]
    DeadLetters(DeadLetters),
    /// Looks at what the indexer stands on: network, Redis and its groups, Postgres and its indexes, memory, clocks.
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
    IndexRepo(IndexRepo),
    Inspect(Inspect),
    /// Prints what /metrics tells: name, labels, unit, type and meaning of each metric, as Markdown.
    Metrics,
    /// Writes manual pages and shell completions into a folder: for packages.
    #[command(hide = true)]
    Manual {
        /// The folder, which is made.
        folder: PathBuf,
    },
    /// Counts the counters of posts and profiles anew, and puts right those that are wrong.
    ///
    /// post_agg: likes, reposts, replies (without those that a thread gate hides) and quotes. profile_agg: followers,
    /// follows, posts. Rows that are missing are added; bookmarks are left alone. Indexers may run meanwhile. It works in
    /// steps of at most 1000 rows, a transaction each; SIGINT or SIGTERM end it after the step at hand, and it prints
    /// with which arguments to go on.
    #[command(after_long_help = config::help(recount::command::variables()))]
    Recount(recount::selection::Arguments),
    /// Prints the settings: name, form, default and consequence of each, as Markdown.
    Settings,
    Shadow(Shadow),
    Verify(Verify),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Some(Command::CheckRecords { file }) => match check(file) {
            Ok(()) => ExitCode::SUCCESS,
            // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string()),
        },
        Some(Command::DeadLetters(what)) => dead_letters::run(&what, Environment::of_process()),
        Some(Command::Doctor) => doctor::run(Environment::of_process()),
        Some(Command::Healthcheck { ready }) => {
            healthcheck(pipeline::NAME, Environment::of_process(), Config::port(), ready)
        }
        Some(Command::Manual { folder }) => manual::write(Cli::command(), &folder),
        Some(Command::IndexRepo(command)) => index_repo::run(&command),
        Some(Command::Inspect(command)) => inspect::run(&command, Environment::of_process()),
        Some(Command::Metrics) => print_document(pipeline::NAME, DECLARED),
        Some(Command::Recount(arguments)) => recount::command::run(arguments, Environment::of_process()),
        Some(Command::Settings) => config::print_settings(pipeline::NAME, Config::variables()),
        Some(Command::Shadow(command)) => shadow::run(&command, Environment::of_process()),
        Some(Command::Verify(command)) => verify::run(&command, Environment::of_process()),
        None => run(),
    }
}

fn run() -> ExitCode {
    match Config::read(Environment::of_process()) {
        Ok(config) => {
            let config = config.within(MemoryLimit::detect());
            daemon::run(config.startup(), |context| pipeline::run(config, context))
        }
        Err(error) => daemon::refuse(pipeline::NAME, &error),
    }
}

fn check(file: Option<PathBuf>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            check_records(BufReader::new(File::open(&path).map_err(named)?), &mut out)?;
        }
        None => check_records(io::stdin().lock(), &mut out)?,
    }
    out.flush()
}

#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
fn complain(error: &str) -> ExitCode {
    eprintln!("indexer check-records: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use rsky_common::config::settings_faults;

    use super::*;

    #[test]
    fn settings_are_documented_as_they_are_declared() {
        let (readme, example) = (include_str!("../../README.md"), include_str!("../../.env.example"));
        let faults = settings_faults(readme, example, pipeline::NAME, &Config::variables());
        assert_eq!(faults, Vec::<String>::new());
    }
}
