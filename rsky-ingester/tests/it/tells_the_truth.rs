//! What the pages and the log say is what is so.

use std::num::NonZeroU32;

use rsky_common::clock;
use rsky_testnet::network::{Network, RunningNetwork, Script, frames};
use rsky_testnet::servers::Redis;

use crate::proxy::Name;
use crate::support::{
    Ingester, first_occurrences, get, length, like, like_at, padded_like, range, seqs, wait_until,
};

async fn relay(frames: u64) -> RunningNetwork {
    Network::builder().relay(Script::generated(1, frames, like)).start().await.unwrap()
}

fn start(redis_url: &str, network: &RunningNetwork) -> Ingester {
    let url = network.url();
    Ingester::start(redis_url, &[("INGESTER_RELAY_HOSTS", &url), ("INGESTER_MODE", "firehose")])
}

fn cursor(redis: &Redis, network: &RunningNetwork) -> Option<String> {
    get(redis, &format!("firehose_live:cursor:{}", network.addr()))
}

/// The old master lives on as a replica and keeps its connections; the name leads to the new one.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_writers_go_where_the_name_leads() {
    const FRAMES: u64 = 3_000;
    let network = relay(FRAMES).await;
    network.relay().control().set_rate(NonZeroU32::new(1_500));
    let server = || Redis::builder().setting("repl-diskless-sync-delay", "0").start().unwrap();
    let (old, new) = (server(), server());
    new.command(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).unwrap();
    wait_until("the replica follows", || {
        let info = new.command(&["INFO", "replication"]).unwrap().as_text().unwrap();
        info.contains("master_link_status:up")
    });
    let name = Name::new(old.port());
    let mut ingester = start(&name.url(), &network);
    wait_until("events arrive", || length(&new, "firehose_live") >= 300);
    assert!(length(&new, "firehose_live") < FRAMES as i64, "there is more to come");
    new.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    name.lead_to(new.port());
    old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
    wait_until("the last event", || cursor(&new, &network) == Some(FRAMES.to_string()));
    assert!(ingester.log().contains("READONLY"), "{}", ingester.log());
    assert_eq!(first_occurrences(&seqs(&new, "firehose_live")), range(1, FRAMES));
    wait_until("ready", || ingester.get("/readyz").0 == 200);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_writes_is_backpressure_and_a_short_reason() {
    let network = Network::builder()
        .relay(Script::generated(1, 6_000, |seq| padded_like(seq, 2_000)))
        .start()
        .await
        .unwrap();
    let redis = Redis::builder().maxmemory("6mb").policy("noeviction").start().unwrap();
    let mut ingester = start(&redis.url(), &network);
    let active = |ingester: &Ingester| ingester.metric("ingester_backpressure_active", "firehose_live");
    wait_until("it says so", || active(&ingester) == Some(1.0));
    assert!(ingester.get("/status").1.contains(r#""reason":"redis""#), "{}", ingester.get("/status").1);
    let (code, why) = ingester.get("/readyz");
    assert!(code == 503 && why.contains("maxmemory") && why.len() < 4_000, "{} {why}", why.len());
    let longest = ingester.log().lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 2_000, "{longest}");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_until("all is written", || cursor(&redis, &network).as_deref() == Some("6000"));
    assert_eq!(active(&ingester), Some(0.0));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_grows_through_an_outage_and_an_old_cursor_is_not_ready() {
    let network = relay(10).await;
    let mut redis = Redis::builder().appendonly(true).start().unwrap();
    let mut ingester = Ingester::of_firehose(&redis, &network, &[("INGESTER_HIGH_WATER_MARK", "13")]);
    let lag = |ingester: &Ingester| ingester.metric("ingester_lag_seconds", "firehose_live");
    wait_until("events arrive", || length(&redis, "firehose_live") == 10);
    network.relay().control().push(like_at(11, &time_ago(5)));
    wait_until("a recent event", || lag(&ingester).is_some_and(|lag| lag < 3_000.0));
    let before = lag(&ingester).unwrap();
    redis.kill().unwrap();
    network.relay().control().push(like_at(12, &time_ago(0)));
    wait_until("it grows", || lag(&ingester).unwrap() >= before + 1.0);
    redis.restart().unwrap();
    wait_until("it is small again", || {
        length(&redis, "firehose_live") == 12 && lag(&ingester).unwrap() < before + 60.0
    });
    wait_until("ready", || ingester.get("/readyz").0 == 200);
    // What is old and all there is, is fine; not so while something newer waits for room.
    network.relay().control().push(like_at(13, &time_ago(5 * 3_600)));
    wait_until("the mark", || length(&redis, "firehose_live") == 13);
    network.relay().control().push(like_at(14, &time_ago(1)));
    wait_until("hours are too many", || ingester.get("/readyz").1.contains("hours old"));
    redis.command(&["DEL", "firehose_live"]).unwrap();
    wait_until("ready again", || ingester.get("/readyz").0 == 200);
    assert_eq!(ingester.terminate(), Some(0));
}

/// A time in the past, as an event tells it.
fn time_ago(seconds: u64) -> String {
    clock::iso(clock::now_ms() - 1000 * seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_in_memory_are_frames() {
    let network = Network::builder()
        .relay(Script::generated(1, 400, |seq| padded_like(seq, 10)))
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::of_firehose(&redis, &network, &[("INGESTER_HIGH_WATER_MARK", "1")]);
    let held = |ingester: &Ingester| ingester.metric("ingester_events_in_memory", "").unwrap() as i64;
    wait_until("all of them are read", || held(&ingester) + length(&redis, "firehose_live") == 400);
    let is_done = || cursor(&redis, &network).as_deref() == Some("400");
    while !is_done() {
        redis.command(&["DEL", "firehose_live"]).unwrap();
        wait_until("more or the end", || length(&redis, "firehose_live") > 0 || is_done());
    }
    wait_until("nothing is held", || held(&ingester) == 0);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_texts_of_a_relay_forge_no_log_lines() {
    let forged = "2026-01-01T00:00:00.000000Z  INFO rsky_ingester: all is well";
    let network = relay(1).await;
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis.url(), &network);
    wait_until("an event", || length(&redis, "firehose_live") == 1);
    let control = network.relay().control();
    let text = format!("x\r\n{forged}\n\u{1b}[2J{}", "y".repeat(50_000));
    control.send_now(frames::info("OutdatedCursor", &text));
    wait_until("the notice", || ingester.log().contains("the host informs"));
    control.send_now(frames::error_with_message(&format!("Bad\n{forged}"), &text));
    wait_until("the error", || ingester.log().contains("error frame"));
    let log = ingester.log();
    assert!(log.contains("all is well"), "it is told");
    assert!(log.lines().all(|line| !line.starts_with(forged) && line.len() < 4_000), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "{log}");
    let (_, status) = ingester.get("/status");
    assert!(status.len() < 40_000, "{}", status.len());
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_look_loses_the_look_only() {
    let network = relay(200).await;
    let redis = Redis::start().unwrap();
    let rules = ["ACL", "SETUSER", "writer", "on", ">secret", "~firehose_live*", "+@all", "-info", "-xinfo"];
    redis.command(&rules).unwrap();
    let url = redis.url().replace("redis://", "redis://writer:secret@");
    let mut ingester = start(&url, &network);
    wait_until("every event", || length(&redis, "firehose_live") == 200);
    wait_until("the page shows why", || {
        let page = ingester.get("/status").1;
        page.contains("lacks a permission") && page.contains("\"dead_letters\":0")
    });
    wait_until("what may not wait", || {
        ingester.log().contains("cannot wait in repo_backfill_priority:waiting")
    });
    assert!(ingester.is_running());
    ingester.wait_for("ingester_stream_length", "firehose_live", 200.0);
    assert_eq!(ingester.metric("ingester_stream_length", "label_live"), None, "not 0: nobody knows");
    network.relay().control().push(like(201));
    wait_until("it goes on", || length(&redis, "firehose_live") == 201);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_certificates_it_says_so_and_stops() {
    let network = relay(1).await;
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::start(
        &redis.url(),
        &[
            ("INGESTER_RELAY_HOSTS", &network.url()),
            ("SSL_CERT_FILE", "/nowhere/certificates.pem"),
            ("SSL_CERT_DIR", "/nowhere"),
        ],
    );
    assert_eq!(ingester.exit_code(), Some(1));
    assert!(ingester.log().contains("root certificates"), "{}", ingester.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_not_used_and_that_is_said() {
    let network = relay(3).await;
    let redis = Redis::start().unwrap();
    // Nothing listens there.
    let mut ingester = Ingester::start(
        &redis.url(),
        &[
            ("INGESTER_RELAY_HOSTS", &network.url()),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("http_proxy", "http://127.0.0.1:9"),
        ],
    );
    wait_until("events", || length(&redis, "firehose_live") == 3);
    wait_until("the listing", || {
        get(&redis, &format!("repo_backfill:cursor:{}", network.addr())).as_deref() == Some("!ingester-done")
    });
    assert!(ingester.log().contains("HTTP_PROXY is set and not used"), "{}", ingester.log());
    assert_eq!(ingester.terminate(), Some(0));
}
