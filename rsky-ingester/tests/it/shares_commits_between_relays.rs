//! Several relays carry the same commits: written once, both cursors move.

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, get, like, range, seqs, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn identical_commits_are_written_once() {
    let first = Network::builder().relay(Script::generated(1, 500, like)).start().await.unwrap();
    let second = Network::builder().relay(Script::generated(1, 520, like)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let hosts = format!("{},{}", first.url(), second.url());
    let mut ingester = Ingester::of_relays("firehose", &redis, &hosts, &[]);
    for (network, last) in [(&first, "500"), (&second, "520")] {
        let key = format!("firehose_live:cursor:{}", network.addr());
        wait_until("both cursors", || get(&redis, &key).as_deref() == Some(last));
    }
    let mut written = seqs(&redis, "firehose_live");
    written.sort_unstable();
    assert_eq!(written, range(1, 520));
    ingester.wait_for("ingester_duplicate_commits_total", "", 500.0);
    assert_eq!(ingester.terminate(), Some(0));
}
