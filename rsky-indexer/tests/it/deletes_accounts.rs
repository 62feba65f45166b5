//! Accounts that are gone, and accounts that are only said to be.

use bytes::Bytes;
use rsky_testnet::network::RepoAnswer;
use rsky_testnet::servers::{Generation, Redis};
use serde_json::{Value, json};

use crate::accounts::{T0, World, account, identity, profile, record};
use crate::process::{LIVE, add, assert_no_dead_letters, count, wait_drained, wait_until};
use crate::support::{Db, TABLES};

const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
const NOW: &str = "2026-01-01T00:00:00.000Z";

fn post(did: &str, rkey: &str, mut more: Value) -> String {
    more["text"] = "x".into();
    more["createdAt"] = NOW.into();
    record(did, "app.bsky.feed.post", rkey, &more)
}

fn subject(did: &str, rkey: &str) -> Value {
    json!({"uri": format!("at://{did}/app.bsky.feed.post/{rkey}"), "cid": CID})
}

fn of_subject(did: &str, collection: &str, rkey: &str, subject: &Value) -> String {
    record(did, collection, rkey, &json!({"subject": subject, "createdAt": NOW}))
}

/// What an account writes: something into every table.
fn writings(did: &str, other: &str) -> Vec<String> {
    let graph = |name: &str| format!("app.bsky.graph.{name}");
    let reply = json!({"root": subject(other, "p0"), "parent": subject(other, "p0")});
    let list = format!("at://{did}/app.bsky.graph.list/l");
    let image = json!({"alt": "", "image": {"$type": "blob", "ref": {"$link": "bafkreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"}, "mimeType": "image/png", "size": 1}});
    let mut all = vec![
        profile(did),
        post(did, "p0", json!({})),
        post(did, "p1", json!({"reply": reply})),
        post(did, "p2", json!({"embed": {"$type": "app.bsky.embed.record", "record": subject(other, "p0")}})),
        post(did, "p3", json!({"embed": {"$type": "app.bsky.embed.images", "images": [image]}})),
        post(
            did,
            "p4",
            json!({"embed": {"$type": "app.bsky.embed.external", "external": {"uri": "https://a.b", "title": "t", "description": "d"}}}),
        ),
        record(
            did,
            "app.bsky.feed.threadgate",
            "p0",
            &json!({"post": subject(did, "p0")["uri"], "createdAt": NOW}),
        ),
        record(
            did,
            "app.bsky.feed.postgate",
            "p0",
            &json!({"post": subject(did, "p0")["uri"], "createdAt": NOW}),
        ),
        of_subject(did, "app.bsky.feed.repost", "r", &subject(other, "p0")),
        of_subject(did, "app.bsky.feed.like", "own", &subject(did, "p0")),
        of_subject(did, &graph("follow"), "f", &other.into()),
        of_subject(did, &graph("block"), "b", &other.into()),
        of_subject(did, &graph("listblock"), "lb", &list.as_str().into()),
        record(
            did,
            &graph("list"),
            "l",
            &json!({"name": "n", "purpose": "app.bsky.graph.defs#curatelist", "createdAt": NOW}),
        ),
        record(did, &graph("listitem"), "li", &json!({"list": list, "subject": other, "createdAt": NOW})),
        record(did, &graph("starterpack"), "s", &json!({"name": "n", "list": list, "createdAt": NOW})),
        record(
            did,
            "app.bsky.feed.generator",
            "g",
            &json!({"did": "did:web:a.b", "displayName": "n", "createdAt": NOW}),
        ),
        of_subject(did, "app.bsky.feed.like", "l0", &subject(other, "p0")),
        // A duplicate of the like before.
        of_subject(did, "app.bsky.feed.like", "l1", &subject(other, "p0")),
    ];
    all.extend(
        (0..2500).map(|n| {
            of_subject(did, "app.bsky.feed.like", &format!("m{n}"), &subject(other, &format!("q{n}")))
        }),
    );
    all
}

