//! Large repositories, many at once, in a bound that is known before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsky_testnet::network::hostile;
use rsky_testnet::servers::Redis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::hosts::{Host, Hosts, did};
use crate::kinds::empty_nodes;
use crate::support::{Backfiller, PATIENCE, dead, entries, left, length, queue, wait_until};
use crate::synthetic;

/// Serves repositories of `records` records, made while they are sent; PLC documents too.
async fn serve(records: usize, padding: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let base: Arc<str> = url.as_str().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let base = Arc::clone(&base);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let line = String::from_utf8_lossy(&request[..read])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .replace("%3A", ":");
                let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let Some(did) = target.strip_prefix("/xrpc/com.atproto.sync.getRepo?did=").map(str::to_owned)
                else {
                    let document =
                        synthetic::document(target.trim_start_matches('/'), &synthetic::key(1), &base)
                            .to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        document.len()
                    );
                    drop(stream.write_all((head + &document).as_bytes()).await);
                    return;
                };
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await);
                let (sender, mut pieces) = tokio::sync::mpsc::channel::<Vec<u8>>(2);
                let making = tokio::task::spawn_blocking(move || {
                    synthetic::write_car(&did, records, padding, &synthetic::key(1), &mut |piece| {
                        drop(sender.blocking_send(piece.to_vec()))
                    });
                });
                while let Some(piece) = pieces.recv().await {
                    if stream.write_all(&piece).await.is_err() {
                        break;
                    }
                }
                drop(pieces);
                drop(making.await);
            });
        }
    });
    url
}

async fn peak(repositories: usize, records: usize, padding: usize, settings: &[(&str, &str)]) -> (u64, u64) {
    peak_within(PATIENCE, repositories, records, padding, settings).await
}

