//! Redis killed, loading, emptied: the indexer comes back by itself.

use rsky_testnet::servers::Redis;

use crate::load::{events, like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, count, length, pending, wait_drained,
    wait_until,
};
use crate::support::Db;

/// What was added must be on disk before the kill, or it is Redis that loses it.
fn durable() -> Redis {
    Redis::builder().appendonly(true).setting("appendfsync", "always").start().unwrap()
}

#[test]
fn a_server_that_is_killed_and_started_again() {
    let (mut redis, db) = (durable(), Db::new("redis_killed"));
    let payloads = events(21, 4000);
    add(&redis, LIVE, &payloads);
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "20")]);
    for left in [3500, 2500, 1500] {
        wait_until("it is at work", || length(&redis, LIVE) < left && pending(&redis, LIVE) > Some(0));
        redis.kill().unwrap();
        wait_until("it waits", || indexer.get("/readyz").0 == 503);
        assert!(indexer.get("/readyz").1.contains("Redis"), "{}", indexer.get("/readyz").1);
        redis.restart().unwrap();
        assert!(length(&redis, LIVE) > 0, "the outage hit nothing");
    }
    wait_drained(&redis, LIVE);
    wait_until("it is ready again", || indexer.get("/readyz").0 == 200);
    assert!(indexer.is_running());
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(db.url(), &payloads);
}

/// A server that still reads its file answers every command with LOADING.
#[test]
fn a_server_that_is_loading() {
    let builder = Redis::builder().appendonly(true).wait_for_loading(false);
    // A millisecond for each key makes a small file load for seconds; commands are answered every KiB.
    let builder =
        builder.setting("key-load-delay", "1000").setting("loading-process-events-interval-bytes", "1024");
    let (mut redis, db) = (builder.start().unwrap(), Db::new("redis_loading"));
    wait_until("Redis answers", || redis.command(&["PING"]).is_ok());
    let payloads = events(22, 1500);
    add(&redis, LIVE, &payloads);
    let mut client = redis.client().unwrap();
    for number in 0..3000 {
        client.queue(&[b"SET", format!("ballast{number}").as_bytes(), b"x"]);
    }
    client.flush().unwrap();
    redis.command(&["BGREWRITEAOF"]).unwrap();
    let persistence = || redis.command(&["INFO", "persistence"]).unwrap().as_text().unwrap();
    wait_until("the file is written", || {
        let facts = persistence();
        facts.contains("aof_rewrite_in_progress:0") && facts.contains("aof_rewrite_scheduled:0")
    });
    redis.restart().unwrap();
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_until("it meets the loading server", || indexer.log().contains("Redis is loading"));
    assert!(indexer.get("/readyz").0 == 503 || redis.command(&["PING"]).is_ok());
    wait_until("Redis is loaded", || redis.command(&["PING"]).is_ok());
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(db.url(), &payloads);
}

/// FLUSHALL takes streams and groups away under the running reader.
#[test]
fn a_server_that_is_emptied() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("redis_emptied"));
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[]);
    add(&redis, LIVE, &(0..500).map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    // The old failure was a task that ended quietly while the process stayed: each round would find it.
    for round in 1..4 {
        redis.command(&["FLUSHALL"]).unwrap();
        assert_eq!(pending(&redis, LIVE), None, "the group is gone");
        let more: Vec<String> = (round * 500..(round + 1) * 500).map(like).collect();
        add(&redis, LIVE, &more);
        wait_drained(&redis, LIVE);
    }
    assert_eq!(count(&db, "\"like\""), 2000);
    assert!(indexer.log().contains("the consumer group is gone"), "{}", indexer.log());
    assert!(indexer.is_running());
    assert_no_dead_letters(&redis);
}
