//! One source that is held up holds up no other.

use std::time::{Duration, Instant};

use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Network, Script, frames};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, TIME, get, length, like, padded_like, range, rev, seqs, values, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_labeler_behind_a_shut_gate_does_not_hold_up_the_firehose() {
    let label = |seq: u64| {
        let label = Cbor::map([("val", Cbor::text("x".repeat(20_000))), ("src", Cbor::text("did:plc:l"))]);
        frames::labels(seq, vec![label])
    };
    let network = Network::builder()
        .relay(Script::generated(1, 2_000, like))
        .labeler(Script::endless(1, label))
        .start()
        .await
        .unwrap();
    // The relay has to wait until the labeler has taken what it can get.
    network.relay().control().stall();
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::start(
        &redis.url(),
        &[
            ("INGESTER_RELAY_HOSTS", &network.url()),
            ("INGESTER_LABELER_HOSTS", &network.url()),
            ("INGESTER_LABEL_STREAM_HIGH_WATER_MARK", "1"),
            ("INGESTER_QUEUE_BYTES", "1MiB"),
        ],
    );
    wait_until("the labeler is held up", || {
        ingester.metric("ingester_backpressure_active", "label_live") == Some(1.0)
            && ingester.metric("ingester_bytes_in_memory", "").unwrap() >= 200_000.0
    });
    network.relay().control().resume();
    wait_until("every event", || length(&redis, "firehose_live") == 2_000);
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 2_000));
    assert_eq!(ingester.terminate(), Some(0));
}

