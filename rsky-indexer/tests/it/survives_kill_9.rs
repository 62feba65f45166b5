//! SIGKILL at any moment costs nothing and doubles nothing.

use std::time::Duration;

use rsky_testnet::servers::Redis;

use crate::golden::{assert_golden, stream};
use crate::load::{Moments, events, without};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_as_undisturbed_in_any_order, assert_no_dead_letters,
    dead_letters, length, pending, rows, wait_drained, wait_until,
};
use crate::support::Db;

const ROUNDS: usize = 18;

/// One consumer, killed again and again and started under the same name. Small batches: more moments to be hit in.
#[test]
fn the_same_consumer_goes_on_where_it_was() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("kill"));
    let recorded = stream("firehose_live");
    let generated = events(9, 5000);
    let all: Vec<String> = recorded.iter().chain(&generated).cloned().collect();
    // One lane: what the golden rows say of gates and deleted posts depends on who was first.
    let settings = [("INDEXER_BATCH_SIZE", "25"), ("INDEXER_CONCURRENCY", "1")];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    let mut moments = Moments::new(4);
    let (mut hit, mut shares) = (0, all.chunks(all.len().div_ceil(ROUNDS)));
    for _ in 0..ROUNDS {
        let Some(share) = shares.next() else { break };
        let before = length(&redis, LIVE);
        add(&redis, LIVE, share);
        wait_until("entries are on their way", || {
            pending(&redis, LIVE) > Some(0) || length(&redis, LIVE) < before
        });
        moments.pause(Duration::from_millis(60));
        indexer.kill();
        hit += usize::from(pending(&redis, LIVE) > Some(0));
        indexer.restart();
    }
    wait_drained(&redis, LIVE);
    assert!(hit >= ROUNDS / 3, "only {hit} of {ROUNDS} kills hit while entries were pending");
    assert_as_undisturbed(db.url(), &all);
    assert_golden("tables-live", without(&rows(db.url()), &generated), 900);
    // A dead letter and its acknowledgement are one transaction: not one of them is there twice.
    let mut sources: Vec<String> =
        dead_letters(&redis, LIVE).iter().map(|letter| letter["source_id"].clone()).collect();
    let letters = sources.len();
    sources.dedup();
    assert_eq!(sources.len(), letters);
}

/// Two consumers killed in turn; what the dead one held is taken over by the other while it is away.
#[test]
fn two_consumers_finish_each_others_work() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("kill_two"));
    let payloads = events(10, 5000);
    let settings =
        |name| [("INDEXER_CONSUMER", name), ("INDEXER_BATCH_SIZE", "25"), ("INDEXER_CLAIM_IDLE_MS", "300")];
    let mut indexers = ["a", "b"].map(|name| Indexer::start(&redis.url(), db.url(), &settings(name)));
    let mut moments = Moments::new(5);
    let mut hit = 0;
    for (round, share) in payloads.chunks(payloads.len().div_ceil(ROUNDS)).enumerate() {
        add(&redis, LIVE, share);
        wait_until("entries are on their way", || {
            pending(&redis, LIVE) > Some(0) || length(&redis, LIVE) == 0
        });
        moments.pause(Duration::from_millis(60));
        let [a, b] = &mut indexers;
        let (killed, other) = if round % 2 == 0 { (a, b) } else { (b, a) };
        killed.kill();
        hit += usize::from(pending(&redis, LIVE) > Some(0));
        // Now and then the other one has to do all of it alone.
        if round % 6 == 5 {
            wait_drained(&redis, LIVE);
            assert!(other.is_running());
        }
        killed.restart();
    }
    wait_drained(&redis, LIVE);
    assert!(hit >= ROUNDS / 4, "only {hit} of {ROUNDS} kills hit while entries were pending");
    assert_no_dead_letters(&redis);
    assert_as_undisturbed_in_any_order(db.url(), &payloads);
}
