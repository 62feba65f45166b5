//! Nothing is lost and nothing reported done too early, whatever is killed or full.

use std::time::Duration;

use bytes::Bytes;
use rsky_testnet::servers::Redis;
use rsky_testnet::wire::{Then, Wire};

use crate::hosts::{Host, Hosts, counts, did, error};
use crate::support::{Backfiller, PATIENCE, dead, events, left, length, queue, wait_until};
use crate::synthetic;

/// Every record of every repository at least once, its `repo` event after all of them, nothing left.
fn assert_whole(redis: &Redis, expected: &[(String, usize)]) {
    let all = events(redis);
    for (did, records) in expected {
        let own: Vec<&serde_json::Value> = all.iter().filter(|event| event["did"] == did.as_str()).collect();
        let mut keys: Vec<&str> = own.iter().filter_map(|event| event["rkey"].as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), *records, "{did}");
        let first_repo = own.iter().position(|event| event["type"] == "repo").expect("a repo event");
        let mut before: Vec<&str> =
            own[..first_repo].iter().filter_map(|event| event["rkey"].as_str()).collect();
        before.sort_unstable();
        before.dedup();
        assert_eq!(before.len(), *records, "{did}: the repo event comes after all records");
    }
    assert_eq!(left(redis), 0);
    let pending = redis.command(&["XPENDING", "repo_backfill", "repo_backfill_group"]).unwrap();
    assert_eq!(pending.items()[0].as_int(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_backfillers_killed_again_and_again() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let key = synthetic::key(1);
    let repos: Vec<(String, usize)> = (0..80)
        .map(|number| {
            let records = number * 13 % 700;
            (
                hosts.add(number, Host::Car(Bytes::from(synthetic::car(&did(number), records, 50, &key))), 1),
                records,
            )
        })
        .collect();
    queue(&redis, &hosts.url(), repos.iter().map(|(did, _)| did));
    let own = [
        ("BACKFILLER_BATCH_SIZE", "50"),
        ("BACKFILLER_CONCURRENCY", "6"),
        ("BACKFILLER_CLAIM_IDLE_MS", "1000"),
    ];
    let (url, plc) = (redis.url(), hosts.url());
    let start = |name: &str| {
        let own = [&own[..], &[("BACKFILLER_CONSUMER", name)]].concat();
        Backfiller::start(&url, &plc, &own)
    };
    let mut both = [start("one"), start("two")];
    for round in 0..16_u64 {
        // Spread over the work's time, the same in every run.
        std::thread::sleep(Duration::from_millis(90 + round * 37 % 160));
        both[usize::from(round % 2 == 0)].kill_and_restart();
    }
    wait_until("all repositories are settled", || left(&redis) == 0);
    assert_whole(&redis, &repos);
    for backfiller in &mut both {
        assert_eq!(backfiller.terminate(), Some(0));
    }
}

/// Kills a backfiller whenever this is said to Redis for the nth time in its life, between that and what follows it at once.
async fn killed_at(said: &'static [u8], then: Then) {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let (wire, url) = Wire::to(&redis.url());
    let key = synthetic::key(1);
    let repos: Vec<(String, usize)> = (0..24)
        .map(|number| {
            let records = number * 29 % 300;
            let car = Bytes::from(synthetic::car(&did(number), records, 50, &key));
            (hosts.add(number, Host::Car(car), 1), records)
        })
        .collect();
    queue(&redis, &hosts.url(), repos.iter().map(|(did, _)| did));
    let own = [("BACKFILLER_BATCH_SIZE", "50"), ("BACKFILLER_CONCURRENCY", "3")];
    let plc = hosts.url();
    let mut backfiller: Option<Backfiller> = None;
    for nth in [1, 2, 3, 5, 9] {
        wire.stop_at(said, nth, then);
        match &mut backfiller {
            Some(backfiller) => backfiller.kill_and_restart(),
            None => backfiller = Some(Backfiller::start(&url, &plc, &own)),
        }
        wire.wait_until_still();
        if let Some(backfiller) = &mut backfiller {
            backfiller.kill();
        }
        wire.repair();
    }
    let mut backfiller = backfiller.expect("it was started");
    backfiller.kill_and_restart();
    wait_until("all repositories are settled", || left(&redis) == 0);
    assert_whole(&redis, &repos);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_repository_was_not_heard() {
    killed_at(b"EXEC\r\n", Then::Lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_repository_was_heard_and_its_answer_was_not() {
    killed_at(b"EXEC\r\n", Then::Unanswered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_part_with_its_acknowledgement_was_heard_and_its_answer_was_not() {
    killed_at(b"XACK\r\n", Then::Unanswered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_and_a_full_stream_only_make_it_wait() {
    let hosts = Hosts::start().await;
    let redis = Redis::builder().policy("noeviction").start().unwrap();
    let key = synthetic::key(1);
    let repos: Vec<(String, usize)> = (0..20)
        .map(|number| {
            (hosts.add(number, Host::Car(Bytes::from(synthetic::car(&did(number), 100, 50, &key))), 1), 100)
        })
        .collect();
    queue(&redis, &hosts.url(), repos.iter().map(|(did, _)| did));
    redis.command(&["XGROUP", "CREATE", "repo_backfill", "repo_backfill_group", "0"]).unwrap();
    redis
        .command(&["XGROUP", "CREATE", "repo_backfill_priority", "repo_backfill_group", "0", "MKSTREAM"])
        .unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let own = [("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "300"), ("BACKFILLER_BATCH_SIZE", "50")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(length(&redis, "firehose_backfill"), 0);
    assert_eq!(length(&redis, "repo_backfill"), 20, "nothing is acknowledged that is not written");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_until("the mark is reached", || length(&redis, "firehose_backfill") >= 300);
    std::thread::sleep(Duration::from_secs(1));
    assert!(length(&redis, "firehose_backfill") < 350 + 50, "{}", length(&redis, "firehose_backfill"));
    assert_eq!(backfiller.metric("backfiller_backpressure_active", "firehose_backfill"), Some(1.0));
    // A consumer makes room and keeps what it took.
    let mut taken = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while left(&redis) > 0 || length(&redis, "firehose_backfill") > 0 {
        assert!(std::time::Instant::now() < deadline, "it goes on");
        let page = redis.command(&["XRANGE", "firehose_backfill", "-", "+", "COUNT", "100"]).unwrap();
        for entry in page.items() {
            let id = entry.items()[0].as_text().unwrap();
            taken.push(entry.items()[1].items()[1].as_text().unwrap());
            redis.command(&["XDEL", "firehose_backfill", &id]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(taken.len(), 20 * 101);
    assert_eq!(backfiller.terminate(), Some(0));
    assert_eq!(counts(&redis).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_lose_patience_with_a_full_stream_are_not_to_blame() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let car = |number| Bytes::from(synthetic::car(&did(number), 300, 500, &synthetic::key(1)));
    let impatient = hosts.add(1, Host::LosesPatience(car(1)), 1);
    let healthy = hosts.add(2, Host::Car(car(2)), 1);
    let own = [
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "10"),
        ("BACKFILLER_CONCURRENCY", "1"),
        ("MAX_ATTEMPTS", "1"),
    ];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    queue(&redis, &hosts.url(), [&impatient]);
    wait_until("it is asked", || hosts.requests(&impatient) == 1);
    // While the first is slow to begin, the other takes the only place, and waits for the stream with it.
    queue(&redis, &hosts.url(), [&healthy]);
    wait_until("the mark is reached", || length(&redis, "firehose_backfill") >= 10);
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(hosts.requests(&impatient), 1);
    wait_until("all are settled", || {
        redis.command(&["DEL", "firehose_backfill"]).unwrap();
        left(&redis) == 0
    });
    backfiller.assert_class("queued", 2.0);
    assert_eq!(dead(&redis).len(), 0);
    assert_eq!((hosts.requests(&impatient), hosts.requests(&healthy)), (2, 1));
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_takes_acknowledgements_though_dead_letters_wait() {
    let hosts = Hosts::start().await;
    let redis = Redis::builder().policy("noeviction").start().unwrap();
    for _ in 0..20 {
        redis.command(&["XADD", "repo_backfill", "*", "repo", "nonsense"]).unwrap();
    }
    let gone = (0..50).map(|number| hosts.add(number, Host::Raw(error(400, "RepoNotFound", "")), 1));
    queue(&redis, &hosts.url(), gone);
    redis.command(&["XGROUP", "CREATE", "repo_backfill", "repo_backfill_group", "0"]).unwrap();
    let other = ["XGROUP", "CREATE", "repo_backfill_priority", "repo_backfill_group", "0", "MKSTREAM"];
    redis.command(&other).unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("what is done is acknowledged", || length(&redis, "repo_backfill") == 20);
    assert_eq!(length(&redis, "repo_backfill_dlq"), 0, "there was no room for dead letters");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_until("the dead letters follow", || length(&redis, "repo_backfill") == 0);
    assert_eq!(length(&redis, "repo_backfill_dlq"), 20);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_is_clean() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let key = synthetic::key(1);
    let mut repos: Vec<(String, usize)> = (0..10)
        .map(|number| {
            (hosts.add(number, Host::Car(Bytes::from(synthetic::car(&did(number), 300, 50, &key))), 1), 300)
        })
        .collect();
    let hanging = hosts.add(50, Host::Hangs, 1);
    queue(&redis, &hosts.url(), repos.iter().map(|(did, _)| did).chain([&hanging]));
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("the others are queued", || left(&redis) == 1);
    assert_eq!(
        backfiller.terminate(),
        Some(0),
        "a download under way does not hold up the stop: {}",
        backfiller.log()
    );
    hosts.add(50, Host::Car(Bytes::from(synthetic::car(&did(50), 5, 50, &key))), 1);
    repos.push((hanging, 5));
    let mut again = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("what was left is taken up", || left(&redis) == 0);
    assert_whole(&redis, &repos);
    assert_eq!(again.terminate(), Some(0));
}