fn rows_of(db: &Db, did: &str) -> Vec<(&'static str, i64)> {
    let tables = TABLES.iter().filter(|table| **table != "label");
    // What others wrote about the account stays.
    let own = |table: &str| match table {
        "like" | "repost" | "follow" => format!("t.creator = '{did}'"),
        "quote" | "feed_item" => format!("t.uri LIKE 'at://{did}/%'"),
        "record" => format!("t.did = '{did}'"),
        _ => format!("to_jsonb(t)::text LIKE '%{did}%'"),
    };
    tables.map(|table| (*table, count(db, &format!("\"{table}\" t WHERE {}", own(table))))).collect()
}

fn counters(db: &Db, uri: &str) -> String {
    db.sql(&format!(
        "SELECT concat_ws(' ', \"likeCount\", \"repostCount\", \"replyCount\", \"quoteCount\") FROM post_agg WHERE uri = '{uri}'"
    ))
}

#[test]
fn an_account_that_is_gone_is_taken_out_and_others_are_not() {
    taken_out(&Db::new("deleted"));
}

/// With the tables that came later.
#[test]
fn an_account_is_taken_out_of_another_generation() {
    taken_out(&Db::of(Generation::B, "deleted_b"));
}

/// What the account wrote about posts of its own that are not there, deleted before or never seen, counts no more; what
/// others wrote about them does.
#[test]
fn what_it_wrote_about_its_missing_posts_counts_no_more() {
    for generation in [Generation::D, Generation::B] {
        let (redis, db, world) =
            (Redis::start().unwrap(), Db::of(generation, "deleted_missing"), World::new());
        let (other, gone) = ("did:plc:other", "did:plc:gone");
        world.account(other, "other.test");
        world.account(gone, "gone.test");
        let about = |by: &str, rkey: &str| {
            let post_of_gone = subject(gone, rkey);
            let reply = json!({"root": post_of_gone, "parent": post_of_gone});
            let quote = json!({"$type": "app.bsky.embed.record", "record": post_of_gone});
            [
                of_subject(by, "app.bsky.feed.like", rkey, &post_of_gone),
                of_subject(by, "app.bsky.feed.repost", rkey, &post_of_gone),
                post(by, &format!("r{rkey}"), json!({"reply": reply})),
                post(by, &format!("q{rkey}"), json!({"embed": quote})),
            ]
        };
        let mut payloads = [about(gone, "alone"), about(gone, "both"), about(other, "both")].concat();
        payloads.extend(about(gone, "quoted").into_iter().last());
        // Of this post nothing is left but its gate, and counters of what somebody took back.
        let gated = subject(gone, "gated");
        payloads.push(of_subject(other, "app.bsky.feed.like", "taken-back", &gated));
        payloads.push(
            json!({"type": "delete", "seq": 2, "time": T0, "did": other, "commit": CID, "rev": "3l2222222222b",
                "collection": "app.bsky.feed.like", "rkey": "taken-back"})
            .to_string(),
        );
        let gate = json!({"post": gated["uri"], "createdAt": NOW});
        payloads.push(record(gone, "app.bsky.feed.threadgate", "gated", &gate));
        add(&redis, LIVE, &payloads);
        let _indexer = world.indexer(&redis.url(), db.url(), &[]);
        wait_drained(&redis, LIVE);
        let [alone, both] =
            ["alone", "both"].map(|rkey| subject(gone, rkey)["uri"].as_str().unwrap().to_owned());
        assert_eq!([counters(&db, &alone), counters(&db, &both)], ["1 1 1 1", "2 2 2 2"]);
        let gated = gated["uri"].as_str().unwrap();
        assert_eq!(counters(&db, gated), "0 0 0 0");
        add(&redis, LIVE, &[account(gone, T0, Some("deleted"))]);
        wait_drained(&redis, LIVE);
        assert_eq!([counters(&db, &alone), counters(&db, &both)], ["", "1 1 1 1"], "{generation:?}");
        assert_eq!(count(&db, "post_agg WHERE uri LIKE '%/quoted'"), 0, "{generation:?}");
        assert_eq!(counters(&db, gated), "", "{generation:?}");
        assert_no_dead_letters(&redis);
    }
}

