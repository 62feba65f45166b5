//! The two commands every developer needs, `cargo xtask up` and `cargo xtask test`, and those that measure and attack:
//! `cargo xtask bench`, `cargo xtask chaos`, `cargo xtask mutants`, `cargo xtask deploy-check`.
//!
//! All start private servers on free ports with their data under the build directory, and end them again,
//! also on failure and on Ctrl-C.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its terminal")]

mod admin;
mod bench;
mod chaos;
mod daemons;
mod deploy_check;
mod dist;
mod docs;
mod interrupt;
mod mutants;
mod procfs;
mod smaller;
mod steps;
mod streams;
mod test_command;
mod testnet;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Run, test and measure the pipeline")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole pipeline on a simulated network (or a real one) until Ctrl-C
    Up(up::Options),
    /// Check the format, lint, and run all tests
    Test(test_command::Options),
    /// Try what is deployed: units under a real systemd, the stack of docker-compose.yml
    DeployCheck(deploy_check::Options),
    /// Write what is made from the code: docs/METRICS.md, the settings in README.md
    Docs,
    /// Make a tarball and a Debian package
    Dist(dist::Options),
    /// Run simulated worlds through the whole pipeline, with kills, and compare every row with an independent model
    Chaos(chaos::Options),
    /// Put faults into a copy of the code, one at a time: the tests that guard the rules must fail
    Mutants(mutants::Options),
    /// Measure release binaries beside the limit of what they stand on
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::watch();
    let outcome = match arguments.command {
        Command::Up(options) => up::up(&options),
        Command::Test(options) => test_command::test(&options),
        Command::DeployCheck(options) => deploy_check::deploy_check(&options),
        Command::Docs => docs::docs(),
        Command::Dist(options) => dist::dist(&options),
        Command::Chaos(options) => chaos::chaos(&options),
        Command::Mutants(options) => mutants::mutants(&options),
        Command::Bench(options) => bench::bench(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<interrupt::Interrupted>() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
