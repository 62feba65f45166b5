//! What is scraped is what is declared, no more and no less.

use rsky_backfiller::metrics::DECLARED;
use rsky_common::admin::{COMMON, differences};
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, did, error};
use crate::support::{Backfiller, left, queue, wait_until};
use crate::synthetic;

/// One that is queued, one that is gone, one that is put off, one that is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_is_as_declared() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let car = synthetic::car(&did(1), 3, 20, &synthetic::key(1));
    let fine = hosts.add(1, Host::Car(car.into()), 1);
    let gone = hosts.add(2, Host::Raw(error(400, "RepoNotFound", "")), 1);
    let later = hosts.add(3, Host::Raw(error(500, "InternalServerError", "")), 1);
    queue(&redis, &hosts.url(), [fine.as_str(), gone.as_str(), later.as_str(), "did:unknown:a"]);
    let backfiller =
        Backfiller::start(&redis.url(), &hosts.url(), &[("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "600000")]);
    wait_until("each has its end, or is put off", || left(&redis) == 1);
    wait_until("it is told what is left", || backfiller.metric("backfiller_repos_left", "") == Some(1.0));
    let (_, scrape) = backfiller.get("/metrics");
    let groups = [DECLARED, COMMON].concat();
    assert_eq!(differences(&scrape, &groups), Vec::<String>::new(), "{scrape}");
    let value = |name: &str, label: &str| backfiller.metric(name, label).unwrap();
    assert_eq!(value("backfiller_dead_letters_total", "\"unsupported_did\""), 1.0);
    assert_eq!(value("backfiller_retries_total", "\"server_error\""), 1.0);
    assert_eq!(value("backfiller_car_fetch_errors_total", ""), 1.0);
    assert_eq!(value("backfiller_repository_seconds_count", "\"write\""), 1.0);
    assert!(value("backfiller_disk_free_bytes", "") > 0.0);
}
