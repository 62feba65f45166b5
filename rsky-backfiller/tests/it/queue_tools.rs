//! The commands for people.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, counts, did, error};
use crate::support::{Backfiller, entries, left, length, queue, wait_until};
use crate::synthetic;

fn tool(redis: &Redis, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backfiller"));
    command.args(arguments).env("REDIS_URL", redis.url()).env_remove("REDIS_HOST");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_are_queued_by_did_file_and_standard_input() {
    let redis = Redis::start().unwrap();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dids-{}", std::process::id()));
    std::fs::write(&file, "# some\ndid:plc:b\n\ndid:web:c.example\n").unwrap();
    let (fine, said) =
        tool(&redis, &["enqueue", "did:plc:a", file.to_str().unwrap(), "-", "--priority"], "did:plc:d\n");
    assert!(fine && said.contains("queued 4"), "{said}");
    std::fs::remove_file(file).unwrap();
    let queued: Vec<String> = entries(&redis, "repo_backfill_priority")
        .into_iter()
        .map(|mut entry| entry.remove("repo").unwrap())
        .collect();
    assert_eq!(queued[0], r#"{"did":"did:plc:a","host":"","rev":""}"#);
    assert_eq!(queued.len(), 4);
    let (fine, said) = tool(&redis, &["enqueue"], "");
    assert!(!fine && said.contains("nothing to queue"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_resolved_where_they_are_told() {
    let network = rsky_testnet::network::Network::builder()
        .handle("alice.test", "did:plc:alice")
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let url = network.url();
    let run = |handle: &'static str| {
        let (redis, url) = (&redis, url.clone());
        tool(redis, &["enqueue", handle, "--resolver", &url], "")
    };
    let (fine, said) = run("alice.test");
    assert!(fine, "{said}");
    assert!(entries(&redis, "repo_backfill")[0]["repo"].contains("did:plc:alice"));
    let (fine, said) = run("nobody.test");
    assert!(!fine && said.contains("nobody.test"), "{said}");
    network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_retried_and_dropped() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let dids = [
        hosts.add(1, Host::Raw(error(500, "InternalServerError", "")), 1),
        hosts.add(2, Host::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx".to_vec()), 1),
    ];
    queue(&redis, &hosts.url(), &dids);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "1")]);
    wait_until("it is ready", || backfiller.get("/readyz").0 == 200);
    wait_until("both are given up", || length(&redis, "repo_backfill_dlq") == 2);
    let (_, said) = tool(&redis, &["dead-letters", "list"], "");
    for part in [
        "server_error: 1",
        "bad_car: 1",
        &dids[0],
        "HTTP 500 InternalServerError said by the test",
        "a proxy",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (_, said) = tool(&redis, &["dead-letters", "show", "--reason", "bad_car"], "");
    assert!(said.contains("source_id") && said.contains(&dids[1]) && !said.contains(&dids[0]), "{said}");
    let (fine, said) = tool(&redis, &["dead-letters", "drop"], "");
    assert!(!fine && said.contains("--all"), "{said}");
    let car = Bytes::from(synthetic::car(&did(1), 2, 5, &synthetic::key(1)));
    hosts.add(1, Host::Car(car), 1);
    let (_, said) = tool(&redis, &["dead-letters", "retry", "--reason", "server_error"], "");
    assert!(said.contains("1 back"), "{said}");
    wait_until("it is queued", || left(&redis) == 0 && counts(&redis).get(&dids[0]) == Some(&(2, 1)));
    let (_, said) = tool(&redis, &["dead-letters", "drop", "--all"], "");
    assert!(said.contains("1 removed"), "{said}");
    assert_eq!(length(&redis, "repo_backfill_dlq"), 0);
    let (_, said) = tool(&redis, &["status", "--seconds", "1"], "");
    assert!(said.contains("repo_backfill: 0 repositories") && said.contains("nothing is left"), "{said}");
    assert!(said.contains("backfiller test: 0 repositories in work") && said.contains("hosts:"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_come_back_are_not_retried_again() {
    let redis = Redis::start().unwrap();
    for page in 0..30 {
        let mut entries = vec!["EVAL".to_owned(), LETTERS.to_owned(), "0".to_owned()];
        entries.extend((0..100).map(|number| format!("nonsense {page} {number}")));
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        redis.command(&entries).unwrap();
    }
    let backfiller = Backfiller::start(&redis.url(), "http://127.0.0.1:1", &[]);
    wait_until("it is ready", || backfiller.get("/readyz").0 == 200);
    // What is put back fails at once, and is a letter again.
    let (fine, said) = tool(&redis, &["dead-letters", "retry", "--all"], "");
    assert!(fine && said.contains("3000 back"), "{said}");
    wait_until("all are letters again", || length(&redis, "repo_backfill_dlq") == 3000);
    assert_eq!(left(&redis), 0);
    backfiller.assert_class("bad_entry", 3000.0);
}

/// Adds a dead letter for each argument.
const LETTERS: &str = "for _, text in ipairs(ARGV) do \
redis.call('XADD', 'repo_backfill_dlq', '*', 'repo', text, 'reason', 'bad_entry') end";

#[test]
fn help_lists_every_setting() {
    let output = Command::new(env!("CARGO_BIN_EXE_backfiller")).arg("--help").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for name in [
        "REDIS_URL",
        "BACKFILLER_CONCURRENCY",
        "ALLOW_PRIVATE_ADDRESSES",
        "PLC_URL",
        "BACKFILLER_MEMORY_PER_REPO",
        "dead-letters",
    ] {
        assert!(said.contains(name), "{name}: {said}");
    }
}
