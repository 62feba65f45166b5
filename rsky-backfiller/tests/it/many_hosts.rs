//! A network of 500 hosts of which a fifth makes every kind of trouble at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, counts, did};
use crate::kinds::{Fate, add_each};
use crate::support::{Backfiller, dead, left, queue, wait_until};
use crate::synthetic;

pub const HEALTHY: usize = 400;
const TROUBLED: usize = 100;
/// Where the numbers of the accounts of troubled hosts begin.
pub const BAD: usize = 15_000;

/// Third and fourth part of the address of a healthy host.
pub fn healthy_address(host: usize) -> [usize; 2] {
    [host / 200, host % 200 + 1]
}

/// Accounts at healthy hosts, in turn.
fn add_healthy(hosts: &Hosts, accounts: usize, records: usize, host: impl Fn(Bytes) -> Host) -> Vec<String> {
    let key = synthetic::key(1);
    let add = |number: usize| {
        let car = Bytes::from(synthetic::car(&did(number), records, 100, &key));
        let pds = hosts.pds(4, healthy_address(number % HEALTHY));
        hosts.add_at(number, host(car), 1, &pds)
    };
    (0..accounts).map(add).collect()
}

fn add_troubled(hosts: &Hosts) -> BTreeMap<String, Fate> {
    let mut troubled = BTreeMap::new();
    while troubled.len() < TROUBLED {
        troubled.extend(add_each(hosts, BAD + troubled.len()));
    }
    troubled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_host_is_classed_and_the_others_are_whole() {
    let hosts = Hosts::start().await;
    settle_all(&hosts, &[]).await;
}

/// Runs until every repository is settled, and looks at what became of each.
pub async fn settle_all(hosts: &Hosts, settings: &[(&str, &str)]) {
    const RECORDS: usize = 15;
    let redis = Redis::start().unwrap();
    let healthy = add_healthy(hosts, HEALTHY * 3, RECORDS, Host::Car);
    let troubled = add_troubled(hosts);
    // The bad ones first: the others have to come by.
    queue(&redis, &hosts.url(), troubled.keys().chain(&healthy));
    let own = [
        ("BACKFILLER_HTTP_TIMEOUT_SECS", "3"),
        ("BACKFILLER_STALL_TIMEOUT_SECS", "3"),
        ("BACKFILLER_MAX_REPO_BYTES", "8MiB"),
        ("MAX_ATTEMPTS", "3"),
    ];
    let own = [&own[..], settings].concat();
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    let of = |wanted: Fate| troubled.values().filter(move |fate| **fate == wanted).count();
    wait_until("all repositories are settled", || usize::try_from(left(&redis)).unwrap() == of(Fate::Kept));
    let mut expected_dead = BTreeMap::new();
    let mut expected: BTreeMap<&str, usize> = healthy.iter().map(|did| (did.as_str(), RECORDS)).collect();
    for (did, fate) in &troubled {
        match fate {
            Fate::Dead(reason) => drop(expected_dead.insert(did.clone(), (*reason).to_owned())),
            Fate::Queued(records) => drop(expected.insert(did, *records)),
            Fate::Done(_) | Fate::Kept => {}
        }
    }
    assert_eq!(dead(&redis), expected_dead);
    let counts = counts(&redis);
    for (did, records) in &expected {
        assert_eq!(counts.get(*did), Some(&(*records, 1)), "{did}");
    }
    assert_eq!(counts.len(), expected.len(), "nothing of the others is in the output");
    for class in ["gone", "deactivated", "takendown", "suspended"] {
        backfiller.assert_class(class, of(Fate::Done(class)) as f64);
    }
    // Being told to wait is no failure: three of each round said so twice, one says so for ever.
    let rounds = of(Fate::Kept) as f64;
    backfiller.assert_class("rate_limited", 7.0 * rounds);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap();
    println!("peak {} MiB of {} MiB", backfiller.peak_memory() >> 20, bound as u64 >> 20);
    assert!((backfiller.peak_memory() as f64) < bound);
}

/// Seconds until the healthy ones are queued.
async fn seconds(with_trouble: bool, accounts: usize, host: impl Fn(Bytes) -> Host) -> f64 {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let mut dids = Vec::new();
    if with_trouble {
        dids.extend(add_troubled(&hosts).into_keys());
    }
    let already = dids.len();
    dids.extend(add_healthy(&hosts, accounts, 20, host));
    queue(&redis, &hosts.url(), &dids);
    // Times as they are by default, but nobody reads the output.
    let own = [
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "10000000"),
        ("BACKFILLER_MAX_REPO_BYTES", "8MiB"),
        ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "60000"),
        ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "3600000"),
        ("BACKFILLER_HOST_BACKOFF_MS", "30000"),
    ];
    let started = Instant::now();
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    let healthy = &dids[already..];
    let mut looked = 0.0;
    while looked < accounts as f64 || !healthy.iter().all(|did| hosts.requests(did) > 0) {
        assert!(started.elapsed() < Duration::from_secs(300), "not queued within five minutes");
        std::thread::sleep(Duration::from_millis(50));
        looked = backfiller.class("queued");
    }
    let seconds = started.elapsed().as_secs_f64();
    let peak = backfiller.peak_memory() >> 20;
    println!("trouble: {with_trouble}: {accounts} repositories in {seconds:.2} s, peak {peak} MiB");
    seconds
}

/// Run with `-- --ignored --nocapture`, alone: other work beside it would spoil it.
#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_beside_troubled_hosts() {
    for (what, accounts, delay) in [("at once", 10_000, 0), ("after 200 ms", 4000, 200)] {
        let host = |car| Host::Later(Duration::from_millis(delay), car);
        let (alone, among) = (seconds(false, accounts, host).await, seconds(true, accounts, host).await);
        println!(
            "healthy hosts answer {what}: {:.0} % of the throughput without trouble",
            alone / among * 100.0
        );
    }
}