/// What an account wrote before it was deleted is in other lanes, or waits for them, when the event comes.
#[test]
fn nothing_that_was_written_before_a_deletion_comes_after_it() {
    const GONE: usize = 30;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("deleted_behind"), World::new());
    let did = |number: usize| format!("did:plc:gone{number:04}");
    let like = |of: &str, rkey: usize| {
        of_subject(
            of,
            "app.bsky.feed.like",
            &format!("l{rkey}"),
            &subject("did:plc:other", &rkey.to_string()),
        )
    };
    let mut payloads = Vec::new();
    for number in 0..GONE {
        world.account(&did(number), &format!("gone{number}.test"));
        payloads.extend(
            (0..100).map(|rkey| like(&format!("did:plc:bystander{}", rkey % 40), number * 100 + rkey)),
        );
        payloads.extend((0..10).map(|rkey| like(&did(number), rkey)));
        payloads.push(account(&did(number), T0, Some("deleted")));
    }
    add(&redis, LIVE, &payloads);
    let settings = [("INDEXER_CONCURRENCY", "4"), ("INDEXER_BATCH_SIZE", "20")];
    let _indexer = world.indexer(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_eq!(count(&db, "\"like\" WHERE creator LIKE 'did:plc:gone%'"), 0);
    assert_eq!(count(&db, "record WHERE did LIKE 'did:plc:gone%' AND json <> ''"), 0);
    assert_eq!(count(&db, "\"like\""), i64::try_from(GONE * 100).unwrap());
}

/// Each page of an account that goes takes seconds here; handles do not wait for them.
#[test]
fn large_accounts_that_go_hold_up_no_handle() {
    const GONE: usize = 10;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("deleted_slowly"), World::new());
    let gone: Vec<String> = (0..GONE).map(|number| format!("did:plc:gone{number}")).collect();
    let here: Vec<String> = (0..300).map(|number| format!("did:plc:here{number}")).collect();
    for did in gone.iter().chain(&here) {
        world.account(did, &format!("{}.test", &did[8..]));
    }
    let like = |did: &String| of_subject(did, "app.bsky.feed.like", "l", &subject("did:plc:other", "p"));
    let indexer = world.indexer(&redis.url(), db.url(), &[("INDEXER_HANDLE_CONCURRENCY", "4")]);
    add(&redis, LIVE, &gone.iter().map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    db.sql(
        r#"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
        CREATE TRIGGER slow BEFORE DELETE ON record FOR EACH STATEMENT EXECUTE FUNCTION slow()"#,
    );
    add(&redis, LIVE, &gone.iter().map(|did| account(did, T0, Some("deleted"))).collect::<Vec<_>>());
    wait_until("the first one goes", || count(&db, "pg_stat_activity WHERE wait_event = 'PgSleep'") > 0);
    add(&redis, LIVE, &here.iter().map(|did| identity(did, T0)).collect::<Vec<_>>());
    wait_until("handles are there", || count(&db, "actor WHERE handle LIKE 'here%'") == 300);
    let deleted = indexer.metric("indexer_handles_total", &["outcome=\"deleted\""]);
    assert!(deleted < GONE as u64, "all accounts were gone before");
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 0);
    assert_no_dead_letters(&redis);
}

