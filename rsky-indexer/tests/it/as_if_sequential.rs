//! However a history is cut into batches, the rows are those of one event at a time; and once more is no more.

use std::cell::RefCell;
use std::collections::HashSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::servers::Generation;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{Db, dump_without_clocks, property, statements, unlike};

const DIDS: usize = 3;
const KEYS: usize = 3;
const SUBJECTS: usize = 2;

#[derive(Debug, Clone)]
struct Step {
    kind: usize,
    did: usize,
    rkey: usize,
    subject: usize,
    action: usize,
    /// Steps of one commit share a rev; a stale step has an old one.
    rev: Rev,
}

#[derive(Debug, Clone)]
enum Rev {
    Next,
    Same,
    Stale(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rev = prop_oneof![9 => Just(Rev::Next), 1 => Just(Rev::Same), 1 => (1u8..6).prop_map(Rev::Stale)];
    let step = (0..7usize, 0..DIDS, 0..KEYS, 0..SUBJECTS, 0..6usize, rev)
        .prop_map(|(kind, did, rkey, subject, action, rev)| Step { kind, did, rkey, subject, action, rev });
    prop::collection::vec(step, 1..40)
}

fn record(kind: usize, did: usize, subject: usize) -> (&'static str, Value) {
    let post = format!("at://did:plc:s{subject}/app.bsky.feed.post/1");
    let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
    let at = "2024-01-01T00:00:00.000Z";
    let nsid =
        ["feed.like", "graph.follow", "feed.repost", "graph.listitem", "graph.verification", "graph.list"];
    let subject_did = format!("did:plc:s{subject}");
    match kind {
        0 => ("app.bsky.feed.like", json!({"subject": {"uri": post, "cid": cid}, "createdAt": at})),
        1 => ("app.bsky.graph.follow", json!({"subject": subject_did, "createdAt": at})),
        2 => ("app.bsky.feed.repost", json!({"subject": {"uri": post, "cid": cid}, "createdAt": at})),
        3 => {
            let list = format!("at://did:plc:d{did}/app.bsky.graph.list/l");
            ("app.bsky.graph.listitem", json!({"subject": subject_did, "list": list, "createdAt": at}))
        }
        4 => (
            "app.bsky.graph.verification",
            json!({"subject": subject_did, "handle": "a.test", "displayName": nsid[4], "createdAt": at}),
        ),
        5 => ("app.bsky.graph.list", json!({"name": format!("n{subject}"), "purpose": "p", "createdAt": at})),
        _ => ("app.bsky.actor.profile", json!({"displayName": format!("n{subject}"), "createdAt": at})),
    }
}

/// The history as the stream would carry it.
fn payloads(steps: &[Step]) -> Vec<String> {
    let mut revs = [100u64; DIDS];
    steps
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let rev = match step.rev {
                Rev::Next => {
                    revs[step.did] += 1;
                    revs[step.did]
                }
                Rev::Same => revs[step.did],
                Rev::Stale(by) => revs[step.did] - u64::from(by),
            };
            let (collection, mut record) = record(step.kind, step.did, step.subject);
            record["$type"] = json!(collection);
            // Content decides the CID, as in a repository.
            let cid = format!("bafyrei{}{}", step.kind, step.subject);
            let rkey = if step.kind == 6 { "self".into() } else { format!("k{}", step.rkey) };
            // What is stale comes from a backfill.
            let seq = if matches!(step.rev, Rev::Stale(_)) { -1 } else { i64::try_from(at).unwrap() + 1 };
            let mut event = json!({
                "seq": seq, "time": format!("2024-02-01T00:00:{:02}.{:03}Z", at / 1000, at % 1000),
                "did": format!("did:plc:d{}", step.did), "commit": format!("bafycommit{rev}"),
                "rev": format!("3r{rev:010}"), "collection": collection, "rkey": rkey,
            });
            match step.action {
                0..=2 => event["type"] = json!("create"),
                3 => event["type"] = json!("update"),
                _ => event["type"] = json!("delete"),
            }
            if step.action <= 3 {
                event["record"] = record;
                event["cid"] = json!(cid);
            }
            event.to_string()
        })
        .collect()
}

