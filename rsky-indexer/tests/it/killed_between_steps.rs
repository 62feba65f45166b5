//! SIGKILL between two steps that follow each other at once: nothing is lost or done twice, at whichever of them.

use rsky_testnet::servers::{Redis, Signal};
use rsky_testnet::wire::{Then, Wire};

use crate::load::events;
use crate::process::{Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, wait_drained};
use crate::support::Db;

/// Whom something is said to.
#[derive(Clone, Copy, PartialEq)]
enum To {
    Redis,
    Postgres,
}

/// Kills an indexer whenever this is said for the nth time in its life, from its start on; before that it may be told to stop.
fn killed_at(to: To, said: &'static [u8], then: Then, nth: &[usize], signal: Option<Signal>) {
    let (redis, db) = (Redis::start().unwrap(), Db::new("between_steps"));
    let (to_redis, redis_url) = Wire::to(&redis.url());
    let (to_postgres, database_url) = Wire::to(db.url());
    let payloads = events(31, 1200);
    add(&redis, LIVE, &payloads);
    let wire = if to == To::Redis { &to_redis } else { &to_postgres };
    let settings = [("INDEXER_BATCH_SIZE", "40"), ("INDEXER_CONCURRENCY", "2")];
    let mut indexer: Option<Indexer> = None;
    for nth in nth {
        wire.stop_at(said, *nth, then);
        match &mut indexer {
            Some(indexer) => indexer.restart(),
            None => indexer = Some(Indexer::start(&redis_url, &database_url, &settings)),
        }
        wire.wait_until_still();
        if let Some(indexer) = &mut indexer {
            signal.into_iter().for_each(|signal| indexer.signal(signal));
            indexer.kill();
        }
        to_redis.repair();
        to_postgres.repair();
    }
    let mut indexer = indexer.expect("it was started");
    indexer.restart();
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_as_undisturbed(db.url(), &payloads);
}

#[test]
fn entries_are_delivered_and_nothing_is_written_yet() {
    killed_at(To::Redis, b"XREADGROUP", Then::Unanswered, &[1, 2, 4, 6], None);
}

#[test]
fn a_transaction_has_written_its_records() {
    killed_at(To::Postgres, b"INSERT INTO record", Then::Unanswered, &[1, 2, 1, 2], None);
}

/// The first ones are of the look at the schema, when it starts.
#[test]
fn a_commit_was_not_heard() {
    killed_at(To::Postgres, b"COMMIT\0", Then::Lost, &[1, 2, 3, 5, 8, 12], Some(Signal::Term));
}

#[test]
fn a_commit_was_heard_and_its_answer_was_not() {
    killed_at(To::Postgres, b"COMMIT\0", Then::Unanswered, &[1, 2, 3, 5, 8, 12], Some(Signal::Term));
}

#[test]
fn what_is_committed_was_not_acknowledged() {
    killed_at(To::Redis, b"XACK", Then::Lost, &[1, 2, 3, 4], Some(Signal::Term));
}

#[test]
fn the_acknowledgement_was_heard_and_its_answer_was_not() {
    killed_at(To::Redis, b"XACK", Then::Unanswered, &[1, 2, 3, 4], None);
}
