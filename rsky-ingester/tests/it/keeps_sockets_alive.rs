//! Sockets that die in every way are replaced, with a pause, at the right cursor.

use rsky_testnet::network::{Network, Refusal, RunningNetwork, Script, frames};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, length, like, range, seqs, wait_until};

async fn relay(frames: u64) -> RunningNetwork {
    Network::builder().relay(Script::generated(1, frames, like)).start().await.unwrap()
}

fn start(redis: &Redis, network: &RunningNetwork, more: &[(&str, &str)]) -> Ingester {
    Ingester::of_firehose(redis, network, more)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_replaced() {
    let network = relay(10).await;
    let control = network.relay().control();
    let redis = Redis::start().unwrap();
    let mut ingester =
        start(&redis, &network, &[("INGESTER_IDLE_TIMEOUT", "off"), ("INGESTER_PING_INTERVAL_MS", "100")]);
    wait_until("pings are answered", || control.pings_received() >= 3);
    assert_eq!(control.connections(), 1);
    control.go_silent();
    wait_until("a new connection", || control.connections() >= 2);
    control.resume();
    control.push(like(11));
    wait_until("the next event", || length(&redis, "firehose_live") == 11);
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 11));
    wait_until("it is counted", || ingester.metric("ingester_disconnects_total", "no_pong") >= Some(1.0));
    wait_until("one socket in the gauge", || {
        ingester.metric("ingester_websocket_connections", "") == Some(1.0)
    });
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_pings_but_sends_nothing_is_replaced() {
    let network = relay(10).await;
    let control = network.relay().control();
    let redis = Redis::start().unwrap();
    let mut ingester =
        start(&redis, &network, &[("INGESTER_IDLE_TIMEOUT", "300ms"), ("INGESTER_PING_INTERVAL_MS", "100")]);
    wait_until("new connections", || control.connections() >= 3);
    wait_until("it is counted", || ingester.metric("ingester_disconnects_total", "idle") >= Some(1.0));
    assert_eq!(control.cursors()[1].as_deref(), Some("10"), "from where it was");
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 10));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_closes_resets_refusals_and_error_frames_without_hammering() {
    let network = relay(10).await;
    let control = network.relay().control();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("the first events", || length(&redis, "firehose_live") == 10);
    let mut seq = 10;
    let mut next = |control: &rsky_testnet::network::Control| {
        seq += 1;
        control.push(like(seq));
        wait_until("the next event", || length(&redis, "firehose_live") == seq as i64);
    };
    for how in ["close", "reset", "refuse", "hangup", "error"] {
        let before = control.connections();
        match how {
            "close" => control.close_all(1000, "bye"),
            "reset" => control.reset_all(),
            "refuse" | "hangup" => {
                control.refuse(if how == "refuse" { Refusal::Status(503) } else { Refusal::Hangup }, None);
                control.reset_all();
                wait_until("it tries again and again", || control.connections() >= before + 3);
                control.accept();
            }
            _ => control.send_now(frames::error_with_message("ConsumerTooSlow", "be faster")),
        }
        wait_until(how, || control.connections() > before);
        next(&control);
    }
    ingester.wait_for("ingester_disconnects_total", "consumer_too_slow", 1.0);
    let last = seqs(&redis, "firehose_live").len() as u64;
    assert_eq!(seqs(&redis, "firehose_live"), range(1, last));
    assert!(ingester.log().contains("HTTP error: 503"));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_reset_shows_in_health() {
    let network = relay(10).await;
    let redis = Redis::start().unwrap();
    let key = format!("firehose_live:cursor:{}", network.addr());
    redis.command(&["SET", &key, "5000"]).unwrap();
    let mut ingester = start(
        &redis,
        &network,
        &[("INGESTER_RECONNECT_MIN_MS", "300"), ("INGESTER_RECONNECT_MAX_MS", "1000")],
    );
    wait_until("health says so", || ingester.get("/readyz").1.contains("FutureCursor"));
    assert_eq!(
        ingester.metric("ingester_disconnects_total", "future_cursor").map(|count| count >= 1.0),
        Some(true)
    );
    // What the message says helps, without a restart.
    redis.command(&["DEL", &key]).unwrap();
    wait_until("events arrive", || length(&redis, "firehose_live") == 10);
    wait_until("ready", || ingester.get("/readyz").0 == 200);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_is_waited_for() {
    let network = relay(10).await;
    network.stop_listening().await;
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("it says so", || ingester.log().contains("not reachable"));
    for name in ["firehose_ingester_incoming_events_total", "firehose_ingester_stream_events_total"] {
        assert_eq!(
            ingester.metric(name, &network.url()),
            Some(0.0),
            "{name} is there before anything happened"
        );
    }
    network.listen_again().await.unwrap();
    wait_until("events arrive", || length(&redis, "firehose_live") == 10);
    assert!(network.relay().control().queries()[0].is_empty(), "live without a stored cursor");
    assert_eq!(ingester.terminate(), Some(0));
}