/// Labels of 20 KB: what they are in memory, others could need.
fn large_label(seq: u64) -> bytes::Bytes {
    let label = Cbor::map([("val", Cbor::text("x".repeat(20_000))), ("src", Cbor::text("did:plc:l"))]);
    frames::labels(seq, vec![label])
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_have_their_shares_whatever_one_of_them_takes() {
    // Two relays, of which one has a large frame; a labeler without end, and a quiet one.
    let labels = [Script::endless(1, large_label), Script::frames([large_label(1), large_label(2)])];
    let commits = |offset: u64| {
        (1..=500).map(move |seq| padded_like(offset + seq, if seq == 250 { 1_000_000 } else { 10 }))
    };
    let mut networks = Vec::new();
    for (labels, offset) in labels.into_iter().zip([0, 1_000]) {
        let relay = Script::frames(commits(offset));
        networks.push(Network::builder().relay(relay).labeler(labels).start().await.unwrap());
    }
    let quiet = networks[1].labeler().control();
    networks.iter().for_each(|network| network.relay().control().stall());
    quiet.stall();
    let redis = Redis::start().unwrap();
    let hosts = format!("{},{}", networks[0].url(), networks[1].url());
    let mut ingester = Ingester::start(
        &redis.url(),
        &[
            ("INGESTER_RELAY_HOSTS", &hosts),
            ("INGESTER_LABELER_HOSTS", &hosts),
            ("INGESTER_MODE", "all"),
            ("INGESTER_LABEL_STREAM_HIGH_WATER_MARK", "1"),
            ("INGESTER_QUEUE_BYTES", "1MiB"),
        ],
    );
    let frames = || ingester.metric("ingester_events_in_memory", "").unwrap();
    let mut held = (0.0, Instant::now());
    wait_until("the endless one takes what it gets", || {
        if frames() != held.0 {
            held = (frames(), Instant::now());
        }
        held.0 > 20.0 && held.1.elapsed() > Duration::from_secs(1)
    });
    // The others come now, and have what they need.
    quiet.resume();
    wait_until("the quiet labeler is read", || frames() >= held.0 + 2.0);
    networks.iter().for_each(|network| network.relay().control().resume());
    for (network, last) in networks.iter().zip(["500", "1500"]) {
        let key = format!("firehose_live:cursor:{}", network.addr());
        wait_until("every event", || get(&redis, &key).as_deref() == Some(last));
    }
    assert_eq!(length(&redis, "firehose_live"), 1_000);
    // Room for one batch at a time: the quiet one has its turn.
    let key = format!("label_live:cursor:{}", networks[1].addr());
    wait_until("the quiet labeler's labels", || {
        redis.command(&["DEL", "label_live"]).unwrap();
        get(&redis, &key).as_deref() == Some("2")
    });
    assert_eq!(ingester.terminate(), Some(0));
}

fn did(number: u64) -> String {
    format!("did:plc:{number:0>24}")
}

fn dids(redis: &Redis) -> Vec<String> {
    let did = |repo: &String| {
        let repo: serde_json::Value = serde_json::from_str(repo).unwrap();
        repo["did"].as_str().unwrap().to_owned()
    };
    values(redis, "repo_backfill_priority", "repo").iter().map(did).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_nobody_fetches_do_not_hold_up_the_firehose() {
    // Every second frame is a wish; the mark is at two.
    let frame = |seq: u64| match seq % 2 {
        0 => frames::sync(seq, &did(seq), &rev(seq), TIME),
        _ => like(seq),
    };
    let script: Vec<_> = (1..=99).map(frame).collect();
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    // One at a time, so that none goes with a batch that had room.
    network.relay().control().set_rate(std::num::NonZeroU32::new(100));
    let redis = Redis::start().unwrap();
    let mut ingester =
        Ingester::of_firehose(&redis, &network, &[("INGESTER_REPO_STREAM_HIGH_WATER_MARK", "2")]);
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("every event", || get(&redis, &key).as_deref() == Some("99"));
    assert_eq!(length(&redis, "firehose_live"), 50);
    let queued = length(&redis, "repo_backfill_priority");
    assert!((2..20).contains(&queued), "{queued}");
    let waiting = 49 - queued;
    wait_until("the rest waits", || ingester.metric("ingester_resyncs_waiting", "") == Some(waiting as f64));
    ingester.wait_for("ingester_backpressure_active", "repo_backfill_priority", 1.0);
    assert_eq!(
        ingester.metric("ingester_stream_length", "repo_backfill_priority"),
        Some(queued as f64),
        "the length is the true one"
    );
    assert!(ingester.log().contains("does a backfiller read this stream"), "{}", ingester.log());
    // Somebody does after all: nothing is lost.
    let mut seen = Vec::new();
    while seen.len() < 49 {
        wait_until("more of them", || length(&redis, "repo_backfill_priority") > 0);
        seen.extend(dids(&redis));
        redis.command(&["DEL", "repo_backfill_priority"]).unwrap();
    }
    seen.sort();
    assert_eq!(seen, (1..=49).map(|number| did(number * 2)).collect::<Vec<_>>());
    wait_until("none waits", || ingester.metric("ingester_resyncs_waiting", "") == Some(0.0));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_wait_outlive_the_process() {
    let frame = |seq: u64| match seq % 2 {
        0 => frames::sync(seq, &did(seq), &rev(seq), TIME),
        _ => like(seq),
    };
    let script: Vec<_> = (1..=99).map(frame).collect();
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["XADD", "repo_backfill_priority", "*", "repo", "{}"]).unwrap();
    let url = network.url();
    let settings = [
        ("INGESTER_RELAY_HOSTS", url.as_str()),
        ("INGESTER_MODE", "firehose"),
        ("INGESTER_REPO_STREAM_HIGH_WATER_MARK", "1"),
    ];
    let mut ingester = Ingester::start(&redis.url(), &settings);
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("every event", || get(&redis, &key).as_deref() == Some("99"));
    assert_eq!(length(&redis, "repo_backfill_priority"), 1, "it is at its mark");
    // The cursor has passed them: nobody will send them again.
    ingester.kill_and_restart();
    wait_until("they wait still", || ingester.metric("ingester_resyncs_waiting", "") == Some(49.0));
    assert_eq!(ingester.terminate(), Some(0));
    redis.command(&["DEL", "repo_backfill_priority"]).unwrap();
    let more = [&settings[..2], &[("INGESTER_REPO_STREAM_HIGH_WATER_MARK", "100")]].concat();
    let mut ingester = Ingester::start(&redis.url(), &more);
    wait_until("all are queued", || length(&redis, "repo_backfill_priority") == 49);
    let mut queued = dids(&redis);
    queued.sort();
    assert_eq!(queued, (1..=49).map(|number| did(number * 2)).collect::<Vec<_>>());
    assert_eq!(get_type(&redis, "repo_backfill_priority:waiting"), "none", "nothing is left");
    assert_eq!(ingester.terminate(), Some(0));
}

fn get_type(redis: &Redis, key: &str) -> String {
    redis.command(&["TYPE", key]).unwrap().as_text().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revision_is_fetched_once_however_many_relays_say_it_how_often() {
    let script = |from: u64| {
        let syncs = (from..from + 5).map(|seq| frames::sync(seq, &did(1), &rev(1), TIME));
        Script::frames(syncs.chain([frames::sync(from + 5, &did(1), &rev(2), TIME), like(from + 6)]))
    };
    let first = Network::builder().relay(script(1)).start().await.unwrap();
    let second = Network::builder().relay(script(101)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let hosts = format!("{},{}", first.url(), second.url());
    let mut ingester = Ingester::of_relays("firehose", &redis, &hosts, &[]);
    for (network, last) in [(&first, "7"), (&second, "107")] {
        let key = format!("firehose_live:cursor:{}", network.addr());
        wait_until("both cursors", || get(&redis, &key).as_deref() == Some(last));
    }
    assert_eq!(dids(&redis), [did(1), did(1)], "one a revision");
    ingester.wait_for("ingester_resyncs_repeated_total", "", 10.0);
    assert_eq!(ingester.terminate(), Some(0));
}
