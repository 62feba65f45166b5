//! One page of rows, in one short transaction.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::Options;
use super::progress::Figures;
use super::tables::{AggregateTable, STAGES, Stage};

/// Longest wait for a step: its statements have a limit of their own, this is for a connection that says nothing more.
const STEP_TIMEOUT: Duration = Duration::from_secs(1800);
/// Longest wait for an answer from the catalogue.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a step is tried that others are in the way of.
const TRIES: u32 = 5;
/// Pause before the second try; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Step<'s> {
    pub(super) table: &'s AggregateTable,
    pub(super) keys: Keys<'s>,
}

#[derive(Clone, Copy)]
pub(super) enum Keys<'s> {
    These(&'s [String]),
    /// The next ones of a stage.
    After {
        stage: &'s Stage,
        after: &'s str,
        limit: usize,
    },
}

/// What a step did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Keys walked over, also those that another stage looks at.
    pub(super) walked: u64,
    /// The last of them; `None` at the end of a stage.
    pub(super) last: Option<String>,
    pub(super) figures: Figures,
}

impl Step<'_> {
    /// Runs it, again when others are in the way.
    pub(super) async fn run(&self, connection: &mut PgConnection, options: &Options) -> anyhow::Result<Done> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.run_once(connection, options).await {
                Err(error) if is_contention(&error) => tokio::time::sleep(pause).await,
                outcome => return outcome.with_context(|| format!("recount rows of {}", self.table.name)),
            }
            pause *= 2;
        }
        let outcome = self.run_once(connection, options).await;
        outcome.with_context(|| format!("recount rows of {}, after {TRIES} tries", self.table.name))
    }

    async fn run_once(&self, connection: &mut PgConnection, options: &Options) -> Result<Done, sqlx::Error> {
        let transaction = async {
            // READ COMMITTED is what the locks rely on.
            transaction::begin(connection, &options.preamble, Purpose::Recount).await?;
            let outcome = self.in_transaction(connection, options).await;
            transaction::end(connection, outcome).await
        };
        within(STEP_TIMEOUT, transaction).await
    }

    async fn in_transaction(
        &self,
        connection: &mut PgConnection,
        options: &Options,
    ) -> Result<Done, sqlx::Error> {
        let (mut done, mut keys) = self.keys(connection, options).await?;
        if keys.is_empty() {
            return Ok(done);
        }
        // In the order in which indexers insert.
        keys.sort_unstable();
        let mut wrong = HashSet::new();
        if !matches!(self.keys, Keys::After { stage: Stage::Rows(..), .. }) {
            let rows =
                query(&self.table.insert, options.persistent).bind(&keys).fetch_all(&mut *connection).await?;
            wrong.extend(first_column(&rows)?);
        }
        let rows =
            query(&self.table.lock, options.persistent).bind(&keys).fetch_all(&mut *connection).await?;
        let locked = first_column(&rows)?;
        let rows =
            query(&self.table.update, options.persistent).bind(&locked).fetch_all(&mut *connection).await?;
        wrong.extend(first_column(&rows)?);
        done.figures = Figures { looked_at: locked.len() as u64, wrong: wrong.len() as u64 };
        Ok(done)
    }

    /// The keys to look at.
    async fn keys(
        &self,
        connection: &mut PgConnection,
        options: &Options,
    ) -> Result<(Done, Vec<String>), sqlx::Error> {
        let (stage, after, limit) = match self.keys {
            Keys::These(keys) => return Ok((Done::default(), keys.to_vec())),
            Keys::After { stage, after, limit } => (stage, after, limit),
        };
        let page = stage.page();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query(&page, options.persistent).bind(after).bind(limit).fetch_all(connection).await?;
        let mut done = Done { walked: rows.len() as u64, ..Done::default() };
        let mut keys = Vec::new();
        for row in &rows {
            let key: String = row.try_get(0)?;
            if row.try_get(1)? {
                keys.push(key.clone());
            }
            done.last = Some(key);
        }
        Ok((done, keys))
    }
}

/// How many keys a stage has by Postgres' statistics; 0 when there are none yet.
pub(super) async fn estimate(
    connection: &mut PgConnection,
    stage: &Stage,
    options: &Options,
) -> anyhow::Result<f64> {
    let (table, column) = stage.walked();
    // Of distinct values, a negative number is a share of the rows.
    let sql = r#"SELECT greatest(CASE WHEN s.n_distinct IS NULL THEN c.reltuples WHEN s.n_distinct < 0
                THEN c.reltuples * -s.n_distinct ELSE s.n_distinct END, 0)::float8
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = $2
        WHERE c.oid = to_regclass(quote_ident($1))"#;
    let asked = async {
        transaction::begin(connection, &options.preamble, Purpose::Catalogue).await?;
        let asked = query(sql, options.persistent).bind(table).bind(column).fetch_optional(&mut *connection);
        let row = asked.await;
        transaction::end(connection, row).await
    };
    let row = within(CATALOGUE_TIMEOUT, asked).await.context("estimate how much there is to do")?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0.0))
}

/// Every column that is walked must lead an index, or each step would read its whole table.
pub(super) async fn require_indexes(connection: &mut PgConnection, options: &Options) -> anyhow::Result<()> {
    let sql = r#"SELECT v.name FROM unnest($1::text[], $2::text[], $3::text[]) AS v(name, tab, col)
        WHERE NOT EXISTS (SELECT FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = to_regclass(quote_ident(v.tab)) AND a.attname = v.col
                AND i.indisvalid AND i.indpred IS NULL)"#;
    let query = query(sql, options.persistent)
        .bind(STAGES.iter().map(Stage::name).collect::<Vec<_>>())
        .bind(STAGES.iter().map(|stage| stage.walked().0).collect::<Vec<_>>())
        .bind(STAGES.iter().map(|stage| stage.walked().1).collect::<Vec<_>>());
    let asked = async {
        transaction::begin(connection, &options.preamble, Purpose::Catalogue).await?;
        let rows = query.fetch_all(&mut *connection).await;
        transaction::end(connection, rows).await
    };
    let rows = within(CATALOGUE_TIMEOUT, asked).await.context("look for the indexes")?;
    let without = first_column(&rows)?;
    anyhow::ensure!(
        without.is_empty(),
        "--all walks through the tables in the order of an index, and none begins with {}",
        without.join(", ")
    );
    Ok(())
}

fn query(sql: &str, persistent: bool) -> Query<'_, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(persistent)
}

fn first_column(rows: &[PgRow]) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let timed_out = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(timed_out()))
}

/// A deadlock, a lock that was not to be had in time, or a conflict: the step has been rolled back, and passes later.
fn is_contention(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40P01" | "40001" | "55P03"))
}
