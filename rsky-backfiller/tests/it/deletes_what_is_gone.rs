//! An account whose commits were lost: what it no longer has is deleted, what came later is left alone.

use bytes::Bytes;
use rsky_testnet::servers::{Database, Postgres, Redis};

use crate::hosts::{Host, Hosts, did};
use crate::support::{Backfiller, events, left, queue, wait_until};
use crate::synthetic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_no_longer_in_the_repository() {
    // The three generations: every row has a revision; some have; there are none.
    for (generation, change) in [
        ("D", ""),
        (
            "B",
            "ALTER TABLE record ALTER COLUMN rev DROP NOT NULL; UPDATE record SET rev = NULL WHERE uri LIKE '%0001x'",
        ),
        ("U", "ALTER TABLE record DROP COLUMN rev; DELETE FROM record WHERE json = ''"),
    ] {
        println!("generation {generation}");
        compare(change).await;
    }
}

async fn compare(change: &str) {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let account = hosts.add(1, Host::Car(Bytes::from(synthetic::car(&did(1), 3, 5, &synthetic::key(1)))), 1);
    let (database, url) = appview(&account);
    if !change.is_empty() {
        database.sql(change).unwrap();
    }
    queue(&redis, &hosts.url(), [&account]);
    let own = [("DATABASE_URL", url.as_str())];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it is queued", || left(&redis) == 0);
    assert!(events(&redis).iter().all(|event| event["type"] != "delete"), "a backfill deletes nothing");
    redis.command(&["DEL", "firehose_backfill"]).unwrap();
    // This revision has been queued, but not compared.
    let entry = format!(r#"{{"did":"{account}","host":"{}","rev":"{}"}}"#, hosts.url(), synthetic::REV);
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
    // What moves `actor_sync`, once all of it is queued.
    let last = all.last().unwrap();
    assert_eq!((last["type"].as_str(), last["rev"].as_str()), (Some("repo"), Some(synthetic::REV)));
    assert_eq!(backfiller.metric("backfiller_records_deleted_total", ""), Some(3.0));
    drop(database);
}

/// An AppView that has some records of the account: one still there, three gone, a tombstone, one newer than the
/// repository, and one of somebody else.
fn appview(account: &str) -> (Database, String) {
    let database = Postgres::shared().unwrap().create_database("backfiller").unwrap();
    let (still, newer) = (synthetic::path(1), "3zzzzzzzzzzzz");
    let old = "3jzfcijpj2z2a";
    // Indexed long ago, and hereafter: what counts where there is no revision.
    let (then, later) = ("2025-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z");
    for (did, path, json, rev, indexed) in [
        (account, still.as_str(), "{}", old, then),
        (account, "app.bsky.feed.post/0000000000001x", "{}", old, then),
        (account, "app.bsky.feed.like/a", "{}", synthetic::REV, then),
        (account, "app.bsky.graph.follow/z", "{}", old, then),
        (account, "app.bsky.graph.follow/dead", "", old, then),
        (account, "app.bsky.graph.follow/newer", "{}", newer, later),
        ("did:plc:other", "app.bsky.graph.follow/other", "{}", old, then),
    ] {
        let statement = format!(
            "INSERT INTO record (uri, cid, did, json, rev, \"indexedAt\") VALUES ('at://{did}/{path}', 'c', '{did}', '{json}', '{rev}', '{indexed}')"
        );
        database.sql(&statement).unwrap();
    }
    let url = database.url.clone();
    (database, url)
}
