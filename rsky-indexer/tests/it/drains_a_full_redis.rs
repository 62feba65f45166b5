//! A Redis that refuses writes is drained; one that throws streams away is not worked with.

use rsky_testnet::servers::Redis;

use crate::load::{like, padded_like};
use crate::process::{
    Indexer, LIVE, add, count, dead_letters, length, pending, read_and_vanish, wait_drained, wait_until,
};
use crate::support::Db;

fn refuses_writes(redis: &Redis) -> bool {
    let refused = redis.command(&["SET", "probe", "x"]);
    refused.is_err_and(|error| format!("{error:#}").contains("OOM"))
}

/// Fills the server with good entries, bad ones among them, up to its bound; the numbers of both.
fn fill(redis: &Redis) -> (usize, usize) {
    let mut client = redis.client().unwrap();
    let (mut good, mut bad) = (0, 0);
    loop {
        let is_bad = (good + bad) % 100 == 50;
        let payload = if is_bad { "{\"type\":".to_owned() } else { padded_like(good, 1000) };
        match client.command(&["XADD", LIVE, "*", "event", &payload]) {
            Ok(_) if is_bad => bad += 1,
            Ok(_) => good += 1,
            Err(error) => {
                assert!(format!("{error:#}").contains("OOM"), "{error:#}");
                return (good, bad);
            }
        }
    }
}

/// The indexer is started when the server is full: it looks for its group before it would create it. Dead letters are
/// writes: they wait in the pending list until there is room, and nothing waits for them.
#[test]
fn what_is_good_is_drained_and_what_is_not_waits_for_room() {
    let redis = Redis::builder().maxmemory("12mb").policy("noeviction").start().unwrap();
    let db = Db::new("full");
    // Whoever filled the stream had a consumer group: it was created when there was room.
    add(&redis, LIVE, &[like(1_000_000)]);
    let held = read_and_vanish(&redis, LIVE, "gone", 1);
    assert_eq!(held.len(), 1);
    let (good, bad) = fill(&redis);
    assert!(good > 2000 && bad > 20, "{good} good, {bad} bad");
    // Below what an empty server takes: it stays full however much is drained.
    redis.command(&["CONFIG", "SET", "maxmemory", "100kb"]).unwrap();
    assert!(refuses_writes(&redis));
    let settings = [("INDEXER_CLAIM_IDLE_MS", "300"), ("INDEXER_MODE", "stream"), ("INDEXER_STREAMS", LIVE)];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    let left = i64::try_from(bad).unwrap();
    wait_until("everything good is done", || {
        length(&redis, LIVE) == left && pending(&redis, LIVE) == Some(left)
    });
    assert!(refuses_writes(&redis), "the server was not full any more");
    assert_eq!(count(&db, "\"like\""), i64::try_from(good + 1).unwrap());
    assert_eq!(dead_letters(&redis, LIVE).len(), 0);
    assert!(indexer.log().contains("Redis is full: dead letters stay pending"), "{}", indexer.log());
    // Also one that was started anew goes on.
    indexer.restart();
    wait_until("it tried again", || indexer.log().contains("Redis is full: dead letters stay pending"));

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_drained(&redis, LIVE);
    let letters = dead_letters(&redis, LIVE);
    assert_eq!(letters.len(), bad);
    assert!(letters.iter().all(|letter| letter["reason"] == "malformed_entry"));
}

/// Without a group there is nothing to drain: it waits until it can be created.
#[test]
fn a_full_server_without_the_group_is_waited_for() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("full_no_group"));
    add(&redis, LIVE, &(0..50).map(like).collect::<Vec<_>>());
    redis.command(&["CONFIG", "SET", "maxmemory", "100kb"]).unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    assert!(refuses_writes(&redis));
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_until("it says why it waits", || indexer.log().contains("OOM"));
    assert_eq!(indexer.get("/readyz").0, 503);
    assert!(indexer.is_running());
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 50);
}

#[test]
fn a_server_that_evicts_is_refused_unless_insisted_on() {
    let redis = Redis::builder().maxmemory("64mb").policy("allkeys-lru").start().unwrap();
    let db = Db::new("evicts");
    let mut refused = Indexer::start(&redis.url(), db.url(), &[]);
    assert_eq!(refused.exit_code(), Some(1));
    for word in ["maxmemory-policy allkeys-lru", "noeviction", "REDIS_ALLOW_EVICTION"] {
        assert!(refused.log().contains(word), "{word}: {}", refused.log());
    }
    add(&redis, LIVE, &[like(1)]);
    let insisted = Indexer::start(&redis.url(), db.url(), &[("REDIS_ALLOW_EVICTION", "true")]);
    wait_drained(&redis, LIVE);
    assert!(insisted.log().contains("maxmemory-policy allkeys-lru"), "{}", insisted.log());
}
