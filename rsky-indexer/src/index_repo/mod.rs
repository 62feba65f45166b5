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

mod account;
mod apply;
mod compare;
mod fetch;
mod report;
mod repository;
mod settings;
mod stored;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rsky_common::config::{self, Environment, parse_size};
use rsky_common::repo::{DiskBudget, StoreLimits};
use rsky_common::runtime::daemon;

use crate::database;
use crate::pipeline::NAME;
use apply::Applier;
use fetch::{Fetcher, Limits};
use report::Report;
use settings::Settings;

/// Bytes of blocks that are held in memory; above that they go to a temporary file.
const MEMORY: u64 = 32 << 20;

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
    /// Largest repository.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = size)]
    max_size: u64,
    /// Longest download, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Longest wait for the PDS to answer, and for the download to go on, in seconds. Tried three times.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Directory of the temporary files of a large repository; the system's unless given.
    #[arg(long, value_name = "DIRECTORY")]
    temp_dir: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "expected a number of bytes, plain or with a unit (512MiB)".to_owned())
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
    let server = database::server(&settings.database)?;
    // Before anything is fetched: without a database there is nothing to compare with.
    let mut connection = server
        .connect()
        .await
        .with_context(|| format!("connect to the database {}", settings.database.url))?;
    let found = database::inspect(&server, &mut connection).await?;
    let statements = found.statements().with_notifications(settings.notifications);

    let account = account::find(&command.account, settings).await?;
    let patience = Duration::from_secs(command.patience);
    let limits = Limits {
        answer: patience,
        stall: patience,
        total: Duration::from_secs(command.timeout),
        bytes: command.max_size,
    };
    let directory = command.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    // One repository at a time: the limit on its size bounds its files as well.
    let store = StoreLimits { memory: MEMORY, directory, disk: DiskBudget::unlimited() };
    let fetcher = Fetcher::new(settings.outbound, limits, store)?;
    let mut repository = fetcher.fetch(&account).await?;
    let repository = tokio::task::spawn_blocking({
        let account = account.clone();
        move || repository::verify(&mut repository, &account).map(|()| repository)
    })
    .await??;

    let guard = stored::guard(&mut connection, &found, &account.did).await?;
    let rules = compare::Rules::new(&statements, guard);
    let mut report = Report::new(&account, &repository, command.dry_run, command.verbose);
    let mut applier = Applier::new(server, statements, command.dry_run);
    applier.run(connection, &found, repository, rules, &account.did, &mut report).await?;

    let mut out = io::stdout().lock();
    match report.write(&mut out).and_then(|()| out.flush()) {
        // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    report.verdict()
}
