//! On the generations whose reference is the in-process subscription, a commit has the handle of its account looked at:
//! beside the entries, which never wait for it.

use rsky_testnet::servers::{Generation, Redis};
use serde_json::{Value, json};

use crate::accounts::{T0, World, identity, profile, record};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, pending, wait_drained, wait_until};
use crate::support::Db;

fn like(did: &str) -> String {
    let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
    let subject = json!({"uri": "at://did:plc:s/app.bsky.feed.post/1", "cid": cid});
    record(did, "app.bsky.feed.like", "1", &json!({"subject": subject, "createdAt": T0}))
}

fn deletion(did: &str) -> String {
    let mut event: Value = serde_json::from_str(&like(did)).unwrap();
    event["type"] = "delete".into();
    event.as_object_mut().unwrap().retain(|name, _| name != "record" && name != "cid");
    event.to_string()
}

fn backfilled(event: &str) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["seq"] = (-1).into();
    event.to_string()
}

/// Accounts whose handles the directory knows better than the database; and what is stored of them.
fn known(db: &Db, world: &World) {
    for name in ["old", "young", "lost", "missed", "none", "past", "last"] {
        world.account(&format!("did:plc:{name}"), &format!("{name}.test"));
    }
    db.sql(
        r#"INSERT INTO actor (did, handle, "indexedAt") VALUES
            ('did:plc:old', 'o.test', '2025-12-31T00:00:00.000Z'), ('did:plc:past', 'p.test', '2025-12-31T00:00:00.000Z'),
            ('did:plc:young', 'y.test', '2026-01-01T12:00:00.000Z'),
            ('did:plc:lost', NULL, '2026-01-01T22:00:00.000Z'), ('did:plc:missed', NULL, '2026-01-01T23:30:00.000Z')"#,
    );
}

fn commits() -> [String; 7] {
    [
        like("did:plc:young"),
        like("did:plc:old"),
        deletion("did:plc:lost"),
        deletion("did:plc:missed"),
        record("did:plc:none", "com.example.unknown", "1", &json!({})),
        backfilled(&like("did:plc:past")),
        like("did:plc:unknown"),
    ]
}

fn handles(db: &Db) -> String {
    db.sql("SELECT coalesce(handle, substr(did, 9) || ' has none') FROM actor ORDER BY did")
}

fn looked_at(indexer: &Indexer, outcome: &str, accounts: u64) {
    indexer.assert_metric("indexer_handles_total", &[&format!("outcome=\"{outcome}\"")], accounts);
}

#[test]
fn an_old_handle_is_looked_at_with_a_commit() {
    for generation in [Generation::B, Generation::U] {
        let (redis, db, world) = (Redis::start().unwrap(), Db::of(generation, "looks"), World::new());
        known(&db, &world);
        let mut indexer = world.indexer(&redis.url(), db.url(), &[]);
        add(&redis, LIVE, &commits());
        looked_at(&indexer, "resolved", 3);
        looked_at(&indexer, "not_needed", 2);
        // Without a document. Nobody waits for it: it is not tried again, and there is no dead letter.
        looked_at(&indexer, "failed", 1);
        assert_eq!(handles(&db), "lost.test\nmissed has none\nnone.test\nold.test\np.test\ny.test");
        assert_eq!(count(&db, &format!("actor WHERE \"indexedAt\" = '{T0}'")), 3);
        assert_eq!(count(&db, "actor_sync"), 6);
        wait_drained(&redis, LIVE);

        // It is not looked at with every commit, ...
        db.sql("UPDATE actor SET handle = NULL, \"indexedAt\" = '2025-12-31T00:00:00.000Z' WHERE did = 'did:plc:old'");
        add(&redis, LIVE, &[like("did:plc:old"), deletion("did:plc:old"), like("did:plc:last")]);
        looked_at(&indexer, "resolved", 4);
        assert_eq!((world.directory.lookups("did:plc:old"), world.directory.total_lookups()), (1, 5));
        // ... but by the next process.
        indexer.restart();
        add(&redis, LIVE, &[deletion("did:plc:old")]);
        looked_at(&indexer, "resolved", 1);
        assert_eq!(count(&db, "actor WHERE handle = 'old.test'"), 1);
        wait_drained(&redis, LIVE);
        assert_no_dead_letters(&redis);
    }
}

/// The stream indexer, which is the reference of generation D, looks with profiles, statuses and identities alone.
#[test]
fn a_commit_has_no_handle_looked_at_in_generation_d() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("looks_not"), World::new());
    known(&db, &world);
    let before = handles(&db);
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    add(&redis, LIVE, &commits());
    wait_drained(&redis, LIVE);
    assert_eq!(handles(&db), before);
    add(&redis, LIVE, &[profile("did:plc:last")]);
    wait_drained(&redis, LIVE);
    looked_at(&indexer, "resolved", 1);
    assert_eq!(world.directory.total_lookups(), 1);
}

#[test]
fn where_handles_are_not_resolved_a_commit_has_none_looked_at() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::of(Generation::B, "looks_off"), World::new());
    known(&db, &world);
    let before = handles(&db);
    let _indexer = world.indexer(&redis.url(), db.url(), &[("INDEXER_HANDLE_CONCURRENCY", "0")]);
    add(&redis, LIVE, &commits());
    wait_drained(&redis, LIVE);
    assert_eq!(handles(&db), before);
}

/// Nothing waits for it: neither the commits, nor the memory, nor, when the directory answers again, an identity event.
#[test]
fn no_commit_waits_for_a_directory_that_hangs() {
    const ACCOUNTS: usize = 3000;
    let (redis, db, world) = (Redis::start().unwrap(), Db::of(Generation::U, "looks_hang"), World::new());
    let did = |number: usize| format!("did:plc:h{number}");
    (0..ACCOUNTS).for_each(|number| world.account(&did(number), &format!("h{number}.test")));
    world.directory.hang(true);
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    let commits: Vec<String> =
        (0..ACCOUNTS).flat_map(|number| [like(&did(number)), deletion(&did(number))]).collect();
    add(&redis, LIVE, &commits);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "actor_sync"), i64::try_from(ACCOUNTS).unwrap());
    let held = || {
        let status: Value = serde_json::from_str(&indexer.get("/status").1).unwrap();
        status["handles"]["accounts"].as_u64().unwrap_or(0)
    };
    wait_until("some wait", || held() > 0);
    assert!(held() <= 125);
    assert_eq!(indexer.metric("indexer_handle_deferred_total", &[]), 0);
    assert_eq!(indexer.get("/readyz").0, 200, "{}", indexer.get("/readyz").1);

    world.account("did:plc:announced", "announced.test");
    add(&redis, LIVE, &[identity("did:plc:announced", T0)]);
    wait_until("it waits", || pending(&redis, LIVE) == Some(1));
    world.directory.hang(false);
    wait_drained(&redis, LIVE);
    assert_eq!(db.sql("SELECT handle FROM actor WHERE did = 'did:plc:announced'"), "announced.test");
    wait_until("there is room", || held() == 0);
    // Most found no room, and are looked at with their next commit.
    let mut parts = commits.chunks(100).cycle();
    wait_until("others are looked at", || {
        add(&redis, LIVE, parts.next().unwrap());
        wait_drained(&redis, LIVE);
        count(&db, "actor WHERE handle IS NOT NULL") > 1000
    });
    assert_no_dead_letters(&redis);
}
