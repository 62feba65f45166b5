//! `indexer dead-letters`: looked at, put back once the cause is gone, removed; nothing is lost on the way.

use rsky_testnet::servers::Redis;

use crate::load::{like, padded_like};
use crate::process::{Indexer, LIVE, Ran, add, add_field, count, dead_letters, length, run, wait_drained};
use crate::support::Db;

fn tool(redis: &Redis, arguments: &[&str]) -> Ran {
    let arguments: Vec<&str> = ["dead-letters"].iter().chain(arguments).copied().collect();
    run(&arguments, &[("REDIS_URL", &redis.url())], "")
}

/// A check of somebody's own refuses some likes for a while: they come back whole, a large one included.
#[test]
fn what_was_refused_comes_back_whole() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("letters_back"));
    db.sql(r#"ALTER TABLE "like" ADD CONSTRAINT no_sevens CHECK (subject NOT LIKE '%/7')"#);
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let large = padded_like(7, 300_000);
    add(&redis, LIVE, &(0..7).map(like).collect::<Vec<_>>());
    add(&redis, LIVE, &[large.as_str(), "{}"]);
    add_field(&redis, LIVE, "evnt", &["{}"]);
    wait_drained(&redis, LIVE);
    let letters = dead_letters(&redis, LIVE);
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().any(|letter| letter["event"] == large), "it is kept whole");

    let listed = tool(&redis, &["list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    for said in
        ["refused_by_postgres: 1", "malformed_entry: 1", "missing_field: 1", "did:plc:like7", "no_sevens"]
    {
        assert!(listed.out.contains(said), "{said}: {}", listed.out);
    }
    let shown = tool(&redis, &["show", "--did", "did:plc:like7"]);
    assert!(shown.out.contains(&large) && !shown.out.contains("missing_field"), "{}", shown.out.len());
    assert!(tool(&redis, &["list", "--limit", "0", "--did", "did:plc:nobody"]).out.is_empty());

    assert_eq!(tool(&redis, &["retry"]).code, Some(1), "of what?");
    assert_eq!(dead_letters(&redis, LIVE).len(), 3);
    db.sql("ALTER TABLE \"like\" DROP CONSTRAINT no_sevens");
    let retried = tool(&redis, &["retry", "--reason", "refused_by_postgres"]);
    assert_eq!(
        (retried.code, retried.out.as_str()),
        (Some(0), "1 back in their streams\n"),
        "{}",
        retried.err
    );
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 8);
    assert_eq!(count(&db, "record WHERE length(json) > 300000"), 1);

    // One has nothing to put back and stays; the other fails again and is a letter again.
    let retried = tool(&redis, &["retry", "--all"]);
    assert!(retried.out.contains("1 back in their streams"), "{}", retried.out);
    assert!(retried.out.contains("1 left as they are: each has no payload"), "{}", retried.out);
    wait_drained(&redis, LIVE);
    indexer.assert_dead("malformed_entry", 2);
    assert_eq!(dead_letters(&redis, LIVE).len(), 2);

    let dropped = tool(&redis, &["drop", "--reason", "missing_field"]);
    assert_eq!((dropped.code, dropped.out.as_str()), (Some(0), "1 removed\n"));
    assert_eq!(dead_letters(&redis, LIVE).len(), 1);
}

#[test]
fn a_letter_that_is_not_whole_is_not_put_back() {
    let redis = Redis::start().unwrap();
    let letter = |fields: &[&str]| {
        let command: Vec<&str> = ["XADD", "firehose_live_dlq", "*"].iter().chain(fields).copied().collect();
        redis.command(&command).unwrap();
    };
    let cut = "too long (payload cut to 10 of 99 bytes)";
    letter(&["event", "{\"type\":\"", "reason", "malformed_entry", "error", cut, "source_id", "5-0"]);
    letter(&["event", "AAAA", "reason", "bad_frame", "error", "no", "source_id", "relay.example@7"]);
    letter(&["event", "\u{fffd}", "reason", "not_utf8", "error", "no", "source_id", "6-0"]);
    let retried = tool(&redis, &["retry", "--stream", "firehose_live"]);
    assert_eq!(retried.code, Some(0), "{}", retried.err);
    assert!(retried.out.starts_with("0 back in their streams\n"), "{}", retried.out);
    assert_eq!(retried.out.matches("1 left as they are").count(), 3, "{}", retried.out);
    assert_eq!((dead_letters(&redis, LIVE).len(), length(&redis, LIVE)), (3, 0));
}
