//! An account goes while another indexer of the group still has what it wrote before: nothing of that stays.

use std::collections::BTreeMap;

use rsky_testnet::servers::{Redis, Session, Signal};
use serde_json::json;

use crate::accounts::{T0, World, account, identity, profile, record};
use crate::entries::{POST, strong, uri};
use crate::process::{
    Indexer, LIVE, add, assert_no_dead_letters, count, read_and_vanish, rows, state, wait_drained, wait_until,
};
use crate::support::Db;

const GONE: &str = "did:plc:gone";
const OTHER: &str = "did:plc:other";
const BACKFILL: &str = "firehose_backfill";

/// What the account wrote last.
fn writings() -> Vec<String> {
    let post = uri(OTHER, POST, "p");
    vec![
        profile(GONE),
        record(GONE, POST, "last", &json!({"text": "x", "createdAt": T0})),
        record(GONE, "app.bsky.feed.like", "l", &json!({"subject": strong(&post), "createdAt": T0})),
        record(GONE, "app.bsky.graph.follow", "f", &json!({"subject": OTHER, "createdAt": T0})),
    ]
}

fn deleted(did: &str) -> String {
    account(did, T0, Some("deleted"))
}

/// A directory, Redis and a database; of the accounts, no host has a repository.
struct Stage {
    redis: Redis,
    db: Db,
    world: World,
}

impl Stage {
    fn new(name: &str) -> Self {
        let redis = Redis::builder().appendonly(true).setting("appendfsync", "always").start().unwrap();
        let (db, world) = (Db::new(name), World::new());
        for (did, handle) in [(GONE, "gone.test"), (OTHER, "other.test"), ("did:plc:away", "away.test")] {
            world.account(did, handle);
        }
        Self { redis, db, world }
    }

    fn indexer(&self, consumer: &str, more: &[(&str, &str)]) -> Indexer {
        let mut settings = vec![("INDEXER_CONSUMER", consumer), ("INDEXER_CLAIM_IDLE_MS", "600000")];
        settings.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        settings.extend_from_slice(more);
        self.world.indexer(&self.redis.url(), self.db.url(), &settings)
    }

    /// Another consumer is given entries of a stream, and does not finish them for now.
    fn held_by_another(&self, stream: &str, payloads: &[String]) {
        add(&self.redis, stream, payloads);
        let held = read_and_vanish(&self.redis, stream, "another", payloads.len());
        assert_eq!(held.len(), payloads.len());
    }

    /// The one that has them finishes them.
    fn another_finishes(&self) -> Indexer {
        self.indexer("another", &[])
    }

    /// Rows that say anything of the account, by table.
    fn left(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut left = rows(self.db.url());
        left.values_mut().for_each(|rows| rows.retain(|row| row.contains(GONE)));
        left.retain(|_, rows| !rows.is_empty());
        left
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        [LIVE, BACKFILL].iter().for_each(|stream| wait_drained(&self.redis, stream));
        assert_eq!(self.left(), BTreeMap::new());
        assert_eq!(count(&self.db, "post_agg WHERE \"likeCount\" <> 0"), 0);
        assert_no_dead_letters(&self.redis);
    }
}

/// The deletion has got as far as it gets: it waits, or is over.
fn wait_for_deletion(indexer: &Indexer) {
    wait_until("the deletion waits or is over", || {
        waiting(indexer) > 0 || indexer.metric("indexer_handles_total", &["outcome=\"deleted\""]) > 0
    });
}

fn waiting(indexer: &Indexer) -> u64 {
    indexer.metric("indexer_deletions_held_up", &[])
}

#[test]
fn what_another_one_holds_is_waited_for() {
    let stage = Stage::new("held_by_another");
    stage.held_by_another(LIVE, &writings());
    let indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_for_deletion(&indexer);
    // Nobody else waits: handles, and accounts of which nothing is held.
    add(&stage.redis, LIVE, &[identity(OTHER, T0), deleted("did:plc:away")]);
    wait_until("a handle is there", || count(&stage.db, "actor WHERE handle = 'other.test'") == 1);
    wait_until("another account is gone", || {
        indexer.metric("indexer_handles_total", &["outcome=\"deleted\""]) > 0
    });
    assert_eq!(waiting(&indexer), 1);
    wait_until("the status page says whom it waits for", || {
        let status = indexer.get("/status").1;
        status.contains(GONE) && status.contains("another")
    });
    assert_eq!(indexer.get("/readyz").0, 200, "others are waited for on purpose");
    let _another = stage.another_finishes();
    stage.assert_nothing_is_left();
    assert_eq!(count(&stage.db, "actor WHERE handle = 'other.test'"), 1);
    indexer.assert_metric("indexer_deletions_held_up", &[], 0);
    indexer.assert_metric("indexer_handles_total", &["outcome=\"deleted\""], 2);
}

