//! `cargo xtask test`: everything that has to hold before a change is merged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use rsky_testnet::servers::{Postgres, install};

use crate::interrupt::Interrupted;
use crate::steps::{cargo, run, workspace};

/// Connections of the shared cluster: test binaries of several crates, each with tests in parallel and a pool each.
const MAX_CONNECTIONS: &str = "500";

#[derive(Args)]
pub(crate) struct Options {
    /// Tests only: no format check, no clippy, no cargo deny
    #[arg(long)]
    fast: bool,
    /// Passed on to `cargo test`: a filter, or anything after `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILTER")]
    passed_on: Vec<String>,
}

/// What was done, for the summary.
struct Report {
    done: Vec<(&'static str, bool, Duration)>,
    skipped: Vec<String>,
}

impl Report {
    fn step(&mut self, name: &'static str, command: std::process::Command) -> Result<()> {
        println!("\n=== {name}");
        let started = Instant::now();
        let passed = match run(command) {
            Ok(status) => status.success(),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                eprintln!("error: {error:#}");
                false
            }
        };
        self.done.push((name, passed, started.elapsed()));
        Ok(())
    }

    fn skip(&mut self, what: &str) {
        self.skipped.push(what.to_owned());
    }

    fn print(&self) {
        println!("\n=== summary");
        for (name, passed, took) in &self.done {
            println!(
                "{:<7} {:>6.1} s  {name}",
                if *passed { "passed" } else { "FAILED" },
                took.as_secs_f64()
            );
        }
        for what in &self.skipped {
            println!("skipped           {what}");
        }
    }
}

/// Runs all steps, also after one has failed, and says which did.
///
/// # Errors
/// A step failed, the servers could not be started, or we were interrupted.
pub(crate) fn test(options: &Options) -> Result<()> {
    let mut report = Report { done: Vec::new(), skipped: Vec::new() };
    install::all()?;
    install::pgbouncer()?;
    if options.fast {
        report.skip("format, clippy and cargo deny (--fast)");
    } else {
        lint(&mut report)?;
    }
    tests(&mut report, &options.passed_on)?;
    if !workspace().join("../shared/fixtures").is_dir() {
        report.skip("what reads ../shared/fixtures: that directory does not exist (each such test says so)");
    }
    report.print();
    match report.done.iter().filter(|(_, passed, _)| !passed).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} steps failed", report.done.len()),
    }
}

fn lint(report: &mut Report) -> Result<()> {
    report.step("format", cargo(&["fmt", "--all", "--", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    report.step("clippy", cargo(&clippy))?;
    if is_installed("cargo-deny") {
        report.step("cargo deny", cargo(&["deny", "check", "bans", "licenses", "sources"]))
    } else {
        report.skip("cargo deny: not installed (cargo install --locked cargo-deny)");
        Ok(())
    }
}

/// One Postgres for all test binaries; the Redis servers are started by the tests themselves.
fn tests(report: &mut Report, passed_on: &[String]) -> Result<()> {
    let postgres = Postgres::builder().setting("max_connections", MAX_CONNECTIONS).start();
    let mut postgres = postgres.context("start Postgres for the tests")?;
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(passed_on).env("RSKY_TEST_POSTGRES", postgres.url());
    report.step("tests", command)?;
    postgres.stop_fast()
}

fn is_installed(program: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let beside = home.is_some_and(|home| home.join("bin").join(program).is_file());
    beside || install::find_in_path(program).is_some()
}
