//! Several processes in one group overtake each other as they like: when all is drained, no gate is passed over, and
//! nobody has missed a notification (DECISIONS 13).

use rsky_testnet::servers::{Redis, Signal};

use crate::gated_threads::{Wrong, stream};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, wait_drained, wait_until};
use crate::support::Db;

/// Processes, threads of each kind, entries between those of a thread.
type Case = (usize, usize, usize);

/// What comes out wrong when everything waits in the stream and all processes begin at once.
fn outcome((processes, threads, distance): Case) -> Wrong {
    let (redis, db) = (Redis::start().unwrap(), Db::new("side_by_side"));
    let start = |number: usize| {
        let name = format!("p{number}");
        // Little memory, so that one of them does not take everything.
        let settings = [
            ("INDEXER_CONSUMER", name.as_str()),
            ("INDEXER_NOTIFICATIONS", "live"),
            ("INDEXER_BATCH_SIZE", "100"),
            ("INDEXER_MEMORY", "1MiB"),
        ];
        Indexer::start(&redis.url(), db.url(), &settings)
    };
    let mut indexers: Vec<Indexer> = (0..processes).map(start).collect();
    for indexer in &mut indexers {
        wait_until("it is ready", || indexer.get("/readyz").0 == 200);
        indexer.signal(Signal::Stop);
    }
    let entries = stream(threads, distance);
    add(&redis, LIVE, &entries);
    for indexer in &mut indexers {
        indexer.signal(Signal::Cont);
    }
    wait_drained(&redis, LIVE);
    let indexed = |one: &Indexer| one.metric("indexer_entries_total", &["outcome=\"indexed\""]);
    let all = u64::try_from(entries.len()).unwrap();
    wait_until("all are counted", || indexers.iter().map(indexed).sum::<u64>() >= all);
    let shares: Vec<u64> = indexers.iter().map(indexed).collect();
    assert!(shares.iter().all(|share| *share > 0), "not side by side: {shares:?}");
    assert_no_dead_letters(&redis);
    // A gate that is written before its post leaves it without its mark: that is asked of nobody.
    Wrong { unmarked: 0, ..Wrong::of(&db, threads) }
}

fn check(cases: impl IntoIterator<Item = Case>) {
    let outcomes: Vec<(Case, Wrong)> = cases.into_iter().map(|case| (case, outcome(case))).collect();
    let line = |((processes, threads, distance), wrong): &(Case, Wrong)| {
        format!("\n{processes} processes, {threads} threads of each kind, distance {distance}: {wrong}")
    };
    let table: String = outcomes.iter().map(line).collect();
    assert!(outcomes.iter().all(|(_, wrong)| wrong.none()), "{table}");
}

#[test]
fn two_and_three_processes() {
    check([(2, 300, 0), (2, 300, 200), (3, 300, 40)]);
}

#[test]
#[ignore = "takes minutes"]
fn two_and_three_processes_for_long() {
    let distances = [0, 1, 10, 100, 500, 3000].into_iter();
    check(distances.flat_map(|distance| [2, 3].map(|processes| (processes, 3000, distance))));
}
