//! Fewer connections than lanes: whoever has work gets by with those there are.

use std::fmt::Write as _;

use rsky_testnet::servers::{Postgres, Redis, sql};
use serde_json::json;

use crate::accounts::{World, profile};
use crate::load::like;
use crate::process::{Indexer, LABELS, LIVE, add, assert_no_dead_letters, count, wait_drained};
use crate::support::Db;

/// A role that may have so many connections, dropped at the end.
struct Limited<'d> {
    db: &'d Db,
    role: String,
}

impl<'d> Limited<'d> {
    fn new(db: &'d Db, connections: u32) -> Self {
        let role = format!("limited_{}", db.database().name);
        db.sql(&format!(
            "CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections};
            GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
        ));
        Self { db, role }
    }

    fn url(&self) -> String {
        self.db.url().replace("postgres@", &format!("{}@", self.role))
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let mut end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}';",
            self.role
        );
        write!(end, "DROP OWNED BY {0}; DROP ROLE {0}", self.role).unwrap();
        drop(sql(self.db.url(), &end));
    }
}

#[test]
fn a_role_with_three_connections_and_eight_lanes() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("three_connections"));
    let limited = Limited::new(&db, 3);
    add(&redis, LIVE, &(0..3000).map(like).collect::<Vec<_>>());
    let mut indexer = Indexer::start(
        &redis.url(),
        &limited.url(),
        &[("INDEXER_CONCURRENCY", "8"), ("INDEXER_BATCH_SIZE", "25")],
    );
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 3000);
    assert_no_dead_letters(&redis);
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
}

/// Events, labels and handles with one connection in all.
#[test]
fn one_connection_is_enough() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("one_connection"), World::new());
    let label = |number: usize| {
        let uri = format!("did:plc:labelled{number}");
        let label = json!({"src": "did:plc:l", "uri": uri, "val": "spam", "cts": "2024-01-01T00:00:00.000Z"});
        json!({"type": "label", "seq": number, "label": label}).to_string()
    };
    let dids: Vec<String> = (0..20).map(|number| format!("did:plc:one{number}")).collect();
    for (number, did) in dids.iter().enumerate() {
        world.account(did, &format!("one{number}.test"));
    }
    add(&redis, LIVE, &(0..1000).map(like).collect::<Vec<_>>());
    add(&redis, LIVE, &dids.iter().map(|did| profile(did)).collect::<Vec<_>>());
    add(&redis, LABELS, &(0..300).map(label).collect::<Vec<_>>());
    let _indexer = world.indexer(
        &redis.url(),
        db.url(),
        &[("DB_POOL_MAX_SIZE", "1"), ("INDEXER_CONCURRENCY", "8"), ("INDEXER_BATCH_SIZE", "25")],
    );
    wait_drained(&redis, LIVE);
    wait_drained(&redis, LABELS);
    let found = ["\"like\"", "label", "actor WHERE handle IS NOT NULL"].map(|from| count(&db, from));
    assert_eq!(found, [1000, 300, 20]);
    assert_no_dead_letters(&redis);
    let name = &db.database().name;
    let open = format!("pg_stat_activity WHERE datname = '{name}' AND application_name = 'rsky-indexer'");
    assert_eq!(count(&db, &open), 1);
}

/// Connections that die while they lie idle are no trouble: each is given up with the first that fails.
#[test]
fn idle_connections_that_die() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("idle_die"));
    let settings = [("INDEXER_CONCURRENCY", "6"), ("INDEXER_BATCH_SIZE", "10")];
    let _indexer = Indexer::start(&redis.url(), db.url(), &settings);
    let mut next = 0;
    for _ in 0..5 {
        add(&redis, LIVE, &(next..next + 300).map(like).collect::<Vec<_>>());
        next += 300;
        wait_drained(&redis, LIVE);
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name = 'rsky-indexer'";
        db.sql(ended);
    }
    assert_eq!(count(&db, "\"like\""), 1500);
    assert_no_dead_letters(&redis);
    drop(Postgres::shared());
}
