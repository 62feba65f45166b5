//! Lanes that count for the same subjects, or write for the same accounts, at the same time neither lock each other out nor
//! miscount.

use std::sync::Arc;

use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::entries::{FOLLOW, LIKE, Scribe, signal};
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
    read(&event.to_string())
}

/// The work of an entry.
fn read(entry: &str) -> Work {
    match intake::read(entry) {
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

/// An account's commits may be spread over lanes, of which the later ones may be ahead. Whoever comes with an older commit
/// has nothing to do with the account's row, and must not ask for it: the lane that is ahead may hold it, and wait for one
/// that this lane holds.
#[tokio::test]
async fn an_older_commit_does_not_wait_for_the_row_of_a_newer_one() {
    let db = Db::new("lanes_ahead");
    let mut lane = PgConnection::connect(db.url()).await.unwrap();
    let statements = reference_statements();
    let mut scribe = Scribe::live();
    let mut write = |did: &str, key: &str| {
        read(&scribe.create(did, LIKE, key, signal("at://did:plc:author/app.bsky.feed.post/1")))
    };
    let (a_first, b_first) = (write("did:plc:a", "1"), write("did:plc:b", "1"));
    let (b_older, b_newer) = (write("did:plc:b", "2"), write("did:plc:b", "3"));
    let (a_newer, c_first) = (write("did:plc:a", "2"), write("did:plc:c", "1"));
    for batch in [vec![&a_first, &b_first], vec![&b_newer]] {
        engine::apply(&mut lane, &statements, &batch).await.unwrap();
    }
    let mut ahead = PgConnection::connect(db.url()).await.unwrap();
    let hold = "BEGIN; SELECT 1 FROM actor_sync WHERE did = 'did:plc:b' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut ahead).await.unwrap();
    // A wait for the row would end with an error.
    engine::apply(&mut lane, &statements, &[&a_newer, &b_older, &c_first]).await.unwrap();
    let revs = db.sql(r#"SELECT string_agg(did || ' ' || "repoRev", ', ' ORDER BY did) FROM actor_sync"#);
    let rev = |work: &Work| work.seen.as_ref().unwrap().rev.clone();
    let expected =
        format!("did:plc:a {}, did:plc:b {}, did:plc:c {}", rev(&a_newer), rev(&b_newer), rev(&c_first));
    assert_eq!(revs.trim(), expected);
}

/// An account's row may come from another lane, with an older commit, while this lane is under way and does not see it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_with_an_older_commit_meanwhile_is_moved() {
    let db = Db::new("lanes_meanwhile");
    let mut other = PgConnection::connect(db.url()).await.unwrap();
    let statements = Arc::new(reference_statements());
    let mut scribe = Scribe::live();
    let mut write = |did: &str, key: &str| {
        read(&scribe.create(did, LIKE, key, signal("at://did:plc:author/app.bsky.feed.post/1")))
    };
    let (first, newer) = (write("did:plc:known", "1"), write("did:plc:known", "2"));
    let came = write("did:plc:new", "1");
    engine::apply(&mut other, &statements, &[&first]).await.unwrap();
    let expected = came.seen.as_ref().unwrap().rev.clone();
    // A slow machine may take longer than a lane waits for a row: then once more.
    for _ in 0..50 {
        let meanwhile = "BEGIN; SELECT 1 FROM actor_sync WHERE did = 'did:plc:known' FOR UPDATE; \
                         INSERT INTO actor_sync VALUES ('did:plc:new', 'c', '2aaaaaaaaaaaa')";
        sqlx::raw_sql(meanwhile).execute(&mut other).await.unwrap();
        let lane = tokio::spawn({
            let (url, statements) = (db.url().to_owned(), Arc::clone(&statements));
            let works = [newer.clone(), came.clone()];
            async move {
                let mut lane = PgConnection::connect(&url).await.unwrap();
                engine::apply(&mut lane, &statements, &works.each_ref()).await
            }
        });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while db.sql(waits).trim() == "0" && !lane.is_finished() {
            tokio::task::yield_now().await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        match lane.await.unwrap() {
            Err(error) if error.is_lock_timeout() => {
                db.sql("DELETE FROM actor_sync WHERE did = 'did:plc:new'");
            }
            applied => {
                applied.unwrap();
                let rev = db.sql(r#"SELECT "repoRev" FROM actor_sync WHERE did = 'did:plc:new'"#);
                assert_eq!(rev.trim(), expected);
                return;
            }
        }
    }
    panic!("it never got the row in time");
}

/// As many lanes as a large machine has, each with other ones of the same few accounts, new ones now and then: what one lane
/// leaves to do for an account, another has done already, and each may have rows that another wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_that_overtake_each_other_with_the_same_accounts_do_not_deadlock() {
    const ACCOUNTS: usize = 40;
    let db = Db::new("lanes_accounts");
    let lanes = (0..2 * LANES).map(|lane| {
        let url = db.url().to_owned();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let statements = reference_statements();
            for batch in 0..BATCHES {
                let draw = |account: usize| (account * 31 + lane * 17 + batch * 13) * 2_654_435_761 % 1_000_003 % 2;
                let works: Vec<Work> = (0..ACCOUNTS)
                    .filter(|account| draw(*account) == 0)
                    .map(|account| {
                        // Revs that go up in the long run, and up and down from lane to lane.
                        let rev = batch * 1000 + (account * 7919 + lane * 104_729 + batch * 31) % 5000;
                        let event = json!({
                            "type": "create", "record": {"$type": FOLLOW, "subject": format!("did:plc:s{lane}x{batch}"),
                                "createdAt": "2024-01-01T00:00:00.000Z"},
                            "cid": "bafyx", "seq": rev, "time": "2024-01-01T00:00:00.000Z",
                            "did": format!("did:plc:shared{}x{account:02}", batch / 3), "commit": "bafyc", "rev": format!("3{rev:012}"),
                            "collection": FOLLOW, "rkey": format!("k{lane}x{batch}"),
                        });
                        read(&event.to_string())
                    })
                    .collect();
                let works: Vec<&Work> = works.iter().collect();
                loop {
                    match engine::apply(&mut connection, &statements, &works).await {
                        // A machine that stands still for a moment.
                        Err(error) if error.is_lock_timeout() => {}
                        applied => {
                            applied.unwrap();
                            break;
                        }
                    }
                }
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let wrong = db.sql(
        r#"SELECT count(*) FROM actor_sync a WHERE "repoRev" <> (SELECT max(rev) FROM record r WHERE r.did = a.did)"#,
    );
    assert_eq!(wrong.trim(), "0");
}
