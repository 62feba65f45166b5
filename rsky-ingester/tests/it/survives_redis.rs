//! Redis late, killed, restarted, full and loading: no gap, no manual action.

use std::num::NonZeroU32;
use std::time::Duration;

use rsky_testnet::network::{Network, RunningNetwork, Script};
use rsky_testnet::servers::Redis;
use rsky_testnet::wire::{Then, Wire};

use crate::support::{Ingester, first_occurrences, get, length, like, padded_like, range, seqs, wait_until};

async fn relay(frames: u64, rate: u32) -> RunningNetwork {
    let network = Network::builder().relay(Script::generated(1, frames, like)).start().await.unwrap();
    network.relay().control().set_rate(NonZeroU32::new(rate));
    network
}

fn start(redis: &Redis, network: &RunningNetwork) -> Ingester {
    Ingester::of_firehose(redis, network, &[])
}

fn done(redis: &Redis, network: &RunningNetwork, last: u64) -> bool {
    get(redis, &format!("firehose_live:cursor:{}", network.addr())) == Some(last.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_a_redis_that_comes_later_and_survives_its_death() {
    const FRAMES: u64 = 8_000;
    let network = relay(FRAMES, 4_000).await;
    let mut redis = Redis::builder().appendonly(true).start().unwrap();
    redis.stop().unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("it says that it waits", || ingester.log().contains("no connection to Redis"));
    assert_eq!(ingester.get("/healthz").0, 200);
    let (code, why) = ingester.get("/readyz");
    assert!(code == 503 && why.contains("redis"), "{code} {why}");
    redis.restart().unwrap();
    for goal in [1_000, 3_000, 5_000] {
        wait_until("events arrive", || length(&redis, "firehose_live") >= goal);
        redis.kill().unwrap();
        redis.restart().unwrap();
    }
    wait_until("the last event", || done(&redis, &network, FRAMES));
    assert_eq!(first_occurrences(&seqs(&redis, "firehose_live")), range(1, FRAMES));
    assert_eq!(ingester.get("/readyz").0, 200);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_everything_while_redis_is_full() {
    const FRAMES: u64 = 6_000;
    let network = Network::builder()
        .relay(Script::generated(1, FRAMES, |seq| padded_like(seq, 2_000)))
        .start()
        .await
        .unwrap();
    let redis = Redis::builder().maxmemory("6mb").policy("noeviction").start().unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("it says that Redis is full", || ingester.log().contains("maxmemory"));
    let stuck = length(&redis, "firehose_live");
    assert!(stuck > 0 && stuck < FRAMES as i64, "{stuck}");
    assert!(ingester.is_running());
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_until("the last event", || done(&redis, &network, FRAMES));
    // A transaction that ran into the bound half-way is repeated whole: at least once, never not.
    assert_eq!(first_occurrences(&seqs(&redis, "firehose_live")), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_while_redis_loads_its_data() {
    const FRAMES: u64 = 3_000;
    let network = relay(FRAMES, 3_000).await;
    // A microsecond and more per key keeps it loading for a moment.
    let mut redis = Redis::builder()
        .appendonly(true)
        .wait_for_loading(false)
        .setting("key-load-delay", "300")
        .start()
        .unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("events arrive", || length(&redis, "firehose_live") >= 500);
    let mut client = redis.client().unwrap();
    for key in 0..20 {
        client.command(&["SET", &format!("filler{key}"), "x"]).unwrap();
    }
    drop(client);
    redis.kill().unwrap();
    redis.restart().unwrap();
    wait_until("the last event", || redis.command(&["PING"]).is_ok() && done(&redis, &network, FRAMES));
    assert_eq!(first_occurrences(&seqs(&redis, "firehose_live")), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_waited_for() {
    const FRAMES: u64 = 4_000;
    let network = relay(FRAMES, 2_000).await;
    let mut redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("events arrive", || length(&redis, "firehose_live") >= 500);
    redis.pause().unwrap();
    // Long enough for a transaction to be under way; nothing is measured.
    std::thread::sleep(Duration::from_millis(300));
    redis.resume().unwrap();
    wait_until("the last event", || done(&redis, &network, FRAMES));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_killed_in_the_middle_of_transactions_lose_nothing() {
    const FRAMES: u64 = 20_000;
    let network = relay(FRAMES, 20_000).await;
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network);
    let mut client = redis.client().unwrap();
    let mut killed = 0;
    while !done(&redis, &network, FRAMES) {
        let before = length(&redis, "firehose_live");
        killed +=
            client.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap().as_int().unwrap();
        wait_until("it goes on", || {
            length(&redis, "firehose_live") > before || done(&redis, &network, FRAMES)
        });
    }
    assert!(killed > 3, "{killed}");
    assert_eq!(first_occurrences(&seqs(&redis, "firehose_live")), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_is_known_as_its_own() {
    const FRAMES: u64 = 8_000;
    let network = relay(FRAMES, 4_000).await;
    let redis = Redis::start().unwrap();
    let (wire, url) = Wire::to(&redis.url());
    wire.stop_at(b"EXEC\r\n", 3, Then::Unanswered);
    let hosts = network.url();
    let settings = [
        ("INGESTER_RELAY_HOSTS", hosts.as_str()),
        ("INGESTER_MODE", "firehose"),
        ("INGESTER_BATCH_SIZE", "50"),
    ];
    let mut ingester = Ingester::start(&url, &settings);
    wire.wait_until_still();
    wire.repair();
    wait_until("the last event", || done(&redis, &network, FRAMES));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, FRAMES));
    let log = ingester.log();
    assert!(log.contains("the batch was written before the connection was lost"), "{log}");
    // Nobody was told of a second ingester, or of a Redis that went back.
    assert_eq!(ingester.metric("ingester_cursor_changes_total", ""), Some(0.0), "{log}");
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_redis_that_evicts_unless_insisted() {
    let network = relay(10, 1_000).await;
    let redis = Redis::builder().policy("allkeys-lru").start().unwrap();
    let mut ingester = start(&redis, &network);
    assert_eq!(ingester.exit_code(), Some(1));
    assert!(ingester.log().contains("REDIS_ALLOW_EVICTION"), "{}", ingester.log());
    let mut ingester = Ingester::of_firehose(&redis, &network, &[("REDIS_ALLOW_EVICTION", "true")]);
    wait_until("events arrive", || length(&redis, "firehose_live") == 10);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_soon_although_redis_is_gone() {
    let network = relay(1_000_000, 5_000).await;
    let mut redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("events arrive", || length(&redis, "firehose_live") >= 100);
    redis.kill().unwrap();
    assert_eq!(ingester.terminate(), Some(0));
}
