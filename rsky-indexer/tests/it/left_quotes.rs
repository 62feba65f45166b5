//! Quotes that wait for their post, which are more than are judged at a time, or are held by somebody else when it comes.

use rsky_testnet::servers::Redis;
use sqlx::{Connection, PgConnection};

use crate::entries::{POST, POST_GATE, Scribe, post, post_gate, quote, uri};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, block_on, count, wait_drained, wait_until};
use crate::support::Db;

const FORBIDDEN: &str = r#"post WHERE "violatesEmbeddingRules""#;

#[test]
fn more_than_are_judged_at_a_time() {
    const QUOTES: usize = 2500;
    let (redis, db) = (Redis::start().unwrap(), Db::new("many_quotes"));
    let mut scribe = Scribe::live();
    let root = uri("did:plc:author", POST, "p");
    let quotes: Vec<String> = (0..QUOTES)
        .map(|number| scribe.create(&format!("did:plc:q{number}"), POST, "q", quote(&root)))
        .collect();
    let _indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_NOTIFICATIONS", "live")]);
    add(&redis, LIVE, &quotes);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, r#"notification WHERE reason = 'quote'"#), i64::try_from(QUOTES).unwrap());
    // The gate finds no post, and says nothing of what is there.
    add(&redis, LIVE, &[scribe.create("did:plc:author", POST_GATE, "p", post_gate(&root))]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, FORBIDDEN), 0);
    add(&redis, LIVE, &[scribe.create("did:plc:author", POST, "p", post("root"))]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, FORBIDDEN), i64::try_from(QUOTES).unwrap());
    assert_eq!(count(&db, "notification"), 0);
    assert_no_dead_letters(&redis);
}

#[test]
fn one_that_somebody_holds() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("held_quote"));
    let mut scribe = Scribe::live();
    let root = uri("did:plc:author", POST, "p");
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let early = [
        scribe.create("did:plc:q", POST, "q", quote(&root)),
        scribe.create("did:plc:author", POST_GATE, "p", post_gate(&root)),
    ];
    add(&redis, LIVE, &early);
    wait_drained(&redis, LIVE);
    block_on(async {
        let mut holder = PgConnection::connect(db.url()).await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT 1 FROM post FOR UPDATE").execute(&mut holder).await.unwrap();
        let others: Vec<String> = (0..500)
            .map(|number| scribe.create(&format!("did:plc:o{number}"), POST, "p", post("other")))
            .collect();
        let root = [scribe.create("did:plc:author", POST, "p", post("root"))];
        add(&redis, LIVE, &root);
        add(&redis, LIVE, &others);
        wait_until("all others are written", || count(&db, "post") >= 501);
        wait_until("it waits, or is done with", || {
            indexer.get("/readyz").1.contains("set aside") || crate::process::length(&redis, LIVE) == 0
        });
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    });
    wait_drained(&redis, LIVE);
    assert_eq!((count(&db, "post"), count(&db, FORBIDDEN)), (502, 1));
    assert_no_dead_letters(&redis);
}
