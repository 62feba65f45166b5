//! The life of the process: waits for its servers, refuses what it cannot work with, stops without leaving anything.

use std::path::Path;
use std::time::Duration;

use rsky_testnet::servers::{Postgres, Redis, Signal};
use rsky_testnet::service_manager::ServiceManager;

use crate::load::{events, like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_as_undisturbed_in_any_order, length, pending,
    pending_of, run, wait_drained, wait_until,
};
use crate::support::Db;

/// SIGTERM and SIGINT in the middle of work: exit code 0, and nothing left to a consumer that may never come back.
#[test]
fn a_stop_under_load_leaves_nothing_pending() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("stops"));
    // What has been read is finished: several times as much as that.
    let payloads = events(41, 30_000);
    add(&redis, LIVE, &payloads);
    let mut stopped_at_work = 0;
    for (number, signal) in [Signal::Term, Signal::Int, Signal::Term, Signal::Int].into_iter().enumerate() {
        // On a busy machine what was read takes longer than the eight seconds of the default.
        let settings = [("INDEXER_BATCH_SIZE", "100"), ("SHUTDOWN_TIMEOUT_MS", "600000")];
        let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
        let before = length(&redis, LIVE);
        wait_until("it is at work", || length(&redis, LIVE) < before);
        indexer.signal(signal);
        assert_eq!(indexer.exit_code(), Some(0), "stop {number}: {}", indexer.log());
        assert_eq!(pending_of(&redis, LIVE, "a"), Vec::<String>::new(), "stop {number}");
        stopped_at_work += usize::from(length(&redis, LIVE) > 0);
    }
    assert!(stopped_at_work >= 2, "only {stopped_at_work} stops came while there was work");
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    assert!(!indexer.log().contains("left pending"), "{}", indexer.log());
    assert_as_undisturbed(db.url(), &payloads);
}

/// With Postgres away a stop does not wait for it: what was read stays pending, and is there after the next start.
#[test]
fn a_stop_while_postgres_is_away_keeps_the_entries_pending() {
    let redis = Redis::start().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let database = postgres.create_database("stops_away").unwrap();
    let payloads = events(42, 500);
    let mut indexer = Indexer::start(&redis.url(), &database.url, &[]);
    wait_until("it is ready", || indexer.get("/readyz").0 == 200 && pending(&redis, LIVE) == Some(0));
    postgres.stop_fast().unwrap();
    add(&redis, LIVE, &payloads);
    wait_until("it waits for Postgres", || indexer.get("/readyz").0 == 503);
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
    assert!(!pending_of(&redis, LIVE, "a").is_empty());
    assert_eq!(length(&redis, LIVE), 500);
    postgres.restart().unwrap();
    indexer.restart();
    wait_drained(&redis, LIVE);
    assert!(indexer.log().contains("took up entries left pending"), "{}", indexer.log());
    assert_as_undisturbed(&database.url, &payloads);
}

/// Started before both its servers: alive, not ready, with the reason; ready when they are there.
#[test]
fn it_starts_before_its_servers() {
    let (mut redis, mut postgres) =
        (Redis::start().unwrap(), Postgres::builder().durable(true).start().unwrap());
    let database = postgres.create_database("starts_first").unwrap();
    redis.stop().unwrap();
    postgres.stop_fast().unwrap();
    let manager = ServiceManager::open(Path::new("/tmp"), "rsky-indexer");
    let environment = manager.environment(Duration::from_secs(1));
    let settings = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut indexer = Indexer::start(&redis.url(), &database.url, &settings);
    let not_ready = |part: &str| {
        wait_until(part, || {
            let (status, body) = indexer.get("/readyz");
            status == 503 && body.lines().any(|line| line.starts_with(part) && !line.ends_with("starting"))
        });
    };
    not_ready("redis: no connection to Redis");
    assert_eq!(indexer.get("/healthz").0, 200);
    assert!(indexer.log().contains("waiting for it"), "{}", indexer.log());
    let said = manager.wait_for("STATUS=waits: redis: no connection");
    assert!(said.iter().any(|line| line == "WATCHDOG=1"), "waiting is a reason: {said:?}");
    redis.restart().unwrap();
    not_ready("postgres: ");
    let mut said = manager.wait_for("STATUS=waits: postgres: ");
    said.extend(manager.wait_for("EXTEND_TIMEOUT_USEC=30000000"));
    assert!(!said.iter().any(|line| line == "READY=1"), "{said:?}");
    postgres.restart().unwrap();
    wait_until("it is ready without a single entry", || indexer.get("/readyz").0 == 200);
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    // What it has to tell is there from the start (FAILURES P34).
    let (_, metrics) = indexer.get("/metrics");
    for series in [
        "stream_indexer_messages_processed_total{stream=\"firehose_live\"",
        "stream_indexer_messages_waiting_count{stream=\"firehose_backfill\"",
        "label_indexer_messages_failed_total{stream=\"label_live\"",
        "indexer_lag_seconds{stream=\"firehose_live\"",
        "indexer_batch_entries_bucket",
    ] {
        assert!(metrics.contains(series), "{series}:\n{metrics}");
    }
    add(&redis, LIVE, &[like(1)]);
    wait_drained(&redis, LIVE);
    assert_eq!(indexer.terminate(), Some(0));
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_stop_while_it_waits_for_its_servers_is_a_clean_one() {
    let mut redis = Redis::start().unwrap();
    redis.stop().unwrap();
    let mut indexer = Indexer::start(&redis.url(), "postgres://postgres@127.0.0.1:1/none", &[]);
    wait_until("it waits", || indexer.log().contains("waiting for it"));
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
}

/// Two processes under one name disturb each other and lose nothing; the second says so.
#[test]
fn two_of_one_name_lose_nothing() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("namesakes"));
    let payloads = events(43, 3000);
    let [first, second] = [(); 2].map(|()| {
        let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "50")]);
        wait_until("it is ready", || indexer.get("/readyz").0 == 200);
        wait_until("it has read", || {
            let consumers = redis.command(&["XINFO", "CONSUMERS", LIVE, "firehose_group"]);
            consumers.is_ok_and(|consumers| !consumers.items().is_empty())
        });
        indexer
    });
    assert!(!first.log().contains("consumer of this name"), "{}", first.log());
    wait_until("it says so", || second.log().contains("consumer of this name was active"));
    add(&redis, LIVE, &payloads);
    wait_drained(&redis, LIVE);
    assert_as_undisturbed_in_any_order(db.url(), &payloads);
}

