//! Entries of consumers that are gone are finished by others; those of the living are left to them.

use rsky_testnet::servers::Redis;

use crate::load::{events, like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed_in_any_order, assert_no_dead_letters, count, pending_of,
    read_and_vanish, state, wait_drained, wait_until,
};
use crate::support::Db;

/// More entries than one page of a claim, so that it has to go on to the end of the list.
#[test]
fn the_dead_ones_entries_are_finished() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("takes_over"));
    let payloads = events(31, 2000);
    add(&redis, LIVE, &payloads);
    assert_eq!(read_and_vanish(&redis, LIVE, "gone", 1500).len(), 1500);
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "500")]);
    wait_drained(&redis, LIVE);
    // One that is acknowledged while a claim brings it is counted, and done, once more.
    wait_until("they are counted", || {
        indexer.metric("indexer_claimed_total", &["stream=\"firehose_live\""]) >= 1500
    });
    assert_no_dead_letters(&redis);
    assert_as_undisturbed_in_any_order(db.url(), &payloads);
}

#[test]
fn the_living_ones_entries_are_left_to_them() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("left_alone"));
    add(&redis, LIVE, &(0..600).map(like).collect::<Vec<_>>());
    let held = read_and_vanish(&redis, LIVE, "slow", 100);
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "600000")]);
    wait_until("the others are done", || state(&redis, LIVE) == (100, 100));
    // It looks for stale ones before its first read: that has happened.
    assert_eq!(pending_of(&redis, LIVE, "slow"), held);
    assert_eq!(count(&db, "\"like\""), 500);
    indexer.assert_metric("indexer_claimed_total", &["stream=\"firehose_live\""], 0);
}

#[test]
fn two_living_ones_share_the_work() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("share"));
    let payloads = events(32, 6000);
    let [a, b] = ["a", "b"].map(|name| {
        Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONSUMER", name), ("INDEXER_MEMORY", "1MiB")])
    });
    wait_until("both are there", || a.get("/readyz").0 == 200 && b.get("/readyz").0 == 200);
    add(&redis, LIVE, &payloads);
    wait_drained(&redis, LIVE);
    let indexed = |one: &Indexer| one.metric("indexer_entries_total", &["outcome=\"indexed\""]);
    wait_until("all are counted", || indexed(&a) + indexed(&b) == 6000);
    let shares = [&a, &b].map(indexed);
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    assert_no_dead_letters(&redis);
    assert_as_undisturbed_in_any_order(db.url(), &payloads);
}
