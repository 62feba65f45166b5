//! Postgres stopped, restarted, its connections cut: everything is indexed, nothing is blamed on an entry.

use std::time::{Duration, Instant};

use rsky_testnet::servers::{Postgres, Redis};

use crate::load::{events, like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, count, length, pending, wait_drained,
    wait_until,
};
use crate::support::Db;

const SMALL_BATCHES: [(&str, &str); 1] = [("INDEXER_BATCH_SIZE", "20")];

#[test]
fn a_server_that_is_stopped_for_seconds_and_started_again() {
    let redis = Redis::start().unwrap();
    let mut postgres = Postgres::builder().durable(true).start().unwrap();
    let database = postgres.create_database("outage").unwrap();
    let payloads = events(11, 4000);
    add(&redis, LIVE, &payloads[..2000]);
    let indexer = Indexer::start(&redis.url(), &database.url, &SMALL_BATCHES);
    wait_until("it is at work", || length(&redis, LIVE) < 1900);
    postgres.stop_fast().unwrap();
    let stopped = Instant::now();
    wait_until("it waits", || indexer.get("/readyz").0 == 503);
    assert!(indexer.get("/readyz").1.contains("postgres"), "{}", indexer.get("/readyz").1);
    let left = length(&redis, LIVE);
    assert!(left > 0 && pending(&redis, LIVE) > Some(0), "the outage hit nothing");
    add(&redis, LIVE, &payloads[2000..]);
    std::thread::sleep(Duration::from_secs(5).saturating_sub(stopped.elapsed()));
    assert_eq!(length(&redis, LIVE), left + 2000, "acknowledged without a database");
    postgres.restart().unwrap();
    wait_drained(&redis, LIVE);
    wait_until("it is ready again", || indexer.get("/readyz").0 == 200);
    assert!(indexer.metric("indexer_batch_retries_total", &["cause=\"transient\""]) > 0);
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(&database.url, &payloads);
}

#[test]
fn connections_that_are_cut_again_and_again() {
    let redis = Redis::start().unwrap();
    let postgres = Postgres::builder().durable(true).start().unwrap();
    let database = postgres.create_database("cut").unwrap();
    let payloads = events(12, 4000);
    add(&redis, LIVE, &payloads);
    let indexer = Indexer::start(&redis.url(), &database.url, &SMALL_BATCHES);
    let mut cuts = 0;
    while length(&redis, LIVE) > 0 {
        postgres.terminate_connections().unwrap();
        cuts += 1;
        let left = length(&redis, LIVE);
        wait_until("it goes on", || length(&redis, LIVE) < left || left == 0);
    }
    wait_drained(&redis, LIVE);
    assert!(cuts >= 5, "cut only {cuts} times");
    assert!(indexer.metric("indexer_batch_retries_total", &["cause=\"transient\""]) > 0, "no batch was hit");
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(&database.url, &payloads);
}

/// A login or a permission that is taken away under a running process is an operator's affair: it waits, and blames no
/// entry for it.
#[test]
fn a_login_and_a_permission_that_are_gone_for_a_while() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("login"));
    let role = db.sql("SELECT 'r_' || current_database()");
    db.sql(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"));
    db.sql(&format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"));
    let url = db.url().replacen("postgres@", &format!("{role}@"), 1);
    let indexer = Indexer::start(&redis.url(), &url, &[("MAX_ATTEMPTS", "1")]);
    add(&redis, LIVE, &[like(1)]);
    wait_drained(&redis, LIVE);
    let waits = || indexer.metric("indexer_batch_retries_total", &["cause=\"transient\""]);

    db.sql(&format!("REVOKE INSERT ON record FROM {role}"));
    let before = waits();
    add(&redis, LIVE, &[like(2)]);
    wait_until("it waits for the permission", || waits() > before + 1);
    db.sql(&format!("GRANT INSERT ON record TO {role}"));
    wait_drained(&redis, LIVE);

    db.sql(&format!("ALTER ROLE {role} NOLOGIN"));
    db.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"));
    let before = waits();
    add(&redis, LIVE, &[like(3)]);
    wait_until("it waits for the login", || waits() > before + 2);
    assert_eq!(length(&redis, LIVE), 1);
    db.sql(&format!("ALTER ROLE {role} LOGIN"));
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_eq!(count(&db, "\"like\""), 3);
    drop(indexer);
    db.sql(&format!("DROP OWNED BY {role}"));
    db.sql(&format!("DROP ROLE {role}"));
}
