//! docs/MIGRATING.md, indexer: from the TypeScript process and from old rsky, and back, on what each leaves in Redis.

use std::collections::BTreeSet;

use rsky_indexer::engine;
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::servers::Redis;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::load::events;
use crate::process::{
    Indexer, LABELS, LIVE, add, add_field, assert_as_undisturbed, assert_no_dead_letters, block_on, count,
    length, read_and_vanish, run, wait_drained, wait_until,
};
use crate::support::{Db, reference_statements};

/// What an indexer did that committed and went before it acknowledged.
fn apply(db: &Db, payloads: &[String]) {
    block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = reference_statements();
        for payload in payloads {
            if let Intake::Work(work) = intake::read(payload) {
                engine::apply(&mut connection, &statements, &[&work]).await.unwrap();
            }
        }
    });
}

fn ids(redis: &Redis, command: &str, stream: &str, ids: &[String]) {
    let mut words = vec![command, stream];
    if command == "XACK" {
        words.push("firehose_group");
    }
    words.extend(ids.iter().map(String::as_str));
    redis.command(&words).unwrap();
}

/// The TypeScript indexer stopped in the middle: some entries are done with, some are in the tables and pending, some are
/// pending only, one of these without a body, and the rest was never read. Under its name everything goes on.
#[test]
fn what_the_typescript_indexer_left_is_taken_over_once() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("moves_over"));
    let payloads = events(11, 1500);
    add(&redis, LIVE, &payloads);
    let read = read_and_vanish(&redis, LIVE, "typescript", 500);
    apply(&db, &payloads[..300]);
    ids(&redis, "XACK", LIVE, &read[..200]);
    ids(&redis, "XDEL", LIVE, &read[..201]);
    let _indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONSUMER", "typescript")]);
    wait_drained(&redis, LIVE);
    assert_as_undisturbed(db.url(), &payloads);
    assert_no_dead_letters(&redis);
}

/// It acknowledges before it deletes: what it acknowledged and did not delete is with nobody, stays in the stream, and is
/// found by the doctor, whose remedy has it read again. That changes no row.
#[test]
fn what_it_acknowledged_and_did_not_delete_is_found_and_cleared_away() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("moves_over_stranded"));
    let payloads = events(12, 400);
    add(&redis, LIVE, &payloads);
    let read = read_and_vanish(&redis, LIVE, "typescript", 50);
    apply(&db, &payloads[..50]);
    ids(&redis, "XACK", LIVE, &read);
    let settings = [("INDEXER_CONSUMER", "typescript")];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_until("the rest is indexed", || length(&redis, LIVE) == 50);
    assert_eq!(indexer.terminate(), Some(0));
    let environment = [
        ("REDIS_URL", redis.url()),
        ("DATABASE_URL", db.url().to_owned()),
        ("INDEXER_HANDLE_CONCURRENCY", "0".to_owned()),
    ];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let said = run(&["doctor"], &environment, "");
    assert!(said.out.contains("were delivered and are with nobody"), "{}", said.out);
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "0"]).unwrap();
    let _indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    assert_as_undisturbed(db.url(), &payloads);
}

