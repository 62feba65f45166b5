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

mod load;
mod plan;
mod wave;

mod records;
mod duplicates;
mod typed;
mod promotion;
mod sync_state;
mod aggregates;

mod sql;

use sqlx::PgConnection;
use thiserror::Error;

pub use change::{Action, Change, Content, SeenCommit, Work};
pub use sql::Statements;

use aggregates::Deltas;
use wave::Batch;

/// Why a batch was not applied. Its transaction has been rolled back, or its connection is lost.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Another process wrote one of the batch's records in the meantime: load and plan again.
    #[error("another process was faster with a record of this batch")]
    Overtaken,
    /// Postgres, or the way to it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Every statement finds its rows by key. A plan that reads a whole table would be one made while the table was
/// empty; one that hashes would touch rows in no order.
const BEGIN: &str = "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL jit = off; \
                     SET LOCAL plan_cache_mode = force_custom_plan";

/// Applies a batch in one transaction.
///
/// # Errors
/// See [`EngineError`]. Nothing of the batch has taken effect then.
pub async fn apply(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&Work],
) -> Result<(), EngineError> {
    sqlx::raw_sql(BEGIN).execute(&mut *connection).await?;
    let outcome = apply_in_transaction(connection, statements, batch).await;
    let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = sqlx::raw_sql(end).execute(&mut *connection).await;
    outcome?;
    ended?;
    Ok(())
}

async fn apply_in_transaction(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&Work],
) -> Result<(), EngineError> {
    let changes: Vec<&Change> = batch.iter().filter_map(|work| work.change.as_ref()).collect();
    let known = load::load(connection, statements, &changes).await?;
    let waves = plan::plan(&changes, &known);
    let mut batch_state = Batch { connection, statements, known, deltas: Deltas::default() };
    for wave in waves {
        let mut wave: Vec<&Change> = wave.iter().filter_map(|at| changes.get(*at).copied()).collect();
        // Every process locks rows in one order.
        wave.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
        batch_state.apply(&wave).await?;
    }
    let Batch { connection, deltas, .. } = batch_state;
    sync_state::note(connection, statements, batch.iter().filter_map(|work| work.seen.as_ref())).await?;
    deltas.write(connection, statements).await?;
    Ok(())
}
