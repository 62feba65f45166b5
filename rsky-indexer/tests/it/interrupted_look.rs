//! A process ends between its commit and its second look: the entries are delivered again, and the look is made then.

use rsky_testnet::servers::Redis;
use serde_json::json;

use crate::entries::{
    AT, POST, POST_GATE, Scribe, THREAD_GATE, post, post_gate, quote, reply, thread_gate, uri,
};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, read_and_vanish, wait_drained};
use crate::support::Db;

#[test]
fn what_an_interrupted_look_would_have_found_is_found_when_the_entries_come_again() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("interrupted"));
    let mut scribe = Scribe::live();
    let root = uri("did:plc:author", POST, "p");
    let first = uri("did:plc:first", POST, "r");
    let early = [
        scribe.create("did:plc:first", POST, "r", reply(&root, &root)),
        scribe.create("did:plc:second", POST, "r", reply(&root, &first)),
        scribe.create("did:plc:third", POST, "q", quote(&root)),
    ];
    let late = [
        scribe.create("did:plc:author", POST, "p", post("root")),
        scribe.create("did:plc:author", THREAD_GATE, "p", thread_gate(&root, &[])),
        scribe.create("did:plc:author", POST_GATE, "p", post_gate(&root)),
    ];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "500")]);
    add(&redis, LIVE, &early);
    add(&redis, LIVE, &late);
    wait_drained(&redis, LIVE);
    let flags = || {
        let sql = r#"SELECT string_agg(concat_ws(' ', creator, "invalidReplyRoot", "violatesThreadGate",
            "violatesEmbeddingRules"), ', ' ORDER BY creator) FROM post WHERE creator <> 'did:plc:author'"#;
        db.sql(sql)
    };
    let judged = flags();
    assert_eq!(judged, "did:plc:first f t, did:plc:second f t, did:plc:third t");

    // As if another process had written them, and the look that would have found them was never made.
    db.sql(r#"UPDATE post SET "violatesThreadGate" = false WHERE creator IN ('did:plc:first', 'did:plc:second')"#);
    db.sql(r#"UPDATE post SET "invalidReplyRoot" = true WHERE creator = 'did:plc:second'"#);
    db.sql(r#"UPDATE post SET "violatesEmbeddingRules" = NULL WHERE creator = 'did:plc:third'"#);
    assert_eq!(indexer.terminate(), Some(0));
    add(&redis, LIVE, &late);
    assert_eq!(read_and_vanish(&redis, LIVE, "gone", late.len()).len(), late.len());
    indexer.restart();
    wait_drained(&redis, LIVE);
    assert_eq!(flags(), judged);
    assert_eq!(count(&db, "post"), 4);
    assert_no_dead_letters(&redis);
}

/// A gate that is replaced changes nothing about what was judged: not when it comes again, either.
#[test]
fn a_gate_that_was_replaced_judges_nothing_when_its_entry_comes_again() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("replaced_again"));
    let mut scribe = Scribe::live();
    let root = uri("did:plc:author", POST, "p");
    let all = [
        // Before their root, so its first gates judge them: they forbid nothing.
        scribe.create("did:plc:first", POST, "r", reply(&root, &root)),
        scribe.create("did:plc:third", POST, "q", quote(&root)),
        scribe.create("did:plc:author", POST, "p", post("root")),
        scribe.create("did:plc:author", THREAD_GATE, "p", json!({"post": root, "createdAt": AT})),
        scribe.create("did:plc:author", POST_GATE, "p", json!({"post": root, "createdAt": AT})),
    ];
    let replaced = [
        scribe.update("did:plc:author", THREAD_GATE, "p", thread_gate(&root, &[])),
        scribe.update("did:plc:author", POST_GATE, "p", post_gate(&root)),
    ];
    let _indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let shown = r#"SELECT string_agg(concat_ws(' ', creator, "invalidReplyRoot", "violatesThreadGate",
        "violatesEmbeddingRules"), ', ' ORDER BY creator) FROM post WHERE creator <> 'did:plc:author'"#;
    for payloads in [&all[..], &replaced, &replaced] {
        add(&redis, LIVE, payloads);
        wait_drained(&redis, LIVE);
        assert_eq!(db.sql(shown), "did:plc:first, did:plc:third");
    }
    assert_no_dead_letters(&redis);
}