async fn peak_within(
    patience: Duration,
    repositories: usize,
    records: usize,
    padding: usize,
    settings: &[(&str, &str)],
) -> (u64, u64) {
    let redis = Redis::start().unwrap();
    let url = serve(records, padding).await;
    queue(&redis, &url, (0..repositories).map(did));
    let mut backfiller = Backfiller::start(&redis.url(), &url, settings);
    let started = Instant::now();
    while left(&redis) > 0 {
        assert!(started.elapsed() < patience, "not settled within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let written = i64::try_from(repositories * (records + 1)).unwrap();
    assert_eq!(length(&redis, "firehose_backfill"), written);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    let peak = backfiller.peak_memory();
    let (peak_mib, bound_mib, took) = (peak >> 20, bound >> 20, started.elapsed());
    println!(
        "{repositories} repositories of {records} records: peak {peak_mib} MiB, bound {bound_mib} MiB, {took:.1?}"
    );
    assert!(backfiller.log().contains(&format!("memory is bounded by {} MiB", bound >> 20)));
    assert_eq!(backfiller.terminate(), Some(0));
    (peak, bound)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_repository_far_beyond_its_memory() {
    let settings = [
        ("BACKFILLER_MEMORY_PER_REPO", "1MiB"),
        ("BACKFILLER_CONCURRENCY", "1"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000000"),
    ];
    let (peak, bound) = peak(1, 60_000, 800, &settings).await;
    assert!(peak <= bound, "{peak} {bound}");
}

/// One beside fifty at once, under the same settings and so the same bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_fifty_at_once() {
    let settings = [
        ("BACKFILLER_MEMORY_PER_REPO", "256KiB"),
        ("BACKFILLER_CONCURRENCY", "50"),
        ("BACKFILLER_HOST_CONCURRENCY", "50"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000000"),
    ];
    for repositories in [1, 50] {
        let (peak, bound) = peak(repositories, 2500, 400, &settings).await;
        assert!(peak <= bound, "{repositories}: {peak} {bound}");
    }
}

/// The same with large ones and the settings as they are by default.
#[ignore = "takes minutes"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_fifty_large_ones_at_once() {
    let settings =
        [("BACKFILLER_HOST_CONCURRENCY", "50"), ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "10000000")];
    for repositories in [1, 50] {
        let patience = Duration::from_secs(1800);
        let (peak, bound) = peak_within(patience, repositories, 60_000, 800, &settings).await;
        assert!(peak <= bound, "{repositories}: {peak} {bound}");
    }
}

/// The defaults would take three times as much as the address space that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_fit_a_narrow_address_space() {
    const LIMIT: u64 = 1 << 30;
    let redis = Redis::start().unwrap();
    let url = serve(3000, 400).await;
    queue(&redis, &url, (0..20).map(did));
    let mut backfiller = Backfiller::start_within(LIMIT, &redis.url(), &url, &[]);
    wait_until("all are settled", || left(&redis) == 0);
    assert_eq!(length(&redis, "firehose_backfill"), 20 * 3001);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    assert!(bound <= LIMIT / 2 && backfiller.peak_memory() <= bound, "{bound}");
    let (_, status) = backfiller.get("/status");
    let log = backfiller.log();
    for said in
        ["(50 % of 1024 MiB, address space, RLIMIT_AS)", "lowered to fit: BACKFILLER_CONCURRENCY 50 to "]
    {
        assert!(log.contains(said) && status.contains(said), "{said}: {status} {log}");
    }
    assert_eq!(backfiller.terminate(), Some(0));

    // What was set by hand is kept, with a warning.
    let own = [("BACKFILLER_CONCURRENCY", "50"), ("BACKFILLER_MEMORY_PER_REPO", "32MiB")];
    let backfiller = Backfiller::start_within(LIMIT, &redis.url(), &url, &own);
    wait_until("a warning", || {
        backfiller.log().contains("BACKFILLER_CONCURRENCY, BACKFILLER_MEMORY_PER_REPO set by hand and kept")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_empty_nodes() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let car = empty_nodes(1, 1_000_000);
    println!("{} MiB of empty nodes", car.len() >> 20);
    let bad = hosts.add(1, Host::Car(car), 1);
    queue(&redis, &hosts.url(), [&bad]);
    let settings = [("BACKFILLER_MEMORY_PER_REPO", "1MiB"), ("BACKFILLER_CONCURRENCY", "1")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("it is settled", || left(&redis) == 0);
    assert_eq!(dead(&redis).get(&bad).map(String::as_str), Some("bad_tree"));
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    let peak = backfiller.peak_memory();
    println!("peak {} MiB, bound {} MiB", peak >> 20, bound >> 20);
    assert!(peak <= bound);
}

/// Records that are made to grow: in memory as members, as text, or under many keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_records() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let blocks = hostile::blocks();
    let repository = |(number, (_, block)): (usize, &(&str, Vec<u8>))| {
        let car = hostile::repository(&did(number), std::slice::from_ref(block), 20);
        hosts.add(number, Host::Car(car.into()), 1)
    };
    let dids: Vec<String> = blocks.iter().enumerate().map(repository).collect();
    queue(&redis, &hosts.url(), &dids);
    let settings = [
        ("BACKFILLER_MEMORY_PER_REPO", "1MiB"),
        ("BACKFILLER_CONCURRENCY", "4"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000000"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("all are settled", || left(&redis) == 0);
    // Those that become far more than they are; of the others every record is an entry or a dead letter.
    assert!(dead(&redis).values().all(|reason| reason == "too_large"), "{:?}", dead(&redis));
    wait_until("the others are counted", || backfiller.class("queued") >= 10.0);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    let peak = backfiller.peak_memory();
    println!("peak {} MiB, bound {} MiB", peak >> 20, bound >> 20);
    assert!(peak <= bound);
}

/// As many as there are places by default, each with 100 keys that name one hostile record, in hardly more address space than
/// the bound: one allocation too many would end the process. While nothing is taken from the output, they keep their places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_repositories_in_a_limited_address_space() {
    const HOSTILE: usize = 60;
    const GOOD: usize = 20;
    /// Code, stacks of the threads (two mebibytes each), what the allocator has set aside.
    const BESIDE: u64 = 256 << 20;
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let pds = hosts.own_pds(1);
    let kinds = ["what JavaScript loses", "the same key", "far too many keys", "many keys", "empty maps"];
    let blocks: Vec<_> = hostile::blocks().into_iter().filter(|(name, _)| kinds.contains(name)).collect();
    assert_eq!(blocks.len(), kinds.len());
    let hostile = |number: usize| {
        let (_, block) = &blocks[number % blocks.len()];
        let car = hostile::repository(&did(number), std::slice::from_ref(block), 100);
        hosts.add_at(number, Host::Car(car.into()), 1, &pds)
    };
    let good = |number: usize| {
        let car = synthetic::car(&did(number), 1000, 100, &synthetic::key(1));
        hosts.add_at(number, Host::Car(car.into()), 1, &pds)
    };
    let first = good(HOSTILE + GOOD);
    queue(&redis, &hosts.url(), [&first]);
    let dids: Vec<String> = (0..HOSTILE).map(hostile).chain((HOSTILE..HOSTILE + GOOD).map(good)).collect();
    let settings = [
        // Set by hand, or the plan would lower them in a limited address space.
        ("BACKFILLER_MEMORY_PER_REPO", "1MiB"),
        ("BACKFILLER_CONCURRENCY", "50"),
        ("BACKFILLER_QUEUE", "1000"),
        ("BACKFILLER_DID_CACHE", "20000"),
        ("BACKFILLER_HOST_CONCURRENCY", "50"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000"),
        ("MALLOC_ARENA_MAX", "2"),
    ];
    let idle = Redis::start().unwrap();
    let bound =
        |backfiller: &Backfiller| backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    let bound = bound(&Backfiller::start(&idle.url(), &hosts.url(), &settings));
    let mut backfiller = Backfiller::start_within(bound + BESIDE, &redis.url(), &hosts.url(), &settings);
    // From a host that has answered, all places may be taken.
    let take_out = || redis.command(&["RENAME", "firehose_backfill", "taken"]).is_ok();
    wait_until("the first is queued", || !take_out() && left(&redis) == 0);
    queue(&redis, &hosts.url(), &dids);
    wait_until("the places are taken", || backfiller.metric("backfiller_repos_running", "").unwrap() >= 50.0);
    let mut repos = BTreeSet::new();
    wait_until("all are settled", || {
        assert!(backfiller.is_running(), "{}", backfiller.log());
        if take_out() {
            repos.extend(entries(&redis, "taken").into_iter().filter_map(|mut entry| {
                let event = entry.remove("event")?;
                event.contains(r#""type":"repo""#).then_some(event)
            }));
        }
        left(&redis) == 0
    });
    let is_whole = |did: &String| repos.iter().any(|event| event.contains(did));
    assert!(dids[HOSTILE..].iter().all(is_whole), "{repos:?}");
    let told = dids.iter().filter(|did| is_whole(did) || dead(&redis).contains_key(*did)).count();
    assert_eq!(told, dids.len(), "{:?}", dead(&redis));
    let (peak, space) = (backfiller.peak_memory() >> 20, backfiller.peak_address_space() >> 20);
    println!("peak {peak} MiB of {} MiB, address space {space} MiB", bound >> 20);
    assert!(peak <= bound >> 20);
    assert_eq!(backfiller.terminate(), Some(0));
}

/// While nothing is taken from the output, repositories keep their files: others find no room, and come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_share_the_disk() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let mut dids = Vec::new();
    for number in 0..6 {
        let car = synthetic::car(&did(number), 2000, 400, &synthetic::key(1));
        dids.push(hosts.add(number, Host::Car(car.into()), 1));
    }
    let large = hosts.add(6, Host::Car(synthetic::car(&did(6), 6000, 800, &synthetic::key(1)).into()), 1);
    dids.push(large.clone());
    queue(&redis, &hosts.url(), &dids);
    let settings = [
        ("BACKFILLER_MEMORY_PER_REPO", "64KiB"),
        ("BACKFILLER_DISK_BYTES", "3MiB"),
        ("BACKFILLER_CONCURRENCY", "8"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("one finds no room", || backfiller.class("no_disk") >= 1.0);
    wait_until("all are settled", || {
        redis.command(&["DEL", "firehose_backfill"]).unwrap();
        left(&redis) == 0
    });
    assert_eq!(dead(&redis), [(large, "too_large".to_owned())].into());
    backfiller.assert_class("queued", 6.0);
}

/// Minutes in a debug build; run with `-- --ignored`.
#[ignore = "takes minutes"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_records() {
    let settings =
        [("BACKFILLER_CONCURRENCY", "1"), ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "10000000")];
    let (peak, bound) = peak_within(std::time::Duration::from_secs(1800), 1, 2_000_000, 20, &settings).await;
    assert!(peak <= bound, "{peak} {bound}");
}

/// Entries that are none, each of a mebibyte, while there is no room for their letters: nothing of them is kept but a beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_entries_of_the_repository_stream() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let mut client = redis.client().unwrap();
    let large = format!(r#"{{"did":"{}","status":"{}"}}"#, did(1), "x".repeat(1 << 20));
    (0..240).for_each(|_| drop(client.command(&["XADD", "repo_backfill", "*", "repo", &large]).unwrap()));
    let car = synthetic::car(&did(2), 3, 10, &synthetic::key(1));
    let good = hosts.add(2, Host::Car(car.into()), 1);
    queue(&redis, &hosts.url(), [&good]);
    let settings = [("BACKFILLER_CONCURRENCY", "1"), ("DLQ_MAX_LEN", "10")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    wait_until("the one behind them is fetched", || backfiller.class("queued") == 1.0);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap() as u64;
    let peak = backfiller.peak_memory();
    assert!(peak <= bound, "{peak} {bound}");
    assert!(peak < 120 << 20, "{peak}: half of what the entries take");
    assert_eq!(backfiller.terminate(), Some(0));
}
