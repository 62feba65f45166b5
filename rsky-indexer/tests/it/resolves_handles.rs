//! Handles and statuses, as a directory that answers has them.

use rsky_testnet::servers::{Generation, Redis};
use serde_json::json;

use crate::accounts::{T0, World, account, document, identity, profile};
use crate::process::{LIVE, add, count, dead_letters, length, wait_drained, wait_until};
use crate::support::Db;

fn handle(db: &Db, did: &str) -> String {
    db.sql(&format!("SELECT coalesce(handle, '-') || ' ' || \"indexedAt\" FROM actor WHERE did = '{did}'"))
}

#[test]
fn every_kind_of_account() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("handles"), World::new());
    let mut payloads = Vec::new();
    for number in 0..100 {
        let did = format!("did:plc:good{number}");
        world.account(&did, &format!("Good{number}.Test"));
        payloads.push(match number % 3 {
            0 => profile(&did),
            1 => identity(&did, T0),
            _ => account(&did, T0, None),
        });
    }
    // A handle that leads elsewhere, one that leads nowhere, and documents that are no use.
    world.account("did:plc:elsewhere", "good1.test");
    world.directory.set_handle("good1.test", Some("did:plc:somebody"));
    world.directory.set_document(document("did:plc:nowhere", "nowhere.test"));
    let mut bare = document("did:plc:bare", "bare.test");
    bare["service"] = json!([]);
    world.directory.set_document(bare);
    world.directory.set_document(json!({"id": "did:plc:malformed", "service": [{"id": 1}]}));
    for did in
        ["did:plc:elsewhere", "did:plc:nowhere", "did:plc:bare", "did:plc:malformed", "did:plc:unknown"]
    {
        payloads.push(profile(did));
    }
    payloads.push(identity("did:key:zabc", T0));
    payloads.push(account("did:plc:good5", T0, Some("throttled")));
    add(&redis, LIVE, &payloads);
    let indexer = world.indexer(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "2")]);
    wait_drained(&redis, LIVE);
    for number in 0..100 {
        assert_eq!(handle(&db, &format!("did:plc:good{number}")), format!("good{number}.test {T0}"));
    }
    assert_eq!(handle(&db, "did:plc:elsewhere"), format!("- {T0}"));
    assert_eq!(handle(&db, "did:plc:nowhere"), format!("- {T0}"));
    assert_eq!(count(&db, "actor"), 102);
    let mut letters: Vec<String> = dead_letters(&redis, LIVE)
        .iter()
        .map(|letter| format!("{} {} {}", letter["reason"], letter["attempts"], letter["event"].len() > 50))
        .collect();
    letters.sort();
    assert_eq!(
        letters,
        [
            "did_document_incomplete 2 true",
            "did_document_malformed 2 true",
            "did_not_found 2 true",
            "did_unsupported 1 true"
        ]
    );
    // The dataplane finds the documents where it looks for them.
    let cached = redis.command(&["GET", "identity:did:plc:good7"]).unwrap().as_text().unwrap();
    assert!(cached.contains("good7.test") || cached.contains("Good7.Test"), "{cached}");
    assert_eq!(redis.command(&["EXISTS", "identity:did:plc:unknown"]).unwrap().as_int(), Some(0));
    indexer.assert_metric("indexer_handles_total", &["outcome=\"resolved\""], 100);
    indexer.assert_metric("indexer_handles_total", &["outcome=\"none\""], 2);
    indexer.assert_metric("stream_indexer_messages_running_count", &[], 0);
    let status = indexer.get("/status").1;
    assert!(status.contains("\"directory\":\"answers\""), "{status}");
}

#[test]
fn the_window_and_what_lifts_it() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("window"), World::new());
    let did = "did:plc:a";
    world.account(did, "one.test");
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    let settle = |payload: String| {
        add(&redis, LIVE, &[payload]);
        wait_drained(&redis, LIVE);
        handle(&db, did)
    };
    assert_eq!(settle(account(did, T0, None)), format!("one.test {T0}"));
    world.account(did, "two.test");
    let within = "2026-01-02T23:00:00.000Z";
    assert_eq!(settle(account(did, within, None)), format!("one.test {T0}"));
    let later = "2026-01-03T01:00:00.000Z";
    assert_eq!(settle(account(did, later, None)), format!("two.test {later}"));
    indexer.assert_metric("indexer_handles_total", &["outcome=\"resolved\""], 2);
    // Resolved within the window since it is announced, in a process that has not resolved it a moment ago.
    drop(indexer);
    world.account(did, "three.test");
    let _indexer = world.indexer(&redis.url(), db.url(), &[]);
    let at = "2026-01-03T02:00:00.000Z";
    add(&redis, LIVE, &[identity(did, at)]);
    wait_drained(&redis, LIVE);
    assert_eq!(handle(&db, did), format!("three.test {at}"));
}

