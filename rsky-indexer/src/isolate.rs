//! Writes a batch whatever is in it: waits out what passes, finds the entries that Postgres will never take, and sets those
//! aside whose rows somebody else holds.

use std::collections::VecDeque;
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
use crate::held_rows::{self, Row};
use crate::kind::Effect;
use crate::metrics::{Metrics, RetryLabels};
use crate::order::Claims;
use crate::order::table::Table;

/// Longest time one transaction may take before its connection is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Immediate repetitions after a deadlock or a lost race, before a pause.
const IMMEDIATE: u32 = 5;

/// Waits for a lock that end in nobody being found who holds a row, before the batch is halved.
const LOCK_TRIES: u32 = 2;

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
    /// Indexes of items that were not written because somebody else holds rows they need, with these rows; without rows,
    /// because they depend on one of those. In order.
    pub held: Vec<(usize, Vec<Row>)>,
}

/// Items to be written, with what each claims: one that depends on another which is set aside is set aside with it.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'b, T> {
    /// In stream order.
    pub items: &'b [&'b T],
    /// Of each; empty where nothing depends on anything.
    pub claims: &'b [&'b Claims],
    /// Whether rows that it needs were held a moment ago: then that is looked at first, without waiting.
    pub was_held: bool,
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

    /// Writes items in order, of which none depends on another; rows that somebody else holds are waited for. Everything
    /// that is neither refused nor abandoned has committed.
    pub async fn write<E: Effect>(&mut self, items: &[&E::Item]) -> Written {
        let mut written = Written::default();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut left: Vec<usize> = (0..items.len()).collect();
        while !left.is_empty() {
            let part: Vec<&E::Item> = left.iter().filter_map(|at| items.get(*at).copied()).collect();
            let batch = Batch { items: &part, claims: &[], was_held: backoff.attempts() > 0 };
            let outcome = self.write_batch::<E>(batch).await;
            let place = |at: usize| left.get(at).copied();
            let refused = outcome.refused.into_iter();
            written
                .refused
                .extend(refused.filter_map(|(at, error, attempts)| Some((place(at)?, error, attempts))));
            written.abandoned.extend(outcome.abandoned.into_iter().filter_map(place));
            left = outcome.held.into_iter().filter_map(|(at, _)| place(at)).collect();
            if !left.is_empty() && !backoff.wait(&self.stop).await {
                written.abandoned.append(&mut left);
            }
        }
        written
    }

    /// Writes a batch in order. Everything that is neither refused, abandoned nor held has committed.
    pub async fn write_batch<E: Effect>(&mut self, batch: Batch<'_, E::Item>) -> Written {
        let mut written = Written::default();
        let mut aside = Aside { claims: batch.claims, table: Table::default() };
        let mut was_held = batch.was_held;
        // Parts still to be written, in order.
        let mut parts = VecDeque::from([(0..batch.items.len()).collect::<Vec<usize>>()]);
        while let Some(mut part) = parts.pop_front() {
            part.retain(|at| !aside.takes_along(*at, &mut written));
            let items: Vec<&E::Item> = part.iter().filter_map(|at| batch.items.get(*at).copied()).collect();
            if items.is_empty() {
                continue;
            }
            match self.write_part::<E>(&items, std::mem::take(&mut was_held)).await {
                Part::Committed => {}
                Part::Stopped => {
                    written.abandoned.extend(part);
                    written.abandoned.extend(parts.drain(..).flatten());
                }
                Part::Held(held) => {
                    let mut rest = Vec::new();
                    for (at, rows) in part.into_iter().zip(held) {
                        if aside.takes_along(at, &mut written) {
                            continue;
                        }
                        if rows.is_empty() {
                            rest.push(at);
                        } else {
                            aside.take(at, rows, &mut written);
                        }
                    }
                    parts.push_front(rest);
                }
                Part::Refused(reason, attempts) if items.len() == 1 => {
                    written.refused.extend(part.into_iter().map(|at| (at, reason.clone(), attempts)));
                }
                Part::Locked if items.len() == 1 => {
                    for at in part {
                        aside.take(at, vec![Row::unknown()], &mut written);
                    }
                }
                Part::Refused(..) | Part::TooLong | Part::Locked => {
                    self.retried("split");
                    let later = part.split_off(part.len() / 2);
                    parts.push_front(later);
                    parts.push_front(part);
                }
            }
        }
        written.held.sort_unstable_by_key(|(at, _)| *at);
        written
    }

    async fn write_part<E: Effect>(&mut self, part: &[&E::Item], was_held: bool) -> Part {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (mut immediate, mut unknown, mut locked, mut attempts) = (0, 0, 0, 0);
        let mut reported = false;
        let mut look_first = was_held;
        loop {
            attempts += 1;
            let outcome = if std::mem::take(&mut look_first) {
                match self.held_rows::<E>(part).await {
                    Ok(held) if held.iter().any(|rows| !rows.is_empty()) => return Part::Held(held),
                    Ok(_) => continue,
                    Err(failure) => Err(failure),
                }
            } else {
                self.attempt::<E>(part).await
            };
            let (failure, what_to_do) = match outcome {
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
                Disposition::Locked => {
                    self.retried("locked");
                    locked += 1;
                    info!(entries = part.len(), "write a batch: {failure}; looking whose row is held");
                    if locked > LOCK_TRIES {
                        return Part::Locked;
                    }
                    look_first = true;
                    continue;
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
        self.in_time(outcome)
    }

    /// The rows that each item needs and somebody else holds.
    async fn held_rows<E: Effect>(&mut self, part: &[&E::Item]) -> Result<Vec<Vec<Row>>, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.database.connect().await.map_err(Failure::Connect)?),
        };
        let needed: Vec<Vec<Row>> = part.iter().map(|item| E::rows(item)).collect();
        let look = held_rows::held(connection, &self.statements, &needed);
        let outcome = tokio::time::timeout(BATCH_TIMEOUT, look).await;
        let held = self.in_time(outcome)?;
        Ok(needed.into_iter().map(|rows| rows.into_iter().filter_map(|row| held.of(row)).collect()).collect())
    }

    fn in_time<T>(
        &mut self,
        outcome: Result<Result<T, EngineError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
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

/// What is set aside, and what it claims.
struct Aside<'b> {
    claims: &'b [&'b Claims],
    table: Table,
}

impl Aside<'_> {
    fn take(&mut self, at: usize, rows: Vec<Row>, written: &mut Written) {
        if let Some(claims) = self.claims.get(at) {
            self.table.add(claims);
        }
        written.held.push((at, rows));
    }

    /// Sets an item aside if it depends on one that is.
    fn takes_along(&mut self, at: usize, written: &mut Written) -> bool {
        let depends = self.claims.get(at).is_some_and(|claims| self.table.conflicts(claims));
        if depends {
            self.take(at, Vec::new(), written);
        }
        depends
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
    /// A lock that is not known was not to be had.
    Locked,
    /// Of each item, the rows that it needs and somebody holds.
    Held(Vec<Vec<Row>>),
    Stopped,
}
