//! Lanes that count for the same subjects at the same time neither lock each other out nor miscount.

use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::{Db, reference_statements};

const LANES: usize = 4;
const BATCHES: usize = 60;
const BATCH: usize = 60;
/// Subjects in play at a time: some known, some new to everybody.
const WINDOW: usize = 90;

/// A like or a follow of one of the subjects that are in play, which all lanes draw from; the authors are the lane's own.
fn work(lane: usize, number: usize) -> Work {
    // In no order, another one in each lane; the window moves on by a third a batch.
    let drawn = (number * 2_654_435_761 + lane * 40_503) % 1_000_003 % WINDOW;
    let subject = number / BATCH * (WINDOW / 3) + drawn;
    let (collection, record) = if number.is_multiple_of(2) {
        let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
        let uri = format!("at://did:plc:s{subject}/app.bsky.feed.post/1");
        ("app.bsky.feed.like", json!({"subject": {"uri": uri, "cid": cid}}))
    } else {
        ("app.bsky.graph.follow", json!({"subject": format!("did:plc:s{subject}")}))
    };
    let mut record = record;
    record["$type"] = json!(collection);
    record["createdAt"] = json!("2024-01-01T00:00:00.000Z");
    let event = json!({
        "type": "create", "record": record, "cid": "bafyx", "seq": number, "time": "2024-01-01T00:00:00.000Z",
        "did": format!("did:plc:lane{lane}x{}", number / 10), "commit": "bafyc", "rev": format!("3{number:012}"),
        "collection": collection, "rkey": format!("k{number}"),
    });
    match intake::read(&event.to_string()) {
        Intake::Work(work) => work,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_deadlock_and_exact_counts() {
    let db = Db::new("lanes");
    let lanes = (0..LANES).map(|lane| {
        let url = db.url().to_owned();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let statements = reference_statements();
            for batch in 0..BATCHES {
                let works: Vec<Work> = (0..BATCH).map(|at| work(lane, batch * BATCH + at)).collect();
                // A deadlock is an error here; the process would only try again.
                engine::apply(&mut connection, &statements, &works.iter().collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let wrong = db.sql(
        r#"SELECT (SELECT count(*) FROM post_agg a WHERE "likeCount" <>
                (SELECT count(*) FROM "like" l WHERE l.subject = a.uri))
            + (SELECT count(*) FROM profile_agg a WHERE "followersCount" <>
                (SELECT count(*) FROM follow f WHERE f."subjectDid" = a.did)
              OR "followsCount" <> (SELECT count(*) FROM follow f WHERE f.creator = a.did))
            + (SELECT count(DISTINCT subject) FROM "like") - (SELECT count(*) FROM post_agg)"#,
    );
    assert_eq!(wrong.trim(), "0");
}