/// The schema with a count of failed tries for a scheduler: it starts anew with a handle that was found.
#[test]
fn a_scheduler_of_another_generation_is_told() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::of(Generation::B, "tries"), World::new());
    world.account("did:plc:a", "a.test");
    world.directory.set_document(document("did:plc:b", "b.test"));
    db.sql("INSERT INTO actor (did, \"indexedAt\", \"handleResolveTries\") VALUES ('did:plc:a', '', 3), ('did:plc:b', '', 3)");
    add(&redis, LIVE, &[identity("did:plc:a", T0), identity("did:plc:b", T0)]);
    let _indexer = world.indexer(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    assert_eq!(handle(&db, "did:plc:a"), format!("a.test {T0}"));
    assert_eq!(db.sql("SELECT \"handleResolveTries\" FROM actor ORDER BY did"), "0\n3");
}

#[test]
fn a_handle_has_one_owner() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("contention"), World::new());
    let dids: Vec<String> = (0..40).map(|number| format!("did:plc:c{number}")).collect();
    for did in &dids {
        world.account(did, &format!("{}.test", &did[8..]));
    }
    let start = || world.indexer(&redis.url(), db.url(), &[("INDEXER_CONCURRENCY", "4")]);
    let indexer = start();
    add(&redis, LIVE, &dids.iter().map(|did| profile(did)).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    drop(indexer);
    // Everybody takes the handle of the next one, and the last two claim one handle.
    for (at, did) in dids.iter().enumerate() {
        let next = &dids[(at + 1) % dids.len()];
        world.account(did, &format!("{}.test", &next[8..]));
    }
    world.directory.set_document(document("did:plc:c39", "c39.test"));
    // One that asks for it, in two processes.
    let _indexers = [start(), world.indexer(&redis.url(), db.url(), &[("INDEXER_CONSUMER", "b")])];
    let at = "2026-01-02T02:00:00.000Z";
    add(&redis, LIVE, &dids.iter().map(|did| identity(did, at)).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    for (at, did) in dids.iter().take(39).enumerate() {
        assert_eq!(db.sql(&format!("SELECT did FROM actor WHERE handle = 'c{}.test'", at + 1)), *did);
    }
    // c39.test leads to c38 now.
    assert_eq!(db.sql("SELECT coalesce(handle, '-') FROM actor WHERE did = 'did:plc:c39'"), "-");
}

#[test]
fn statuses() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("statuses"), World::new());
    for number in 0..9 {
        world.account(&format!("did:plc:s{number}"), &format!("s{number}.test"));
    }
    let news = |number: usize, status| account(&format!("did:plc:s{number}"), T0, status);
    let payloads = [
        news(0, Some("deactivated")),
        news(1, Some("suspended")),
        news(2, Some("Takendown")),
        news(3, Some("deactivated")),
        news(3, None),
        news(4, None),
        news(4, Some("takendown")),
        news(5, Some("suspended")),
        news(5, Some("desynchronized")),
        news(6, Some("throttled")),
        news(7, Some("whatever")),
        news(8, None),
    ];
    db.sql("INSERT INTO actor (did, \"indexedAt\", \"takedownRef\", \"upstreamStatus\") VALUES ('did:plc:s8', '', 'T', 'suspended')");
    add(&redis, LIVE, &payloads);
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    let rows = db.sql(
        "SELECT substr(did, 9) || ' ' || coalesce(\"upstreamStatus\", '-') || ' ' || coalesce(handle, '-') FROM actor ORDER BY did",
    );
    let expected = [
        "s0 deactivated s0.test",
        "s1 suspended s1.test",
        "s2 takendown s2.test",
        "s3 - s3.test",
        "s4 takendown s4.test",
        "s5 suspended s5.test",
        // A row whose time cannot be read asks for nothing.
        "s8 - -",
    ];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    assert_eq!(db.sql("SELECT \"takedownRef\" FROM actor WHERE did = 'did:plc:s8'"), "T");
    let reason = "reason=\"account_status_without_effect\"";
    indexer.assert_metric("indexer_entries_total", &[reason], 3);
    assert_eq!(dead_letters(&redis, LIVE), Vec::new());
}

/// A second announcement within a minute waits for the minute to be over; so long the entry is pending.
#[test]
fn identity_events_force_once_a_minute() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("minute"), World::new());
    let did = "did:plc:m";
    world.account(did, "one.test");
    let _indexer = world.indexer(&redis.url(), db.url(), &[]);
    add(&redis, LIVE, &[identity(did, T0)]);
    wait_drained(&redis, LIVE);
    world.account(did, "two.test");
    add(&redis, LIVE, &[identity(did, T0)]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((length(&redis, LIVE), world.directory.lookups(did)), (1, 1));
    wait_until("the minute is over", || length(&redis, LIVE) == 0);
    assert_eq!(handle(&db, did), format!("two.test {T0}"));
}
