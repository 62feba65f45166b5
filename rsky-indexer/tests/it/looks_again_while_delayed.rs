//! A second identity event waits for its minute to be over. What else comes for the account does not wait for it: by
//! the identity events that are still pending it shows that no minute has passed.

use bytes::Bytes;
use rsky_testnet::network::RepoAnswer;
use rsky_testnet::servers::Redis;

use crate::accounts::{T0, World, account, identity, profile};
use crate::process::{
    LIVE, add, assert_no_dead_letters, count, length, pending, pending_of, wait_drained, wait_until,
};
use crate::support::Db;

/// An account whose second identity event waits; the id of the event.
fn delay(redis: &Redis, world: &World, did: &str) -> String {
    world.account(did, &format!("{}.test", &did[8..]));
    let others = pending_of(redis, LIVE, "a");
    let new = || -> Vec<String> {
        pending_of(redis, LIVE, "a").into_iter().filter(|id| !others.contains(id)).collect()
    };
    let is_settled = || length(redis, LIVE) == i64::try_from(others.len()).unwrap() && new().is_empty();
    add(redis, LIVE, &[identity(did, T0), profile(did)]);
    wait_until("the first is resolved", is_settled);
    add(redis, LIVE, &[identity(did, T0)]);
    wait_until("the second is read", || new().len() == 1);
    new().remove(0)
}

#[test]
fn a_deletion_does_not_wait_behind_an_identity_event() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("deletion_waits_not"), World::new());
    let indexer = world.indexer(&redis.url(), db.url(), &[("INDEXER_STREAMS", LIVE)]);
    wait_until("it reads", || pending(&redis, LIVE).is_some());
    world.directory.set_repo("did:plc:kept", RepoAnswer::Car(Bytes::new()));
    // The clock: its minute began first, so it is over first.
    let clock = delay(&redis, &world, "did:plc:clock");
    let kept = delay(&redis, &world, "did:plc:kept");
    let gone = delay(&redis, &world, "did:plc:gone");
    indexer.assert_metric("indexer_handle_entries", &[], 3);
    assert_eq!(pending_of(&redis, LIVE, "a"), [clock.as_str(), &kept, &gone]);

    let deleted = Some("deleted");
    add(&redis, LIVE, &[account("did:plc:gone", T0, deleted), account("did:plc:kept", T0, deleted)]);
    wait_until("the rows are gone", || {
        count(&db, "record WHERE did = 'did:plc:gone'") == 0
            && count(&db, "profile WHERE creator = 'did:plc:gone'") == 0
            && count(&db, "actor WHERE did = 'did:plc:gone'") == 0
    });
    // What says that an account is gone that is not is done with; that its handle is waited for is not.
    indexer.assert_metric("indexer_entries_total", &["reason=\"account_still_hosted\""], 1);
    wait_until("the rest is done with", || length(&redis, LIVE) <= 2);
    assert_eq!(pending_of(&redis, LIVE, "a"), [clock, kept]);
    assert_eq!(count(&db, "profile"), 2);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "actor WHERE handle = substr(did, 9) || '.test'"), 2);
    assert_no_dead_letters(&redis);
}

#[test]
fn statuses_and_profiles_do_not_wait_behind_an_identity_event() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("status_waits_not"), World::new());
    let indexer = world.indexer(&redis.url(), db.url(), &[("INDEXER_STREAMS", LIVE)]);
    wait_until("it reads", || pending(&redis, LIVE).is_some());
    let did = "did:plc:a";
    let waits = delay(&redis, &world, did);
    world.account(did, "b.test");
    for status in [Some("suspended"), None, Some("takendown")] {
        add(&redis, LIVE, &[account(did, T0, status), profile(did)]);
    }
    let resolved = indexer.metric("indexer_handles_total", &["outcome=\"resolved\""]);
    wait_until("all is written", || {
        db.sql("SELECT \"upstreamStatus\" FROM actor") == "takendown" && length(&redis, LIVE) < 2
    });
    assert_eq!(pending_of(&redis, LIVE, "a"), [waits.as_str()]);
    assert_eq!(indexer.metric("indexer_handles_total", &["outcome=\"resolved\""]), resolved);
    // An event that comes a day later asks for the handle at once, and what has waited is served with it.
    let later = "2026-01-03T01:00:00.000Z";
    add(&redis, LIVE, &[account(did, later, None)]);
    wait_until("the handle is there", || db.sql("SELECT handle FROM actor") == "b.test");
    wait_drained(&redis, LIVE);
    indexer.assert_metric("indexer_handles_total", &["outcome=\"resolved\""], resolved + 1);
    assert_no_dead_letters(&redis);
}
