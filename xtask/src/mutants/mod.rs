//! `cargo xtask mutants`: does a test see it when a rule is broken?
//!
//! For what unit tests cannot see, faults are kept as patches ([`patch`]), each with the test that must fail. They are made
//! one at a time in a copy of the workspace ([`copy`]), built there, and the test is run. Before that, each test has to
//! pass without any fault, or its failure would say nothing.

mod copy;
mod patch;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rsky_testnet::servers::{Postgres, install};

use crate::steps::{cargo, run, run_within, workspace};
use copy::Copy;
use patch::{GuardingTest, How, Patch};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the faults whose names contain one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say what there is, and do nothing
    #[arg(long)]
    list: bool,
    /// How long a test may take; one that takes longer has seen the fault as well
    #[arg(long, default_value_t = 15, value_name = "MINUTES")]
    minutes: u64,
}

/// What became of a fault.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The test failed.
    Killed,
    /// The test did not end: whoever runs it would see that.
    KilledByTime,
    /// The test passed.
    Survived,
    /// It says nothing about the test.
    Unfit(String),
}

impl Verdict {
    fn is_good(&self) -> bool {
        matches!(self, Self::Killed | Self::KilledByTime)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Killed => formatter.write_str("killed"),
            Self::KilledByTime => formatter.write_str("killed (the test did not end)"),
            Self::Survived => formatter.write_str("SURVIVED"),
            Self::Unfit(why) => write!(formatter, "UNFIT: {why}"),
        }
    }
}

/// What a test did.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    DidNotEnd,
}

/// Where tests are built and run.
struct Bench {
    copy: Copy,
    postgres: String,
    limit: Duration,
}

/// Makes one fault after the other, also after one has survived, and says which did.
///
/// # Errors
/// A fault survived, or says nothing; a server could not be started; we were interrupted.
pub(crate) fn mutants(options: &Options) -> Result<()> {
    let mut patches = patch::all(&workspace())?;
    let is_meant = |patch: &Patch| options.names.iter().any(|name| patch.name.contains(name.as_str()));
    patches.retain(|patch| options.names.is_empty() || is_meant(patch));
    ensure!(!patches.is_empty(), "no patch in {} has such a name", patch::FOLDER);
    if options.list {
        patches.iter().for_each(|patch| println!("{}: {}\n    {}", patch.name, patch.rule, patch.test));
        return Ok(());
    }
    install::all()?;
    let mut postgres = Postgres::builder().setting("max_connections", "500").start()?;
    let limit = Duration::from_secs(options.minutes.saturating_mul(60));
    let bench = Bench { copy: Copy::of(&workspace())?, postgres: postgres.url(), limit };
    let unfit = bench.without_faults(&patches)?;
    let mut bad = 0_usize;
    for patch in &patches {
        let started = Instant::now();
        let verdict = match unfit.get(&patch.test) {
            Some(why) => Verdict::Unfit(why.clone()),
            None => bench.judge(patch)?,
        };
        bad += usize::from(!verdict.is_good());
        println!("{:>5.0} s  {}: {verdict}", started.elapsed().as_secs_f64(), patch.name);
        if !verdict.is_good() {
            println!(
                "         {}\n         {}\n         {}",
                patch.rule,
                patch.test,
                bench.log(&patch.name).display()
            );
        }
    }
    postgres.stop_fast()?;
    println!("{} of {} faults were seen", patches.len() - bad, patches.len());
    if bad == 0 { Ok(()) } else { bail!("{bad} of {} faults were not seen, or say nothing", patches.len()) }
}

