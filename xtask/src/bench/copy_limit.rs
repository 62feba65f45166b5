//! The limit of indexing: COPY of the rows that came out, into the same tables with the same indexes.

use anyhow::{Context, Result, bail};
use rsky_testnet::servers::{Database, Postgres, sql};

/// The tables that the events end in.
const TABLES: [&str; 22] = [
    "record",
    "like",
    "follow",
    "repost",
    "post",
    "post_embed_image",
    "post_embed_external",
    "post_embed_record",
    "post_embed_video",
    "quote",
    "thread_gate",
    "post_gate",
    "list",
    "list_item",
    "feed_generator",
    "notification",
    "feed_item",
    "actor_block",
    "post_agg",
    "profile_agg",
    "actor_sync",
    "duplicate_record",
];

/// Writes the rows of all tables to files, empties the tables, and gives the seconds that COPY of the files takes, one
/// table after the other in one transaction of one connection.
///
/// # Errors
/// A statement fails, or other rows come back than were written.
pub(super) fn measure(postgres: &Postgres, database: &Database) -> Result<f64> {
    let directory = postgres.directory().join("data");
    let mut load = Vec::new();
    let mut emptied = Vec::new();
    for table in TABLES {
        let columns = columns(database, table)?;
        let file = directory.join(format!("copy-{table}"));
        let file = file.to_string_lossy().replace('\'', "''");
        database.sql(&format!("COPY \"{table}\" ({columns}) TO '{file}'"))?;
        load.push(format!("COPY \"{table}\" ({columns}) FROM '{file}'"));
        emptied.push(format!("\"{table}\""));
    }
    let before = rows(database)?;
    database.sql(&format!("TRUNCATE {}", emptied.join(", ")))?;
    database.sql("CHECKPOINT")?;
    let clock = "SELECT extract(epoch FROM clock_timestamp())";
    let times = sql(&database.url, &format!("{clock}; {}; {clock}", load.join("; ")))?;
    if rows(database)? != before {
        bail!("COPY brought back other rows than it wrote");
    }
    let mut times = times.lines().map(str::parse::<f64>);
    let (start, end) = (times.next().context("no start time")??, times.next().context("no end time")??);
    Ok(end - start)
}

/// The columns that are not generated, quoted.
fn columns(database: &Database, table: &str) -> Result<String> {
    let statement = format!(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = '\"{table}\"'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
    );
    database.sql(&statement)
}

/// Rows of all tables, one number each.
fn rows(database: &Database) -> Result<String> {
    // Not a UNION: a parallel plan may answer its parts in any order.
    let counts = TABLES.map(|table| format!("(SELECT count(*) FROM \"{table}\")"));
    database.sql(&format!("SELECT {}", counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brings_the_rows_back_and_leaves_generated_columns_to_postgres() {
        let postgres = Postgres::start().unwrap();
        let database = postgres.create_database("copy").unwrap();
        database
            .sql(
                "INSERT INTO follow (uri, cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\") \
                 SELECT 'at://' || n, 'c', 'did:a', 'did:' || n, '2024-01-01', '2024-01-02' FROM generate_series(1, 500) n",
            )
            .unwrap();
        let sum = "SELECT count(*), min(\"sortAt\") FROM follow";
        let before = database.sql(sum).unwrap();
        assert!(before.starts_with("500|2024-01-01"), "{before}");
        assert!(!columns(&database, "follow").unwrap().contains("sortAt"));
        assert!(measure(&postgres, &database).unwrap() > 0.0);
        assert_eq!(database.sql(sum).unwrap(), before);
    }
}
