//! The owner's test: a stream at its mark stops the reading, memory stays flat, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Network, Script, frames, hostile};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, drain, get, length, padded_like, range, seq_of, wait_until};

const MARK: i64 = 100;
/// The batch near the mark (INGESTER_SMALL_BATCH_SIZE).
const BATCH: i64 = 100;
const PEAK: u64 = 150 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_pauses_the_socket_and_a_consumer_gets_everything_once_in_order() {
    // 5 KB a frame, as on the network, for ever.
    let network = Network::builder()
        .relay(Script::endless(1, |seq| padded_like(seq, 4500)))
        .send_buffer(256 << 10)
        .start()
        .await
        .unwrap();
    let relay = network.relay().control();
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::of_firehose(
        &redis,
        &network,
        &[("INGESTER_HIGH_WATER_MARK", "100"), ("INGESTER_PAUSE_CLOSE_MS", "1500")],
    );

    wait_until("the mark is reached", || length(&redis, "firehose_live") >= MARK);
    // The relay is stopped by TCP: what it has sent stops growing although it would send for ever.
    let mut sent = (relay.frames_sent(), Instant::now());
    wait_until("the relay is paused", || {
        if relay.frames_sent() != sent.0 {
            sent = (relay.frames_sent(), Instant::now());
        }
        sent.1.elapsed() > Duration::from_secs(1)
    });
    assert!(length(&redis, "firehose_live") <= MARK + BATCH);
    ingester.wait_for("ingester_backpressure_active", "firehose_live", 1.0);
    assert!(ingester.metric("ingester_events_in_memory", "").unwrap() > 0.0);
    wait_until("the socket is closed after the long pause", || relay.open_sockets() == 0);
    assert!(ingester.peak_memory() < PEAK, "{}", ingester.peak_memory());

    // A consumer takes 30 entries at a time, while the relay throws its clients out now and then.
    let mut seen: Vec<i64> = Vec::new();
    while seen.len() < 20_000 {
        let taken = drain(&redis, "firehose_live", 60);
        let longest = length(&redis, "firehose_live");
        assert!(longest <= MARK + BATCH, "{longest}");
        if taken.is_empty() {
            wait_until("more arrives", || length(&redis, "firehose_live") > 0);
        }
        seen.extend(taken.iter().map(|event| seq_of(event)));
        if seen.len() % 2_000 < 60 {
            relay.reset_all();
        }
    }
    assert_eq!(seen, range(1, seen.len() as u64), "every event once, in order");
    assert!(relay.connections() > 3, "{}", relay.connections());
    assert!(ingester.peak_memory() < PEAK, "{}", ingester.peak_memory());
    assert!(ingester.log().contains("the gate is shut"));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_shuts_the_gate_as_well() {
    let network =
        Network::builder().relay(Script::endless(1, |seq| padded_like(seq, 10))).start().await.unwrap();
    let redis = Redis::start().unwrap();
    // Every machine has more than one percent of its memory in use.
    let mut ingester = Ingester::of_firehose(&redis, &network, &[("INGESTER_MEMORY_PERCENT", "1")]);
    wait_until("the gate is shut", || {
        ingester.metric("ingester_backpressure_active", "firehose_live") == Some(1.0)
    });
    assert!(ingester.get("/status").1.contains(r#""reason":"memory""#), "{}", ingester.get("/status").1);
    assert_eq!(length(&redis, "firehose_live"), 0);
    assert_eq!(ingester.terminate(), Some(0));
}

/// A label of one byte becomes an entry of a hundred and more: what waits is counted by what it has become.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_become_many_times_their_size_do_not_pile_up() {
    const LABELS: usize = 40_000;
    let frame = |seq| frames::labels(seq, vec![Cbor::Map(Vec::new()); LABELS]);
    let script: Vec<_> = (1..=60).map(frame).collect();
    let network = Network::builder()
        .relay(Script::frames([]))
        .labeler(Script::unnumbered(script))
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::start(
        &redis.url(),
        &[
            ("INGESTER_LABELER_HOSTS", &network.url()),
            ("INGESTER_MODE", "labeler"),
            ("INGESTER_HIGH_WATER_MARK", "1"),
        ],
    );
    wait_until("the queue is full", || {
        ingester.metric("ingester_backpressure_active", "label_live") == Some(1.0)
            && ingester.metric("ingester_events_in_memory", "").unwrap() >= 8.0
    });
    let key = format!("label_live:cursor:{}", network.addr());
    for seq in 1..=60_u64 {
        wait_until("the next frame", || get(&redis, &key) == Some(seq.to_string()));
        assert_eq!(length(&redis, "label_live"), i64::try_from(LABELS).unwrap(), "one frame at a time");
        redis.command(&["DEL", "label_live"]).unwrap();
    }
    assert!(ingester.peak_memory() < PEAK, "{}", ingester.peak_memory());
    assert_eq!(ingester.terminate(), Some(0));
}

/// What a frame becomes is known when it has been decoded: before a shut gate only one labeler holds such a one.
#[tokio::test(flavor = "multi_thread")]
async fn labelers_hold_one_frame_that_has_become_many_times_its_size() {
    const LABELS: usize = 40_000;
    // The entry of the least label, and what it takes to hold it.
    const HELD: f64 = (LABELS * 80) as f64;
    let frame = |seq| frames::labels(seq, vec![Cbor::Map(Vec::new()); LABELS]);
    let mut networks = Vec::new();
    for _ in 0..5 {
        let labeler = Script::frames([frame(1), frame(2)]);
        networks.push(Network::builder().relay(Script::frames([])).labeler(labeler).start().await.unwrap());
    }
    let redis = Redis::start().unwrap();
    redis.command(&["XADD", "label_live", "*", "event", "{}"]).unwrap();
    let hosts: Vec<String> = networks.iter().map(|network| network.url()).collect();
    let hosts = hosts.join(",");
    let settings = [
        ("INGESTER_LABELER_HOSTS", hosts.as_str()),
        ("INGESTER_MODE", "labeler"),
        ("INGESTER_HIGH_WATER_MARK", "1"),
    ];
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("all are read", || ingester.metric("ingester_events_in_memory", "") == Some(10.0));
    let held = || ingester.metric("ingester_bytes_in_memory", "").unwrap();
    wait_until("one has become what it becomes", || held() >= HELD);
    let mut seen = (held(), Instant::now());
    wait_until("nothing moves", || {
        if held() != seen.0 {
            seen = (held(), Instant::now());
        }
        seen.1.elapsed() > Duration::from_secs(2)
    });
    // One of them, and what the others are charged before they are decoded; all five would be 16 800 000.
    assert!(seen.0 < 3.0 * HELD, "{} bytes are held", seen.0);
    wait_until("all are written", || {
        redis.command(&["DEL", "label_live"]).unwrap();
        networks.iter().all(|network| {
            get(&redis, &format!("label_live:cursor:{}", network.addr())).as_deref() == Some("2")
        })
    });
    assert_eq!(ingester.terminate(), Some(0));
}

/// Two hundred operations that name one block of almost two megabytes, which becomes nothing: six such frames took 2.4 GB
/// while the gate was shut.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_many_operations_name_is_not_kept_for_each() {
    let (_, block) = hostile::blocks().swap_remove(0);
    let script = (1..=12).map(|seq| hostile::commit_naming(seq, &block, 200));
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "0"]).unwrap();
    redis.command(&["XADD", "firehose_live", "*", "event", "{}"]).unwrap();
    let settings = [
        ("INGESTER_RELAY_HOSTS", network.url()),
        ("INGESTER_MODE", "firehose".to_owned()),
        ("INGESTER_HIGH_WATER_MARK", "1".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("the queue is full", || {
        ingester.metric("ingester_backpressure_active", "firehose_live") == Some(1.0)
            && ingester.metric("ingester_events_in_memory", "").unwrap() >= 6.0
    });
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("all are written", || {
        redis.command(&["DEL", "firehose_live"]).unwrap();
        get(&redis, &key).as_deref() == Some("12")
    });
    assert!(ingester.peak_memory() < PEAK, "{}", ingester.peak_memory());
    assert_eq!(ingester.terminate(), Some(0));
}
