//! A relay whose numbers begin anew is followed; a number that is an accident freezes nothing.

use bytes::Bytes;
use rsky_testnet::network::{Network, RunningNetwork, Script};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, get, length, like, range, seqs, wait_until};

fn start(redis: &Redis, network: &RunningNetwork) -> Ingester {
    Ingester::of_firehose(redis, network, &[])
}

fn cursor(redis: &Redis, network: &RunningNetwork) -> Option<i64> {
    get(redis, &format!("firehose_live:cursor:{}", network.addr()))?.parse().ok()
}

/// A relay that takes a cursor of 5000 without a word although its frames are numbered from 1.
async fn begun_anew(frames: u64) -> (RunningNetwork, Redis) {
    let script: Vec<(Option<u64>, Bytes)> = (1..=frames).map(|seq| (Some(5000 + seq), like(seq))).collect();
    let network = Network::builder().relay(Script::fixed(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "5000"]).unwrap();
    (network, redis)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_relay_that_was_replaced_is_followed() {
    let (network, redis) = begun_anew(150).await;
    let mut ingester = start(&redis, &network);
    wait_until("the cursor follows", || cursor(&redis, &network) == Some(150));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 150));
    assert!(ingester.log().contains("begun anew"), "{}", ingester.log());
    ingester.wait_for("ingester_sequence_restarts_total", "", 1.0);
    network.relay().control().push(like(151));
    wait_until("it goes on from there", || cursor(&redis, &network) == Some(151));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_relay_that_was_replaced_is_followed_after_a_while() {
    let (network, redis) = begun_anew(3).await;
    let mut ingester = start(&redis, &network);
    wait_until("the cursor follows", || cursor(&redis, &network) == Some(3));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 3));
    assert_eq!(ingester.terminate(), Some(0));
}

/// The relay says `FutureCursor`: it is looked at before it is believed, and then read from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_know_the_cursor_is_read_from_its_beginning() {
    let network = Network::builder().relay(Script::generated(1, 10, like)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "5000"]).unwrap();
    let mut ingester = start(&redis, &network);
    wait_until("the cursor follows", || cursor(&redis, &network) == Some(10));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 10));
    assert!(ingester.log().contains("FutureCursor"), "{}", ingester.log());
    ingester.wait_for("ingester_sequence_restarts_total", "", 1.0);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_an_accident_freezes_nothing() {
    // One that nobody can mean, and one that somebody could.
    for accident in [i64::MAX.unsigned_abs() - 1, 1 << 52] {
        let script = [like(1), like(accident), like(2), like(3)].map(|frame| (None, frame)).to_vec();
        let network = Network::builder().relay(Script::fixed(script)).start().await.unwrap();
        let redis = Redis::start().unwrap();
        let mut ingester = start(&redis, &network);
        wait_until("the cursor", || cursor(&redis, &network) == Some(3));
        assert_eq!(length(&redis, "firehose_live"), 4, "{accident}");
        assert_eq!(ingester.terminate(), Some(0));
    }
}
