//! `indexer index-repo` while a daemon drains the commits of the same repository.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rsky_testnet::network::repos;
use rsky_testnet::servers::Redis;
use serde_json::json;

use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, wait_drained, wait_until};
use crate::repositories::{DID, Records, World, apply, assert_same, event, follow, last, post, record};
use crate::support::Db;

const EVENTS: usize = 3000;
/// The commit that the PDS gives: everything up to it is in the repository.
const COMMIT: usize = 1500;
const RKEYS: usize = 40;

/// A history of creates, updates and deletes, and the repository after [`COMMIT`].
fn history() -> (Vec<String>, Records) {
    let (mut now, mut then): (Records, Records) = (BTreeMap::new(), BTreeMap::new());
    let mut events = Vec::new();
    // The same in each run (a linear congruential generator).
    let mut state = 20_261_124_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for at in 0..EVENTS {
        let rkey = random(RKEYS).to_string();
        let (path, value) = match random(4) {
            0 => {
                let subject = json!({"uri": format!("at://did:plc:s/app.bsky.feed.post/{rkey}"),
                    "cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"});
                record(&format!("app.bsky.feed.like/{rkey}"), json!({"subject": subject}))
            }
            1 => follow(&rkey, &rkey),
            _ => post(&rkey, &format!("version {at}")),
        };
        let rev = match at {
            COMMIT => repos::REV.to_owned(),
            ..COMMIT => format!("3a{at:011}"),
            _ => format!("3z{at:011}"),
        };
        let kind = match now.contains_key(&path) {
            false => "create",
            true if random(2) == 0 => "update",
            true => "delete",
        };
        let value = (kind != "delete").then_some(value);
        let text = event(kind, &rev, &path, value.as_ref());
        events.push(text.replace("\"seq\":-2", &format!("\"seq\":{at}")));
        match value {
            Some(value) => drop(now.insert(path, value)),
            None => drop(now.remove(&path)),
        }
        if at == COMMIT {
            then = now.clone();
        }
    }
    (events, then)
}

#[test]
fn a_daemon_that_drains_the_same_repository_and_it_end_right() {
    let (events, repository) = history();
    let (redis, db, right) = (Redis::start().unwrap(), Db::new("repo_live"), Db::new("repo_live_right"));
    let world = World::of(&repository);
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "20")]);
    let (runs, mut changed) = (AtomicUsize::new(0), 0);
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            for (at, chunk) in events.chunks(10).enumerate() {
                // A tenth of them meets each run, however long runs take.
                wait_until("the next run", || at / 30 <= runs.load(Ordering::Relaxed));
                add(&redis, LIVE, chunk);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        while !feeding.is_finished() {
            let out = world.index(&db, &[]);
            runs.fetch_add(1, Ordering::Relaxed);
            changed += usize::from(!last(&out).starts_with("created 0, updated 0, deleted 0,"));
        }
    });
    assert!(changed > 0, "no run had anything to do");
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    indexer.assert_metric("indexer_entries_total", &["outcome=\"indexed\""], EVENTS as u64);
    apply(&right, events);
    assert_same(&db, &right);
    let out = world.index(&db, &[]);
    assert!(last(&out).starts_with("created 0, updated 0, deleted 0,"), "{out}");
    assert_eq!(db.sql(&format!("SELECT \"repoRev\" FROM actor_sync WHERE did = '{DID}'")), "3z00000002999");
}
