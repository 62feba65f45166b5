//! What differs goes through the engine, a chunk a transaction, as a lane's batches do.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use rsky_common::admin::{Health, Registry};
use rsky_common::postgres::PostgresServer;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::compare::{Chunk, Rules, compare};
use super::report::{Outcome, Report};
use super::repository::Repository;
use super::stored;
use crate::connections::Connections;
use crate::database::Inspected;
use crate::engine::{Statements, Work};
use crate::isolate::{WhenHeld, Writer};
use crate::kind::Events;
use crate::metrics::Metrics;

/// Longest time a chunk may wait for a database that does not take it, and how often the wait is told of.
const PATIENCE: Duration = Duration::from_secs(300);
const REMINDER: Duration = Duration::from_secs(10);
/// Tries of a record that fails for a reason nobody foresaw.
const TRIES: u32 = 3;
/// Pages of rows, and chunks, on their way: one that is made while the other is worked on.
const ON_THE_WAY: usize = 1;

/// Applies chunks.
pub(super) struct Applier {
    /// `None`: nothing is to be changed.
    writer: Option<Writer>,
    health: Health,
    stop: CancellationToken,
}

impl Applier {
    pub(super) fn new(server: PostgresServer, statements: Statements, dry_run: bool) -> Self {
        let (health, stop) = (Health::new(), CancellationToken::new());
        let writer = (!dry_run).then(|| {
            // Nobody reads the metrics of a command; the writer counts all the same.
            let metrics: Arc<Metrics> = Metrics::register(&mut Registry::default());
            Writer::new(
                Connections::new(server, 1),
                statements,
                TRIES,
                health.part("postgres"),
                stop.clone(),
                metrics,
            )
        });
        Self { writer, health, stop }
    }

    /// Compares the repository with the rows that `connection` reads, and applies what differs.
    ///
    /// # Errors
    /// The rows cannot be read, or the database does not take a chunk in time. What was applied before stays.
    pub(super) async fn run(
        &mut self,
        connection: PgConnection,
        found: &Inspected,
        repository: Repository,
        rules: Rules,
        did: &str,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (rows, pages) = mpsc::channel(ON_THE_WAY);
        // It ends when the receiver is dropped.
        tokio::spawn(stored::send_rows(connection, found.clone(), did.to_owned(), rows));
        let (sender, mut chunks) = mpsc::channel(ON_THE_WAY);
        let comparing = spawn_blocking(move || compare(repository, pages, &rules, &sender));
        while let Some(chunk) = chunks.recv().await {
            self.apply(chunk, report).await?;
        }
        report.add(&comparing.await??);
        Ok(())
    }

    async fn apply(&mut self, chunk: Chunk, report: &mut Report) -> anyhow::Result<()> {
        for (path, reason) in &chunk.skipped {
            report.note(path, Outcome::Skipped, reason);
        }
        let mut refused = Vec::new();
        if let Some(writer) = &mut self.writer
            && !chunk.changes.is_empty()
        {
            let works: Vec<&Work> = chunk.changes.iter().map(|change| &change.work).collect();
            let mut writing = pin!(writer.write::<Events>(&works, WhenHeld::Wait));
            let started = Instant::now();
            let mut written = loop {
                if let Ok(written) = timeout(REMINDER, writing.as_mut()).await {
                    break written;
                }
                let why = self.health.reasons().into_iter().next().map(|(_, reason)| reason);
                report.waits(why.as_deref().unwrap_or("it is busy"));
                if started.elapsed() > PATIENCE {
                    self.stop.cancel();
                }
            };
            if !written.abandoned.is_empty() {
                bail!("the database did not take the changes within {PATIENCE:?}; what it took before stays");
            }
            refused = written.refused.into_iter().map(|(at, reason, _)| (at, reason)).collect();
            // A command has no later: it says so.
            refused.append(&mut written.put_off);
            refused.sort_unstable_by_key(|(at, _)| *at);
        }
        let mut refused = refused.into_iter().peekable();
        for (at, change) in chunk.changes.iter().enumerate() {
            match refused.next_if(|(index, _)| *index == at) {
                Some((_, reason)) => report.note(&change.path, Outcome::Refused, &reason),
                None => report.note(&change.path, change.outcome, ""),
            }
        }
        Ok(())
    }
}
