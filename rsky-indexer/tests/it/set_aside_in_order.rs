//! A create can replace another version of a like, a block or a verification, and so free what that version said for another
//! record of its author. While somebody holds a row that it needs, the other does not come before it, nor it before the other;
//! those that are new both do not wait for each other.

use std::collections::HashSet;

use rsky_testnet::servers::Redis;
use serde_json::{Value, json};

use crate::entries::{AT, BLOCK, LIKE, POST, Scribe, about, post, signal, uri};
use crate::load::events;
use crate::one_slow_row::{Holder, only_left};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, wait_drained, wait_until,
};
use crate::support::Db;

const VERIFICATION: &str = "app.bsky.graph.verification";
/// Who says things.
const AUTHOR: &str = "did:plc:author";
/// Entries of all others, told a part at a time.
const OTHERS: usize = 600;

fn post_of(name: &str) -> String {
    uri(&format!("did:plc:{name}"), POST, name)
}

/// A process, and entries that are told to it.
struct Stage {
    redis: Redis,
    db: Db,
    scribe: Scribe,
    others: std::vec::IntoIter<String>,
    told: Vec<String>,
    waiting: HashSet<String>,
    indexer: Indexer,
}

impl Stage {
    /// Posts x, y and z stand, each with counters.
    fn new(lanes: usize) -> Self {
        let (redis, db, mut scribe) =
            (Redis::start().unwrap(), Db::new("set_aside_in_order"), Scribe::live());
        let mut before = Vec::new();
        for name in ["x", "y", "z"] {
            before.push(scribe.create(&format!("did:plc:{name}"), POST, name, post(name)));
            before.push(scribe.create("did:plc:friend", LIKE, name, signal(&post_of(name))));
        }
        let lanes = lanes.to_string();
        let settings =
            [("INDEXER_CONCURRENCY", lanes.as_str()), ("INDEXER_BATCH_SIZE", "500"), ("MAX_ATTEMPTS", "1")];
        let indexer = Indexer::start(&redis.url(), db.url(), &settings);
        let others = events(65, OTHERS).into_iter();
        let mut stage =
            Self { redis, db, scribe, others, told: Vec::new(), waiting: HashSet::new(), indexer };
        stage.tell(before);
        wait_drained(&stage.redis, LIVE);
        stage
    }

    fn like(&mut self, rkey: &str, name: &str) -> String {
        self.scribe.create(AUTHOR, LIKE, rkey, signal(&post_of(name)))
    }

    fn tell(&mut self, entries: Vec<String>) {
        add(&self.redis, LIVE, &entries);
        self.told.extend(entries);
    }

    /// Adds entries, and what others say behind them, and waits until all but those that may wait are gone; the last of the
    /// entries that have to be gone follow the others.
    fn tell_those_that_wait(&mut self, entries: Vec<String>) {
        self.waiting.extend(entries.iter().cloned());
        self.tell(entries);
        self.others_pass();
    }

    fn others_pass(&mut self) {
        let others: Vec<String> = self.others.by_ref().take(OTHERS / 6).collect();
        assert!(!others.is_empty());
        self.tell(others);
        wait_until("all others are gone", || only_left(&self.redis, &self.waiting));
    }

    fn hold(&self, name: &str) -> Holder {
        Holder::hold(&self.db, &format!("post_agg WHERE uri = '{}'", post_of(name)))
    }

    /// Everything is done, and as in the order of the stream.
    fn check(self) {
        wait_drained(&self.redis, LIVE);
        assert_as_undisturbed(self.db.url(), &self.told);
        assert_no_dead_letters(&self.redis);
        drop(self.indexer);
    }
}

/// In one batch, and in two: the first waits already when the second comes.
fn both_ways(tell: impl Fn(&mut Stage, bool)) {
    for lanes in [1, 3] {
        for apart in [false, true] {
            let mut stage = Stage::new(lanes);
            tell(&mut stage, apart);
            stage.check();
        }
    }
}

impl Stage {
    fn tell_in_turn(&mut self, entries: Vec<String>, apart: bool) {
        if apart {
            for entry in entries {
                self.tell_those_that_wait(vec![entry]);
            }
        } else {
            self.tell_those_that_wait(entries);
        }
    }
}

