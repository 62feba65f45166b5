//! Writes a batch whatever is in it: waits out what passes, finds the entries that Postgres will never take, and sets those
//! aside whose rows somebody else holds.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::runtime::backoff::Backoff;
use thiserror::Error;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::connections::{Connections, Lease};
use crate::disposition::{Act, Condition, Told};
use crate::engine::{EngineError, Statements, Tries};
use crate::held_rows::{self, Row};
use crate::kind::Effect;
use crate::left_out::{Before, HeldBack, LeftOut, too_early};
use crate::metrics::{Metrics, Phase};
use crate::order::Claims;
use crate::partition::parts;
use crate::progress::Progress;

/// Longest time one transaction may take before its connection is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Immediate repetitions after a deadlock or a lost race, before a pause.
const IMMEDIATE: u32 = 5;

/// Repetitions after which something else must be wrong; the pauses between them are some ten seconds.
const ENDLESS: u32 = 12;

/// Waits for a lock that end in nobody being found who holds a row, before the batch is halved.
const LOCK_TRIES: u32 = 2;

/// Tries of what needs rows that somebody holds, before it is put off: with their pauses, some three seconds.
const ROUNDS: u32 = 5;

/// A lane's hand on Postgres.
pub struct Writer {
    connections: Connections,
    statements: Statements,
    max_attempts: u32,
    readiness: Readiness,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
    progress: Progress,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Written {
    /// Indexes of items that Postgres refuses, with its words and the number of tries.
    pub refused: Vec<(usize, String, u32)>,
    /// Indexes of items that were not written because the process stops.
    pub abandoned: Vec<usize>,
    /// Items that were not written because somebody else holds rows they need. In order.
    pub held: Vec<HeldBack>,
    /// Indexes of items that were not written because they replace a version of their record and would pass what is set aside,
    /// or depend on such. In order.
    pub too_early: Vec<usize>,
    /// Of [`Writer::write`]: indexes of items to be tried again later, with the reason: they fail by themselves in a way that
    /// nobody foresaw, or somebody holds their rows.
    pub put_off: Vec<(usize, String)>,
}

/// What is done about rows that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHeld {
    /// They are waited for.
    Wait,
    /// They are waited for a few seconds. Then whoever needs them is put off, so that nothing else waits any longer.
    PutOff,
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
    /// A writer that takes a connection when it needs one. `readiness` counts as ready until a batch has to wait.
    pub fn new(
        connections: Connections,
        statements: Statements,
        max_attempts: u32,
        readiness: Readiness,
        stop: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        readiness.ready();
        let progress = Progress::default();
        Self { connections, statements, max_attempts, readiness, stop, metrics, progress }
    }

