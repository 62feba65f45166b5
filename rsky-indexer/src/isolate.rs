//! Writes a batch whatever is in it: waits out what passes, and finds the entries that Postgres will never take.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::runtime::backoff::Backoff;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::database::Database;
use crate::disposition::{Disposition, disposition};
use crate::engine::{EngineError, Statements};
use crate::kind::Effect;
use crate::metrics::{Metrics, RetryLabels};

/// Longest time one transaction may take before its connection is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Immediate repetitions after a deadlock or a lost race, before a pause.
const IMMEDIATE: u32 = 5;

/// A lane's hand on Postgres.
pub struct Writer {
    database: Database,
    statements: Statements,
    connection: Option<PgConnection>,
    max_attempts: u32,
    readiness: Readiness,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Written {
    /// Indexes of items that Postgres refuses, with its words and the number of tries.
    pub refused: Vec<(usize, String, u32)>,
    /// Indexes of items that were not written because the process stops.
    pub abandoned: Vec<usize>,
}

impl Writer {
    /// A writer that connects when it is first needed. `readiness` counts as ready until a batch has to wait.
    pub fn new(
        database: Database,
        statements: Statements,
        max_attempts: u32,
        readiness: Readiness,
        stop: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        readiness.ready();
        Self { database, statements, connection: None, max_attempts, readiness, stop, metrics }
    }

    /// Writes items in order. Everything that is neither refused nor abandoned has committed.
    pub async fn write<E: Effect>(&mut self, items: &[&E::Item]) -> Written {
        let mut written = Written::default();
        // Parts still to be written, the next one last: halves keep their order.
        let mut parts = vec![(0, items.len())];
        while let Some((from, to)) = parts.pop() {
            let Some(part) = items.get(from..to).filter(|part| !part.is_empty()) else { continue };
            match self.write_part::<E>(part).await {
                Part::Committed => {}
                Part::Stopped => {
                    written.abandoned.extend(from..to);
                    written.abandoned.extend(parts.drain(..).flat_map(|(from, to)| from..to));
                }
                Part::Refused(reason, attempts) if part.len() == 1 => {
                    written.refused.push((from, reason, attempts));
                }
                Part::Refused(..) | Part::TooLong => {
                    self.retried("split");
                    let middle = from + (to - from) / 2;
                    parts.push((middle, to));
                    parts.push((from, middle));
                }
            }
        }
        written
    }

    async fn write_part<E: Effect>(&mut self, part: &[&E::Item]) -> Part {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (mut immediate, mut unknown, mut attempts) = (0, 0, 0);
        let mut reported = false;
        loop {
            attempts += 1;
            let (failure, what_to_do) = match self.attempt::<E>(part).await {
                Ok(rows) => {
                    self.metrics.rows.inc_by(u64::try_from(rows).unwrap_or(0));
                    if reported {
                        warn!(attempts, "Postgres takes batches again");
                        self.readiness.ready();
                    }
                    return Part::Committed;
                }
                // No entry is to blame for it.
                Err(Failure::Connect(error)) => (error.to_string(), Disposition::Transient),
                Err(Failure::Write(error)) => (error.to_string(), disposition(&error)),
            };
            match what_to_do {
                Disposition::Data => return Part::Refused(failure, attempts),
                Disposition::Unknown => {
                    unknown += 1;
                    self.retried("unknown");
                    error!(entries = part.len(), attempt = unknown, "write a batch: {failure}");
                    if unknown >= self.max_attempts {
                        return Part::Refused(failure, attempts);
                    }
                    // What nobody foresaw may have left the connection in a state nobody foresaw.
                    self.disconnect().await;
                }
                Disposition::Again => {
                    self.retried("again");
                    info!(entries = part.len(), "write a batch: {failure}; again");
                    immediate += 1;
                    // Also while the process stops: it is over in a moment.
                    if immediate <= IMMEDIATE {
                        continue;
                    }
                }
                Disposition::Halve if part.len() > 1 => return Part::TooLong,
                Disposition::Transient | Disposition::Halve => {
                    self.retried("transient");
                    if !reported {
                        warn!(entries = part.len(), "Postgres does not take a batch, waiting: {failure}");
                        reported = true;
                    }
                    self.readiness.not_ready(failure);
                    self.disconnect().await;
                }
            }
            if !backoff.wait(&self.stop).await {
                return Part::Stopped;
            }
        }
    }

    async fn attempt<E: Effect>(&mut self, part: &[&E::Item]) -> Result<usize, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.database.connect().await.map_err(Failure::Connect)?),
        };
        let outcome = tokio::time::timeout(BATCH_TIMEOUT, E::apply(connection, &self.statements, part)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            // The connection is in the middle of a statement: it is of no more use.
            self.connection = None;
            Err(EngineError::TooLong)
        });
        outcome.map_err(Failure::Write)
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Best effort: a lost connection cannot be closed politely, and must not be waited for.
            drop(tokio::time::timeout(Duration::from_secs(1), connection.close()).await);
        }
    }

    fn retried(&self, cause: &'static str) {
        self.metrics.retries.get_or_create(&RetryLabels { cause }).inc();
    }
}

enum Failure {
    Connect(sqlx::Error),
    Write(EngineError),
}

enum Part {
    Committed,
    Refused(String, u32),
    TooLong,
    Stopped,
}