fn works(payloads: &[String]) -> Vec<Work> {
    payloads
        .iter()
        .map(|payload| match intake::read(payload) {
            Intake::Work(work) => work,
            other => panic!("{payload}: {other:?}"),
        })
        .collect()
}

/// Whether the history could come from real commits, which have one operation per path. A commit that deletes and
/// creates one path at one rev is taken in order, as the reference does, but delivered again its first half cannot
/// be told from news.
fn one_op_per_path_and_rev(works: &[Work]) -> bool {
    let mut seen = HashSet::new();
    works.iter().filter_map(|work| work.change.as_ref()).all(|change| seen.insert((&change.uri, &change.rev)))
}

async fn apply(connection: &mut sqlx::PgConnection, works: &[Work], batch: usize) {
    let statements = statements(connection).await;
    for chunk in works.chunks(batch) {
        let chunk: Vec<&Work> = chunk.iter().collect();
        engine::apply(connection, &statements, &chunk).await.unwrap();
    }
}

#[test]
fn batches_end_in_the_rows_of_one_event_at_a_time() {
    batches_end_in_the_rows_of_one_event_at_a_time_in(Generation::D, 150);
}

#[test]
fn batches_end_in_the_rows_of_one_event_at_a_time_in_generation_b() {
    batches_end_in_the_rows_of_one_event_at_a_time_in(Generation::B, 80);
}

#[test]
fn batches_end_in_the_rows_of_one_event_at_a_time_in_generation_u() {
    batches_end_in_the_rows_of_one_event_at_a_time_in(Generation::U, 80);
}

fn batches_end_in_the_rows_of_one_event_at_a_time_in(generation: Generation, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = Db::of(generation, "as_if_sequential");
    let connection = RefCell::new(runtime.block_on(sqlx::PgConnection::connect(db.url())).unwrap());
    let mut runner = TestRunner::new(property(cases));
    let outcome = runner.run(&(steps(), 2usize..50), |(mut steps, batch)| {
        if generation == Generation::U {
            // Without revs, what is late is told by `actor_sync`, which moves with the batch: a late event can be taken
            // for one in time where a batch of one would have known better.
            steps.retain(|step| !matches!(step.rev, Rev::Stale(_)));
        }
        let works = works(&payloads(&steps));
        let connection = &mut *connection.borrow_mut();
        runtime.block_on(async {
            db.truncate(connection).await;
            apply(connection, &works, 1).await;
            let one_by_one = dump_without_clocks(connection).await;
            db.truncate(connection).await;
            apply(connection, &works, batch).await;
            let batched = dump_without_clocks(connection).await;
            prop_assert!(one_by_one == batched, "batches of {batch}: {}", unlike(&one_by_one, &batched));
            // Only a tombstone keeps a record that is created again from coming back for a while.
            if generation != Generation::D || !one_op_per_path_and_rev(&works) {
                return Ok(());
            }
            apply(connection, &works, batch).await;
            let twice = dump_without_clocks(connection).await;
            prop_assert!(batched == twice, "applied twice: {}", unlike(&batched, &twice));
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Counters equal a recount after any history.
#[test]
fn counters_equal_a_recount() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = Db::new("recount");
    let connection = RefCell::new(runtime.block_on(sqlx::PgConnection::connect(db.url())).unwrap());
    let mut runner = TestRunner::new(property(60));
    let outcome = runner.run(&(steps(), 1usize..50), |(steps, batch)| {
        let works = works(&payloads(&steps));
        let connection = &mut *connection.borrow_mut();
        runtime.block_on(async {
            db.truncate(connection).await;
            apply(connection, &works, batch).await;
            let wrong: i64 = sqlx::query_scalar(
                r#"SELECT (SELECT count(*) FROM post_agg a WHERE "likeCount" <>
                        (SELECT count(*) FROM "like" l WHERE l.subject = a.uri)
                      OR "repostCount" <> (SELECT count(*) FROM repost r WHERE r.subject = a.uri))
                   + (SELECT count(*) FROM profile_agg a WHERE "followersCount" <>
                        (SELECT count(*) FROM follow f WHERE f."subjectDid" = a.did)
                      OR "followsCount" <> (SELECT count(*) FROM follow f WHERE f.creator = a.did))"#,
            )
            .fetch_one(connection)
            .await
            .unwrap();
            prop_assert_eq!(wrong, 0);
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
