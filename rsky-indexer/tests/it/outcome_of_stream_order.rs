//! Inside one process the outcome is that of stream order, at any concurrency and batch size (DECISIONS 10): what depends
//! on another account's record finds it, however far apart the two stand.

use rsky_testnet::servers::Redis;

use crate::gated_threads::{Wrong, stream};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, wait_drained};
use crate::support::Db;

/// Threads of each kind.
const THREADS: usize = 300;

/// Lanes, entries between those of a thread, entries of a batch.
type Case = (usize, usize, usize);

/// What comes out wrong when everything waits in the stream before the indexer starts.
fn outcome((lanes, distance, batch): Case) -> Wrong {
    let (redis, db) = (Redis::start().unwrap(), Db::new("stream_order"));
    add(&redis, LIVE, &stream(THREADS, distance));
    let (lanes, batch) = (lanes.to_string(), batch.to_string());
    let settings = [
        ("INDEXER_CONCURRENCY", lanes.as_str()),
        ("INDEXER_BATCH_SIZE", &batch),
        ("INDEXER_NOTIFICATIONS", "live"),
    ];
    let _indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    Wrong::of(&db, THREADS)
}

fn check(cases: impl IntoIterator<Item = Case>) {
    let outcomes: Vec<(Case, Wrong)> = cases.into_iter().map(|case| (case, outcome(case))).collect();
    let line = |((lanes, distance, batch), wrong): &(Case, Wrong)| {
        format!("\nlanes {lanes}, distance {distance}, batch {batch}: {wrong}")
    };
    let table: String = outcomes.iter().map(line).collect();
    assert!(outcomes.iter().all(|(_, wrong)| wrong.none()), "of {THREADS} threads of each kind:{table}");
}

#[test]
fn replies_and_quotes_find_the_gates_before_them() {
    check([(3, 0, 4000), (9, 200, 50), (3, 3000, 4000), (9, 0, 50), (1, 200, 50)]);
}

#[test]
#[ignore = "all of the table; takes minutes"]
fn at_every_concurrency_distance_and_batch_size() {
    let lanes = [1, 3, 9].into_iter();
    let with_distance = lanes.flat_map(|lanes| [0, 200, 3000].map(|distance| (lanes, distance)));
    check(with_distance.flat_map(|(lanes, distance)| [50, 4000].map(|batch| (lanes, distance, batch))));
}