/// The forms of old rsky: a `repo` event after each commit, -1 for a backfilled record, times and members in another order,
/// states in capitals, and the labels of a frame in a field of their own, read by the group of the events.
#[test]
fn the_forms_of_old_rsky_are_understood() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("moves_over_old"));
    let plain = events(13, 600);
    // Members sorted by name: another order than the TypeScript's.
    let sorted = |payload: &String| serde_json::from_str::<Value>(payload).unwrap().to_string();
    let plain: Vec<String> = plain.iter().map(sorted).collect();
    let mut old = Vec::new();
    for (at, payload) in plain.iter().enumerate() {
        let mut event: Value = serde_json::from_str(payload).unwrap();
        old.push(payload.clone());
        if at % 3 == 0 && event.get("commit").is_some() {
            event["type"] = "repo".into();
            for member in ["record", "cid", "collection", "rkey"] {
                event.as_object_mut().unwrap().remove(member);
            }
            old.push(event.to_string());
        }
    }
    add(&redis, LIVE, &old);
    read_and_vanish(&redis, LIVE, "indexer_1", 100);
    let did = "did:plc:oldrsky";
    let status = json!({"type": "account", "seq": 1, "time": "2025-01-01T00:00:00.123456789+00:00", "did": did,
        "active": false, "status": "Deactivated"});
    let backfilled = json!({"type": "create", "seq": -1, "time": "2025-01-01T00:00:00.1+00:00", "did": did,
        "commit": CID, "rev": "3k2aaaaaaaa2a", "collection": "app.bsky.graph.follow", "rkey": "x", "cid": CID,
        "record": {"$type": "app.bsky.graph.follow", "subject": "did:plc:x", "createdAt": "2025-01-01T00:00:00.000Z"}});
    add(&redis, "firehose_backfill", &[status.to_string(), backfilled.to_string()]);
    let label = |val: &str| json!({"src": "did:plc:l", "uri": "at://did:plc:a/a.b.c/1", "cid": null, "val": val, "neg": false, "cts": "2025-01-01T00:00:00Z"});
    let frame = json!({"seq": 7, "labels": [label("one"), label("two")]});
    add_field(&redis, LABELS, "labels", &[frame.to_string()]);
    redis.command(&["XGROUP", "CREATE", LABELS, "firehose_group", "0"]).unwrap();

    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONSUMER", "indexer_1")]);
    for stream in [LIVE, "firehose_backfill", LABELS] {
        wait_drained(&redis, stream);
    }
    assert_no_dead_letters(&redis);
    assert_eq!(count(&db, "label"), 2);
    assert_eq!(db.sql(&format!("SELECT \"upstreamStatus\" FROM actor WHERE did = '{did}'")), "deactivated");
    assert_eq!(count(&db, &format!("follow WHERE creator = '{did}'")), 1);
    // A backfilled record tells nothing of the last commit.
    assert_eq!(count(&db, &format!("actor_sync WHERE did = '{did}'")), 0);
    assert_eq!(indexer.terminate(), Some(0));
    for table in ["follow", "record", "profile_agg"] {
        let key = if table == "follow" { "creator" } else { "did" };
        db.sql(&format!("DELETE FROM {table} WHERE {key} IN ('{did}', 'did:plc:x')"));
    }
    db.sql("DELETE FROM label");
    assert_as_undisturbed(db.url(), &plain);
}

const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

/// Reads as the TypeScript indexer does: its own pending entries from the beginning, page by page, then new ones; and
/// acknowledges and deletes each.
fn read_as_typescript(redis: &Redis, consumer: &str) -> Vec<(String, Vec<String>)> {
    let refused = redis.command(&["XGROUP", "CREATE", LIVE, "firehose_group", "0", "MKSTREAM"]).unwrap_err();
    assert!(format!("{refused:#}").contains("BUSYGROUP"), "{refused:#}");
    let (mut cursor, mut all) = ("0".to_owned(), Vec::new());
    loop {
        let words =
            ["XREADGROUP", "GROUP", "firehose_group", consumer, "COUNT", "100", "STREAMS", LIVE, &cursor];
        let reply = redis.command(&words).unwrap();
        let entries =
            reply.items().first().map(|stream| stream.items()[1].items().to_vec()).unwrap_or_default();
        let Some(last) = entries.last() else {
            if cursor == ">" {
                return all;
            }
            cursor = ">".to_owned();
            continue;
        };
        if cursor != ">" {
            cursor = last.items()[0].as_text().unwrap();
        }
        for entry in &entries {
            let id = entry.items()[0].as_text().unwrap();
            let fields: Vec<String> =
                entry.items()[1].items().iter().map(|text| text.as_text().unwrap()).collect();
            redis.command(&["XACK", LIVE, "firehose_group", &id]).unwrap();
            redis.command(&["XDEL", LIVE, &id]).unwrap();
            all.push((id, fields));
        }
    }
}

/// Back: killed in the middle, this indexer leaves the same group, its own pending entries under its name, and entries as
/// they were. The TypeScript indexer under that name finds every one that is left, once.
#[test]
fn what_this_indexer_leaves_is_what_the_typescript_understands() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("moves_back"));
    let payloads = events(14, 6000);
    add(&redis, LIVE, &payloads);
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "50")]);
    wait_until("some are done with", || length(&redis, LIVE) < 5500);
    indexer.kill();
    let left: BTreeSet<String> = {
        let reply = redis.command(&["XRANGE", LIVE, "-", "+"]).unwrap();
        reply.items().iter().map(|entry| entry.items()[0].as_text().unwrap()).collect()
    };
    let read = read_as_typescript(&redis, "a");
    let with_body: Vec<&(String, Vec<String>)> =
        read.iter().filter(|(_, fields)| !fields.is_empty()).collect();
    assert_eq!(with_body.iter().map(|(id, _)| id.clone()).collect::<BTreeSet<_>>(), left);
    assert_eq!(with_body.len(), left.len(), "each once");
    let known: BTreeSet<&String> = payloads.iter().collect();
    for (id, fields) in with_body {
        assert!(fields.len() == 2 && fields[0] == "event" && known.contains(&fields[1]), "{id} {fields:?}");
    }
    assert_eq!(crate::process::state(&redis, LIVE), (0, 0));
}
