//! What comparing repositories with the tables stands on: the database, what it has, and who fetches. For one command.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rsky_common::config::parse_size;
use rsky_common::postgres::PostgresServer;
use rsky_common::repo::{DiskBudget, StoreLimits};
use sqlx::PgConnection;

use super::account::Account;
use super::apply::Applier;
use super::compare::Rules;
use super::fetch::{Fetcher, Limits};
use super::report::Report;
use super::repository::{self, Repository};
use super::settings::Settings;
use super::stored;
use crate::database::{self, Inspected};
use crate::engine::Notifications;
#[cfg(doc)]
use crate::schema::RevMode;

/// Bytes of blocks that are held in memory, per repository; above that they go to a temporary file.
const MEMORY: u64 = 32 << 20;

/// How repositories are fetched.
#[derive(Debug, Args)]
pub(crate) struct Fetching {
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    server: PostgresServer,
    shown: String,
    /// What the database has.
    pub(crate) found: Inspected,
    notifications: Notifications,
    fetcher: Fetcher,
}

impl Session {
    /// Looks at the database, before anything is fetched: without one there is nothing to compare with.
    ///
    /// # Errors
    /// The database cannot be reached or is not the AppView's; HTTPS cannot be set up.
    pub(crate) async fn open(settings: &Settings, fetching: &Fetching) -> anyhow::Result<Self> {
        let server = database::server(&settings.database)?;
        let shown = settings.database.url.to_string();
        let mut connection =
            server.connect().await.with_context(|| format!("connect to the database {shown}"))?;
        let found = database::inspect(&server, &mut connection).await?;
        let patience = Duration::from_secs(fetching.patience);
        let limits = Limits {
            answer: patience,
            stall: patience,
            total: Duration::from_secs(fetching.timeout),
            bytes: fetching.max_size,
        };
        let directory = fetching.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
        // A few repositories at a time: the limit on their size bounds their files as well.
        let store = StoreLimits { memory: MEMORY, directory, disk: DiskBudget::unlimited() };
        let fetcher = Fetcher::new(settings.outbound, limits, store)?;
        Ok(Self { server, shown, found, notifications: settings.notifications, fetcher })
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connecting = self.server.connect().await;
        connecting.with_context(|| format!("connect to the database {}", self.shown))
    }

    /// The account's repository, verified.
    ///
    /// # Errors
    /// Its PDS does not give it, or it is not what it should be.
    pub(crate) async fn fetch(&self, account: &Account) -> anyhow::Result<Repository> {
        let mut repository = self.fetcher.fetch(account).await?;
        let account = account.clone();
        let verifying = move || repository::verify(&mut repository, &account).map(|()| repository);
        tokio::task::spawn_blocking(verifying).await?
    }

    /// Compares a repository with the tables and, unless it is a dry run, applies what differs. Records of `again` are
    /// written again where the tables have them as the repository does; where rows have no rev ([`RevMode::None`]) they
    /// are only deleted, and come with the next comparison.
    ///
    /// # Errors
    /// The rows cannot be read, or the database does not take the changes in time. What was applied before stays.
    pub(crate) async fn compare(
        &self,
        did: &str,
        repository: Repository,
        dry_run: bool,
        again: HashSet<String>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let guard = stored::guard(&mut connection, &self.found, did).await?;
        let statements = self.found.statements().with_notifications(self.notifications);
        let rules = Rules::new(&statements, guard).with_again(again);
        let mut applier = Applier::new(self.server.clone(), statements, dry_run);
        applier.run(connection, &self.found, repository, rules, did, report).await
    }
}
