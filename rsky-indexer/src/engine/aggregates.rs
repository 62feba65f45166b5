//! `post_agg` and `profile_agg`: counters moved by the number of rows that really changed (DECISIONS 19).
//!
//! A counter's row that does not exist yet starts from a count. As the last thing of a transaction, `post_agg` before
//! `profile_agg`, first the missing rows are inserted, then the others updated, each in sorted order: who waits for an
//! insertion holds no row that exists, and who waits for a row has nothing left to insert. Lanes and processes that
//! share a hot subject queue up for a moment instead of locking each other out.
//!
//! `quoteCount` is no plain counter: the reference counts the quotes of the version that was quoted (or unquoted) last.
//! While a post has few quotes they are counted, in a statement of its own: it begins when this transaction has the
//! row's lock, so it sees what everybody who held the lock before has committed. Where there are many, the counter moves
//! like the others; that differs from a count only where versions of one post are quoted side by side.
//!
//! Indexes used: the primary keys, and for the counts the typed tables' indexes on the counted column.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::sql::Statements;
use crate::collections::Counter;
use crate::text::sort_key::sort_by_text;

/// Quotes of one post that are counted at most.
const COUNTED_QUOTES: i64 = 1000;

/// How far each counter of each subject has to move.
#[derive(Debug, Default)]
pub(super) struct Deltas<'c> {
    by_counter: HashMap<(Counter, Cow<'c, str>), i64>,
    quotes: BTreeMap<String, Quotes>,
}

/// How the quotes of a post changed.
#[derive(Debug)]
struct Quotes {
    /// The version that the last change was about, and the place of that change in the batch.
    cid: String,
    order: usize,
    change: i64,
    /// The count as it was before the post took all its quotes with it.
    settled: Option<i64>,
}

impl<'c> Deltas<'c> {
    /// A row of the counted table came (`1`) or went (`-1`).
    pub(super) fn add(&mut self, counter: Counter, subject: Cow<'c, str>, change: i64) {
        *self.by_counter.entry((counter, subject)).or_insert(0) += change;
    }

    /// A quote of a version of a post came (`1`), went (`-1`), or was there already (`0`).
    pub(super) fn quote(&mut self, subject: &str, cid: &str, order: usize, change: i64) {
        let quotes = self.quotes.entry(subject.to_owned()).or_insert_with(|| Quotes {
            cid: cid.to_owned(),
            order,
            change: 0,
            settled: None,
        });
        quotes.settled = None;
        quotes.change += change;
        if quotes.order <= order {
            quotes.order = order;
            cid.clone_into(&mut quotes.cid);
        }
    }

    /// Posts are about to be deleted with all quotes of them, which moves no counter: counts now what has changed.
    pub(super) async fn settle_quotes(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        subjects: &[&str],
    ) -> Result<(), sqlx::Error> {
        let open: Vec<(&str, &str)> = subjects
            .iter()
            .filter_map(|subject| Some((*subject, self.quotes.get(*subject)?)))
            .filter(|(_, quotes)| quotes.settled.is_none())
            .map(|(subject, quotes)| (subject, quotes.cid.as_str()))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let sql = r#"SELECT v.key, count(t.uri) FROM unnest($1::text[], $2::text[]) AS v(key, cid)
            LEFT JOIN quote t ON t.subject = v.key AND t."subjectCid" = v.cid GROUP BY v.key"#;
        let query = statements
            .query(sql)
            .bind(open.iter().map(|(subject, _)| *subject).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, cid)| *cid).collect::<Vec<_>>());
        let counted = query.fetch_all(connection).await?;
        for row in counted {
            if let Some(quotes) = self.quotes.get_mut(row.try_get::<&str, _>(0)?) {
                quotes.settled = Some(row.try_get(1)?);
            }
        }
        Ok(())
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
        let none = BTreeMap::new();
        for (table, quotes) in [(&*POST_AGG, &self.quotes), (&*PROFILE_AGG, &none)] {
            let rows = rows_of(table, &self.by_counter, quotes);
            written += rows.len();
            write_table(connection, statements, table, rows, quotes).await?;
        }
        Ok(written)
    }
}

/// Most counters of a table.
const MOST: usize = 3;

/// A subject, and how far each of its counters moves.
type Row<'d> = (&'d str, [Option<i64>; MOST]);

/// What moves in a table, each subject once, in order.
fn rows_of<'d>(
    table: &AggregateTable,
    by_counter: &'d HashMap<(Counter, Cow<'_, str>), i64>,
    quotes: &'d BTreeMap<String, Quotes>,
) -> Vec<Row<'d>> {
    let moves = by_counter.iter().filter_map(|((counter, subject), delta)| {
        let at = table.columns.iter().position(|column| column == counter)?;
        Some((subject.as_ref(), Some((at, *delta))))
    });
    let moves = moves.chain(quotes.keys().map(|subject| (subject.as_str(), None)));
    let mut rows: Vec<Row<'d>> = Vec::new();
    for (subject, moved) in sort_by_text(moves, |(subject, _)| *subject) {
        if rows.last().is_none_or(|(last, _)| *last != subject) {
            rows.push((subject, [None; MOST]));
        }
        if let (Some((_, row)), Some((at, delta))) = (rows.last_mut(), moved)
            && let Some(slot) = row.get_mut(at)
        {
            *slot = Some(delta);
        }
    }
    rows
}