fn taken_out(db: &Db) {
    let (redis, world) = (Redis::start().unwrap(), World::new());
    let (other, gone, kept, unsure) = ("did:plc:other", "did:plc:gone", "did:plc:kept", "did:plc:unsure");
    for did in [other, gone, kept, unsure] {
        world.account(did, &format!("{}.test", &did[8..]));
    }
    world.directory.set_repo(kept, RepoAnswer::Car(Bytes::new()));
    let error = RepoAnswer::Error { status: 400, body: json!({"error": "RepoDeactivated", "message": ""}) };
    world.directory.set_repo(unsure, error);
    let mut payloads = vec![profile(other), post(other, "p0", json!({}))];
    for did in [gone, kept, unsure] {
        payloads.extend(writings(did, other));
    }
    payloads.push(of_subject(other, "app.bsky.feed.like", "x", &subject(gone, "p0")));
    payloads.push(of_subject(other, "app.bsky.feed.repost", "x", &subject(gone, "p0")));
    payloads.push(of_subject(other, "app.bsky.graph.follow", "x", &gone.into()));
    add(&redis, LIVE, &payloads);
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    let uri = subject(other, "p0")["uri"].as_str().unwrap().to_owned();
    assert_eq!(counters(db, &uri), "3 3 3 3");
    let before: Vec<_> = [kept, unsure].map(|did| rows_of(db, did)).into();
    let written = rows_of(db, gone);
    let written: Vec<&str> =
        written.iter().filter(|(_, count)| *count > 0).map(|(table, _)| *table).collect();
    for table in
        ["record", "post", "quote", "post_embed_image", "thread_gate", "feed_item", "duplicate_record"]
    {
        assert!(written.contains(&table), "{table}: nothing to take out");
    }
    db.sql(&format!("INSERT INTO notification (did, \"recordUri\", \"recordCid\", author, reason, \"sortAt\") VALUES ('{other}', 'at://{gone}/x/y', 'c', '{gone}', 'like', ''), ('{gone}', 'at://{other}/x/y', 'c', '{other}', 'like', ''), ('{other}', 'at://{kept}/x/y', 'c', '{kept}', 'like', '')"));

    let deleted = [gone, kept, unsure].map(|did| account(did, T0, Some("deleted")));
    add(&redis, LIVE, &deleted);
    wait_drained(&redis, LIVE);
    for (table, count) in rows_of(db, gone) {
        // Counters of what others wrote about it stay: of its post and of itself.
        assert_eq!(count, i64::from(matches!(table, "post_agg" | "profile_agg")), "{table}");
    }
    assert_eq!(counters(db, &uri), "2 2 2 2");
    assert_eq!(db.sql(&format!("SELECT \"followersCount\" FROM profile_agg WHERE did = '{other}'")), "2");
    assert_eq!(counters(db, subject(gone, "p0")["uri"].as_str().unwrap()), "1 1 0 0");
    assert_eq!(
        db.sql(&format!("SELECT concat_ws(' ', \"followersCount\", \"followsCount\", \"postsCount\") FROM profile_agg WHERE did = '{gone}'")),
        "1 0 0"
    );
    assert_eq!(count(db, "post_agg WHERE uri LIKE 'at://did:plc:other/%/q%' AND \"likeCount\" <> 2"), 0);
    assert_eq!(count(db, "post_agg WHERE uri LIKE 'at://did:plc:other/%/q%'"), 2500);
    // The other's like of the post that is gone is the other's.
    assert_eq!(count(db, "\"like\" WHERE creator = 'did:plc:other'"), 1);
    assert_eq!(count(db, "feed_item WHERE \"postUri\" LIKE 'at://did:plc:gone/%'"), 0);
    assert_eq!(count(db, "notification WHERE did = 'did:plc:gone' OR author = 'did:plc:gone'"), 0);
    let with_notification = |rows: &[(&'static str, i64)], did: &str| -> Vec<(&'static str, i64)> {
        rows.iter()
            .map(|(table, n)| (*table, n + i64::from(*table == "notification" && did == kept)))
            .collect()
    };
    for (did, before) in [kept, unsure].into_iter().zip(&before) {
        assert_eq!(rows_of(db, did), with_notification(before, did), "{did}");
    }
    assert_no_dead_letters(&redis);
    indexer.assert_metric("indexer_handles_total", &["outcome=\"deleted\""], 1);
    indexer.assert_metric("indexer_handles_total", &["outcome=\"kept\""], 2);
    indexer.assert_metric("indexer_entries_total", &["reason=\"account_still_hosted\""], 1);
    indexer.assert_metric("indexer_entries_total", &["reason=\"account_hosting_unknown\""], 1);

    // It comes back.
    add(&redis, LIVE, &[account(gone, T0, None), post(gone, "p0", json!({}))]);
    wait_drained(&redis, LIVE);
    assert_eq!(db.sql("SELECT handle FROM actor WHERE did = 'did:plc:gone'"), "gone.test");
    assert_eq!(count(db, "post WHERE creator = 'did:plc:gone'"), 1);
    // What others wrote about it counts from the first moment on.
    let reply = json!({"root": subject(gone, "p0"), "parent": subject(gone, "p0")});
    add(
        &redis,
        LIVE,
        &[
            post(other, "r", json!({"reply": reply})),
            of_subject(unsure, "app.bsky.graph.follow", "y", &gone.into()),
        ],
    );
    wait_drained(&redis, LIVE);
    assert_eq!(counters(db, subject(gone, "p0")["uri"].as_str().unwrap()), "1 1 1 0");
    assert_eq!(db.sql("SELECT \"followersCount\" FROM profile_agg WHERE did = 'did:plc:gone'"), "2");
}