impl Bench {
    /// Runs each test on the code as it is; why some of them can tell nothing.
    fn without_faults(&self, patches: &[Patch]) -> Result<BTreeMap<GuardingTest, String>> {
        let mut unfit = BTreeMap::new();
        let mut tests: Vec<&GuardingTest> = patches.iter().map(|patch| &patch.test).collect();
        tests.sort_unstable();
        tests.dedup();
        for test in tests {
            println!("without a fault: {test}");
            let log = self.log(&format!("without-a-fault-{}", test.filter.replace("::", "-")));
            let why = if !self.build(test, &log)? {
                "it does not build without a fault"
            } else {
                match self.run(test, &log)? {
                    Outcome::Passed if tests_run(&log)? == 0 => "there is no such test",
                    Outcome::Passed => continue,
                    Outcome::Failed => "the test fails without a fault, too",
                    Outcome::DidNotEnd => "the test takes longer than it may without a fault, too",
                }
            };
            println!("         {why}: {}", log.display());
            unfit.insert(test.clone(), why.to_owned());
        }
        Ok(unfit)
    }

    /// Makes a fault, runs its test, and takes the fault back.
    fn judge(&self, patch: &Patch) -> Result<Verdict> {
        if let Err(why) = patch.apply(&self.copy.root, How::Forth) {
            return Ok(Verdict::Unfit(format!("it does not apply: {why:#}")));
        }
        let log = self.log(&patch.name);
        let verdict = match self.build(&patch.test, &log)? {
            false => Verdict::Unfit("it does not build".to_owned()),
            true => match self.run(&patch.test, &log)? {
                Outcome::Passed => Verdict::Survived,
                Outcome::Failed => Verdict::Killed,
                Outcome::DidNotEnd => Verdict::KilledByTime,
            },
        };
        patch.apply(&self.copy.root, How::Back).with_context(|| format!("take {} back", patch.name))?;
        Ok(verdict)
    }

    fn build(&self, test: &GuardingTest, log: &Path) -> Result<bool> {
        let build = self.cargo(test, &["--no-run"], log)?;
        Ok(run(build)?.success())
    }

    fn run(&self, test: &GuardingTest, log: &Path) -> Result<Outcome> {
        let tests = self.cargo(test, &["--", &test.filter], log)?;
        Ok(match run_within(tests, self.limit)? {
            Some(status) if status.success() => Outcome::Passed,
            Some(_) => Outcome::Failed,
            None => Outcome::DidNotEnd,
        })
    }

    /// `cargo test` in the copy; what it says goes into the log.
    fn cargo(&self, test: &GuardingTest, more: &[&str], log: &Path) -> Result<Command> {
        let mut cargo = cargo(&["test"]);
        let said = File::create(log).with_context(|| format!("write {}", log.display()))?;
        cargo.args(test.binary()).args(more).current_dir(&self.copy.root);
        cargo.env("CARGO_TARGET_DIR", self.copy.beside("target")).env("RSKY_TEST_POSTGRES", &self.postgres);
        // That a random test fails is enough: nobody needs its smallest example, nor is it to be kept.
        cargo.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_FAILURE_PERSISTENCE", "off");
        cargo.stderr(said.try_clone()?).stdout(Stdio::from(said));
        Ok(cargo)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.copy.beside(&format!("{name}.log"))
    }
}

/// How many tests were run, by what their binary said.
fn tests_run(log: &Path) -> Result<u64> {
    let said = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(count_tests(&said))
}

fn count_tests(said: &str) -> u64 {
    let counts = said.lines().filter_map(|line| line.strip_prefix("running ")?.split_once(" test"));
    counts.filter_map(|(count, _)| count.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_matches_nothing_is_seen() {
        assert_eq!(count_tests("\nrunning 0 tests\n\ntest result: ok. 0 passed"), 0);
        assert_eq!(count_tests("running 1 test\ntest a ... ok\n\nrunning 12 tests\n"), 13);
    }

    #[test]
    fn only_a_test_that_failed_or_did_not_end_has_seen_a_fault() {
        let unfit = Verdict::Unfit("it does not build".to_owned());
        assert!([Verdict::Killed, Verdict::KilledByTime].iter().all(Verdict::is_good));
        assert!([Verdict::Survived, unfit].iter().all(|verdict| !verdict.is_good()));
    }
}
