//! Addresses that are not public are contacted only where that is allowed.

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, did};
use crate::support::{Backfiller, dead, left, queue, wait_until};
use crate::synthetic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_not_contacted_unless_allowed() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let car = Bytes::from(synthetic::car(&did(1), 1, 1, &synthetic::key(1)));
    let mut dids = vec![hosts.add(1, Host::Car(car.clone()), 1)];
    for (number, pds) in [
        (2, "https://127.0.0.1"),
        (3, "https://169.254.169.254"),
        (4, "https://[::1]"),
        (5, "https://[::ffff:127.0.0.1]"),
        (6, "https://10.0.0.1"),
        (7, "https://localhost"),
        (8, "http://pds.example"),
        (9, "https://u:p@pds.example"),
        (10, "https://0x7f000001"),
    ] {
        dids.push(hosts.add_at(number, Host::Car(car.clone()), 1, pds));
    }
    queue(&redis, &hosts.url(), &dids);
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("ALLOW_PRIVATE_ADDRESSES", "false")]);
    wait_until("all repositories are settled", || left(&redis) == 0);
    let dead = dead(&redis);
    for did in &dids {
        assert_eq!(dead.get(did).map(String::as_str), Some("refused_address"), "{did}");
        assert_eq!(hosts.requests(did), 0);
    }
}