/// The one that has them is dead: whoever takes them over may be the one that has the deletion.
#[test]
fn what_the_dead_have_left_is_waited_for() {
    let stage = Stage::new("left_by_the_dead");
    stage.held_by_another(LIVE, &writings());
    let _indexer = stage.indexer("a", &[("INDEXER_CLAIM_IDLE_MS", "3000")]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    stage.assert_nothing_is_left();
}

/// A living one has them, and waits for a row that a session holds.
/// More of them than there is room for: what they wait for is taken over, and needs room itself.
#[test]
fn many_deletions_leave_room_for_what_they_wait_for() {
    const ACCOUNTS: usize = 40;
    let stage = Stage::new("room");
    let dids: Vec<String> = (0..ACCOUNTS).map(|number| format!("{GONE}{number}")).collect();
    for did in &dids {
        stage.world.account(did, &format!("{}.test", did.rsplit(':').next().unwrap()));
    }
    let before: Vec<String> = dids.iter().map(|did| account(did, T0, Some("suspended"))).collect();
    stage.held_by_another(LIVE, &before);
    let settings = [("INDEXER_HANDLE_QUEUE", "10"), ("INDEXER_CLAIM_IDLE_MS", "4000")];
    let indexer = stage.indexer("a", &settings);
    let after: Vec<String> = dids.iter().flat_map(|did| [identity(did, T0), deleted(did)]).collect();
    add(&stage.redis, LIVE, &after);
    wait_for_deletion(&indexer);
    stage.assert_nothing_is_left();
    indexer.assert_metric("indexer_deletions_held_up", &[], 0);
}

#[test]
fn what_is_set_aside_by_another_one_is_waited_for() {
    let stage = Stage::new("set_aside_by_another");
    let mut session = Session::open(stage.db.url()).unwrap();
    let first = stage.indexer("first", &[]);
    let post = uri(OTHER, POST, "p");
    let like = |did: &str| {
        record(did, "app.bsky.feed.like", "l", &json!({"subject": strong(&post), "createdAt": T0}))
    };
    add(&stage.redis, LIVE, &[like("did:plc:before")]);
    wait_drained(&stage.redis, LIVE);
    session.rows("BEGIN").unwrap();
    session.rows(&format!("SELECT uri FROM post_agg WHERE uri = '{post}' FOR UPDATE")).unwrap();
    add(&stage.redis, LIVE, &[like(GONE)]);
    wait_until("it is set aside", || first.metric("indexer_entries_set_aside", &[]) == 1);
    let mut first = first;
    first.signal(Signal::Stop);
    // It would still be given what comes, as long as Redis knows it to be waiting.
    wait_until("it waits for nothing", || {
        let clients = stage.redis.command(&["INFO", "clients"]).unwrap().as_text().unwrap();
        clients.lines().any(|line| line.trim() == "blocked_clients:0")
    });
    let second = stage.indexer("second", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_for_deletion(&second);
    first.signal(Signal::Cont);
    session.rows("COMMIT").unwrap();
    wait_drained(&stage.redis, LIVE);
    assert_eq!(stage.left(), BTreeMap::new());
    assert_eq!(count(&stage.db, "\"like\""), 1);
}

/// What a backfill has read of the account, and another one has not finished, is in another stream.
#[test]
fn what_waits_in_a_backfill_goes_when_it_has_come() {
    let stage = Stage::new("left_in_a_backfill");
    let backfilled: Vec<String> =
        writings().iter().map(|payload| payload.replace("\"seq\":1", "\"seq\":-2")).collect();
    stage.held_by_another(BACKFILL, &backfilled);
    let indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[writings().remove(1), deleted(GONE)]);
    // At once, for what there is; and once more for what is still to come.
    wait_drained(&stage.redis, LIVE);
    assert_eq!(stage.left(), BTreeMap::new());
    wait_until("the deletion waits behind the backfill", || waiting(&indexer) == 1);
    let _another = stage.another_finishes();
    stage.assert_nothing_is_left();
    indexer.assert_metric("indexer_handles_total", &["outcome=\"deleted\""], 2);
}

/// Nobody reads the backfill's stream yet: its entries are unread, not pending.
#[test]
fn what_is_unread_in_a_backfill_goes_when_it_has_come() {
    let stage = Stage::new("unread_in_a_backfill");
    let backfilled =
        writings().iter().map(|payload| payload.replace("\"seq\":1", "\"seq\":-2")).collect::<Vec<_>>();
    add(&stage.redis, BACKFILL, &backfilled);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    let _indexer = stage.indexer("a", &[]);
    stage.assert_nothing_is_left();
}

/// Killed while it waits, again and again, it goes on waiting; and the deletion is not lost.
#[test]
fn one_that_waits_may_be_killed() {
    let stage = Stage::new("killed_waiting");
    stage.held_by_another(LIVE, &writings());
    let mut indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    for _ in 0..3 {
        wait_for_deletion(&indexer);
        indexer.restart();
    }
    wait_for_deletion(&indexer);
    indexer.kill();
    // The other one is faster now, and takes the deletion over, too.
    let _another = stage.indexer("another", &[("INDEXER_CLAIM_IDLE_MS", "1000")]);
    stage.assert_nothing_is_left();
}

/// Redis is away while it waits, and does not know afterwards who has what.
#[test]
fn redis_may_go_and_its_group_be_made_anew() {
    let mut stage = Stage::new("redis_goes");
    stage.held_by_another(LIVE, &writings());
    let indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_for_deletion(&indexer);
    stage.redis.kill().unwrap();
    wait_until("it is not ready", || indexer.get("/readyz").0 == 503);
    stage.redis.restart().unwrap();
    wait_until("it is ready", || indexer.get("/readyz").0 == 200);
    assert_eq!(waiting(&indexer), 1);
    // What the other one has is given to this one now, and the deletion once more.
    stage.redis.command(&["XGROUP", "DESTROY", LIVE, "firehose_group"]).unwrap();
    stage.assert_nothing_is_left();
}

/// What a consumer had that was deleted by hand is given to nobody any more, so nobody waits for it.
/// What was waited for is gone with the stream, and nothing is left that the new group could be given.
#[test]
fn a_stream_that_was_deleted_holds_nothing_up() {
    let stage = Stage::new("no_stream");
    stage.held_by_another(LIVE, &writings());
    let indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_until("it waits", || waiting(&indexer) == 1);
    stage.redis.command(&["DEL", LIVE]).unwrap();
    wait_until("it waits no longer", || waiting(&indexer) == 0);
    wait_until("the account is gone", || {
        indexer.metric("indexer_handles_total", &["outcome=\"deleted\""]) > 0
    });
    // Others go on.
    add(&stage.redis, LIVE, &[identity(OTHER, T0)]);
    wait_until("a handle is there", || count(&stage.db, "actor WHERE handle = 'other.test'") == 1);
    stage.assert_nothing_is_left();
}

#[test]
fn a_consumer_that_was_deleted_is_not_waited_for() {
    let stage = Stage::new("consumer_deleted");
    stage.held_by_another(LIVE, &writings());
    let indexer = stage.indexer("a", &[]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_for_deletion(&indexer);
    stage.redis.command(&["XGROUP", "DELCONSUMER", LIVE, "firehose_group", "another"]).unwrap();
    indexer.assert_metric("indexer_handles_total", &["outcome=\"deleted\""], 1);
    wait_until("only what nobody has is left", || state(&stage.redis, LIVE) == (4, 0));
    assert_eq!(stage.left(), BTreeMap::new());
}

/// A living one keeps what it has, also while it can write nothing: written by two, it might come after its deletion.
#[test]
fn what_a_living_one_has_is_left_to_it() {
    let stage = Stage::new("left_to_the_living");
    let mut session = Session::open(stage.db.url()).unwrap();
    let indexer = stage.indexer("a", &[("INDEXER_CLAIM_IDLE_MS", "30000")]);
    let post = uri(OTHER, POST, "p");
    let like = |did: &str| {
        record(did, "app.bsky.feed.like", "l", &json!({"subject": strong(&post), "createdAt": T0}))
    };
    add(&stage.redis, LIVE, &[like("did:plc:before")]);
    wait_drained(&stage.redis, LIVE);
    session.rows("BEGIN").unwrap();
    session.rows(&format!("SELECT uri FROM post_agg WHERE uri = '{post}' FOR UPDATE")).unwrap();
    add(&stage.redis, LIVE, &[like(GONE)]);
    wait_until("it is set aside", || indexer.metric("indexer_entries_set_aside", &[]) == 1);
    // Since when it has it, and how often it was given it.
    let delivery = || {
        let reply = stage.redis.command(&["XPENDING", LIVE, "firehose_group", "-", "+", "1"]).unwrap();
        let entry = reply.items()[0].items().to_vec();
        [2, 3].map(|at: usize| entry[at].as_int().unwrap())
    };
    let mut longest = 0;
    wait_until("it has told that it lives", || {
        let [idle, _] = delivery();
        longest = longest.max(idle);
        idle < longest
    });
    assert_eq!(delivery()[1], 1, "it was taken over, if only by itself");
    session.rows("COMMIT").unwrap();
    wait_drained(&stage.redis, LIVE);
    assert_eq!(count(&stage.db, "\"like\""), 2);
}

/// A user of Redis that may neither run scripts nor ask who has an entry looks through the stream by itself, and waits until there
/// is nothing of the account.
#[test]
fn a_user_that_may_not_ask_waits_all_the_same() {
    let stage = Stage::new("may_not_ask");
    stage.held_by_another(LIVE, &writings());
    let user = ["ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-eval", "-xpending"];
    stage.redis.command(&user).unwrap();
    let url = stage.redis.url().replace("redis://", "redis://poor:secret@");
    let indexer = stage.world.indexer(&url, stage.db.url(), &[("INDEXER_CLAIM_IDLE_MS", "600000")]);
    add(&stage.redis, LIVE, &[deleted(GONE)]);
    wait_for_deletion(&indexer);
    assert_eq!(waiting(&indexer), 1);
    let _another = stage.another_finishes();
    stage.assert_nothing_is_left();
}
