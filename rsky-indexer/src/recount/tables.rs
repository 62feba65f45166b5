//! What is counted, and by which column each table is walked.

use std::sync::LazyLock;

use crate::collections::Counter;

/// A table of counters with its statements. All names come from the declarations below.
#[derive(Debug)]
pub(super) struct AggregateTable {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    /// Inserts rows of zeros for those of `$1` that have something to count and no row; returns their keys.
    pub(super) insert: String,
    /// Locks the rows of `$1` in the order in which indexers do, that of bytes; returns their keys.
    pub(super) lock: String,
    /// Writes the counts of `$1` where they differ; returns the keys of the rows that did.
    pub(super) update: String,
}

struct Counted {
    name: &'static str,
    /// The rows counted, of the subject `v.key`.
    rows: &'static str,
    /// When they tell nothing about the counter, which stays as it is.
    unknown: Option<&'static str>,
}

impl Counted {
    /// The count, NULL where the rows tell nothing.
    fn count(&self) -> String {
        match self.unknown {
            None => format!("(SELECT count(*) FROM {})", self.rows),
            Some(unknown) => {
                format!("CASE WHEN {unknown} THEN NULL ELSE (SELECT count(*) FROM {}) END", self.rows)
            }
        }
    }
}

fn counted(counter: Counter) -> Counted {
    Counted { name: counter.column(), rows: counter.rows(), unknown: None }
}

/// The quotes of the version that was quoted last: as the indexer leaves it (`engine/aggregates.rs`), as far as rows
/// tell. A quote that is gone has taken its version and its time along.
const QUOTES: &str = r#"quote t WHERE t.subject = v.key AND t."subjectCid" = (
    SELECT q."subjectCid" FROM quote q WHERE q.subject = v.key
    ORDER BY q."indexedAt" COLLATE "C" DESC, q.uri COLLATE "C" DESC LIMIT 1)"#;

/// A post takes the quotes of it along and leaves its counter (INDEXING §4.1): where neither is there, no row tells what
/// the counter should be, and it stays.
const QUOTES_UNKNOWN: &str = "NOT EXISTS (SELECT FROM post p WHERE p.uri = v.key) \
    AND NOT EXISTS (SELECT FROM quote q WHERE q.subject = v.key)";

pub(super) static POST_AGG: LazyLock<AggregateTable> = LazyLock::new(|| {
    AggregateTable::new(
        "post_agg",
        "uri",
        &[
            counted(Counter::Likes),
            counted(Counter::Reposts),
            counted(Counter::Replies),
            Counted { name: "quoteCount", rows: QUOTES, unknown: Some(QUOTES_UNKNOWN) },
        ],
    )
});

pub(super) static PROFILE_AGG: LazyLock<AggregateTable> = LazyLock::new(|| {
    AggregateTable::new(
        "profile_agg",
        "did",
        &[counted(Counter::Followers), counted(Counter::Follows), counted(Counter::Posts)],
    )
});

impl AggregateTable {
    fn new(name: &'static str, key: &'static str, counters: &[Counted]) -> Self {
        let list = |separator: &str, one: &dyn Fn(usize, &Counted) -> String| {
            counters
                .iter()
                .enumerate()
                .map(|(at, counter)| one(at, counter))
                .collect::<Vec<_>>()
                .join(separator)
        };
        let anything = list(" OR ", &|_, counter| format!("EXISTS (SELECT FROM {})", counter.rows));
        let insert = format!(
            "INSERT INTO {name} ({key}) SELECT v.key FROM unnest($1::text[]) AS v(key) \
             WHERE NOT EXISTS (SELECT FROM {name} a WHERE a.{key} = v.key) AND ({anything}) \
             ON CONFLICT ({key}) DO NOTHING RETURNING {key}"
        );
        let lock =
            format!("SELECT {key} FROM {name} WHERE {key} = ANY($1) ORDER BY {key} COLLATE \"C\" FOR UPDATE");
        // Materialized, or the counts would be made once to compare and once to write.
        let update = format!(
            "WITH c AS MATERIALIZED (SELECT v.key, {} FROM unnest($1::text[]) AS v(key)) \
             UPDATE {name} a SET {} FROM c WHERE a.{key} = c.key AND ({}) RETURNING a.{key}",
            list(", ", &|at, counter| format!("{} AS c{at}", counter.count())),
            list(", ", &|at, counter| format!("\"{0}\" = coalesce(c.c{at}, a.\"{0}\")", counter.name)),
            list(" OR ", &|at, counter| format!("a.\"{}\" <> c.c{at}", counter.name)),
        );
        Self { name, key, insert, lock, update }
    }
}

