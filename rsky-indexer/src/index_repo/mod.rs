//! `indexer index-repo`: one repository, fetched, verified, and what differs applied (IDENTITY 8).
//!
//! ```text
//! account (DID, document) ─ fetch (getRepo) ─ repository (hashes, signature, tree)
//!                                                 └─ compare ─ apply (the engine) ─ report
//!                             stored (rows of `record`) ─┘
//! ```
//!
//! Both sides are read in the order of the tree, so that memory does not grow with the repository. The engine's rev
//! guard decides between what is applied here and what the daemons write at the same moment.

pub(crate) mod account;
mod apply;
mod compare;
pub(crate) mod fetch;
pub(crate) mod report;
mod repository;
pub(crate) mod session;
pub(crate) mod settings;
mod stored;

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use rsky_common::config::{self, Environment};
use rsky_common::runtime::daemon;

use crate::pipeline::NAME;
use report::{Report, Style};
use session::{Fetching, Session};
use settings::Settings;

/// Fetches one repository from its PDS, verifies it, and applies what differs from the database.
///
/// Records that the database lacks are created, others are updated, those that the repository no longer has are deleted,
/// all at the revision of the repository's commit: what the database has of a later one stays. Needs no Redis, and works
/// while the daemons run. A record that is not valid is skipped, with a line on standard error.
///
/// Exit code 0: everything was applied; 1: it was not, and standard error says why; 64: the settings are not usable.
#[derive(Debug, Args)]
#[command(after_long_help = config::help(Settings::variables()))]
pub struct IndexRepo {
    /// The DID or the handle of the account.
    account: String,
    /// Shows what would change, one line a record, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints a line for each record that changes.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    fetching: Fetching,
}

/// Runs the command to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(command: &IndexRepo) -> ExitCode {
    let settings = match Settings::read(Environment::of_process()) {
        Ok(settings) => settings,
        Err(error) => return daemon::refuse(NAME, &error),
    };
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(index_repo(command, &settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("indexer index-repo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn index_repo(command: &IndexRepo, settings: &Settings) -> anyhow::Result<()> {
    let session = Session::open(settings, &command.fetching).await?;
    let account = account::find(&command.account, settings).await?;
    let repository = session.fetch(&account).await?;
    let style = match (command.dry_run, command.verbose) {
        (true, _) => Style::DryRun,
        (false, true) => Style::Lines,
        (false, false) => Style::Counts,
    };
    let mut report = Report::new(&account, &repository, style);
    session.compare(&account.did, repository, command.dry_run, HashSet::new(), &mut report).await?;

    let mut out = io::stdout().lock();
    match report.write(&mut out).and_then(|()| out.flush()) {
        // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    report.verdict()
}
