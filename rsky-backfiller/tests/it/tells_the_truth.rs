//! What the pages say is what is so, while stages stand still.

use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, did, error};
use crate::support::{Backfiller, dead, left, length, queue, wait_until};
use crate::synthetic;

fn add(hosts: &Hosts, number: usize) -> String {
    let car = synthetic::car(&did(number), 3, 20, &synthetic::key(1));
    hosts.add(number, Host::Car(car.into()), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_writes_is_backpressure() {
    let hosts = Hosts::start().await;
    let redis = Redis::builder().policy("noeviction").start().unwrap();
    let account = add(&hosts, 1);
    queue(&redis, &hosts.url(), [&account]);
    hosts.answer_instead("", Some(error(500, "InternalServerError", "")));
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("it is in work", || backfiller.class("directory_down") >= 1.0);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    hosts.answer_instead("", None);
    let active = || backfiller.metric("backfiller_backpressure_active", "firehose_backfill");
    wait_until("it says so", || active() == Some(1.0));
    let (_, status) = backfiller.get("/status");
    assert!(status.contains(r#""reason":"redis""#), "{status}");
    let (ready, said) = backfiller.get("/readyz");
    assert!(ready == 503 && said.contains("maxmemory"), "{ready} {said}");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    wait_until("it is queued", || left(&redis) == 0);
    assert_eq!((active(), dead(&redis).len()), (Some(0.0), 0));
    wait_until("ready", || backfiller.get("/readyz").0 == 200);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_does_not_say_is_not_told() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let far = ["ZADD", "repo_backfill:delayed", "99999999999999", "n|1|{\"did\":\"did:plc:a\"}"];
    redis.command(&far).unwrap();
    let account = add(&hosts, 1);
    queue(&redis, &hosts.url(), [&account]);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    let figures = || {
        let delayed = backfiller.metric("backfiller_repos_delayed", "");
        (delayed, backfiller.metric("backfiller_stream_length", "firehose_backfill"))
    };
    wait_until("both are told", || figures() == (Some(1.0), Some(4.0)));
    assert_eq!(length(&redis, "firehose_backfill"), 4);
    // Nobody writes any more; the indexers take out what there is.
    redis.command(&["DEL", "firehose_backfill"]).unwrap();
    wait_until("the length is that of now", || figures() == (Some(1.0), Some(0.0)));
    redis.command(&["CLIENT", "PAUSE", "25000"]).unwrap();
    wait_until("nothing is known any more", || figures() == (None, None));
    wait_until("it is known again", || figures() == (Some(1.0), Some(0.0)));
}

/// What waits and what is in work is told while nothing gets on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_is_in_work_or_waits() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let pds = format!("http://127.5.0.1:{}", hosts.port);
    let dids: Vec<String> = (0..30).map(|number| hosts.add_at(number, Host::Hangs, 1, &pds)).collect();
    queue(&redis, &hosts.url(), &dids);
    let own = [("BACKFILLER_HOST_CONCURRENCY", "4"), ("BACKFILLER_HTTP_TIMEOUT_SECS", "600")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    let gauge = |name: &str, label: &str| backfiller.metric(name, label).unwrap();
    wait_until("they are taken", || {
        let [running, waiting] =
            ["running", "waiting"].map(|what| gauge(&format!("backfiller_repos_{what}"), ""));
        (running, waiting) == (4.0, 26.0)
    });
    assert_eq!(gauge("backfiller_hosts", "fine"), 2.0, "the directory and the host");
    let (_, status) = backfiller.get("/status");
    assert!(
        status.contains(r#""repositories_running":4"#) && status.contains(r#""repositories_waiting":26"#),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_look_loses_the_look_only() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let mut rules =
        vec!["ACL", "SETUSER", "worker", "on", ">secret", "~repo_backfill*", "~firehose_backfill*"];
    rules.extend(["+@all", "-info", "-memory"]);
    redis.command(&rules).unwrap();
    let url = redis.url().replace("redis://", "redis://worker:secret@");
    let account = add(&hosts, 1);
    queue(&redis, &hosts.url(), [&account]);
    let mut backfiller = Backfiller::start(&url, &hosts.url(), &[]);
    wait_until("it is queued", || left(&redis) == 0);
    wait_until("the page shows why", || backfiller.get("/status").1.contains("lacks a permission"));
    assert!(backfiller.is_running());
    assert_eq!(backfiller.metric("backfiller_stream_length", "firehose_backfill"), Some(4.0));
    let other = add(&hosts, 2);
    queue(&redis, &hosts.url(), [&other]);
    wait_until("it goes on", || left(&redis) == 0);
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_texts_of_a_host_forge_no_log_lines() {
    let forged = "2026-01-01T00:00:00.000000Z  INFO rsky_backfiller: all is well";
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let body = format!(r#"{{"error":"Unheard","message":"x\r\n{forged}\n\u001b[2J{}"}}"#, "y".repeat(50_000));
    let answer = format!("HTTP/1.1 400 X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let account = hosts.add(1, Host::Raw(answer.into_bytes()), 1);
    queue(&redis, &hosts.url(), [&account]);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "1")]);
    wait_until("it is a letter", || dead(&redis).contains_key(&account));
    let log = backfiller.log();
    assert!(log.contains("all is well"), "it is told: {log}");
    assert!(log.lines().all(|line| !line.starts_with(forged) && line.len() < 4_000), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_root_certificates_it_says_so_and_stops() {
    let redis = Redis::start().unwrap();
    let own = [("SSL_CERT_FILE", "/nowhere/certificates.pem"), ("SSL_CERT_DIR", "/nowhere")];
    let mut backfiller = Backfiller::start(&redis.url(), "http://127.0.0.1:1", &own);
    assert_eq!(backfiller.exit_code(), Some(1));
    assert!(backfiller.log().contains("root certificates"), "{}", backfiller.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_are_not_used_and_that_is_said() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let account = add(&hosts, 1);
    queue(&redis, &hosts.url(), [&account]);
    // Nothing listens there.
    let own = [("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it is queued", || left(&redis) == 0);
    assert!(backfiller.log().contains("HTTP_PROXY is set and not used"), "{}", backfiller.log());
}