#[test]
fn a_like_does_not_pass_one_that_frees_its_key() {
    both_ways(|stage, apart| {
        let first = stage.like("a", "x");
        stage.tell(vec![first]);
        wait_drained(&stage.redis, LIVE);
        let holder = stage.hold("y");
        let entries = vec![stage.like("a", "y"), stage.like("b", "x")];
        stage.tell_in_turn(entries, apart);
        holder.release();
    });
}

/// The second frees the key behind which the first would stand; the first fails by itself, in a way that nobody foresaw.
#[test]
fn a_like_that_frees_a_key_does_not_pass_one_that_is_to_be_its_duplicate() {
    both_ways(|stage, apart| {
        let first = stage.like("a", "x");
        stage.tell(vec![first]);
        wait_drained(&stage.redis, LIVE);
        stage.db.sql(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN RAISE ''not now''; END';
            CREATE TRIGGER refuse BEFORE INSERT ON duplicate_record FOR EACH ROW
                WHEN (NEW.uri = '{}') EXECUTE FUNCTION refuse()",
            uri(AUTHOR, LIKE, "b")
        ));
        let entries = vec![stage.like("b", "x"), stage.like("a", "y")];
        stage.tell_in_turn(entries, apart);
        stage.db.sql("DROP TRIGGER refuse ON duplicate_record");
    });
}

#[test]
fn the_version_that_is_replaced_may_come_in_the_same_batch() {
    both_ways(|stage, apart| {
        let holder = stage.hold("y");
        let first = stage.like("a", "x");
        let rest = vec![stage.like("a", "y"), stage.like("b", "x")];
        if apart {
            stage.tell(vec![first]);
            stage.tell_in_turn(rest, apart);
        } else {
            stage.waiting.extend([first.clone()]);
            stage.tell_those_that_wait([vec![first], rest].concat());
        }
        holder.release();
    });
}

/// Each waits for a row of its own, and the later one is free first.
#[test]
fn two_that_wait_for_different_rows_are_done_in_order() {
    both_ways(|stage, apart| {
        let first = stage.like("a", "x");
        stage.tell(vec![first]);
        wait_drained(&stage.redis, LIVE);
        let (of_x, of_y) = (stage.hold("x"), stage.hold("y"));
        let entries = vec![stage.like("a", "y"), stage.like("b", "x")];
        stage.tell_in_turn(entries, apart);
        of_x.release();
        stage.others_pass();
        of_y.release();
    });
}

/// New ones, of one author: the second passes the first.
#[test]
fn new_ones_do_not_wait_for_each_other() {
    both_ways(|stage, apart| {
        let holder = stage.hold("y");
        let (held, free) = (stage.like("a", "y"), stage.like("b", "x"));
        stage.waiting.insert(held.clone());
        if apart {
            stage.tell(vec![held]);
            stage.others_pass();
            stage.tell(vec![free]);
        } else {
            stage.tell(vec![held, free]);
        }
        stage.others_pass();
        holder.release();
    });
}

/// Blocks and verifications, which have no counters: somebody holds what their author's commits move.
#[test]
fn blocks_and_verifications_keep_their_order() {
    let verify = |did: &str, name: &str| -> Value {
        json!({"subject": did, "handle": "a.test", "displayName": name, "createdAt": AT})
    };
    both_ways(|stage, apart| {
        let before = vec![
            stage.scribe.create(AUTHOR, BLOCK, "a", about("did:plc:x")),
            stage.scribe.create(AUTHOR, VERIFICATION, "a", verify("did:plc:x", "first")),
        ];
        stage.tell(before);
        wait_drained(&stage.redis, LIVE);
        let row = |nsid| format!("record WHERE uri = '{}'", uri(AUTHOR, nsid, "a"));
        let holders = [BLOCK, VERIFICATION].map(|nsid| Holder::hold(&stage.db, &row(nsid)));
        let entries = vec![
            stage.scribe.create(AUTHOR, BLOCK, "a", about("did:plc:y")),
            stage.scribe.create(AUTHOR, VERIFICATION, "a", verify("did:plc:y", "second")),
            stage.scribe.create(AUTHOR, BLOCK, "b", about("did:plc:x")),
            stage.scribe.create(AUTHOR, VERIFICATION, "b", verify("did:plc:x", "third")),
        ];
        stage.tell_in_turn(entries, apart);
        holders.into_iter().for_each(Holder::release);
    });
}
