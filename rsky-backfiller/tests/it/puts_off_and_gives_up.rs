//! Retries outlive the process, hosts in trouble do not hold up the others, keys may change.

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, counts, did, error};
use crate::support::{Backfiller, dead, left, length, queue, queue_in, wait_until};
use crate::synthetic;

fn car(number: usize, records: usize, key: u8) -> Bytes {
    synthetic::car(&did(number), records, 20, &synthetic::key(key)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_counted_over_restarts() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let failing = hosts.add(1, Host::Raw(error(500, "InternalServerError", "")), 1);
    queue(&redis, &hosts.url(), [&failing]);
    let settings = [
        ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "1500"),
        ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "1500"),
        ("MAX_ATTEMPTS", "2"),
    ];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("it is put off", || {
        redis.command(&["ZCARD", "repo_backfill:delayed"]).unwrap().as_int() == Some(1)
    });
    assert_eq!(length(&redis, "repo_backfill"), 0, "it holds no place in the stream");
    backfiller.kill_and_restart();
    wait_until("it is given up", || !dead(&redis).is_empty());
    assert_eq!(hosts.requests(&failing), 2);
    assert_eq!(left(&redis), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_hangs_holds_up_nobody() {
    // Fewer places than repositories of the hanging host: they are put off so that the others get in.
    hangs_beside_others("repo_backfill", "20").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_hangs_holds_up_nobody_in_the_priority_stream() {
    // Which has a quarter of the places.
    hangs_beside_others("repo_backfill_priority", "80").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_more_repositories_than_may_be_put_off_holds_up_nobody() {
    // Put off for an hour each, they would fill the set, and then every place.
    let busy = Host::Raw(error(429, "RateLimitExceeded", "retry-after: 3600\r\n"));
    waits_beside(&busy, 300, "repo_backfill", "20").await;
}

async fn hangs_beside_others(stream: &str, places: &str) {
    waits_beside(&Host::Hangs, 60, stream, places).await;
}

async fn waits_beside(host: &Host, repositories: usize, stream: &str, places: &str) {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let hanging: Vec<String> = (500..500 + repositories)
        .map(|number| hosts.add_at(number, host.clone(), 1, &format!("http://127.2.0.1:{}", hosts.port)))
        .collect();
    queue_in(stream, &redis, &hosts.url(), &hanging);
    let healthy: Vec<String> =
        (0..40).map(|number| hosts.add(number, Host::Car(car(number, 3, 1)), 1)).collect();
    queue_in(stream, &redis, &hosts.url(), &healthy);
    let settings = [
        ("BACKFILLER_QUEUE", places),
        ("BACKFILLER_CONCURRENCY", "12"),
        ("BACKFILLER_DELAYED_MAX", "100"),
        ("BACKFILLER_HTTP_TIMEOUT_SECS", "600"),
    ];
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("the healthy ones are queued", || counts(&redis).len() == healthy.len());
    assert!(dead(&redis).is_empty(), "those of the hanging host are kept");
    wait_until("all of them", || left(&redis) == i64::try_from(hanging.len()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_found_and_an_unchanged_repository_is_not_fetched_again() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let changing = hosts.add(1, Host::Car(car(1, 3, 1)), 1);
    queue(&redis, &hosts.url(), [&changing]);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("it is queued", || left(&redis) == 0);
    // The account signs with another key now; this process has the old one cached.
    hosts.add(1, Host::Car(car(1, 4, 2)), 2);
    queue(&redis, &hosts.url(), [&changing]);
    wait_until("it is queued again", || left(&redis) == 0);
    assert_eq!(counts(&redis)[&changing], (7, 2));
    assert!(dead(&redis).is_empty());
    let asked = hosts.requests(&changing);
    let entry = format!(r#"{{"did":"{changing}","host":"{}","rev":"{}"}}"#, hosts.url(), synthetic::REV);
    redis.command(&["XADD", "repo_backfill", "*", "repo", &entry]).unwrap();
    wait_until("it is passed over", || left(&redis) == 0);
    backfiller.assert_class("unchanged", 1.0);
    assert_eq!(hosts.requests(&changing), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_none_and_dids_that_are_not_registered() {
    let redis = Redis::start().unwrap();
    let hosts = Hosts::start().await;
    for entry in ["nonsense", "null", "{}", r#"{"did":"x","host":"y","rev":"z"}"#] {
        redis.command(&["XADD", "repo_backfill", "*", "repo", entry]).unwrap();
    }
    redis.command(&["XADD", "repo_backfill", "*", "other", "field"]).unwrap();
    let long = format!(r#"{{"did":"did:plc:a","host":"h","rev":"","status":"{}"}}"#, "x".repeat(5000));
    redis.command(&["XADD", "repo_backfill", "*", "repo", &long]).unwrap();
    let endless = format!("http://127.1.0.1/{}", "x".repeat(40_000));
    hosts.add_at(1, Host::Hangs, 1, &endless);
    queue(
        &redis,
        &hosts.url(),
        ["did:plc:zzzzzzzzzzzzzzzzzzzzzzzz", "did:key:z", "did:web:no.such.host.invalid", &did(1)],
    );
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "1")]);
    wait_until("all are settled", || left(&redis) == 0);
    wait_until("all have their letter", || length(&redis, "repo_backfill_dlq") == 9);
    backfiller.assert_class("bad_entry", 6.0);
    backfiller.assert_class("gone", 1.0);
    backfiller.assert_class("unresolvable", 2.0);
    backfiller.assert_class("directory_error", 1.0);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_priority_stream_is_read_first() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let pds = format!("http://127.3.0.1:{}", hosts.port);
    let dids: Vec<String> =
        (0..30).map(|number| hosts.add_at(number, Host::Car(car(number, 1, 1)), 1, &pds)).collect();
    queue(&redis, &hosts.url(), &dids[..29]);
    let entry = format!(r#"{{"did":"{}","host":"{}","rev":""}}"#, dids[29], hosts.url());
    redis.command(&["XADD", "repo_backfill_priority", "*", "repo", &entry]).unwrap();
    let _backfiller = Backfiller::start(
        &redis.url(),
        &hosts.url(),
        &[("BACKFILLER_HOST_CONCURRENCY", "1"), ("BACKFILLER_PLC_CONCURRENCY", "1")],
    );
    wait_until("all are queued", || left(&redis) == 0);
    let order: Vec<String> = crate::support::events(&redis)
        .iter()
        .filter(|event| event["type"] == "repo")
        .map(|event| event["did"].as_str().unwrap().to_owned())
        .collect();
    let place = order.iter().position(|did| *did == dids[29]).unwrap();
    assert!(place <= 2, "place {place} of {}", order.len());
}
