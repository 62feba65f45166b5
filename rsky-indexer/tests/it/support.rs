//! A database per test, and what is in it.

use std::collections::BTreeMap;

use proptest::test_runner::{Config, RngSeed};
use rsky_common::postgres::transaction::Preamble;
use rsky_indexer::engine::Statements;
use rsky_indexer::schema;
use rsky_testnet::servers::{Database, Generation, Postgres};
use sqlx::PgConnection;

/// A database with the reference schema, dropped at the end of the test.
pub struct Db {
    database: Database,
}

impl Db {
    pub fn new(name: &str) -> Self {
        Self { database: Postgres::shared().unwrap().create_database(name).unwrap() }
    }

    /// With the schema of a generation.
    pub fn of(generation: Generation, name: &str) -> Self {
        Self { database: Postgres::shared().unwrap().create_database_of(generation, name).unwrap() }
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn url(&self) -> &str {
        &self.database.url
    }

    /// A statement, and the rows it gives.
    pub fn sql(&self, statement: &str) -> String {
        self.database.sql(statement).unwrap()
    }

    pub async fn truncate(&self, connection: &mut PgConnection) {
        let tables: Vec<String> = TABLES.iter().map(|table| format!("\"{table}\"")).collect();
        // DELETE, since TRUNCATE makes new files each time and the tables are small.
        let sql: Vec<String> = tables.iter().map(|table| format!("DELETE FROM {table}")).collect();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.join("; "))).execute(connection).await.unwrap();
    }
}

/// The engine's statements for the database behind a connection.
pub async fn statements(connection: &mut PgConnection) -> Statements {
    Statements::new(true, schema::inspect(connection, &Preamble::default()).await.unwrap())
}

/// The engine's statements for generation D.
pub fn reference_statements() -> Statements {
    Statements::new(true, schema::Schema::reference())
}

/// Settings of a property: the same cases in every run, others with `PROPTEST_RNG_SEED`.
pub fn property(cases: u32) -> Config {
    let mut config = Config { cases, failure_persistence: None, ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(20_261_124);
    }
    config
}

/// The tables this indexer writes.
pub const TABLES: &[&str] = &[
    "record",
    "duplicate_record",
    "like",
    "repost",
    "follow",
    "actor_block",
    "list",
    "list_item",
    "list_block",
    "feed_generator",
    "starter_pack",
    "labeler",
    "verification",
    "profile",
    "post",
    "post_embed_image",
    "post_embed_external",
    "post_embed_record",
    "post_embed_video",
    "quote",
    "thread_gate",
    "post_gate",
    "feed_item",
    "notification",
    "post_agg",
    "profile_agg",
    "actor_sync",
    "label",
];

/// Every row as JSON, sorted, by table.
pub async fn dump(connection: &mut PgConnection) -> BTreeMap<&'static str, Vec<String>> {
    let mut dump = BTreeMap::new();
    for table in TABLES {
        let sql = format!("SELECT row_to_json(t)::text FROM \"{table}\" t");
        let mut rows: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *connection).await.unwrap();
        rows.sort();
        dump.insert(*table, rows);
    }
    dump
}

/// As [`dump`], without what only a clock or the order of writing decides.
pub async fn dump_without_clocks(connection: &mut PgConnection) -> BTreeMap<&'static str, Vec<String>> {
    let mut rows = dump(connection).await;
    if let Some(notifications) = rows.get_mut("notification") {
        for row in notifications.iter_mut() {
            let mut value: serde_json::Value = serde_json::from_str(row).unwrap();
            value["id"] = serde_json::Value::Null;
            if value["reason"] == "unverified" {
                value["sortAt"] = serde_json::Value::Null;
            }
            *row = value.to_string();
        }
        notifications.sort();
    }
    rows
}

/// The rows that only one of two databases has.
pub fn unlike(a: &BTreeMap<&'static str, Vec<String>>, b: &BTreeMap<&'static str, Vec<String>>) -> String {
    let mut unlike = String::new();
    for (table, rows) in a {
        let only = |these: &[String], those: &[String], side: char| -> String {
            these
                .iter()
                .filter(|row| !those.contains(row))
                .map(|row| format!("\n{side} {table} {row}"))
                .collect()
        };
        unlike.push_str(&only(rows, &b[table], '-'));
        unlike.push_str(&only(&b[table], rows, '+'));
    }
    unlike
}
