//! `kill -9` at random moments: every event is there, first occurrences in order.

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, first_occurrences, length, like, range, seqs, wait_until};

const FRAMES: u64 = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_skip_nothing() {
    let network = Network::builder().relay(Script::generated(1, FRAMES, like)).start().await.unwrap();
    network.relay().control().set_rate(std::num::NonZeroU32::new(20_000));
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::of_firehose(&redis, &network, &[("INGESTER_BATCH_SIZE", "50")]);
    let mut goal = 0;
    for kill in 1..=15 {
        // A different number of entries each time puts the kill at a different place of a batch.
        goal += 700 + 137 * (kill % 7);
        wait_until("some more is written", || length(&redis, "firehose_live") >= goal);
        ingester.kill_and_restart();
        goal = goal.max(length(&redis, "firehose_live"));
    }
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("the last event", || crate::support::get(&redis, &key) == Some(FRAMES.to_string()));
    let seqs = seqs(&redis, "firehose_live");
    assert_eq!(first_occurrences(&seqs), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}
