//! Everything at once: history and stream, two backfillers, two indexers, all of them killed on the way.

use rsky_testnet::network::world::{Party, Trouble};
use rsky_testnet::oracle::{self, Outcome, Telling};

use rsky_testnet::streams::entries;

use crate::pipeline::{BACKFILL, LABELS, LIVE, Rig};
use crate::plan::Plan;
use crate::troubled;
use crate::whole_pipeline::{backfill_is_done, labels_are_read, stream_is_read};

#[test]
fn several_of_each_lose_nothing() {
    let mut plan = Plan { events: [900, 1200], ..Plan::of_environment("several_of_each") };
    if !plan.trouble.is_empty() {
        plan.trouble.retain(|kind| !kind.depends_on_order());
        plan.trouble.extend(Trouble::ALL.iter().filter(|kind| kind.party() == Party::Resync));
    }
    let (seed, options) = (plan.seed, plan.world());
    let mut rig = Rig::new(&plan);
    let mut moments = plan.moments();
    let named = |daemon: &str, variable: &str, name: &str| {
        rig.start(daemon, &[(variable, name), ("INDEXER_NOTIFICATIONS", "live")])
    };
    let mut ingester = rig.start("ingester", &[]);
    let mut backfillers = ["a", "b"].map(|name| named("backfiller", "BACKFILLER_CONSUMER", name));
    let mut indexers = ["a", "b"].map(|name| named("indexer", "INDEXER_CONSUMER", name));
    for round in 0..4 {
        let at = settled(&rig) + moments.below(400);
        rig.wait("entries are indexed", |rig| settled(rig) >= at || is_done(rig));
        match round {
            0 => rig.kill_redis(),
            2 => rig.kill_postgres(),
            _ => ingester.kill_and_restart(),
        }
        backfillers[round % 2].kill_and_restart();
        indexers[round % 2].kill_and_restart();
    }
    rig.wait("all is indexed", is_done);
    let mut retries = 0;
    while retry_repositories(&rig) > 0 {
        retries += 1;
        assert!(retries < 5, "repositories are given up again and again");
        rig.wait("what was given up is indexed", is_done);
    }
    for daemon in indexers.iter_mut().chain(&mut backfillers).chain([&mut ingester]) {
        assert_eq!(daemon.terminate(), Some(0));
    }
    troubled::check(&rig, &plan.trouble);

    let mut session = rig.database.session().unwrap();
    let mut outcome = Outcome::new(&options, plan.generation, Telling::Live, None).unwrap();
    outcome.allow_for_looks(&mut session).unwrap();
    let differences = oracle::compare_unordered(&rig.database.url, &outcome.tables()).unwrap();
    let (asked, disagreements) = oracle::disagreements(&mut session).unwrap();
    println!("{differences}; {asked} questions whether the database agrees with itself");
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    assert!(disagreements.is_empty(), "seed {seed}: {disagreements:#?}");

    // What was lost, or counted twice, would have been seen.
    let row = session
        .rows(r#"DELETE FROM "like" WHERE uri = (SELECT min(uri) FROM "like") RETURNING uri"#)
        .unwrap();
    let seen = oracle::compare_unordered(&rig.database.url, &outcome.tables()).unwrap();
    assert_eq!(seen.tables.get("like").map(Vec::len), Some(1), "{row:?}: {seen}");
    let (_, seen) = oracle::disagreements(&mut session).unwrap();
    assert!(seen.len() >= 2 && seen.iter().any(|line| line.contains(&row[0])), "{row:?}: {seen:#?}");
    rig.stop();
}

/// Entries that were indexed.
fn settled(rig: &Rig) -> i64 {
    [LIVE, BACKFILL].iter().map(|stream| rig.added(stream) - rig.length(stream)).sum()
}

/// Puts repositories back that were given up for a reason that passes: their account had a new key, and had signed nothing with
/// it yet. As an operator does; how many.
fn retry_repositories(rig: &Rig) -> usize {
    let letters = entries(&rig.redis, "repo_backfill_dlq");
    for letter in &letters {
        println!("given up: {}: {}", letter["reason"], letter["error"]);
        assert_eq!(letter["reason"], "bad_signature", "{letter:?}");
        rig.redis.command(&["XADD", "repo_backfill", "*", "repo", &letter["repo"]]).unwrap();
    }
    rig.redis.command(&["DEL", "repo_backfill_dlq"]).unwrap();
    letters.len()
}

fn is_done(rig: &Rig) -> bool {
    stream_is_read(rig)
        && labels_are_read(rig)
        && backfill_is_done(rig)
        && [LIVE, BACKFILL, LABELS].iter().all(|stream| rig.length(stream) == 0)
}