struct AggregateTable {
    columns: &'static [Counter],
    update: String,
    insert: String,
}

static POST_AGG: LazyLock<AggregateTable> = LazyLock::new(|| {
    AggregateTable::new("post_agg", "uri", &[Counter::Likes, Counter::Reposts, Counter::Replies])
});

static PROFILE_AGG: LazyLock<AggregateTable> = LazyLock::new(|| {
    AggregateTable::new("profile_agg", "did", &[Counter::Followers, Counter::Follows, Counter::Posts])
});

impl AggregateTable {
    fn new(table: &'static str, key: &'static str, columns: &'static [Counter]) -> Self {
        let (mut names, mut counts, mut moves) = (String::new(), String::new(), Vec::new());
        let (mut flags, mut deltas) = (String::new(), String::new());
        for (at, counter) in columns.iter().enumerate() {
            let (name, rows) = (counter.column(), counter.rows());
            let parameter = at + 2;
            names.push_str(&format!(", \"{name}\""));
            counts.push_str(&format!(", CASE WHEN v.c{at} THEN (SELECT count(*) FROM {rows}) ELSE 0 END"));
            flags.push_str(&format!(", unnest(${parameter}::bool[]) AS c{at}"));
            deltas.push_str(&format!(", unnest(${parameter}::int8[]) AS c{at}"));
            moves.push(format!("\"{name}\" = a.\"{name}\" + v.c{at}"));
        }
        let insert = format!(
            "INSERT INTO {table} ({key}{names}) SELECT v.key{counts} \
             FROM (SELECT unnest($1::text[]) AS key{flags}) v \
             WHERE NOT EXISTS (SELECT FROM {table} a WHERE a.{key} = v.key) \
             ON CONFLICT ({key}) DO NOTHING RETURNING {key}"
        );
        let update = format!(
            "UPDATE {table} a SET {} FROM (SELECT unnest($1::text[]) AS key{deltas}) v WHERE a.{key} = v.key",
            moves.join(", ")
        );
        Self { columns, update, insert }
    }
}

async fn write_table(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    mut rows: Vec<Row<'_>>,
    quotes: &BTreeMap<String, Quotes>,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    // A new row's count has seen this transaction's changes already.
    let inserted = insert(connection, statements, table, &rows).await?;
    for (key, row) in &mut rows {
        if inserted.contains(*key) {
            *row = [None; MOST];
        }
    }
    // Posts whose quotes are counted go along with nothing to add: their rows are locked with the others, in order.
    rows.retain(|(key, row)| !is_still(row) || quotes.contains_key(*key));
    update(connection, statements, table, &rows).await?;
    count_quotes(connection, statements, quotes).await
}

/// Whether a row's counters all stay as they are.
fn is_still(row: &[Option<i64>; MOST]) -> bool {
    row.iter().all(|delta| delta.unwrap_or(0) == 0)
}

async fn update(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    moving: &[Row<'_>],
) -> Result<(), sqlx::Error> {
    if moving.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = moving.iter().map(|(key, _)| *key).collect();
    let mut query = statements.query(&table.update).bind(keys);
    for at in 0..table.columns.len() {
        let column = moving.iter().map(|(_, row)| row.get(at).copied().flatten().unwrap_or(0));
        query = query.bind(column.collect::<Vec<i64>>());
    }
    query.execute(connection).await?;
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &AggregateTable,
    open: &[Row<'_>],
) -> Result<HashSet<String>, sqlx::Error> {
    let keys: Vec<&str> = open.iter().map(|(key, _)| *key).collect();
    let mut query = statements.query(&table.insert).bind(keys);
    for at in 0..table.columns.len() {
        let column = open.iter().map(|(_, row)| row.get(at).is_some_and(Option::is_some));
        query = query.bind(column.collect::<Vec<bool>>());
    }
    query.fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
}

async fn count_quotes(
    connection: &mut PgConnection,
    statements: &Statements,
    quotes: &BTreeMap<String, Quotes>,
) -> Result<(), sqlx::Error> {
    if quotes.is_empty() {
        return Ok(());
    }
    let sql = r#"UPDATE post_agg a SET "quoteCount" =
            CASE WHEN v.settled IS NOT NULL THEN v.settled WHEN q.total <= $4 THEN q.same
                ELSE greatest(a."quoteCount" + v.change, 0) END
        FROM unnest($1::text[], $2::text[], $3::int8[], $5::int8[]) AS v(key, cid, change, settled)
        CROSS JOIN LATERAL (
            SELECT count(*) AS total, count(*) FILTER (WHERE t."subjectCid" = v.cid) AS same
            FROM (SELECT "subjectCid" FROM quote WHERE subject = v.key LIMIT $4 + 1) t) q
        WHERE a.uri = v.key"#;
    statements
        .query(sql)
        .bind(quotes.keys().map(String::as_str).collect::<Vec<_>>())
        .bind(quotes.values().map(|quotes| quotes.cid.as_str()).collect::<Vec<_>>())
        .bind(quotes.values().map(|quotes| quotes.change).collect::<Vec<_>>())
        .bind(COUNTED_QUOTES)
        .bind(quotes.values().map(|quotes| quotes.settled).collect::<Vec<Option<i64>>>())
        .execute(connection)
        .await?;
    Ok(())
}
