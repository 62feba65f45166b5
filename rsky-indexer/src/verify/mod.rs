//! `indexer verify`: repositories compared with the tables, record by record; and put right, if that is wanted.
//!
//! The comparison, and what is written, are those of `index-repo`; what it does not look at, rows that are missing beside a
//! record, is in [`rows`]. Events on their way look like differences, so what differs is looked at once more after a pause.

mod one;
mod report;
mod rows;
mod sample;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use rsky_common::config::{self, Environment};
use rsky_common::runtime::daemon;

use crate::index_repo::session::{Fetching, Session};
use crate::index_repo::settings::Settings;
use crate::pipeline::NAME;
use one::{Wish, verify_one};
use report::{Progress, Summary};

/// Exit code when something differs, and was not put right.
const EXIT_DIFFERS: u8 = 3;

/// Compares repositories with the tables, record by record, and says what is missing, different, or too much.
///
/// A repository is fetched from its PDS and verified. What differs is looked at again after --settle seconds, since events
/// may be on their way. Needs no Redis, works while the daemons run, and changes nothing without --repair.
///
/// Exit code 0: nothing differs, or it was put right; 3: something differs; 1: not a single account could be compared; 64:
/// the settings are not usable.
#[derive(Debug, Args)]
#[command(after_long_help = config::help(Settings::variables()))]
pub struct Verify {
    /// DIDs or handles.
    #[arg(required_unless_present = "sample")]
    accounts: Vec<String>,
    /// Accounts that are drawn from the table actor instead.
    #[arg(long, value_name = "N", conflicts_with = "accounts", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sample: Option<u32>,
    /// Draws the same accounts each time, as long as the same are there.
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// Puts right what differs.
    #[arg(long)]
    repair: bool,
    /// Names every record that differs, not only the first ten of an account.
    #[arg(long, short)]
    verbose: bool,
    /// Seconds before what differs is looked at again; 0: it is not.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// Accounts that are looked at side by side.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    concurrency: u8,
    #[command(flatten)]
    fetching: Fetching,
}

/// Runs the command to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(command: &Verify, environment: Environment) -> ExitCode {
    let settings = match Settings::read(environment) {
        Ok(settings) => settings,
        Err(error) => return daemon::refuse(NAME, &error),
    };
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(verify(command, &settings))));
    match outcome {
        Ok(summary) if summary.compared == 0 && summary.passed_over == 0 => ExitCode::FAILURE,
        Ok(summary) if summary.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_DIFFERS),
        Err(error) => {
            eprintln!("indexer verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn verify(command: &Verify, settings: &Settings) -> anyhow::Result<Summary> {
    let session = Session::open(settings, &command.fetching).await?;
    let accounts = match command.sample {
        Some(wanted) => sample::draw(&session, wanted, command.seed).await?,
        None => command.accounts.clone(),
    };
    let wish = Wish { repair: command.repair, settle: Duration::from_secs(command.settle) };
    let (mut summary, mut stderr) = (Summary::default(), io::stderr());
    let is_terminal = stderr.is_terminal();
    let mut progress = Progress::new(&mut stderr, is_terminal, accounts.len());
    let looks = accounts.iter().map(|account| {
        let session = &session;
        async move { (account.as_str(), verify_one(session, settings, account, wish).await) }
    });
    let mut looks = futures::stream::iter(looks).buffer_unordered(usize::from(command.concurrency));
    while let Some((account, outcome)) = looks.next().await {
        progress.clear();
        let told = summary.tell(&mut io::stdout().lock(), account, &outcome, command.verbose);
        if is_over(told)? {
            return Ok(summary);
        }
        progress.one_more(&summary);
    }
    progress.clear();
    let mut out = io::stdout().lock();
    is_over(summary.write(&mut out).and_then(|()| out.flush()))?;
    Ok(summary)
}

/// Whether the reader has seen enough (`| head`).
fn is_over(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error).context("write the report"),
    }
}
