//! `U+0000` in every text that people write: Postgres stores it nowhere, and no entry is lost for it (DECISIONS 16).

use rsky_testnet::servers::Redis;
use serde_json::{Value, json};

use crate::accounts::{T0, record};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, wait_drained};
use crate::support::Db;

const DID: &str = "did:plc:nul";
const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
const BLOB: &str = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity";

fn image() -> Value {
    json!({"alt": "a\0b", "image": {"$type": "blob", "ref": {"$link": BLOB}, "mimeType": "image/png", "size": 1}})
}

fn post(embed: &Value) -> Value {
    let facet = json!({"index": {"byteStart": 0, "byteEnd": 1},
        "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "a\0b"}]});
    json!({"text": "a\0b", "tags": ["a\0b"], "facets": [facet], "embed": embed, "createdAt": T0})
}

#[test]
fn it_is_taken_out_of_what_postgres_stores() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("nul"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_NOTIFICATIONS", "live")]);
    let list = format!("at://{DID}/app.bsky.graph.list/l");
    let external = json!({"uri": "https://a.example/", "title": "a\0b", "description": "a\0b"});
    let records = [
        (
            "app.bsky.feed.post",
            "images",
            post(&json!({"$type": "app.bsky.embed.images", "images": [image()]})),
        ),
        (
            "app.bsky.feed.post",
            "external",
            post(&json!({"$type": "app.bsky.embed.external", "external": external})),
        ),
        ("app.bsky.actor.profile", "self", json!({"displayName": "a\0b", "description": "a\0b"})),
        (
            "app.bsky.graph.list",
            "l",
            json!({"name": "a\0b", "description": "a\0b", "purpose": "app.bsky.graph.defs#modlist", "createdAt": T0}),
        ),
        (
            "app.bsky.feed.generator",
            "g",
            json!({"did": "did:web:g.example", "displayName": "a\0b", "description": "a\0b", "createdAt": T0}),
        ),
        (
            "app.bsky.graph.starterpack",
            "s",
            json!({"name": "a\0b", "description": "a\0b", "list": list, "createdAt": T0}),
        ),
        (
            "app.bsky.graph.verification",
            "v",
            json!({"subject": "did:plc:b", "handle": "b.test", "displayName": "a\0b", "createdAt": T0}),
        ),
        // Unknown members are kept, and so are their names.
        (
            "app.bsky.feed.like",
            "k",
            json!({"subject": {"uri": list, "cid": CID}, "createdAt": T0, "a\0b": {"a\0b": ["a\0b"]}}),
        ),
    ];
    let entries: Vec<String> =
        records.iter().map(|(collection, rkey, value)| record(DID, collection, rkey, value)).collect();
    add(&redis, LIVE, &entries);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_eq!(count(&db, r"record WHERE position('\u0000' IN json) > 0"), 8, "the record is as it was");
    for (table, column, rows) in [
        ("post", "text", 2),
        ("post_embed_image", "alt", 1),
        ("post_embed_external", "title", 1),
        ("post_embed_external", "description", 1),
        ("profile", "\"displayName\"", 1),
        ("profile", "description", 1),
        ("list", "name", 1),
        ("list", "description", 1),
        ("feed_generator", "\"displayName\"", 1),
        ("feed_generator", "description", 1),
        ("starter_pack", "name", 1),
        ("verification", "\"displayName\"", 1),
    ] {
        assert_eq!(count(&db, &format!("{table} WHERE {column} = 'ab'")), rows, "{table}.{column}");
    }
    assert_eq!(count(&db, "post WHERE tags = '[\"ab\"]'"), 2);
    assert_eq!(count(&db, "\"like\""), 1);
    assert_eq!(indexer.get("/readyz").0, 200);
}