    /// Whether it gets on.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Writes items in order, of which none depends on another. Everything that is neither refused, put off nor abandoned has
    /// committed.
    pub async fn write<E: Effect>(&mut self, items: &[&E::Item], when_held: WhenHeld) -> Written {
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
            let held = outcome.held.into_iter().map(|held| (held.at, held.rows));
            let (failed, held): (Vec<_>, Vec<_>) =
                held.partition(|(_, rows)| rows.iter().any(Row::is_failure));
            let why = |rows: Vec<Row>| rows.first().map(Row::describe).unwrap_or_default();
            written.put_off.extend(failed.into_iter().filter_map(|(at, rows)| Some((place(at)?, why(rows)))));
            if when_held == WhenHeld::PutOff && backoff.attempts() >= ROUNDS {
                let why = |rows: Vec<Row>| format!("another session holds {}", why(rows));
                written
                    .put_off
                    .extend(held.into_iter().filter_map(|(at, rows)| Some((place(at)?, why(rows)))));
                break;
            }
            left = held.into_iter().filter_map(|(at, _)| place(at)).collect();
            if !left.is_empty() && !backoff.wait(&self.stop).await {
                written.abandoned.append(&mut left);
            }
        }
        written
    }

    /// Writes a batch in order. Everything that is neither refused, abandoned, held nor too early has committed.
    pub async fn write_batch<E: Effect>(&mut self, batch: Batch<'_, E::Item>) -> Written {
        let mut written = Written::default();
        let mut aside = LeftOut::of(batch.claims);
        if batch.claims.iter().any(|claims| claims.must_be_new()) {
            let new = self.find_new::<E>(&batch).await;
            written.too_early = too_early(batch.claims, &new);
            aside.set_new(new);
        }
        let mut was_held = batch.was_held;
        // What was set aside before is known to fail, and so is what a batch is taken apart for.
        let mut tries = if was_held { 1 } else { self.max_attempts };
        // So may what was set aside, by its second look.
        let mut may_have_committed = was_held;
        // Parts still to be written, in order.
        let mut parts = parts::<E>(batch.items, batch.claims);
        self.progress.moves();
        while let Some(mut part) = parts.pop_front() {
            let mut before = Before::default();
            part.retain(|at| written.too_early.binary_search(at).is_err());
            part.retain(|at| !aside.takes_along(*at, &mut before));
            let items: Vec<&E::Item> = part.iter().filter_map(|at| batch.items.get(*at).copied()).collect();
            if items.is_empty() {
                continue;
            }
            let mut before_it = Tries { may_have_committed };
            let outcome =
                self.write_part::<E>(&items, std::mem::take(&mut was_held), tries, &mut before_it).await;
            may_have_committed |= before_it.may_have_committed && !matches!(outcome, Part::Committed);
            let may_fail = matches!(outcome, Part::Fails(_));
            let sets_aside = match &outcome {
                Part::Held(_) => true,
                Part::Locked | Part::Fails(_) => items.len() == 1,
                Part::Committed | Part::Refused(..) | Part::TooLong | Part::Stopped => false,
            };
            if sets_aside && !aside.knows_what_is_new() {
                aside.set_new(self.find_new::<E>(&batch).await);
            }
            match outcome {
                Part::Committed => self.progress.moves(),
                Part::Stopped => {
                    written.abandoned.extend(part);
                    written.abandoned.extend(parts.drain(..).flatten());
                }
                Part::Held(held) => {
                    let (mut rest, mut before) = (Vec::new(), Before::default());
                    for (at, rows) in part.into_iter().zip(held) {
                        if aside.takes_along(at, &mut before) {
                            continue;
                        }
                        if rows.is_empty() {
                            rest.push(at);
                        } else {
                            aside.take(at, rows);
                        }
                    }
                    parts.push_front(rest);
                }
                Part::Refused(reason, attempts) if items.len() == 1 => {
                    written.refused.extend(part.into_iter().map(|at| (at, reason.clone(), attempts)));
                }
                Part::Locked if items.len() == 1 => {
                    for at in part {
                        aside.take(at, vec![Row::unknown()]);
                    }
                }
                Part::Fails(reason) if items.len() == 1 => {
                    if !batch.was_held {
                        error!("an entry is set aside, and tried again later: {reason}");
                    }
                    for at in part {
                        aside.take(at, vec![Row::failure(&reason)]);
                    }
                }
                Part::Refused(..) | Part::TooLong | Part::Locked | Part::Fails(_) => {
                    self.retried("split");
                    if may_fail {
                        tries = 1;
                    }
                    let later = part.split_off(part.len() / 2);
                    parts.push_front(later);
                    parts.push_front(part);
                }
            }
        }
        self.progress.rests();
        written.held = aside.into_held();
        written
    }

    async fn write_part<E: Effect>(
        &mut self,
        part: &[&E::Item],
        was_held: bool,
        tries: u32,
        before: &mut Tries,
    ) -> Part {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (mut immediate, mut unforeseen, mut locked, mut slow, mut attempts) = (0, 0, 0, 0, 0);
        let mut reported = false;
        let mut look_first = was_held;
        let part = loop {
            attempts += 1;
            let outcome = if std::mem::take(&mut look_first) {
                match self.held_rows::<E>(part).await {
                    Ok(held) if held.iter().any(|rows| !rows.is_empty()) => break Part::Held(held),
                    Ok(_) => continue,
                    Err(failure) => Err(failure),
                }
            } else {
                self.attempt::<E>(part, before).await
            };
            let (condition, failure) = match outcome {
                Ok(rows) => {
                    self.metrics.wrote(rows);
                    if reported {
                        warn!(attempts, "Postgres takes batches again");
                    }
                    break Part::Committed;
                }
                Err(Failure::Connect(error)) => (Condition::of_connecting(&error), error.to_string()),
                Err(Failure::Write(error)) => (Condition::of(&error), error.to_string()),
            };
            if condition == Condition::PreparedStatement {
                self.statements.keep_nothing_prepared();
            }
            let ruling = condition.ruling();
            let failure = match ruling.told {
                Told::Operator => format!("{}: {failure}", ruling.advice),
                Told::Nobody | Told::DeadLetter => failure,
            };
            match ruling.act {
                Act::Bury => break Part::Refused(failure, attempts),
                Act::SetApart => {
                    unforeseen += 1;
                    self.retried("unknown");
                    error!(entries = part.len(), attempt = unforeseen, "write a batch: {failure}");
                    if unforeseen >= tries {
                        break Part::Fails(failure);
                    }
                }
                Act::Again => {
                    self.retried("again");
                    info!(entries = part.len(), "write a batch: {failure}; again");
                    immediate += 1;
                    // Also while the process stops: it is over in a moment.
                    if immediate <= IMMEDIATE {
                        continue;
                    }
                    // Whoever it is that they meet is met each time: no accident any more.
                    if immediate > ENDLESS {
                        break Part::Fails(format!(
                            "it meets another transaction again and again: {failure}"
                        ));
                    }
                    reported = true;
                    self.readiness.not_ready(format!("a batch was done {immediate} times over: {failure}"));
                }
                Act::Locked => {
                    self.retried("locked");
                    locked += 1;
                    info!(entries = part.len(), "write a batch: {failure}; looking whose row is held");
                    if locked > LOCK_TRIES {
                        break Part::Locked;
                    }
                    look_first = true;
                    continue;
                }
                Act::Halve if part.len() > 1 => break Part::TooLong,
                Act::Halve if slow >= tries => break Part::Fails(failure),
                Act::Wait | Act::Halve => {
                    slow += u32::from(ruling.act == Act::Halve);
                    self.retried("transient");
                    if !reported {
                        warn!(entries = part.len(), "Postgres does not take a batch, waiting: {failure}");
                        reported = true;
                    }
                    self.readiness.not_ready(failure);
                }
            }
            if !backoff.wait(&self.stop).await {
                return Part::Stopped;
            }
        };
        // Whatever it was that was waited for: Postgres has given an answer.
        self.readiness.ready();
        part
    }

    async fn attempt<E: Effect>(&mut self, part: &[&E::Item], before: &mut Tries) -> Result<usize, Failure> {
        let mut watch = self.metrics.phases.watch();
        let mut lease = self.connections.take().await.map_err(Failure::Connect)?;
        watch.ended(Phase::Connection);
        let outcome =
            timeout(BATCH_TIMEOUT, E::apply_after(&mut lease, &self.statements, part, before)).await;
        put_back(lease, outcome).await
    }

    /// The rows that each item needs and somebody else holds.
    async fn held_rows<E: Effect>(&mut self, part: &[&E::Item]) -> Result<Vec<Vec<Row>>, Failure> {
        let needed: Vec<Vec<Row>> = part.iter().map(|item| E::rows(item)).collect();
        let mut lease = self.connections.take().await.map_err(Failure::Connect)?;
        let look = held_rows::held(&mut lease, &self.statements, &needed);
        let outcome = timeout(BATCH_TIMEOUT, look).await;
        let held = put_back(lease, outcome).await?;
        Ok(needed.into_iter().map(|rows| rows.into_iter().filter_map(|row| held.of(row)).collect()).collect())
    }

    /// Of each item, whether it is known to replace no version of its record.
    async fn find_new<E: Effect>(&mut self, batch: &Batch<'_, E::Item>) -> Vec<bool> {
        if !batch.claims.iter().any(|claims| claims.is_one_by_one()) {
            return Vec::new();
        }
        let look = async {
            let mut lease = self.connections.take().await.map_err(Failure::Connect)?;
            let look = E::find_new(&mut lease, &self.statements, batch.items);
            let outcome = timeout(BATCH_TIMEOUT, look).await;
            put_back(lease, outcome).await
        };
        look.await.unwrap_or_else(|failure| {
            info!("look which records are new: {failure}; none counts as new");
            Vec::new()
        })
    }

    fn retried(&self, cause: &'static str) {
        self.metrics.retried(cause);
    }
}

/// Gives a connection back that is in order, and closes one that may not be.
async fn put_back<T>(lease: Lease, outcome: Result<Result<T, EngineError>, Elapsed>) -> Result<T, Failure> {
    match outcome {
        Ok(Ok(value)) => {
            lease.give_back();
            Ok(value)
        }
        Ok(Err(error)) => {
            match Condition::of(&error).ruling().act {
                Act::Again | Act::Locked | Act::Halve | Act::Bury => lease.give_back(),
                // What nobody foresaw may have left it in a state nobody foresaw.
                Act::Wait | Act::SetApart => lease.close().await,
            }
            Err(Failure::Write(error))
        }
        // It is in the middle of a statement, which the server ends (see `transaction`): the connection is of no more use.
        Err(_) => Err(Failure::Write(EngineError::TooLong)),
    }
}

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Connect(sqlx::Error),
    #[error(transparent)]
    Write(EngineError),
}

enum Part {
    Committed,
    Refused(String, u32),
    TooLong,
    /// It fails in a way that nobody foresaw, or takes too long by itself.
    Fails(String),
    /// A lock that is not known was not to be had.
    Locked,
    /// Of each item, the rows that it needs and somebody holds.
    Held(Vec<Vec<Row>>),
    Stopped,
}
