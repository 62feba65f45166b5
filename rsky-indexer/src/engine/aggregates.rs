//! `post_agg` and `profile_agg`: counters moved by the number of rows that really changed (DECISIONS 19).
//!
//! A counter's row that does not exist yet starts from a count. As the last thing of a transaction, `post_agg` before
//! `profile_agg`, first the missing rows are inserted, then the others updated, each in sorted order: who waits for an
//! insertion holds no row that exists, and who waits for a row has nothing left to insert. Lanes and processes that
//! share a hot subject queue up for a moment instead of locking each other out.
//!
//! Indexes used: the primary keys, and for the counts the typed tables' indexes on the counted column.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::RandomState;

use sqlx::{PgConnection, Row as _};

use super::sql::Statements;
use crate::collections::Counter;

/// How far each counter of each subject has to move.
#[derive(Debug, Default)]
pub(super) struct Deltas<'c> {
    by_counter: HashMap<(Counter, Cow<'c, str>), i64, RandomState>,
}

impl<'c> Deltas<'c> {
    /// A row of the counted table came (`1`) or went (`-1`).
    pub(super) fn add(&mut self, counter: Counter, subject: Cow<'c, str>, change: i64) {
        *self.by_counter.entry((counter, subject)).or_insert(0) += change;
    }

    /// Takes over the moves of rows that do not live as long as the batch.
    pub(super) fn absorb(&mut self, other: &Deltas<'_>) {
        for ((counter, subject), change) in &other.by_counter {
            self.add(*counter, Cow::Owned(subject.as_ref().to_owned()), *change);
        }
    }

    /// Writes all counters; returns how many rows they are in.
    pub(super) async fn write(
        self,
        connection: &mut PgConnection,
        statements: &Statements,
    ) -> Result<usize, sqlx::Error> {
        let mut written = 0;
        for table in [&POST_AGG, &PROFILE_AGG] {
            let mut rows: BTreeMap<&str, [Option<i64>; 2]> = BTreeMap::new();
            for ((counter, subject), delta) in &self.by_counter {
                for (at, column) in table.columns.iter().enumerate() {
                    if column.counter == *counter
                        && let Some(slot) = rows.entry(subject).or_default().get_mut(at)
                    {
                        *slot = Some(*delta);
                    }
                }
            }
            written += rows.len();
            write_table(connection, statements, table, rows).await?;
        }
        Ok(written)
    }
}

struct AggregateTable {
    columns: [AggregateColumn; 2],
    update: &'static str,
    insert: &'static str,
}

struct AggregateColumn {
    counter: Counter,
}

static POST_AGG: AggregateTable = AggregateTable {
    columns: [AggregateColumn { counter: Counter::Likes }, AggregateColumn { counter: Counter::Reposts }],
    update: r#"UPDATE post_agg a SET "likeCount" = a."likeCount" + v.c0, "repostCount" = a."repostCount" + v.c1
        FROM unnest($1::text[], $2::int8[], $3::int8[]) AS v(key, c0, c1) WHERE a.uri = v.key"#,
    insert: r#"INSERT INTO post_agg (uri, "likeCount", "repostCount")
        SELECT v.key,
            CASE WHEN v.c0 THEN (SELECT count(*) FROM "like" t WHERE t.subject = v.key) ELSE 0 END,
            CASE WHEN v.c1 THEN (SELECT count(*) FROM repost t WHERE t.subject = v.key) ELSE 0 END
        FROM unnest($1::text[], $2::bool[], $3::bool[]) AS v(key, c0, c1)
        WHERE NOT EXISTS (SELECT FROM post_agg a WHERE a.uri = v.key)
        ON CONFLICT (uri) DO NOTHING RETURNING uri"#,
};

static PROFILE_AGG: AggregateTable = AggregateTable {
    columns: [AggregateColumn { counter: Counter::Followers }, AggregateColumn { counter: Counter::Follows }],
    update: r#"UPDATE profile_agg a
            SET "followersCount" = a."followersCount" + v.c0, "followsCount" = a."followsCount" + v.c1
        FROM unnest($1::text[], $2::int8[], $3::int8[]) AS v(key, c0, c1) WHERE a.did = v.key"#,
    insert: r#"INSERT INTO profile_agg (did, "followersCount", "followsCount")
        SELECT v.key,
            CASE WHEN v.c0 THEN (SELECT count(*) FROM follow t WHERE t."subjectDid" = v.key) ELSE 0 END,
            CASE WHEN v.c1 THEN (SELECT count(*) FROM follow t WHERE t.creator = v.key) ELSE 0 END
        FROM unnest($1::text[], $2::bool[], $3::bool[]) AS v(key, c0, c1)
        WHERE NOT EXISTS (SELECT FROM profile_agg a WHERE a.did = v.key)
        ON CONFLICT (did) DO NOTHING RETURNING did"#,
};

type Rows<'d> = BTreeMap<&'d str, [Option<i64>; 2]>;

async fn write_table(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    mut rows: Rows<'_>,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    // A new row's count has seen this transaction's changes already.
    let inserted = insert(connection, statements, table, &rows).await?;
    rows.retain(|key, row| !is_still(row) && !inserted.contains(*key));
    update(connection, statements, table, &rows).await
}

/// Whether a row's counters all stay as they are.
fn is_still(row: &[Option<i64>; 2]) -> bool {
    row.iter().all(|delta| delta.unwrap_or(0) == 0)
}

async fn update(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    moving: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    if moving.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = moving.keys().copied().collect();
    let column = |at: usize| -> Vec<i64> {
        moving.values().map(|row| row.get(at).copied().flatten().unwrap_or(0)).collect()
    };
    let query = statements.query(table.update).bind(keys).bind(column(0)).bind(column(1));
    query.execute(connection).await?;
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    open: &Rows<'_>,
) -> Result<HashSet<String>, sqlx::Error> {
    let keys: Vec<&str> = open.keys().copied().collect();
    let column = |at: usize| -> Vec<bool> {
        open.values().map(|row| row.get(at).is_some_and(Option::is_some)).collect()
    };
    let query = statements.query(table.insert).bind(keys).bind(column(0)).bind(column(1));
    query.fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
}
