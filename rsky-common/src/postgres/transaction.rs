//! Transactions: the one place where they begin and end.
//!
//! **Nothing of the session is relied on.** Behind a pooler that gives out a server connection per transaction (PgBouncer
//! in transaction mode) a `SET` reaches whoever comes next, and what was set or prepared before may not be there any more.
//! So every statement runs in a transaction, and every transaction says itself what it needs, with `SET LOCAL`: its
//! isolation, its `search_path`, its limits, its planner settings. A role's or a database's own `statement_timeout` or
//! isolation level is none of its business.
//!
//! **Nothing is left running.** Each limit is below the time after which the process gives a connection up (see
//! the indexer's `isolate.rs`). Where the server can, it looks now and then whether the client is still there, and ends a statement
//! that nobody waits for.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection};

/// What a transaction is for; that decides its limits and how its statements are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A batch of work, and the looks around it.
    Batch,
    /// A look at who holds which rows (the indexer's `held_rows.rs`).
    HeldRows,
    /// A page of an account that is taken out: the likes of its posts are counted in one statement.
    AccountPage,
    /// A step of a recount. It may wait for indexers, which do not wait for it.
    Recount,
    /// Rows that are read page by page while somebody works on them.
    Reading,
    /// A look at the catalogue.
    Catalogue,
}

/// Every statement finds its rows by key. A plan that reads a whole table would be one made while the table was
/// empty; one that hashes would touch rows in no order.
const BY_KEY: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
                      SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; \
                      SET LOCAL plan_cache_mode = force_custom_plan";

/// Access, limits and plans of a transaction. A limit of zero is none.
struct Settings {
    access: &'static str,
    /// Longest wait for a lock.
    lock: &'static str,
    /// Longest statement.
    statement: &'static str,
    /// Longest pause between two statements: a client that hangs holds its locks no longer.
    idle: &'static str,
    planner: &'static str,
}

impl Purpose {
    fn settings(self) -> Settings {
        let batch = Settings {
            access: "READ WRITE",
            lock: "1500ms",
            statement: "60s",
            idle: "120s",
            planner: BY_KEY,
        };
        match self {
            // Nobody is waited for longer than this: whoever holds a row for so long is another session, and the entries
            // that need it are set aside. It is longer than the time after which Postgres looks for deadlocks.
            Self::Batch => batch,
            Self::AccountPage => Settings { statement: "100s", ..batch },
            // Only a table that is locked as a whole makes such a query wait.
            Self::HeldRows => Settings { lock: "100ms", ..batch },
            Self::Recount => Settings { lock: "60s", statement: "600s", ..batch },
            // A plan for the first rows only would read the whole table for them.
            Self::Reading => Settings {
                access: "READ ONLY",
                statement: "100s",
                idle: "0",
                planner: "SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL cursor_tuple_fraction = 1",
                ..batch
            },
            Self::Catalogue => Settings {
                access: "READ ONLY",
                lock: "5s",
                statement: "30s",
                planner: "SET LOCAL jit = off",
                ..batch
            },
        }
    }
}

/// What every transaction of a process says, whatever it is for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Preamble {
    /// As configured, unquoted.
    schema: Option<Arc<str>>,
    /// Whether the server can look for a client that is gone.
    looks_for_client: bool,
}

impl Preamble {
    /// With the tables in this schema, or wherever the role's `search_path` leads.
    pub fn new(schema: Option<&str>) -> Self {
        Self { schema: schema.map(Arc::from), looks_for_client: false }
    }

    /// The schema that was configured.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Whether the server is asked to end statements whose client is gone.
    #[must_use]
    pub fn looking_for_client(mut self, looks: bool) -> Self {
        self.looks_for_client = looks;
        self
    }

    fn begin(&self, purpose: Purpose) -> String {
        let Settings { access, lock, statement, idle, planner } = purpose.settings();
        let path = self.search_path();
        let look = if self.looks_for_client { LOOK_FOR_CLIENT } else { "" };
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED {access}; SET LOCAL search_path TO {path}; \
             SET LOCAL lock_timeout = '{lock}'; SET LOCAL statement_timeout = '{statement}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{idle}'; {look}{planner}"
        )
    }

    /// `DEFAULT` is what the role, the database or the connection's own options say, whatever another client of a pooler
    /// has set on this server connection.
    fn search_path(&self) -> String {
        match &self.schema {
            Some(schema) => format!("\"{}\", public", schema.replace('"', "\"\"")),
            None => "DEFAULT".to_owned(),
        }
    }
}

/// Postgres 14 and newer, on systems that can tell (see [`super::Survey`]).
const LOOK_FOR_CLIENT: &str = "SET LOCAL client_connection_check_interval = '10s'; ";

/// Begins a transaction. Where that fails, none is open.
///
/// # Errors
/// Those of the database.
pub async fn begin(
    connection: &mut PgConnection,
    preamble: &Preamble,
    purpose: Purpose,
) -> Result<(), sqlx::Error> {
    let begun = sqlx::raw_sql(AssertSqlSafe(preamble.begin(purpose))).execute(&mut *connection).await;
    if let Err(error) = begun {
        // A part of it may have taken effect. Without a connection there is no transaction either.
        drop(sqlx::raw_sql("ROLLBACK").execute(connection).await);
        return Err(error);
    }
    Ok(())
}

/// Ends a transaction by what came of it. Of two errors the first counts.
///
/// # Errors
/// What it was given, or that the transaction did not commit.
pub async fn end<T, E: From<sqlx::Error>>(
    connection: &mut PgConnection,
    outcome: Result<T, E>,
) -> Result<T, E> {
    let how = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = sqlx::raw_sql(how).execute(connection).await;
    let value = outcome?;
    ended?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_says_all_it_needs() {
        for purpose in [
            Purpose::Batch,
            Purpose::HeldRows,
            Purpose::AccountPage,
            Purpose::Recount,
            Purpose::Reading,
            Purpose::Catalogue,
        ] {
            let said = Preamble::new(Some("a\"b")).begin(purpose);
            assert!(said.starts_with("BEGIN ISOLATION LEVEL READ COMMITTED READ "), "{said}");
            assert!(said.contains("SET LOCAL search_path TO \"a\"\"b\", public;"), "{said}");
            for limit in ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"] {
                assert!(said.contains(&format!("SET LOCAL {limit} = ")), "{said}");
            }
            assert_eq!(said.matches("SET ").count(), said.matches("SET LOCAL ").count(), "{said}");
            assert!(Preamble::new(None).begin(purpose).contains("SET LOCAL search_path TO DEFAULT;"));
        }
    }

    /// This is where transactions begin and end, and nothing is sent around it: raw statements are of this file alone.
    #[test]
    fn no_other_file_begins_or_ends_one() {
        let mut found = Vec::new();
        let sources = |name: &str| format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../{}/src"), name);
        let mut folders: Vec<std::path::PathBuf> =
            ["rsky-common", "rsky-ingester", "rsky-backfiller", "rsky-indexer"]
                .map(|name| sources(name).into())
                .into();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("transaction.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let told = ["raw_sql(", "\"BEGIN", "\"COMMIT", "\"ROLLBACK", ".begin()", "SET LOCAL "];
                    found.extend(
                        told.iter().filter(|word| text.contains(**word)).map(|word| (path.clone(), *word)),
                    );
                }
            }
        }
        assert!(found.is_empty(), "{found:?}");
    }
}
