//! An account whose commits were lost: what it no longer has is deleted, what came later is left alone.

use bytes::Bytes;
use rsky_testnet::servers::{Database, Postgres, Redis};

use crate::support::{Backfiller, events, left, queue, wait_until};
use crate::synthetic;
use crate::trouble::{Host, Hosts, did};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_no_longer_in_the_repository() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let account = hosts.add(1, Host::Car(Bytes::from(synthetic::car(&did(1), 3, 5, &synthetic::key(1)))), 1);
    let (database, url) = appview(&account);
    queue(&redis, &hosts.url(), [&account]);
    let own = [("DATABASE_URL", url.as_str()), ("BACKFILLER_SKIP_UNCHANGED", "false")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it is queued", || left(&redis) == 0);
    assert!(events(&redis).iter().all(|event| event["type"] != "delete"), "a backfill deletes nothing");
    redis.command(&["DEL", "firehose_backfill"]).unwrap();
    let entry = format!(r#"{{"did":"{account}","host":"{}","rev":""}}"#, hosts.url());
    redis.command(&["XADD", "repo_backfill_priority", "*", "repo", &entry]).unwrap();
    wait_until("it is compared", || left(&redis) == 0);
    let all = events(&redis);
    let of = |kind: &str| -> Vec<String> {
        let all = all.iter().filter(|event| event["type"] == kind);
        all.map(|event| {
            format!("{}/{}", event["collection"].as_str().unwrap(), event["rkey"].as_str().unwrap())
        })
        .collect()
    };
    assert_eq!(of("create"), [synthetic::path(0), synthetic::path(1), synthetic::path(2)]);
    assert_eq!(
        of("delete"),
        ["app.bsky.feed.like/a", "app.bsky.feed.post/0000000000001x", "app.bsky.graph.follow/z"]
    );
    let delete = all.iter().find(|event| event["type"] == "delete").unwrap();
    assert_eq!((delete["seq"].as_i64(), delete["rev"].as_str()), (Some(-2), Some(synthetic::REV)));
    assert_eq!(all.last().unwrap()["type"], "repo");
    assert_eq!(backfiller.metric("backfiller_records_deleted_total", ""), Some(3.0));
    drop(database);
}

/// An AppView that has some records of the account: one still there, three gone, a tombstone, one newer than the
/// repository, and one of somebody else.
fn appview(account: &str) -> (Database, String) {
    let database = Postgres::shared().unwrap().create_database("backfiller").unwrap();
    let (still, newer) = (synthetic::path(1), "3zzzzzzzzzzzz");
    let old = "3jzfcijpj2z2a";
    for (did, path, json, rev) in [
        (account, still.as_str(), "{}", old),
        (account, "app.bsky.feed.post/0000000000001x", "{}", old),
        (account, "app.bsky.feed.like/a", "{}", synthetic::REV),
        (account, "app.bsky.graph.follow/z", "{}", old),
        (account, "app.bsky.graph.follow/dead", "", old),
        (account, "app.bsky.graph.follow/newer", "{}", newer),
        ("did:plc:other", "app.bsky.graph.follow/other", "{}", old),
    ] {
        let statement = format!(
            "INSERT INTO record (uri, cid, did, json, rev, \"indexedAt\") VALUES ('at://{did}/{path}', 'c', '{did}', '{json}', '{rev}', 't')"
        );
        database.sql(&statement).unwrap();
    }
    let url = database.url.clone();
    (database, url)
}