/// What waiting does not cure ends the process with code 1 and names what to change.
#[test]
fn what_does_not_fit_ends_it() {
    let db = Db::new("refuses");
    let redis = Redis::start().unwrap();
    let ends = |redis_url: &str, database_url: &str, settings: &[(&str, &str)], words: &[&str]| {
        let mut indexer = Indexer::start(redis_url, database_url, settings);
        assert_eq!(indexer.exit_code(), Some(1), "{}", indexer.log());
        for word in words {
            assert!(indexer.log().contains(word), "{word}: {}", indexer.log());
        }
        assert!(!indexer.log().contains("hunter2"), "a password in the log: {}", indexer.log());
    };
    let missing = db.url().rsplit_once('/').unwrap().0.to_owned() + "/nowhere";
    ends(&redis.url(), &missing, &[], &["DATABASE_URL", "nowhere"]);
    let nobody = db.url().replacen("postgres@", "nobody:hunter2@", 1);
    ends(&redis.url(), &nobody, &[], &["DATABASE_URL", "nobody"]);
    ends(
        &redis.url(),
        db.url(),
        &[("DATABASE_SCHEMA", "elsewhere")],
        &["DATABASE_SCHEMA", "there is no schema \"elsewhere\""],
    );
    redis.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    let wrong = redis.url().replacen("redis://", "redis://:hunter2@", 1);
    ends(&wrong, db.url(), &[], &["REDIS_URL"]);
    ends(&redis.url(), db.url(), &[], &["REDIS_URL"]);
    let redis = Redis::start().unwrap();
    db.sql("ALTER TABLE record DROP COLUMN json; DROP TABLE \"like\" CASCADE");
    ends(
        &redis.url(),
        db.url(),
        &[],
        &["record.\"json\" is missing", "table \"like\" is missing", "nothing is changed"],
    );
}

#[test]
fn settings_at_fault_are_named_all_at_once() {
    let ran = run(&[], &[], "");
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("REDIS_URL") && ran.err.contains("DATABASE_URL"), "{}", ran.err);
    let bad = [
        ("REDIS_URL", "http://x"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("INDEXER_MODE", "both"),
        ("INDEXER_BATCH_SIZE", "0"),
        ("INDEXER_CONCURRENCY", "many"),
        ("INDEXER_MEMORY", "1 elephant"),
        ("INDEXER_CLAIM_IDLE_MS", "-1"),
        ("DB_POOL_MAX_SIZE", "0"),
        ("METRICS_PORT", "70000"),
        ("RUST_LOG", "=!="),
        ("REDIS_ALLOW_EVICTION", "perhaps"),
    ];
    let ran = run(&[], &bad, "");
    assert_eq!(ran.code, Some(64));
    for (name, _) in bad {
        assert!(ran.err.contains(name), "{name}: {}", ran.err);
    }
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    assert_eq!(ran.out, "");
}

#[test]
fn help_lists_every_setting() {
    let ran = run(&["--help"], &[], "");
    assert_eq!(ran.code, Some(0));
    for variable in rsky_indexer::config::Config::variables() {
        assert!(ran.out.contains(variable.name), "{}: {}", variable.name, ran.out);
    }
    assert!(ran.out.contains("check-records"));
}

#[test]
fn check_records_reads_standard_input_and_files() {
    let good = r#"{"collection":"app.bsky.graph.follow","record":{"$type":"app.bsky.graph.follow","subject":"did:plc:s","createdAt":"2024-01-01T00:00:00Z"}}"#;
    let bad = good.replace("did:plc:s", "nobody");
    let input = format!("{good}\n{bad}\nnot json\n");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("records.jsonl");
    std::fs::write(&file, &input).unwrap();
    let outputs = [
        run(&["check-records"], &[], &input),
        run(&["check-records", "-"], &[], &input),
        run(&["check-records", file.to_str().unwrap()], &[], ""),
    ];
    for ran in outputs {
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let lines: Vec<serde_json::Value> =
            ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], serde_json::json!({"valid": true}));
        for line in &lines[1..] {
            assert_eq!(line["valid"], false);
            assert!(!line["reason"].as_str().unwrap().is_empty());
        }
    }
    let ran = run(&["check-records", "/nonexistent/x"], &[], "");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("/nonexistent/x"), "{}", ran.err);
}

/// As the other daemons: nothing could be asked of anybody.
#[test]
fn without_root_certificates_it_says_so_and_stops() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("no_roots"));
    let settings = [
        ("INDEXER_HANDLE_CONCURRENCY", "4"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem"),
        ("SSL_CERT_DIR", "/nowhere"),
    ];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    assert_eq!(indexer.exit_code(), Some(1));
    assert!(indexer.log().contains("root certificates"), "{}", indexer.log());
}
