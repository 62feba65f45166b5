//! Hosts are asked as they wish to be; one that fails is set aside with its repositories, one that never answers given up.

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, counts, did, error};
use crate::support::{Backfiller, dead, left, queue, wait_until};
use crate::synthetic;

fn car(number: usize) -> Bytes {
    synthetic::car(&did(number), 3, 20, &synthetic::key(1)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ratelimit_headers_are_obeyed_to_the_second() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    // The last one allowed, in seconds; refused, as a Unix time; refused, in seconds.
    let pds = |number: usize| format!("http://127.5.0.{number}:{}", hosts.port);
    let last = "ratelimit-limit: 3000\r\nratelimit-remaining: 0\r\nratelimit-reset: 2\r\n".to_owned();
    let pair: Vec<String> = [1, 2]
        .map(|number| hosts.add_at(number, Host::CarWith(last.clone(), car(number)), 1, &pds(1)))
        .to_vec();
    let reset = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 6;
    let by_date = format!("ratelimit-remaining: 0\r\nratelimit-reset: {reset}\r\n");
    let until = hosts.add_at(3, Host::First(1, error(429, "", &by_date), car(3)), 1, &pds(2));
    let seconds = error(429, "RateLimitExceeded", "ratelimit-reset: 3\r\n");
    let after = hosts.add_at(4, Host::First(1, seconds, car(4)), 1, &pds(3));
    queue(&redis, &hosts.url(), pair.iter().chain([&until, &after]));
    let own = [("BACKFILLER_HOST_CONCURRENCY", "1")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all are queued", || left(&redis) == 0);
    assert_eq!(counts(&redis).len(), 4);
    let apart = |first: std::time::Instant, second: std::time::Instant| {
        if second > first { second - first } else { first - second }
    };
    let waited = apart(hosts.times(&pair[0])[0], hosts.times(&pair[1])[0]);
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    let times = hosts.times(&after);
    assert!(times.len() == 2 && apart(times[0], times[1]) >= Duration::from_secs(3), "{times:?}");
    let times = hosts.times(&until);
    let asked_at = SystemTime::now() - times[1].elapsed();
    let early = (UNIX_EPOCH + Duration::from_secs(reset)).duration_since(asked_at).unwrap_or_default();
    assert!(times.len() == 2 && early < Duration::from_millis(50), "{early:?} before the reset");
    backfiller.assert_class("rate_limited", 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_host_is_set_aside_and_its_repositories_are_kept() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let pds = format!("http://127.5.0.1:{}", hosts.port);
    let add = |number, host: Host| hosts.add_at(number, host, 1, &pds);
    let failing = || Host::Raw(error(500, "InternalServerError", ""));
    let dids: Vec<String> = (0..20).map(|number| add(number, failing())).collect();
    queue(&redis, &hosts.url(), &dids);
    let own = [
        ("BACKFILLER_HOST_CONCURRENCY", "1"),
        ("BACKFILLER_HOST_BACKOFF_MS", "3000"),
        ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "60000"),
        ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "60000"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it is set aside", || backfiller.metric("backfiller_hosts", "set_aside") == Some(1.0));
    let asked: u32 = dids.iter().map(|did| hosts.requests(did)).sum();
    assert_eq!(asked, 3, "the others are not failed with it");
    assert_eq!((left(&redis), dead(&redis).len()), (20, 0));
    // It recovers, and is found out by the one that is tried.
    for number in 0..20 {
        add(number, Host::Car(car(number)));
    }
    wait_until("those that did not fail are queued", || counts(&redis).len() == 17);
    assert_eq!(backfiller.metric("backfiller_hosts", "set_aside"), Some(0.0));
    assert_eq!((left(&redis), dead(&redis).len()), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_never_answers_is_given_up() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let pds = format!("http://127.5.0.1:{}", hosts.port);
    let failing = || Host::Raw(error(500, "InternalServerError", ""));
    let dids: Vec<String> = (0..20).map(|number| hosts.add_at(number, failing(), 1, &pds)).collect();
    let healthy = hosts.add(30, Host::Car(car(30)), 1);
    queue(&redis, &hosts.url(), dids.iter().chain([&healthy]));
    let own = [
        ("BACKFILLER_HOST_CONCURRENCY", "1"),
        ("BACKFILLER_HOST_BACKOFF_MS", "100"),
        ("BACKFILLER_HOST_GIVE_UP_SECS", "1"),
        ("MAX_ATTEMPTS", "50"),
    ];
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all are settled", || left(&redis) == 0);
    let dead = dead(&redis);
    assert_eq!(dead.len(), dids.len());
    assert!(dead.values().all(|reason| reason == "host_given_up"), "{dead:?}");
    assert_eq!(counts(&redis).len(), 1, "the other host is none of its business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_asks_for_an_eternity_gets_an_hour() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let headers = format!("retry-after: {}\r\n", u64::MAX);
    hosts.answer_instead(".well-known/did.json", Some(error(429, "", &headers)));
    let patient = format!("did:web:localhost%3A{}", hosts.port);
    let healthy = hosts.add(1, Host::Car(car(1)), 1);
    queue(&redis, &hosts.url(), [&patient]);
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("it asked", || hosts.documents_asked() > 0);
    queue(&redis, &hosts.url(), [&healthy]);
    wait_until("the other is queued", || counts(&redis).len() == 1 && left(&redis) == 1);
    backfiller.assert_class("rate_limited", 1.0);
    assert_eq!(dead(&redis).len(), 0);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_all_is_never_given_up() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    hosts.answer_instead("", Some(error(500, "InternalServerError", "")));
    let dids: Vec<String> = (0..20).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    queue(&redis, &hosts.url(), &dids);
    let own = [
        ("BACKFILLER_PLC_CONCURRENCY", "1"),
        ("BACKFILLER_HOST_BACKOFF_MS", "100"),
        ("BACKFILLER_HOST_GIVE_UP_SECS", "1"),
        ("MAX_ATTEMPTS", "50"),
    ];
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    // The pauses double, so the eighth request comes seconds after the first.
    wait_until("it has been tried for longer than a host is", || hosts.documents_asked() >= 8);
    assert_eq!((left(&redis), dead(&redis).len()), (20, 0));
    hosts.answer_instead("", None);
    wait_until("all are queued", || left(&redis) == 0);
    assert_eq!((counts(&redis).len(), dead(&redis).len()), (20, 0));
}

/// Directories of did:webs that take a connection and say nothing, more of them than may be asked at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_directories_of_single_accounts_hold_up_nobody_else() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let silent: Vec<TcpListener> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let webs: Vec<String> =
        silent.iter().map(|listener| format!("did:web:localhost%3A{}", port(listener))).collect();
    let healthy: Vec<String> = (0..30).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    queue(&redis, &hosts.url(), &webs);
    let own = [("BACKFILLER_CONCURRENCY", "10"), ("BACKFILLER_DID_TIMEOUT_MS", "60000")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all places are taken", || {
        let [running, waiting] = ["running", "waiting"]
            .map(|what| backfiller.metric(&format!("backfiller_repos_{what}"), "").unwrap());
        (running, waiting) == (10.0, 30.0)
    });
    queue(&redis, &hosts.url(), &healthy);
    wait_until("the others are queued", || counts(&redis).len() == healthy.len() && left(&redis) == 40);
    assert_eq!(dead(&redis).len(), 0);
}

/// A relay lists forty million repositories; asked for each of them, it would refuse us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_that_lists_repositories_is_not_asked_for_them() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let relay = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    relay.set_nonblocking(true).unwrap();
    let car = |number| Bytes::from(synthetic::car(&did(number), 3, 10, &synthetic::key(1)));
    let dids: Vec<String> = (0..20).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    queue(&redis, &format!("http://{}", relay.local_addr().unwrap()), &dids);
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("all are settled", || left(&redis) == 0);
    backfiller.assert_class("queued", 20.0);
    assert_eq!(relay.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(backfiller.terminate(), Some(0));
}
