//! Lanes whose accounts talk to each other: replies come before what they answer, gates mark posts that others mend, and
//! posts are replaced meanwhile. No lane locks another out, and the rows are those of one lane that takes all in turn.

use rsky_indexer::engine::{self, Notifications, Statements, Work};
use rsky_indexer::intake::{self, Intake};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Db, dump_without_clocks, reference_statements, unlike};

const LANES: usize = 4;
const BATCHES: usize = 30;
const BATCH: usize = 40;
/// Posts of a conversation; each lane writes every fourth of them, so some come long before what they answer.
const THREAD: usize = 24;
const CIDS: [&str; 2] = [
    "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
    "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
];

/// Who is told of a reply depends on what is there when it comes.
fn silent() -> Statements {
    reference_statements().with_notifications(Notifications::Off)
}

fn did(post: usize) -> String {
    format!("did:plc:lane{}x{}", post % LANES, post % 3)
}

fn uri(post: usize) -> String {
    format!("at://{}/app.bsky.feed.post/p{post}", did(post))
}

/// What a post answers: one somewhere before it in its conversation, in no order.
fn parent(post: usize) -> Option<usize> {
    let place = post % THREAD;
    (place > 0).then(|| post - place + (post * 2_654_435_761 % 1_000_003) % place)
}

fn record_of(post: usize) -> Value {
    let strong = |post: usize| json!({"uri": uri(post), "cid": CIDS[0]});
    let mut record =
        json!({"$type": "app.bsky.feed.post", "text": "t", "createdAt": "2024-01-01T00:00:00.000Z"});
    if let Some(parent) = parent(post) {
        record["reply"] = json!({"root": strong(post - post % THREAD), "parent": strong(parent)});
    }
    record
}

/// The `number`th change of a lane. Out of twenty, sixteen are new posts, two are gates of posts of a while
/// ago, and two are new versions of earlier posts.
fn work(lane: usize, number: usize) -> Work {
    // Backwards within a stretch: replies come before what they answer in their own lane, too.
    let stretch = 2 * THREAD / LANES;
    let newest = (number / stretch * stretch + (stretch - 1 - number % stretch)) * LANES + lane;
    let (post, action, collection, record, cid) = match number % 20 {
        7 | 13 => {
            // Of a post of the stretch before this one.
            let of = newest.saturating_sub(stretch * LANES) / LANES * LANES + lane;
            let gate = json!({"$type": "app.bsky.feed.threadgate", "post": uri(of), "createdAt": "2024-01-01T00:00:00.000Z"});
            (of, "create", "app.bsky.feed.threadgate", gate, CIDS[0])
        }
        3 | 17 if number > 20 => {
            let post = newest.saturating_sub((2 + number % 5) * stretch * LANES) / LANES * LANES + lane;
            (post, "update", "app.bsky.feed.post", record_of(post), CIDS[number % 2])
        }
        _ => (newest, "create", "app.bsky.feed.post", record_of(newest), CIDS[0]),
    };
    let event = json!({
        "type": action, "record": record, "cid": cid, "seq": number, "time": "2024-01-01T00:00:00.000Z",
        "did": did(post), "commit": "bafyc", "rev": format!("3{number:012}"), "collection": collection,
        "rkey": format!("p{post}"),
    });
    match intake::read(&event.to_string()) {
        Intake::Work(work) => work,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_deadlock_and_the_rows_of_one_lane() {
    let (db, sequential) = (Db::new("threads_of_lanes"), Db::new("threads_of_lanes_alone"));
    let lanes = (0..LANES).map(|lane| {
        let url = db.url().to_owned();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let statements = silent();
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

    let mut alone = PgConnection::connect(sequential.url()).await.unwrap();
    let statements = silent();
    let all: Vec<Work> =
        (0..BATCHES * BATCH).flat_map(|number| (0..LANES).map(move |lane| work(lane, number))).collect();
    for batch in all.chunks(15) {
        engine::apply(&mut alone, &statements, &batch.iter().collect::<Vec<_>>()).await.unwrap();
    }
    let mut beside = PgConnection::connect(db.url()).await.unwrap();
    let (together, alone) = (dump_without_clocks(&mut beside).await, dump_without_clocks(&mut alone).await);
    assert!(together == alone, "{}", unlike(&together, &alone));
    let counts = db.sql(
        r#"SELECT count(*) > 3000, count(*) FILTER (WHERE "replyParent" IS NOT NULL) > 3000,
            count(*) FILTER (WHERE "hasThreadGate") > 100 FROM post"#,
    );
    assert_eq!(counts.trim(), "t|t|t", "the history has not what is tested");
}
