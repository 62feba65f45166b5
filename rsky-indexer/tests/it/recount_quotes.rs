//! `quoteCount` after the engine and after a recount: the same, wherever rows tell what the engine saw last.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rsky_common::postgres::transaction::Preamble;
use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_indexer::recount::progress::{Figures, Progress};
use rsky_indexer::recount::selection::Selection;
use rsky_indexer::recount::{Options, recount};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::process::block_on;
use crate::support::{Db, property, reference_statements};

const POSTS: usize = 9;
const VERSIONS: [&str; 3] = [
    "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
    "bafyreigogwclhzsg7yuqyowi5z3doou6sqfm2hnnl6fquhozmqxp42rc5e",
    "bafyreiabmlrtevj6ixdbwjg55ikrr6jk5piuwoqpynzur3we57hndr2ile",
];

/// A version of a post.
type Quoted = (usize, usize);

/// What happens to a post: it comes or changes, quoting something or not, or it goes.
#[derive(Debug, Clone)]
struct Step {
    post: usize,
    written: Option<Option<Quoted>>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Most quotes are of few posts.
    let quoted = (prop_oneof![2 => 0..2usize, 2 => POSTS..POSTS + 2, 1 => 2..POSTS], 0..VERSIONS.len());
    let written = prop::option::weighted(0.8, prop::option::weighted(0.8, quoted));
    let step = (0..POSTS, written).prop_map(|(post, written)| Step { post, written });
    prop::collection::vec(step, 20..80)
}

/// Posts from [`POSTS`] on are quoted and never come.
fn uri(post: usize) -> String {
    format!("at://did:plc:p{}/app.bsky.feed.post/p{post}", post % 3)
}

fn payload(at: usize, step: &Step) -> String {
    let mut event = json!({"seq": at, "did": format!("did:plc:p{}", step.post % 3), "commit": format!("k{at}"),
        "rev": format!("3l2222222{:04}", at), "time": format!("2026-01-01T00:00:00.{at:03}Z"),
        "collection": "app.bsky.feed.post", "rkey": format!("p{}", step.post)});
    event["type"] = if step.written.is_some() { "create" } else { "delete" }.into();
    if let Some(quoted) = step.written {
        // Older ones are written later: what was quoted last does not follow from this time.
        let created = format!("2025-01-01T00:00:00.{:03}Z", 999 - at);
        let mut record = json!({"$type": "app.bsky.feed.post", "text": at.to_string(), "createdAt": created});
        if let Some((subject, version)) = quoted {
            let subject = json!({"uri": uri(subject), "cid": VERSIONS[version]});
            record["embed"] = json!({"$type": "app.bsky.embed.record", "record": subject});
        }
        event["cid"] = format!("c{at}").into();
        event["record"] = record;
    }
    event.to_string()
}

/// The version of each post that was quoted or unquoted last, and the posts that are there at the end.
fn last_changes(steps: &[Step]) -> (BTreeMap<String, &'static str>, HashMap<usize, Option<Quoted>>) {
    let (mut last, mut posts) = (BTreeMap::new(), HashMap::new());
    for step in steps {
        let gone = posts.remove(&step.post).flatten();
        for (subject, version) in gone.into_iter().chain(step.written.flatten()) {
            last.insert(uri(subject), VERSIONS[version]);
        }
        if let Some(quoted) = step.written {
            posts.insert(step.post, quoted);
        }
    }
    (last, posts)
}

async fn counts(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    let sql = r#"SELECT uri, "quoteCount" FROM post_agg"#;
    sqlx::query_as::<_, (String, i64)>(sql).fetch_all(connection).await.unwrap().into_iter().collect()
}

/// The versions quoted by the rows there are, the newest first, by post.
async fn quotes(connection: &mut PgConnection) -> HashMap<String, Vec<String>> {
    let sql = r#"SELECT subject, "subjectCid" FROM quote ORDER BY "indexedAt" COLLATE "C" DESC"#;
    let mut quotes: HashMap<String, Vec<String>> = HashMap::new();
    for (subject, cid) in sqlx::query_as::<_, (String, String)>(sql).fetch_all(connection).await.unwrap() {
        quotes.entry(subject).or_default().push(cid);
    }
    quotes
}

async fn recount_all(connection: &mut PgConnection) -> Figures {
    let (mut out, stop) = (std::io::sink(), CancellationToken::new());
    let mut progress = Progress::new(&mut out, false);
    let (options, all) = (
        Options { persistent: true, preamble: Preamble::default(), page: 100 },
        Selection::All { resume_after: None },
    );
    recount(connection, options, &all, &stop, &mut progress).await.unwrap().figures
}

/// How many counters there were of each kind.
#[derive(Debug, Default)]
struct Seen {
    told_by_rows: usize,
    of_several_versions: usize,
    of_posts_that_are_gone: usize,
    last_change_left_nothing: usize,
}

async fn check(db: &Db, steps: &[Step], batch: usize, seen: &mut Seen) {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    db.truncate(&mut connection).await;
    let works: Vec<Work> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| match intake::read(&payload(at, step)) {
            Intake::Work(work) => work,
            other => panic!("{other:?}"),
        })
        .collect();
    for batch in works.chunks(batch) {
        let batch: Vec<&Work> = batch.iter().collect();
        engine::apply(&mut connection, &reference_statements(), &batch).await.unwrap();
    }
    let before = counts(&mut connection).await;
    let quotes = quotes(&mut connection).await;
    let changed = recount_all(&mut connection).await.wrong;
    let after = counts(&mut connection).await;
    let (last, posts) = last_changes(steps);
    let mut differing = 0;
    for (post, count) in &before {
        let rows = quotes.get(post).map(Vec::as_slice).unwrap_or_default();
        let is_there = posts.keys().any(|number| uri(*number) == *post);
        match rows.first() {
            Some(newest) if last.get(post).is_some_and(|last| last == newest) => {
                seen.told_by_rows += 1;
                seen.of_several_versions += usize::from(rows.iter().any(|cid| cid != newest));
                assert_eq!(after[post], *count, "{post}");
            }
            Some(newest) => {
                seen.last_change_left_nothing += 1;
                assert_eq!(after[post], rows.iter().filter(|cid| *cid == newest).count() as i64, "{post}");
            }
            None if is_there => assert_eq!(after[post], 0, "{post}"),
            None => {
                seen.of_posts_that_are_gone += usize::from(*count > 0);
                assert_eq!(after[post], *count, "{post}");
            }
        }
        differing += u64::from(after[post] != *count);
    }
    // Nothing else was touched, and a second one finds nothing.
    assert_eq!((changed, after.len()), (differing, before.len()));
    assert_eq!(recount_all(&mut connection).await.wrong, 0);
}

#[test]
fn a_recount_leaves_the_quotes_that_the_engine_left() {
    let (db, seen) = (Db::new("recount_quotes"), RefCell::new(Seen::default()));
    let (steps, batch) = (steps(), 1..20usize);
    TestRunner::new(property(60))
        .run(&(steps, batch), |(steps, batch)| {
            block_on(check(&db, &steps, batch, &mut seen.borrow_mut()));
            Ok(())
        })
        .unwrap();
    let seen: Seen = seen.into_inner();
    assert!(seen.told_by_rows > 50 && seen.of_several_versions > 20, "{seen:?}");
    assert!(seen.of_posts_that_are_gone > 5 && seen.last_change_left_nothing > 5, "{seen:?}");
}
