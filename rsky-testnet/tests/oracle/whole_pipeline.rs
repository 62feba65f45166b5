//! A world goes through the three daemons, which are killed on the way; then every row of every table is right.

use rsky_testnet::network::world::{Mix, WorldOptions};
use rsky_testnet::oracle::{self, Backfilled, Outcome, Telling};
use rsky_testnet::servers::Generation;
use rsky_testnet::streams::entries;

use crate::pipeline::{BACKFILL, LABELS, LIVE, REPOSITORIES, Rig};

/// Another seed for the test, to repeat a run.
const SEED: &str = "RSKY_WORLD_SEED";

fn seed() -> u64 {
    std::env::var(SEED).ok().map_or(20_261_129, |seed| seed.parse().expect("a seed is a number"))
}

/// Numbers that follow from the seed: where the daemons are killed.
struct Moments(u64);

impl Moments {
    /// A number from 1 to `most`.
    fn below(&mut self, most: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + ((self.0 >> 33) as i64) % most.max(1)
    }
}

/// History by backfill, then the stream and the labels; each daemon killed twice at moments of the seed.
#[test]
fn every_row_is_right_after_backfill_and_stream() {
    let seed = seed();
    println!("seed {seed}; to repeat: {SEED}={seed} cargo test --workspace --test oracle every_row");
    let options = WorldOptions {
        seed,
        accounts: 60,
        history: 1500,
        live: 2500,
        overlap: 120,
        labels: 80,
        mix: Mix::Dense,
        departures: 1,
        ..WorldOptions::default()
    };
    let rig = Rig::new(&options, Generation::D);
    let mut moments = Moments(seed);
    let telling = ("INDEXER_NOTIFICATIONS", "live");

    // The listing, and what the backfiller makes of it.
    let mut ingester = rig.start("ingester", &[("INGESTER_MODE", "backfill")]);
    let mut backfiller = rig.start("backfiller", &[]);
    rig.wait("the listing begins", |rig| rig.added(REPOSITORIES) > 0);
    ingester.kill_and_restart();
    for _ in 0..2 {
        let at = rig.added(BACKFILL) + moments.below(400);
        rig.wait("the backfill begins", |rig| rig.added(BACKFILL) >= at || backfill_is_done(rig));
        backfiller.kill_and_restart();
    }
    rig.wait("the backfill ends", backfill_is_done);
    backfiller.kill();
    ingester.kill();
    let backfilled: Vec<Backfilled> = entries(&rig.redis, BACKFILL)
        .iter()
        .map(|entry| Backfilled::read(&entry["event"]).unwrap())
        .collect();

    // The history is indexed.
    let mut indexer = rig.start("indexer", &[telling]);
    for _ in 0..2 {
        let left = rig.length(BACKFILL) - moments.below(500);
        rig.wait("the history is indexed", |rig| rig.length(BACKFILL) <= left.max(0));
        indexer.kill_and_restart();
    }
    rig.wait("the history is indexed", |rig| rig.length(BACKFILL) == 0);
    indexer.kill_and_restart();

    // The stream and the labels.
    let mut ingester = rig.start("ingester", &[]);
    for _ in 0..2 {
        let at = rig.added(LIVE) + moments.below(900);
        rig.wait("the stream is read", |rig| rig.added(LIVE) >= at || stream_is_read(rig));
        ingester.kill_and_restart();
        let at = rig.added(LIVE) - rig.length(LIVE) + moments.below(500);
        rig.wait("the stream is indexed", |rig| {
            rig.added(LIVE) - rig.length(LIVE) >= at || (stream_is_read(rig) && rig.length(LIVE) == 0)
        });
        indexer.kill_and_restart();
    }
    rig.wait("all is read", |rig| {
        stream_is_read(rig) && rig.cursor(LABELS) == Some(options.labels.to_string())
    });
    rig.wait("all is indexed", |rig| [LIVE, BACKFILL, LABELS].iter().all(|stream| rig.length(stream) == 0));
    assert_eq!(indexer.terminate(), Some(0));
    assert_eq!(ingester.terminate(), Some(0));

    let mut session = rig.database.session().unwrap();
    let mut outcome = Outcome::new(&options, Telling::Live, Some(&backfilled)).unwrap();
    let asked_anew = outcome.allow_for_kills(&mut session).unwrap();
    let expected = outcome.tables();
    let differences = oracle::compare(&rig.database.url, &expected).unwrap();
    println!("{differences}; {asked_anew} replies were judged anew after a kill");
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    let (asked, wrong) = oracle::ask(&mut session, &expected).unwrap();
    assert!(asked > 100, "only {asked} questions were asked");
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    rig.stop();
}

fn backfill_is_done(rig: &Rig) -> bool {
    let left =
        ["repo_backfill", "repo_backfill_priority"].iter().map(|stream| rig.length(stream)).sum::<i64>();
    let delayed = rig.redis.command(&["ZCARD", "repo_backfill:delayed"]).unwrap().as_int().unwrap();
    rig.cursor(REPOSITORIES).as_deref() == Some("!ingester-done") && left == 0 && delayed == 0
}

fn stream_is_read(rig: &Rig) -> bool {
    rig.cursor(LIVE) == Some(rig.network.last_seq().to_string())
}
