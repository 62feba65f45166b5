//! The engine: a batch of work becomes rows, in one transaction.
//!
//! ```text
//! load (what the database holds of the batch's uris)
//!   └─ plan (waves of changes that do not depend on each other)
//!        └─ wave ─ records (rev guard) ─ duplicates ─ typed rows ─ promotion
//! sync_state, aggregates, COMMIT
//! ```
//!
//! The outcome is as if the work had been done one piece at a time in batch order. Re-delivery changes nothing:
//! the rev guard of `record` decides whether anything of a change applies.

pub mod change;

mod keys;
mod load;
mod plan;
mod wave;

pub mod accounts;
mod aggregates;
mod doubt;
mod duplicates;
mod needs;
mod notifications;
mod posts;
mod promotion;
mod records;
mod removal;
mod sync_state;
mod takedowns;
mod typed;

mod sql;

use foldhash::HashSet;
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::PgConnection;
use thiserror::Error;

pub use accounts::{AccountNews, News};
pub use change::{Action, Change, Content, SeenCommit, Work};
pub(crate) use doubt::is_doubtful;
pub use doubt::may_be_refused;
pub(crate) use duplicates::{holders, in_waiting, keys_behind};
pub(crate) use load::find_new;
pub use needs::rows_of;
pub use notifications::Notifications;
pub(crate) use posts::{UNDESERVED, above, refs};
pub use sql::Statements;

use crate::metrics::{Phase, Watch};
pub(crate) use rsky_common::postgres::transaction::end;

use aggregates::Deltas;
use plan::Plan;
use posts::second_look::Unseen;
use wave::Batch;

/// Why a batch was not applied. Its transaction has been rolled back, or its connection is lost.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Another process wrote one of the batch's records in the meantime: load and plan again.
    #[error("another process was faster with a record of this batch")]
    Overtaken,
    /// More posts wait for one of the batch than are judged at a time: it is to be done alone.
    #[error("more replies or quotes wait for a post of the batch than are judged at a time")]
    TooMuch,
    /// The transaction took longer than it may; its connection is given up.
    #[error("the batch took longer than a transaction may")]
    TooLong,
    /// Postgres, or the way to it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl EngineError {
    /// Whether a lock was not to be had in time.
    pub fn is_lock_timeout(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == "55P03")
    }
}

/// An insert that expected no row in its place: a unique violation means that another process was faster.
fn unseen(error: sqlx::Error) -> EngineError {
    let violation = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if violation { EngineError::Overtaken } else { EngineError::Database(error) }
}

/// How rows that should be new are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// As [`Trust::Loaded`], and a record that the batch creates before it does anything else to it is not looked up:
    /// it is new. Where it is not, the batch ends when it is inserted, to be done again.
    Creates,
    /// What was loaded before the batch still holds: new rows go in without looking for a row in their place, which
    /// saves Postgres a look into each unique index. One that is there all the same ends the batch, to be done again.
    Loaded,
    /// Another process may write the same rows at this moment: statements that can meet a row.
    Nothing,
}

/// What earlier tries to apply the same work have come to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    /// Whether one of them may have committed: then its second look is open.
    pub may_have_committed: bool,
}

/// Applies a batch in one transaction, and looks after it at what other processes wrote meanwhile; returns how many rows
/// it wrote or deleted.
///
/// # Errors
/// See [`EngineError`]. Nothing of the batch has taken effect then, or all of it and the second look is open: see
/// [`apply_after`].
pub async fn apply(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&Work],
) -> Result<usize, EngineError> {
    apply_after(connection, statements, batch, &mut Tries::default()).await
}

/// As [`apply`], after others with the same work, and maybe before others.
///
/// # Errors
/// See [`EngineError`]. Doing it once more with the same `tries` is right.
pub async fn apply_after(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&Work],
    tries: &mut Tries,
) -> Result<usize, EngineError> {
    let mut trust = if statements.creates_are_new() { Trust::Creates } else { Trust::Loaded };
    let (rows, unseen) = loop {
        // Boxed: what it holds between two statements is large.
        trust = match Box::pin(apply_trusting(connection, statements, batch, trust, tries)).await {
            Err(EngineError::Overtaken) if trust == Trust::Creates => {
                statements.met_a_create();
                Trust::Loaded
            }
            Err(EngineError::Overtaken) if trust == Trust::Loaded => Trust::Nothing,
            outcome => break outcome?,
        };
    };
    let mut watch = statements.phases().watch();
    let again = Box::pin(posts::second_look::after_commit(connection, statements, unseen)).await?;
    watch.ended(Phase::SecondLook);
    Ok(rows + again)
}

async fn apply_trusting<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&'c Work],
    trust: Trust,
    tries: &mut Tries,
) -> Result<(usize, Unseen<'c>), EngineError> {
    let mut watch = statements.phases().watch();
    begin(connection, statements).await?;
    watch.ended(Phase::Begin);
    let outcome = apply_in_transaction(connection, statements, batch, trust, *tries, &mut watch).await;
    tries.may_have_committed |= outcome.is_ok();
    let outcome = end(connection, outcome).await?;
    watch.ended(Phase::Commit);
    Ok(outcome)
}

/// Begins a transaction for a batch, or for a look around it.
pub(crate) async fn begin(connection: &mut PgConnection, statements: &Statements) -> Result<(), sqlx::Error> {
    transaction::begin(connection, statements.preamble(), Purpose::Batch).await
}

async fn apply_in_transaction<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&'c Work],
    trust: Trust,
    tries: Tries,
    watch: &mut Watch<'_>,
) -> Result<(usize, Unseen<'c>), EngineError> {
    let mut changes: Vec<&'c Change> = batch.iter().filter_map(|work| work.change.as_ref()).collect();
    changes.retain(|change| statements.has_place_for(change.collection));
    let mut known = load::load(connection, statements, &changes, trust).await?;
    known.set_behind(sync_state::behind(connection, statements, batch).await?);
    if trust != Trust::Nothing {
        load::load_taken_keys(connection, statements, &changes, &mut known).await?;
    }
    let threads = posts::refs::load_threads(connection, statements, &changes, &known).await?;
    watch.ended(Phase::Load);
    let Plan { waves, repeated } = plan::plan(&changes, &known, &threads);
    let deltas = Deltas::default();
    let again = batch.iter().filter(|work| work.again || tries.may_have_committed);
    let again: HashSet<&str> = again.filter_map(|work| Some(work.change.as_ref()?.uri.as_str())).collect();
    let unseen = Unseen::of(&changes, &known, &again);
    watch.ended(Phase::Plan);
    let alone = changes.len() == 1;
    let mut batch_state =
        Batch { connection, statements, known, deltas, trust, threads, alone, unseen, repeated, rows: 0 };
    for wave in waves {
        let wave: Vec<(usize, &Change)> =
            wave.iter().filter_map(|at| Some((*at, *changes.get(*at)?))).collect();
        batch_state.apply(&wave).await?;
        // The first wave has used up what was loaded of duplicate keys.
        batch_state.trust = Trust::Nothing;
    }
    let Batch { connection, deltas, unseen, rows, .. } = batch_state;
    watch.ended(Phase::Write);
    let seen = batch.iter().filter_map(|work| work.seen.as_ref());
    let synced = sync_state::note(connection, statements, seen).await?
        + accounts::note(connection, statements, batch).await?;
    let counted = deltas.write(connection, statements).await?;
    watch.ended(Phase::Count);
    Ok((rows + synced + counted, unseen))
}
