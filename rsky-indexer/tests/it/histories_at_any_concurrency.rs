//! Histories of threads, gates, quotes, lists, follows and notifications end in the rows of one entry at a time, whatever
//! the concurrency and the batch size.
//!
//! `HISTORIES=5000` tells so many worlds in place of a few dozen, `HISTORIES_SEED` others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rsky_indexer::engine::Notifications;
use rsky_testnet::servers::{Generation, Redis};

use crate::histories::{Stream, all_rows, apply_one_by_one, differences, mute_threads, world_of};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, block_on, wait_drained};
use crate::support::Db;
use crate::worlds::Content;

/// Worlds of a normal run.
const WORLDS: usize = 24;
/// Worlds that are told in one stream.
const MOST_AT_ONCE: usize = 200;

/// How a process is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// None: as many lanes as it takes by itself.
    lanes: Option<usize>,
    batch: usize,
    /// Half of the worlds are in the other stream: between two streams there is no order.
    two_streams: bool,
}

const fn one_stream(lanes: Option<usize>, batch: usize) -> Setup {
    Setup { lanes, batch, two_streams: false }
}

const fn two_streams(lanes: Option<usize>, batch: usize) -> Setup {
    Setup { lanes, batch, two_streams: true }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

/// Tells a stream to a process.
fn tell(generation: Generation, stream: &Stream, worlds: usize, setup: Setup) -> Db {
    let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "histories"));
    mute_threads(&db, worlds);
    let (live, backfill): (Vec<_>, Vec<_>) =
        stream.entries.iter().partition(|(world, _)| !setup.two_streams || world % 2 == 0);
    for (name, entries) in [(LIVE, live), ("firehose_backfill", backfill)] {
        add(&redis, name, &entries.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());
    }
    let (lanes, batch) = (setup.lanes.map(|lanes| lanes.to_string()), setup.batch.to_string());
    let mut settings = vec![("INDEXER_BATCH_SIZE", batch.as_str()), ("INDEXER_NOTIFICATIONS", "live")];
    settings.extend(lanes.as_deref().map(|lanes| ("INDEXER_CONCURRENCY", lanes)));
    let _indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    wait_drained(&redis, "firehose_backfill");
    assert_no_dead_letters(&redis);
    db
}

/// What a process made of a stream that one entry at a time does not make of it.
struct Finding {
    setup: Setup,
    seed: u64,
    unlike: Vec<String>,
    /// Of the first world that differs.
    history: String,
}

impl Finding {
    /// The worlds that differ.
    fn worlds(&self) -> BTreeSet<usize> {
        self.unlike.iter().filter_map(|row| world_of(row)).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setup, seed, unlike, .. } = self;
        let worlds = self.worlds();
        let mut tables: BTreeMap<&str, usize> = BTreeMap::new();
        for table in unlike.iter().filter_map(|row| row.split(' ').nth(1)) {
            *tables.entry(table).or_default() += 1;
        }
        write!(f, "{setup:?}, seed {seed}: rows {tables:?} of {} worlds {worlds:?}", worlds.len())
    }
}

/// Tells streams to processes, each to so many of the setups, which take turns; compares all rows.
fn check(generation: Generation, setups: &[Setup], at_once: usize) {
    let worlds = number_of("HISTORIES").map_or(WORLDS, |number| usize::try_from(number).unwrap());
    let first_seed = number_of("HISTORIES_SEED").unwrap_or(20_261_128);
    let content = Content { late: generation != Generation::U };
    let mut turns = setups.iter().copied().cycle();
    let mut findings = Vec::new();
    for (run, seed) in (0..worlds.div_ceil(MOST_AT_ONCE)).zip(first_seed..) {
        let worlds = (worlds - run * MOST_AT_ONCE).min(MOST_AT_ONCE);
        let stream = Stream::of(seed, worlds, content);
        let reference = Db::of(generation, "histories_one_by_one");
        mute_threads(&reference, worlds);
        let expected = block_on(async {
            apply_one_by_one(&reference, &stream, Notifications::Live).await;
            all_rows(&reference).await
        });
        for setup in turns.by_ref().take(at_once) {
            let db = tell(generation, &stream, worlds, setup);
            let unlike = differences(&expected, &block_on(all_rows(&db)));
            if !unlike.is_empty() {
                let mut finding = Finding { setup, seed, unlike, history: String::new() };
                if let Some(world) = finding.worlds().first() {
                    finding.history = stream.history(*world);
                }
                findings.push(finding);
            }
        }
    }
    let Some(first) = findings.first() else { return };
    let world = first.worlds().first().copied();
    let all: String = findings.iter().map(|finding| format!("\n{finding}")).collect();
    let rows: String =
        first.unlike.iter().filter(|row| world_of(row) == world).map(|row| format!("\n{row}")).collect();
    panic!(
        "{generation:?}: rows are missing (-) or surplus (+):{all}\nFirst, in world {world:?}:{rows}\n\
         Its history:{}",
        first.history
    );
}

#[test]
fn in_generation_d() {
    let setups =
        [one_stream(Some(1), 40), one_stream(None, 40), one_stream(Some(9), 10), two_streams(None, 25)];
    check(Generation::D, &setups, setups.len());
}

#[test]
fn in_generation_b() {
    let setups = [one_stream(Some(1), 15), one_stream(None, 25), one_stream(Some(9), 40)];
    check(Generation::B, &setups, setups.len());
}

#[test]
fn in_generation_u() {
    let setups = [one_stream(Some(1), 100), one_stream(None, 40), one_stream(Some(9), 10)];
    check(Generation::U, &setups, setups.len());
}

#[test]
#[ignore = "for long runs, with HISTORIES"]
fn at_many_settings() {
    let setups: Vec<Setup> = [3, 17, 80, 4000]
        .into_iter()
        .flat_map(|batch| [Some(1), Some(2), None, Some(9), Some(16)].map(|lanes| (lanes, batch)))
        .flat_map(|(lanes, batch)| [one_stream(lanes, batch), two_streams(lanes, batch)])
        .collect();
    for generation in [Generation::D, Generation::B, Generation::U] {
        check(generation, &setups, 4);
    }
}
