//! Memory is bounded by the settings, not by how much waits or for how long.

use rsky_testnet::servers::{Postgres, Redis};

use crate::load::{events, like, padded_like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, count, length, pending, wait_drained,
    wait_until,
};
use crate::support::Db;

/// Peak of resident memory that the default settings (64 MiB of entries) stay below, in MiB.
const BOUND: u64 = 200;

/// Address space that the daemon may take beside what it has while it is idle: more than memory, since each thread sets some
/// aside.
const ROOM: u64 = 512 << 20;

/// Small entries first, so that reads are large; then many large ones in a row, whose trees are larger by far.
#[test]
fn a_hostile_backlog_passes_in_a_limited_address_space() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("hostile"));
    let idle = Indexer::start(&redis.url(), db.url(), &[]);
    add(&redis, LIVE, &[like(1_000_000)]);
    wait_drained(&redis, LIVE);
    let address_space = idle.peak_address_space();
    drop(idle);
    add(&redis, LIVE, &(0..2000).map(like).collect::<Vec<_>>());
    let lists =
        ["1", "[1]", "\"\"", r#"{"":1}"#].map(|value| vec![value; (2 << 20) / (value.len() + 1)].join(","));
    for number in 0..40 {
        let more = format!("\"more\":[{}],\"subject\"", lists[number % lists.len()]);
        add(&redis, LIVE, &[like(2_000_000 + number).replacen("\"subject\"", &more, 1)]);
    }
    add(&redis, LIVE, &(10_000..10_500).map(like).collect::<Vec<_>>());
    let indexer =
        Indexer::start_within(address_space + ROOM, &redis.url(), db.url(), &[("INDEXER_MEMORY", "4MiB")]);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    println!("peak: {} MiB", indexer.peak_mib());
    // The entries, a tree at a time with what the allocator keeps of the one before, and what is on its way into the database.
    // All entries at once, twice, with a tree a core, are more.
    assert!(indexer.peak_mib() < 288, "{} MiB", indexer.peak_mib());
    assert_eq!(count(&db, "\"like\""), 2541);
    assert_eq!(count(&db, "record WHERE length(json) > 2000000"), 40);
}

/// Postgres is frozen: connections stay open and nothing answers, as with a disk that hangs. The streams are far larger
/// than what may be held.
#[test]
fn two_hundred_thousand_entries_wait_for_a_frozen_postgres() {
    let redis = Redis::start().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let database = postgres.create_database("frozen").unwrap();
    let indexer = Indexer::start(&redis.url(), &database.url, &[]);
    add(&redis, LIVE, &[like(1_000_000)]);
    wait_drained(&redis, LIVE);
    postgres.pause().unwrap();
    // Entries that are nothing to do for the database are many and cheap to get rid of afterwards.
    let small: Vec<String> = (0..1000).map(account).collect();
    for _ in 0..195 {
        add(&redis, LIVE, &small);
    }
    let large: Vec<String> = (0..150).map(|number| padded_like(number, 1 << 20)).collect();
    for chunk in large.chunks(10) {
        add(&redis, LIVE, chunk);
        add(&redis, LIVE, &(0..50).map(|n| like(2_000_000 + n)).collect::<Vec<_>>());
    }
    add(&redis, LIVE, &events(51, 5000));
    // Likes first in the stream's order: the lanes hold what they cannot write, and reading comes to a stop.
    let mut held = -1;
    wait_until("reading has stopped", || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        let now = pending(&redis, LIVE).unwrap();
        std::mem::replace(&mut held, now) == now
    });
    assert!(held > 0 && length(&redis, LIVE) > held, "{held} held: nothing was left to wait for");
    let waiting = indexer.peak_mib();
    postgres.resume().unwrap();
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    let peak = indexer.peak_mib();
    println!("peak: {waiting} MiB while it waited, {peak} MiB at the end");
    assert!(peak < BOUND, "{waiting} MiB while it waited, {peak} MiB at the end");
    assert_eq!(database.sql("SELECT count(*) FROM record WHERE length(json) > 1000000").unwrap(), "150");
}

fn account(number: usize) -> String {
    format!(
        r#"{{"type":"account","seq":{number},"time":"2024-02-01T00:00:00.000Z","did":"did:plc:account{number}","active":false,"status":"throttled"}}"#
    )
}

/// The settings as they come: the old indexer's stood still on them (FAILURES P14).
#[test]
fn the_default_settings_drain_fifty_thousand_events() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("defaults"));
    let payloads = events(52, 50_000);
    add(&redis, LIVE, &payloads);
    let environment = [("METRICS_PORT", "0")];
    let indexer = Indexer::start(&redis.url(), db.url(), &environment);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert!(indexer.peak_mib() < BOUND, "{} MiB", indexer.peak_mib());
    indexer.assert_metric("indexer_entries_total", &["outcome=\"indexed\""], 50_000);
    assert_as_undisturbed(db.url(), &payloads);
}

/// Far more lanes asked for than there are connections.
#[test]
fn a_hundred_lanes_and_three_connections() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("lanes"));
    let payloads = events(53, 4000);
    add(&redis, LIVE, &payloads);
    let settings = [("INDEXER_CONCURRENCY", "100"), ("DB_POOL_MAX_SIZE", "3"), ("INDEXER_BATCH_SIZE", "50")];
    let _indexer = Indexer::start(&redis.url(), db.url(), &settings);
    let connections =
        "pg_stat_activity WHERE datname = current_database() AND application_name = 'rsky-indexer'";
    let mut most = 0;
    wait_until("it is drained", || {
        most = most.max(crate::process::count(&db, connections));
        pending(&redis, LIVE) == Some(0) && length(&redis, LIVE) == 0
    });
    // The one that looks at the schema is closed before the lanes open theirs, which Postgres may notice late.
    assert!((1..=4).contains(&most), "{most} connections");
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(db.url(), &payloads);
}
