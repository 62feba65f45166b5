//! Each gauge is computed from what it names when it is asked for: stages are stopped, and looked at.

use rsky_testnet::servers::Redis;
use sqlx::{Connection, PgConnection};

use crate::load::like;
use crate::process::{Indexer, LIVE, add, length, wait_drained, wait_until};
use crate::support::Db;

/// A table is locked as a whole: what is in memory is counted by entries, and grows old.
#[test]
fn entries_in_memory_and_their_age() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("gauges"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_until("ready", || indexer.get("/readyz").0 == 200);
    assert_eq!(indexer.metric("indexer_entries_in_memory", &[]), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut holder = runtime.block_on(PgConnection::connect(db.url())).unwrap();
    let lock = sqlx::raw_sql("BEGIN; LOCK TABLE \"like\" IN ACCESS EXCLUSIVE MODE");
    runtime.block_on(lock.execute(&mut holder)).unwrap();
    add(&redis, LIVE, &(0..300).map(like).collect::<Vec<_>>());
    wait_until("they are in memory", || indexer.metric("indexer_entries_in_memory", &[]) == 300);
    assert!(indexer.get("/status").1.contains("\"entries_in_memory\":300"));
    assert!(indexer.metric("indexer_bytes_in_memory", &[]) > 300 * 100);
    let lag = || indexer.metric("indexer_lag_seconds", &["stream=\"firehose_live\""]);
    wait_until("what is not indexed grows old", || lag() >= 3);
    runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut holder)).unwrap();
    wait_drained(&redis, LIVE);
    wait_until("nothing is left", || indexer.metric("indexer_entries_in_memory", &[]) == 0 && lag() <= 1);
}

/// Redis does not answer: what cannot be read cannot be known to be young.
#[test]
fn lag_grows_through_an_outage_of_redis() {
    let (mut redis, db) = (Redis::start().unwrap(), Db::new("lag"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_until("ready", || indexer.get("/readyz").0 == 200);
    let lag = || indexer.metric("indexer_lag_seconds", &["stream=\"firehose_live\""]);
    wait_until("all is read", || lag() <= 1);
    redis.pause().unwrap();
    wait_until("the lag grows", || lag() >= 3);
    redis.resume().unwrap();
    wait_until("all is read again", || lag() <= 1);
    assert_eq!(length(&redis, LIVE), 0);
}

/// The first time that it calls itself ready, everything has been started.
#[test]
fn ready_means_started() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("ready"));
    for _ in 0..5 {
        let indexer = Indexer::start(&redis.url(), db.url(), &[]);
        wait_until("ready", || indexer.get("/readyz").0 == 200);
        let (_, status) = indexer.get("/status");
        assert!(status.contains("\"bytes_in_memory_max\""), "{status}");
        let (_, metrics) = indexer.get("/metrics");
        assert!(metrics.contains("indexer_lag_seconds{stream=\"label_live\""), "{metrics}");
    }
}
