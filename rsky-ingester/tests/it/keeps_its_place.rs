//! One relay has one cursor, however its address is written and whoever else writes it.

use rsky_testnet::network::{Network, RunningNetwork, Script};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, get, length, like, range, seqs, wait_until};

async fn relay() -> RunningNetwork {
    Network::builder().relay(Script::generated(1, 20, like)).start().await.unwrap()
}

fn start(redis: &Redis, host: &str) -> Ingester {
    Ingester::of_relays("firehose", redis, host, &[])
}

fn key(host: &str) -> String {
    format!("firehose_live:cursor:{host}")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_to_write_the_host_goes_on_where_it_stopped() {
    let network = relay().await;
    let bare = network.addr().to_string();
    let slash = format!("{bare}/");
    let (http, ws, ws_slash) = (format!("http://{bare}"), format!("ws://{bare}"), format!("ws://{bare}/"));
    // What was configured when the cursor was written, and what is configured now.
    for (before, now) in [(&bare, &ws), (&ws, &http), (&slash, &http), (&bare, &ws_slash), (&ws_slash, &ws)] {
        let redis = Redis::start().unwrap();
        redis.command(&["SET", &key(before), "12"]).unwrap();
        let asked = network.relay().control().cursors().len();
        let mut ingester = start(&redis, now);
        wait_until("the rest", || length(&redis, "firehose_live") == 8);
        assert_eq!(seqs(&redis, "firehose_live"), range(13, 20), "{before} -> {now}");
        assert_eq!(network.relay().control().cursors()[asked].as_deref(), Some("12"));
        wait_until("the cursor", || get(&redis, &key(&bare)).as_deref() == Some("20"));
        // What the reference would look at with this configuration.
        let theirs = now.strip_prefix("http://").unwrap_or(now);
        assert_eq!(get(&redis, &key(theirs)).as_deref(), Some("20"), "{before} -> {now}");
        assert_eq!(ingester.terminate(), Some(0));
    }
}

/// Zero would ask for everything that the relay still has.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_cursor_asks_without_one() {
    let network = relay().await;
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network.url());
    wait_until("it reads", || length(&redis, "firehose_live") == 20);
    assert_eq!(network.relay().control().cursors(), [None]);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_of_one_relay_write_everything_once_and_say_so() {
    const FRAMES: u64 = 3_000;
    let network = Network::builder().relay(Script::generated(1, FRAMES, like)).start().await.unwrap();
    network.relay().control().set_rate(std::num::NonZeroU32::new(1_000));
    let redis = Redis::start().unwrap();
    let bare = network.addr().to_string();
    redis.command(&["SET", &key(&bare), "0"]).unwrap();
    let mut both = [start(&redis, &network.url()), start(&redis, &network.url())];
    wait_until("the last event", || get(&redis, &key(&bare)) == Some(FRAMES.to_string()));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, FRAMES));
    wait_until("it is said", || both.iter().any(|one| one.log().contains("a second ingester?")));
    wait_until("it is counted", || {
        both.iter().any(|one| one.metric("ingester_cursor_changes_total", "ahead") >= Some(1.0))
    });
    for one in &mut both {
        assert_eq!(one.terminate(), Some(0));
    }
}
