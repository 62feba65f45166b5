//! Entries that are delivered again change nothing that was judged: neither those that the relay repeats, nor those of a process
//! that was killed after its commit. What they were judged by may have come or gone since.

use rsky_testnet::servers::{Generation, Redis};

use crate::entries::{
    FOLLOW, POST, POST_GATE, Scribe, THREAD_GATE, about, post, post_gate, quote, reply, thread_gate, uri,
};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, read_and_vanish, wait_drained};
use crate::support::Db;

const AUTHOR: &str = "did:plc:author";

fn did(name: &str) -> String {
    format!("did:plc:{name}")
}

/// What is known of all posts but the author's.
fn flags(db: &Db) -> String {
    let sql = r#"SELECT string_agg(concat_ws(' ', creator, "invalidReplyRoot", "violatesThreadGate",
        "violatesEmbeddingRules"), ', ' ORDER BY creator) FROM post WHERE creator <> 'did:plc:author'"#;
    db.sql(sql)
}

/// Those who follow the author may answer. One follows after the answer, another no longer; what the gate of the quoted post
/// says has changed.
struct Story {
    judged: Vec<String>,
    after: Vec<String>,
}

impl Story {
    fn tell(scribe: &mut Scribe) -> Self {
        let root = uri(AUTHOR, POST, "p");
        let quoted = uri(AUTHOR, POST, "q");
        let mut judged = vec![
            scribe.create(AUTHOR, POST, "p", post("root")),
            scribe.create(&did("quoting"), POST, "q", quote(&quoted)),
            scribe.create(AUTHOR, POST, "q", post("quoted")),
            scribe.create(AUTHOR, THREAD_GATE, "p", thread_gate(&root, &["followerRule"])),
            scribe.create(&did("was"), FOLLOW, "f", about(AUTHOR)),
        ];
        judged.extend(
            ["was", "will", "never"].map(|name| scribe.create(&did(name), POST, "r", reply(&root, &root))),
        );
        let after = vec![
            scribe.create(&did("will"), FOLLOW, "f", about(AUTHOR)),
            scribe.delete(&did("was"), FOLLOW, "f"),
        ];
        Self { judged, after }
    }
}

/// So many of the story's entries come before the answers.
const NOT_JUDGED: usize = 4;

const JUDGED: &str = "did:plc:never f t, did:plc:quoting, did:plc:was, did:plc:will f t";

#[test]
fn what_is_repeated_changes_nothing() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "repeated"));
        let _indexer = Indexer::start(&redis.url(), db.url(), &[]);
        let Story { judged, after } = Story::tell(&mut Scribe::live());
        // Posts and gates by themselves, and all of it.
        for part in [&judged, &after, &judged[..NOT_JUDGED], &judged] {
            add(&redis, LIVE, part);
            wait_drained(&redis, LIVE);
            assert_eq!(flags(&db), JUDGED, "{generation:?}");
        }
        assert_no_dead_letters(&redis);
    }
}

/// Where records have no revs, what a backfill has brought and a relay brings looks as if it were delivered again.
#[test]
fn what_a_backfill_has_brought_and_a_relay_brings_changes_nothing() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "repeated_live"));
        let _indexer = Indexer::start(&redis.url(), db.url(), &[]);
        let Story { judged, after } = Story::tell(&mut Scribe::backfilled());
        let live: Vec<String> =
            judged.iter().enumerate().map(|(number, entry)| live(entry, number)).collect();
        add(&redis, "firehose_backfill", &judged);
        wait_drained(&redis, "firehose_backfill");
        add(&redis, LIVE, &after);
        wait_drained(&redis, LIVE);
        for part in [&live[..NOT_JUDGED], &live] {
            add(&redis, LIVE, part);
            wait_drained(&redis, LIVE);
            assert_eq!(flags(&db), JUDGED, "{generation:?}");
        }
        assert_no_dead_letters(&redis);
    }
}

fn live(entry: &str, number: usize) -> String {
    assert!(entry.contains(r#""seq":-1"#));
    entry.replace(r#""seq":-1"#, &format!(r#""seq":{number}"#))
}

/// A process was killed between its commit and its second look: it is not known any more whom a gate has judged, but what is
/// hidden was judged by one.
#[test]
fn what_was_hidden_stays_hidden_after_a_kill() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "killed"));
        let mut scribe = Scribe::live();
        let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "500")]);
        let (root, quoted) = (uri(AUTHOR, POST, "p"), uri(AUTHOR, POST, "q"));
        let entries = [
            scribe.create(AUTHOR, POST, "p", post("root")),
            scribe.create(AUTHOR, POST, "q", post("quoted")),
            scribe.create(AUTHOR, THREAD_GATE, "p", thread_gate(&root, &["followerRule"])),
            scribe.create(AUTHOR, POST_GATE, "q", post_gate(&quoted)),
            scribe.create(&did("will"), POST, "r", reply(&root, &root)),
            scribe.create(&did("quoting"), POST, "q", quote(&quoted)),
            scribe.create(&did("will"), FOLLOW, "f", about(AUTHOR)),
        ];
        add(&redis, LIVE, &entries);
        wait_drained(&redis, LIVE);
        let judged = flags(&db);
        assert_eq!(judged, "did:plc:quoting t, did:plc:will f t");
        indexer.terminate();
        add(&redis, LIVE, &entries);
        assert_eq!(read_and_vanish(&redis, LIVE, "gone", 3).len(), 3);
        indexer.restart();
        wait_drained(&redis, LIVE);
        assert_eq!(flags(&db), judged, "{generation:?}");
        assert_no_dead_letters(&redis);
    }
}

/// A deletion comes again after the record was created anew. Where records have revs it is late; where they have none nothing
/// says so, and it takes the record away: whether the three come in one batch or one after the other.
#[test]
fn a_deletion_that_comes_again_does_the_same_in_one_batch() {
    for (generation, left) in [(Generation::D, 1), (Generation::B, 1), (Generation::U, 0)] {
        for batch in ["1", "400"] {
            let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "deleted_again"));
            let mut scribe = Scribe::live();
            let deletion = scribe.delete(AUTHOR, POST, "p");
            let entries = [deletion.clone(), scribe.create(AUTHOR, POST, "p", post("anew")), deletion];
            add(&redis, LIVE, &entries);
            let _indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", batch)]);
            wait_drained(&redis, LIVE);
            assert_eq!(count(&db, "post"), left, "{generation:?}, batches of {batch}");
            assert_no_dead_letters(&redis);
        }
    }
}
