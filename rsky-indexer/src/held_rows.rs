//! Rows that a batch needs and somebody else holds: an AppView session, an operator, another process.
//!
//! A transaction waits for a lock no longer than [`crate::engine`] allows. Then it is looked which of the rows that it
//! needs are held: each is asked for without waiting. Where a table as a whole is locked (an index is made), all its rows
//! count as held.

use foldhash::{HashMap, HashSet};
use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::{PgConnection, Row as _};

use crate::engine::{EngineError, Statements};

/// A row, by table and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// Table.
    pub table: &'static str,
    /// Its primary key's column.
    pub column: &'static str,
    /// Value of the key.
    pub key: String,
}

impl Row {
    /// Of a table whose key is `uri`.
    pub fn uri(table: &'static str, uri: &str) -> Self {
        Self { table, column: "uri", key: uri.to_owned() }
    }

    /// Of a table whose key is `did`.
    pub fn did(table: &'static str, did: &str) -> Self {
        Self { table, column: "did", key: did.to_owned() }
    }

    /// Something is locked, and nobody knows what.
    pub fn unknown() -> Self {
        Self { table: "", column: "", key: String::new() }
    }

    /// No row: an entry fails by itself, for this reason.
    pub fn failure(reason: &str) -> Self {
        Self { table: "", column: FAILURE, key: reason.to_owned() }
    }

    /// Whether it stands for a failure.
    pub fn is_failure(&self) -> bool {
        self.column == FAILURE
    }

    /// All rows of its table.
    #[must_use]
    pub fn whole_table(&self) -> Self {
        Self { table: self.table, column: self.column, key: "*".to_owned() }
    }

    /// For a person.
    pub fn describe(&self) -> String {
        if self.is_failure() {
            self.key.clone()
        } else if self.table.is_empty() {
            "a lock".to_owned()
        } else {
            format!("{} {}", self.table, self.key)
        }
    }
}

/// In the place of a column, where a failure stands in the place of a row.
const FAILURE: &str = "failure";

/// What is held.
#[derive(Debug, Default)]
pub struct Held {
    rows: HashMap<&'static str, HashSet<String>>,
    tables: HashSet<&'static str>,
}

impl Held {
    /// What of a row is held: itself, or its whole table.
    pub fn of(&self, row: Row) -> Option<Row> {
        if self.tables.contains(row.table) {
            return Some(row.whole_table());
        }
        self.rows.get(row.table).is_some_and(|keys| keys.contains(&row.key)).then_some(row)
    }
}

/// Finds out which of these rows are held by others. Takes no lock that outlives it.
///
/// # Errors
/// Those of the database.
pub async fn held(
    connection: &mut PgConnection,
    statements: &Statements,
    needed: &[Vec<Row>],
) -> Result<Held, EngineError> {
    let mut by_table: HashMap<(&'static str, &'static str), Vec<&str>> = HashMap::default();
    for row in needed.iter().flatten() {
        by_table.entry((row.table, row.column)).or_default().push(&row.key);
    }
    let mut held = Held::default();
    for ((table, column), mut keys) in by_table {
        keys.sort_unstable();
        keys.dedup();
        transaction::begin(connection, statements.preamble(), Purpose::HeldRows).await?;
        let looked = held_of(connection, statements, table, column, &keys).await;
        let looked = transaction::end(connection, looked.map_err(EngineError::from)).await;
        match looked {
            Ok(keys) => drop(held.rows.insert(table, keys)),
            Err(error) if error.is_lock_timeout() => {
                held.tables.insert(table);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

async fn held_of(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &str,
    column: &str,
    keys: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    let sql = format!(r#"SELECT {column} FROM "{table}" WHERE {column} = ANY($1)"#);
    let there = statements.query(&sql).bind(keys).fetch_all(&mut *connection).await?;
    let sql = format!("{sql} FOR UPDATE SKIP LOCKED");
    let free = statements.query(&sql).bind(keys).fetch_all(connection).await?;
    let free: HashSet<String> = free.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let there: Vec<String> = there.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(there.into_iter().filter(|key| !free.contains(key)).collect())
}