/// One walk through keys in order.
#[derive(Debug)]
pub(super) enum Stage {
    /// Through the rows of a table of counters.
    Rows(&'static LazyLock<AggregateTable>, &'static str),
    /// Through the distinct values of a column, for those without a row.
    Subjects(Subjects),
}

/// A column that names subjects.
#[derive(Debug)]
pub(super) struct Subjects {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    aggregate: &'static LazyLock<AggregateTable>,
}

const fn subjects(
    name: &'static str,
    table: &'static str,
    column: &'static str,
    aggregate: &'static LazyLock<AggregateTable>,
) -> Stage {
    Stage::Subjects(Subjects { name, table, column, aggregate })
}

/// The walks that together see every row there is and every row there should be.
pub(super) static STAGES: [Stage; 9] = [
    Stage::Rows(&POST_AGG, "post_agg"),
    subjects("like.subject", "like", "subject", &POST_AGG),
    subjects("repost.subject", "repost", "subject", &POST_AGG),
    subjects("post.replyParent", "post", "replyParent", &POST_AGG),
    subjects("quote.subject", "quote", "subject", &POST_AGG),
    Stage::Rows(&PROFILE_AGG, "profile_agg"),
    subjects("follow.subjectDid", "follow", "subjectDid", &PROFILE_AGG),
    subjects("follow.creator", "follow", "creator", &PROFILE_AGG),
    subjects("post.creator", "post", "creator", &PROFILE_AGG),
];

impl Stage {
    /// Its name in progress and in `--resume-after`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Rows(_, name) => name,
            Self::Subjects(subjects) => subjects.name,
        }
    }

    /// The counters that it is about.
    pub(super) fn table(&self) -> &'static AggregateTable {
        match self {
            Self::Rows(table, _) => table,
            Self::Subjects(subjects) => subjects.aggregate,
        }
    }

    /// The table and the column that are walked.
    pub(super) fn walked(&self) -> (&'static str, &'static str) {
        match self {
            Self::Rows(table, _) => (table.name, table.key),
            Self::Subjects(subjects) => (subjects.table, subjects.column),
        }
    }

    /// The next `$2` keys after `$1`, in order, each with whether the step has to look at it.
    pub(super) fn page(&self) -> String {
        let (table, column) = self.walked();
        match self {
            Self::Rows(..) => {
                format!("SELECT {column}, true FROM {table} WHERE {column} > $1 ORDER BY {column} LIMIT $2")
            }
            // From one distinct key to the next through the index, whatever number of rows is between them.
            Self::Subjects(subjects) => {
                let next = |after: &str| {
                    format!(
                        "SELECT t.\"{column}\" FROM \"{table}\" t WHERE t.\"{column}\" > {after} \
                         ORDER BY t.\"{column}\" LIMIT 1"
                    )
                };
                let (name, key) = (subjects.aggregate.name, subjects.aggregate.key);
                format!(
                    "WITH RECURSIVE w(key, at) AS ((SELECT k.*, 1::int8 FROM ({}) k) UNION ALL \
                     SELECT ({}), w.at + 1 FROM w WHERE w.key IS NOT NULL AND w.at < $2) \
                     SELECT w.key, NOT EXISTS (SELECT FROM {name} a WHERE a.{key} = w.key) \
                     FROM w WHERE w.key IS NOT NULL ORDER BY w.at",
                    next("$1"),
                    next("w.key")
                )
            }
        }
    }
}
