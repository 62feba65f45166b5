//! A network of 500 hosts of which a fifth is in trouble, measured beside the same without those. Run with
//! `-- --ignored --nocapture`: times are of interest, and other tests beside it would spoil them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::support::{Backfiller, dead, left, queue};
use crate::synthetic;
use crate::trouble::{Host, Hosts, counts, did, error, redirect};

const HEALTHY: usize = 400;
const TROUBLED: usize = 100;
/// Repositories of each healthy host.
const EACH: usize = 25;
const RECORDS: usize = 20;

fn troubled(number: usize) -> Host {
    match number % 7 {
        0 => Host::Hangs,
        1 => Host::Trickles,
        2 => Host::Raw(error(500, "InternalServerError", "")),
        3 => Host::Endless,
        4 => Host::Raw(redirect("http://169.254.169.254/latest/meta-data")),
        5 => Host::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage".to_vec()),
        _ => Host::Raw(error(429, "RateLimitExceeded", "retry-after: 3600\r\n")),
    }
}

/// Seconds until the healthy ones are queued.
async fn run(with_trouble: bool) -> f64 {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let key = synthetic::key(1);
    let mut dids = Vec::new();
    for number in 0..HEALTHY * EACH {
        let car = Bytes::from(synthetic::car(&did(number), RECORDS, 100, &key));
        let pds = format!("http://127.4.{}.{}:{}", number % HEALTHY / 200, number % 200 + 1, hosts.port);
        dids.push(hosts.add_at(number, Host::Car(car), 1, &pds));
        if with_trouble && number < TROUBLED {
            dids.push(hosts.add(12_000 + number, troubled(number), 1));
        }
    }
    queue(&redis, &hosts.url(), &dids);
    let started = Instant::now();
    let own = [
        // Nobody reads the output.
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "10000000"),
        ("BACKFILLER_MAX_REPO_BYTES", "4MiB"),
        ("BACKFILLER_STALL_TIMEOUT_SECS", "10"),
        ("BACKFILLER_HTTP_TIMEOUT_SECS", "10"),
        ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "60000"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    let healthy = HEALTHY * EACH;
    while backfiller.class("queued") < healthy as f64 {
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "not queued within five minutes: {}",
            left(&redis)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = started.elapsed().as_secs_f64();
    let counts = counts(&redis);
    assert!(counts.len() == healthy && counts.values().all(|count| *count == (RECORDS, 1)));
    assert!(
        dead(&redis)
            .values()
            .all(|reason| ["too_large", "bad_car", "unreachable", "refused_address"]
                .contains(&reason.as_str()))
    );
    let (peak, bound) = (
        backfiller.peak_memory() >> 20,
        backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64 >> 20,
    );
    println!(
        "trouble: {with_trouble}: {healthy} repositories in {seconds:.2} s, peak {peak} MiB of {bound} MiB"
    );
    assert!(peak < bound);
    seconds
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_does_not_slow_the_others_down() {
    let (alone, among_trouble) = (run(false).await, run(true).await);
    println!("{:.0} % of the throughput without the troubled hosts", alone / among_trouble * 100.0);
}
