//! `cargo xtask deploy-check`: what operators are given, tried for real as far as this machine allows.
//!
//! Each step prints `ran` with what it saw, or `SKIPPED` with the reason; where `CI` is set, a skip is a failure. Nothing is
//! pulled from a registry of images: official names are stood in for by Debian's packages, so what is proven is our files, our
//! images and the wiring, and not the official images. Everything is kept under `target/deploy-check`.

mod browser;
mod compile;
mod containers;
mod engine;
mod layer;
#[cfg(test)]
mod names;
mod nspawn;
mod offline;
mod package;
mod queries;
mod root;
mod stack;
mod stand_ins;
mod units;
mod watching;
#[cfg(test)]
mod watching_tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use rsky_testnet::servers::{self, target_dir};

use crate::interrupt::Interrupted;
use crate::steps::{binaries, build_release, take_binaries_from, workspace};

/// Time for one command of a step. The longest makes a Debian root on a slow mirror.
const LIMIT: Duration = Duration::from_secs(900);

#[derive(Args)]
pub(crate) struct Options {
    /// Only the steps whose names begin so (units, compose, prometheus, pages, package, systemd, stack, offline; and compile,
    /// which takes as long as a release build and so runs only when it is named)
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Take the binaries in this folder instead of building them in release mode
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

/// How a step ended that did not fail.
enum Outcome {
    /// With what was seen.
    Ran(String),
    /// With the reason.
    Skipped(String),
}

type Step = (&'static str, fn(&Path) -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("units", |_| units::verified()),
    ("units-exposure", |_| units::exposure()),
    ("units-accounts", |_| units::accounts()),
    ("compose", |_| containers::compose_file()),
    ("prometheus", |_| containers::promtool()),
    ("pages", |_| browser::pages()),
    ("package", package::installed),
    ("systemd", nspawn::booted),
    ("stack", containers::stack),
    ("offline", offline::offline),
];

/// Those that run only when they are named.
const ON_DEMAND: &[Step] = &[("compile", |_| compile::compiled())];

/// Whether a step was asked for.
fn is_wanted(name: &str, only: &[String]) -> bool {
    only.iter().any(|only| name.starts_with(only.as_str()))
        || only.is_empty() && ON_DEMAND.iter().all(|(step, _)| *step != name)
}

/// Runs all steps, also after one has failed.
///
/// # Errors
/// A step failed, or was skipped where `CI` is set.
pub(crate) fn deploy_check(options: &Options) -> Result<()> {
    take_binaries_from(options.binaries.as_deref());
    if STEPS.iter().any(|(name, _)| is_wanted(name, &options.only)) {
        build_release(&["rsky-ingester", "rsky-backfiller", "rsky-indexer", "rsky-testnet"])?;
    }
    let binaries = binaries();
    let strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let mut bad = Vec::new();
    for (name, run) in STEPS.iter().chain(ON_DEMAND).filter(|(name, _)| is_wanted(name, &options.only)) {
        let started = Instant::now();
        let outcome = run(&binaries);
        let took = format!("{:.1} s", started.elapsed().as_secs_f64());
        match outcome {
            Ok(Outcome::Ran(saw)) => println!("ran      {name} ({took}): {saw}"),
            Ok(Outcome::Skipped(why)) => {
                println!("SKIPPED  {name}: {why}");
                bad.extend(strict.then_some(*name));
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                println!("FAILED   {name} ({took}): {error:#}");
                bad.push(*name);
            }
        }
    }
    let compile = if is_wanted("compile", &options.only) { "" } else { "a compile inside the image, " };
    println!(
        "not run here: the official images of Redis, Postgres and Prometheus, Grafana, {compile}Compose v2"
    );
    if bad.is_empty() { Ok(()) } else { bail!("{} failed or were skipped", bad.join(", ")) }
}

/// Where everything is kept.
fn place() -> Result<PathBuf> {
    let place = target_dir().join("deploy-check");
    std::fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    Ok(place.canonicalize()?)
}

/// A file of the repository.
fn ours(path: &str) -> PathBuf {
    workspace().join(path)
}

fn am_root() -> bool {
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    own.lines()
        .any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}

/// Runs a command to its end; its standard output.
fn run(command: Command) -> Result<String> {
    servers::run(command, LIMIT)
}

/// A command of words.
fn words<I: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = I>) -> Command {
    let mut words = words.into_iter();
    let program = words.next().map(|word| word.as_ref().to_owned()).unwrap_or_default();
    let mut command = servers::command(program, None);
    command.args(words);
    command
}

/// Waits until `look` gives something.
fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().with_context(|| what.to_owned())? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        crate::interrupt::sleep(Duration::from_millis(200))?;
    }
}
