//! A world goes through the three daemons, which are killed on the way; then every row of every table is right.

use rsky_testnet::oracle::{self, Backfilled, Outcome, Telling};
use rsky_testnet::servers::Generation;
use rsky_testnet::streams::entries;

use crate::pipeline::{BACKFILL, LABELS, LIVE, REPOSITORIES, Rig};
use crate::plan::{Plan, Servers};
use crate::troubled;

/// History by backfill, then the stream and the labels; the relay makes trouble, and each daemon is killed twice at moments of
/// the seed, and the servers with them, or what the environment says.
#[test]
fn every_row_is_right_after_backfill_and_stream() {
    run(&Plan::of_environment("every_row"));
}

#[test]
fn rows_are_right_in_generation_b() {
    run(&Plan::of_generation(Generation::B));
}

#[test]
fn rows_are_right_in_generation_u() {
    run(&Plan::of_generation(Generation::U));
}

fn run(plan: &Plan) {
    let (seed, options) = (plan.seed, plan.world());
    let mut rig = Rig::new(plan);
    let mut moments = plan.moments();
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
    rig.kill_redis();
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
    rig.kill_postgres();
    rig.wait("the history is indexed", |rig| rig.length(BACKFILL) <= 100);
    rig.kill_redis();
    rig.wait("the history is indexed", |rig| rig.length(BACKFILL) == 0);
    indexer.kill_and_restart();

    // The stream and the labels.
    rig.begin_setbacks(&mut moments);
    let mut ingester = rig.start("ingester", &[]);
    for _ in 0..plan.rounds {
        let at = rig.added(LIVE) + moments.below(plan.between_kills(72));
        rig.wait("the stream is read", |rig| rig.added(LIVE) >= at || stream_is_read(rig));
        ingester.kill_and_restart();
        rig.set_redis_back(&mut moments);
        let at = rig.added(LIVE) - rig.length(LIVE) + moments.below(plan.between_kills(40));
        rig.wait("the stream is indexed", |rig| {
            rig.added(LIVE) - rig.length(LIVE) >= at || (stream_is_read(rig) && rig.length(LIVE) == 0)
        });
        indexer.kill_and_restart();
        rig.kill_postgres();
    }
    rig.wait("all is read", |rig| stream_is_read(rig) && labels_are_read(rig));
    rig.wait("all is indexed", |rig| [LIVE, BACKFILL, LABELS].iter().all(|stream| rig.length(stream) == 0));
    assert_eq!(indexer.terminate(), Some(0));
    assert_eq!(ingester.terminate(), Some(0));

    troubled::check(&rig, &plan.trouble);

    let mut session = rig.database.session().unwrap();
    let mut outcome = Outcome::new(&options, plan.generation, Telling::Live, Some(&backfilled)).unwrap();
    let asked_anew = outcome.allow_for_kills(&mut session).unwrap();
    let looks = outcome.allow_for_looks(&mut session).unwrap();
    let expected = outcome.tables();
    let differences = oracle::compare(&rig.database.url, &expected).unwrap();
    println!(
        "{differences}; {asked_anew} replies were judged anew after a kill, {looks} handles looked at in between, \
         Redis and Postgres killed {} times",
        rig.kills
    );
    assert!(rig.kills >= 7 || plan.servers == Servers::Stay, "the servers were killed {} times", rig.kills);
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    let (asked, wrong) = oracle::ask(&mut session, &expected).unwrap();
    assert!(asked > 100, "only {asked} questions were asked");
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    rig.stop();
}

pub fn backfill_is_done(rig: &Rig) -> bool {
    let left =
        ["repo_backfill", "repo_backfill_priority"].iter().map(|stream| rig.length(stream)).sum::<i64>();
    let delayed = rig.redis.command(&["ZCARD", "repo_backfill:delayed"]).unwrap().as_int().unwrap();
    rig.cursor(REPOSITORIES).as_deref() == Some("!ingester-done") && left == 0 && delayed == 0
}

pub fn stream_is_read(rig: &Rig) -> bool {
    rig.cursor(LIVE) == Some(rig.network.last_seq().to_string())
}

pub fn labels_are_read(rig: &Rig) -> bool {
    rig.cursor(LABELS) == Some(rig.network.last_label().to_string())
}
