//! Collections and lexicons of the AppView that reads the database: what one generation refuses or passes over, another
//! indexes.

use std::collections::BTreeMap;

use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::servers::{Generation, Redis};
use serde_json::{Value, json};

use crate::accounts::record;
use crate::process::{Indexer, LIVE, add, count, dead_letters, wait_drained};
use crate::repositories::{self, World};
use crate::support::Db;

const DID: &str = "did:plc:a";
const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

fn germ(version: &str) -> Value {
    json!({"version": version, "currentKey": {"$bytes": "AAEC"}})
}

fn entries() -> Vec<String> {
    let gate = json!({"post": format!("at://{DID}/app.bsky.feed.post/gated"), "createdAt": "2026-01-01T00:00:00Z",
        "hiddenReplies": vec!["at://did:plc:b/app.bsky.feed.post/1"; 60]});
    let blob = json!({"$type": "blob", "ref": {"$link": CID}, "mimeType": "video/mp4", "size": 1});
    let video = json!({"$type": "app.bsky.embed.video", "alt": "x".repeat(1001), "video": blob});
    let post = json!({"text": "", "createdAt": "2026-01-01T00:00:00Z", "embed": video});
    vec![
        record(DID, "app.bsky.feed.threadgate", "gated", &gate),
        record(DID, "app.bsky.feed.post", "video", &post),
        record("did:plc:b", "chat.bsky.actor.declaration", "self", &json!({"allowIncoming": 1})),
        record("did:plc:c", "chat.bsky.actor.declaration", "self", &json!({"allowIncoming": "all"})),
        record("did:plc:d", "com.germnetwork.declaration", "self", &germ("1.1.0")),
        record("did:plc:e", "com.germnetwork.declaration", "self", &germ("1")),
    ]
}

#[test]
fn each_generation_has_its_own() {
    const GATE: &str = "at://did:plc:a/app.bsky.feed.threadgate/gated";
    const POST: &str = "at://did:plc:a/app.bsky.feed.post/video";
    const CHAT: [&str; 2] = [
        "at://did:plc:b/chat.bsky.actor.declaration/self",
        "at://did:plc:c/chat.bsky.actor.declaration/self",
    ];
    const GERM: &str = "at://did:plc:d/com.germnetwork.declaration/self";
    for (generation, indexed, refused) in [
        (Generation::D, vec![CHAT[0], CHAT[1]], 2),
        (Generation::B, vec![GATE, CHAT[1], GERM], 3),
        (Generation::U, vec![POST, GATE, CHAT[1], GERM], 2),
    ] {
        let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "editions"));
        let _indexer = Indexer::start(&redis.url(), db.url(), &[]);
        add(&redis, LIVE, &entries());
        wait_drained(&redis, LIVE);
        assert_eq!(
            db.sql("SELECT uri FROM record ORDER BY uri COLLATE \"C\"").lines().collect::<Vec<_>>(),
            indexed
        );
        let letters = dead_letters(&redis, LIVE);
        assert!(letters.iter().all(|letter| letter["reason"] == "invalid_record"), "{letters:?}");
        assert_eq!(letters.len(), refused);
        // What is passed over has been seen all the same.
        let passed = count(&db, "actor_sync WHERE did IN ('did:plc:d', 'did:plc:e')");
        assert_eq!(passed, if generation == Generation::D { 2 } else { 1 });
        let germ = entries()
            .remove(4)
            .replace("\"create\"", "\"delete\"")
            .replace("\"3l2222222222a\"", "\"3l2222222222b\"");
        add(&redis, LIVE, &[germ]);
        wait_drained(&redis, LIVE);
        assert_eq!(count(&db, "record WHERE uri LIKE '%germ%'"), 0);
    }
}

#[test]
fn a_repository_is_compared_by_the_same_rules() {
    for (generation, germ) in [(Generation::D, 0), (Generation::B, 1), (Generation::U, 1)] {
        let mut records = repositories::some();
        let declaration = BTreeMap::from([
            ("$type".to_owned(), Cbor::text("com.germnetwork.declaration")),
            ("version".to_owned(), Cbor::text("1.1.0")),
            ("currentKey".to_owned(), Cbor::Bytes(vec![0, 1, 2])),
        ]);
        records.insert("com.germnetwork.declaration/self".to_owned(), Cbor::map(declaration));
        let (world, db) = (World::of(&records), Db::of(generation, "editions_repo"));
        let out = world.index(&db, &[]);
        assert!(out.contains(&format!("created {}, updated 0", 10 + germ)), "{out}");
        assert_eq!(count(&db, "record WHERE uri LIKE '%germ%'"), germ);
    }
}
