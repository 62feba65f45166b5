//! The statements of the typed tables, made once from their declarations.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use foldhash::HashMap;
use rsky_common::postgres::transaction::Preamble;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::notifications::Notifications;
use crate::collections::{ALL, Collection, Table};
use crate::metrics::Phases;
use crate::schema::{RevMode, Schema};

/// Every statement the engine sends, and whether the server may keep them prepared.
///
/// All identifiers come from the declarations, all values are bound.
#[derive(Debug)]
pub struct Statements {
    tables: HashMap<&'static str, TableStatements>,
    persistent: AtomicBool,
    notifications: Notifications,
    schema: Schema,
    preamble: Preamble,
    phases: Phases,
    /// Batches left to be loaded in full: a create among the last met its record.
    doubt: AtomicU32,
}

/// Batches that are loaded in full after one in which a create met its record: what is delivered again, or backfilled
/// where it is indexed already, comes in long runs.
const DOUBT: u32 = 64;

/// The statements of one typed table. Each takes arrays, one element a row.
///
/// What comes in numbers has its arrays taken apart in a select list. What a function in `FROM` gives is put into a store as a
/// whole before its first row is read, which copies every value two times more: a seventh of what an insertion of records costs.
#[derive(Debug, Default)]
pub struct TableStatements {
    columns: Vec<usize>,
    insert: String,
    insert_unseen: String,
    delete: String,
    find_duplicate: String,
    select_duplicate_key: String,
}

impl Statements {
    /// `persistent`: whether prepared statements outlive their use; off behind a transaction-pooling proxy.
    pub fn new(persistent: bool, schema: Schema) -> Self {
        let tables = ALL
            .iter()
            .filter_map(|collection| {
                Some((collection.table?.name, TableStatements::new(collection, &schema)?))
            })
            .collect();
        Self {
            tables,
            persistent: AtomicBool::new(persistent),
            notifications: Notifications::default(),
            schema,
            preamble: Preamble::default(),
            phases: Phases::default(),
            doubt: AtomicU32::new(0),
        }
    }

    /// With what every transaction of theirs says.
    #[must_use]
    pub fn with_preamble(mut self, preamble: Preamble) -> Self {
        self.preamble = preamble;
        self
    }

    /// With a histogram of where the time goes.
    #[must_use]
    pub fn with_phases(mut self, phases: Phases) -> Self {
        self.phases = phases;
        self
    }

    /// Where the time goes.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// What every transaction of theirs says.
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// What the database has and has not.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether the database has a place for a collection: one whose table is absent is passed over, as by an AppView
    /// that has no rule for it (SCHEMA-VARIANTS §4).
    pub fn has_place_for(&self, collection: &Collection) -> bool {
        collection.table.is_none_or(|table| self.schema.has_table(table.name))
    }

    /// With another rule for notifications than the reference's.
    #[must_use]
    pub fn with_notifications(mut self, notifications: Notifications) -> Self {
        self.notifications = notifications;
        self
    }

    /// Whether the next batch may take its creates to be new. Where typed rows can stand without a record (generation
    /// B), an insertion would not tell.
    pub(super) fn creates_are_new(&self) -> bool {
        let doubt = self.doubt.load(Ordering::Relaxed);
        self.doubt.store(doubt.saturating_sub(1), Ordering::Relaxed);
        doubt == 0 && self.schema.rev() != RevMode::Nullable
    }

    /// A create met its record.
    pub(super) fn met_a_create(&self) {
        self.doubt.store(DOUBT, Ordering::Relaxed);
    }

    /// When creates notify.
    pub fn notifications(&self) -> Notifications {
        self.notifications
    }

    /// The statements of a table.
    pub fn table(&self, table: &Table) -> &TableStatements {
        static NONE: TableStatements = TableStatements {
            columns: Vec::new(),
            insert: String::new(),
            insert_unseen: String::new(),
            delete: String::new(),
            find_duplicate: String::new(),
            select_duplicate_key: String::new(),
        };
        self.tables.get(table.name).unwrap_or(&NONE)
    }

    /// No statement outlives its use from now on: on connections that are opened from now on, that is.
    pub fn keep_nothing_prepared(&self) {
        self.persistent.store(false, Ordering::Relaxed);
    }

    /// A query with this engine's preparation policy.
    pub fn query<'q>(&self, sql: &'q str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(self.persistent.load(Ordering::Relaxed))
    }
}

impl TableStatements {
    fn new(collection: &Collection, schema: &Schema) -> Option<Self> {
        let table = collection.table?;
        let name = quoted(table.name);
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column.name)).collect();
        let (mut present, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (at, column) in table.columns.iter().enumerate() {
            if column.optional && !schema.has_column(table.name, column.name) {
                continue;
            }
            present.push(at);
            names.push(quoted(column.name));
            let cast = column.cast.map_or_else(String::new, |to| format!("::{to}"));
            values.push(format!("unnest(${}::text[]){cast}", present.len()));
        }
        let insert_unseen = format!("INSERT INTO {name} ({}) SELECT {}", names.join(", "), values.join(", "));
        let insert = format!("{insert_unseen} ON CONFLICT DO NOTHING RETURNING uri");
        let counted: String = collection
            .aggregates
            .iter()
            .filter_map(|aggregate| {
                let by = columns.get(aggregate.by)?;
                Some(match aggregate.unless.and_then(|at| columns.get(at)) {
                    None => format!(", {by}"),
                    Some(flag) => format!(", CASE WHEN {flag} THEN NULL ELSE {by} END"),
                })
            })
            .collect();
        let delete = format!("DELETE FROM {name} WHERE uri = ANY($1) RETURNING uri{counted}");
        let mut statements = Self { columns: present, insert, insert_unseen, delete, ..Self::default() };
        let key: Vec<&String> = table.duplicate_key.iter().filter_map(|at| columns.get(*at)).collect();
        if !key.is_empty() {
            let (mut asked, mut on) = (String::new(), Vec::new());
            for (at, column) in key.iter().enumerate() {
                asked.push_str(&format!("unnest(${}::text[]) AS k{at}, ", at + 1));
                on.push(format!("t.{column} = k.k{at}"));
            }
            statements.find_duplicate = format!(
                "SELECT k.place, t.uri FROM (SELECT {asked}unnest(${}::int8[]) AS place) k JOIN {name} t ON {}",
                key.len() + 1,
                on.join(" AND ")
            );
            let key: Vec<&str> = key.iter().map(|column| column.as_str()).collect();
            statements.select_duplicate_key =
                format!("SELECT uri, {} FROM {name} WHERE uri = ANY($1)", key.join(", "));
        }
        Some(statements)
    }

    /// The columns that the database has, as indexes into the declaration's: those that an insertion binds.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// One array a column; returns the uris of the rows that went in.
    pub fn insert(&self) -> &str {
        &self.insert
    }

    /// One array a column; a row in the place of a new one is an error.
    pub fn insert_unseen(&self) -> &str {
        &self.insert_unseen
    }

    /// An array of uris; returns the rows that were there: uri, then the value that each aggregate counts them by.
    pub fn delete(&self) -> &str {
        &self.delete
    }

    /// One array a column of the duplicate key, and one with the place of each; returns (place, uri of the row that holds the
    /// key).
    pub fn find_duplicate(&self) -> &str {
        &self.find_duplicate
    }

    /// An array of uris; returns uri, then the columns of the duplicate key.
    pub fn select_duplicate_key(&self) -> &str {
        &self.select_duplicate_key
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
