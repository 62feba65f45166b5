//! Accounts whose commits were lost: fetched once however many tell of it, and compared with all that was queued before.

use bytes::Bytes;
use rsky_testnet::servers::{Database, Postgres, Redis};

use crate::hosts::{Host, Hosts, counts, did};
use crate::support::{Backfiller, events, left, length, wait_until};
use crate::synthetic;

fn car(number: usize) -> Bytes {
    synthetic::car(&did(number), 3, 5, &synthetic::key(1)).into()
}

fn appview() -> Database {
    Postgres::shared().unwrap().create_database("backfiller").unwrap()
}

fn lost(redis: &Redis, did: &str, host: &str, rev: &str) {
    let entry = format!(r#"{{"did":"{did}","host":"{host}","rev":"{rev}"}}"#);
    redis.command(&["XADD", "repo_backfill_priority", "*", "repo", &entry]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_that_several_tell_of_is_fetched_once() {
    let (hosts, redis, database) = (Hosts::start().await, Redis::start().unwrap(), appview());
    let slow = Host::Later(std::time::Duration::from_secs(1), car(1));
    let account = hosts.add(1, slow, 1);
    for _ in 0..5 {
        for relay in [hosts.url(), "https://another.example".to_owned()] {
            lost(&redis, &account, &relay, synthetic::REV);
        }
    }
    let own = [("DATABASE_URL", database.url.as_str())];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all are settled", || left(&redis) == 0);
    assert_eq!((hosts.requests(&account), counts(&redis)[&account]), (1, (3, 1)));
    // After a restart, too; not what was lost later, nor what somebody asks for.
    assert_eq!(backfiller.terminate(), Some(0));
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    for (rev, requests) in [(synthetic::REV, 1), ("3zzzzzzzzzzzz", 2), ("", 3)] {
        lost(&redis, &account, &hosts.url(), rev);
        wait_until("it is settled", || left(&redis) == 0);
        assert_eq!(hosts.requests(&account), requests, "{rev}");
    }
    assert_eq!(length(&redis, "repo_backfill_priority_dlq"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_unread_is_compared_when_it_has_been_indexed() {
    for stream in ["firehose_live", "firehose_backfill"] {
        println!("{stream}");
        let (hosts, redis, database) = (Hosts::start().await, Redis::start().unwrap(), appview());
        let (account, other) = (hosts.add(1, Host::Car(car(1)), 1), hosts.add(2, Host::Car(car(2)), 1));
        // Its deletion was lost.
        let rev = "3jzfcijpj2z2a";
        let create = format!(
            r#"{{"seq":5,"time":"2025-01-01T00:00:00.000Z","did":"{account}","commit":"c","rev":"{rev}","type":"create","collection":"app.bsky.feed.post","rkey":"gone","cid":"c","record":{{}}}}"#
        );
        let add = ["XADD", stream, "*", "event", &create];
        let unread = redis.command(&add).unwrap().as_text().unwrap();
        lost(&redis, &account, &hosts.url(), synthetic::REV);
        lost(&redis, &other, &hosts.url(), synthetic::REV);
        let own = [("DATABASE_URL", database.url.as_str())];
        let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
        wait_until("both are queued", || left(&redis) == 0);
        let again = || redis.command(&["ZCARD", "repo_backfill:again"]).unwrap().as_int();
        assert_eq!(again(), Some(1), "that of the other account is done");
        // The indexer comes to it.
        let indexed = format!(
            "INSERT INTO record (uri, cid, did, json, rev, \"indexedAt\") VALUES \
             ('at://{account}/app.bsky.feed.post/gone', 'c', '{account}', '{{}}', '{rev}', '2025-01-01T00:00:00.000Z')"
        );
        database.sql(&indexed).unwrap();
        redis.command(&["XDEL", stream, &unread]).unwrap();
        wait_until("it is deleted", || {
            let events = events(&redis);
            events.iter().any(|event| event["type"] == "delete" && event["rkey"] == "gone")
        });
        wait_until("nothing is left", || left(&redis) == 0 && again() == Some(0));
        assert_eq!((hosts.requests(&account), hosts.requests(&other)), (2, 1));
    }
}
