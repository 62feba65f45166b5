//! Threads, gates, quotes and notifications: however a history is cut into batches, and however the events of different
//! accounts are interleaved, the rows are those of one event at a time.

use std::cell::RefCell;
use std::collections::HashSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rsky_indexer::engine::{self, Notifications, Statements, Work};
use rsky_indexer::intake::{self, Intake};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Db, dump_without_clocks, property, reference_statements, unlike};

const DIDS: usize = 3;
/// Posts of each account.
const POSTS: usize = 3;

#[derive(Debug, Clone)]
struct Step {
    kind: Kind,
    did: usize,
    post: usize,
    action: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Post { reply: Option<(usize, usize)>, quotes: Option<usize>, version: usize },
    ThreadGate { rules: usize },
    PostGate { forbids: bool },
    Follow { subject: usize },
    ListItem { subject: usize },
    Repost { of: usize },
    Like { of: usize },
}

fn any_post() -> impl Strategy<Value = usize> {
    0..DIDS * POSTS
}

fn kind() -> impl Strategy<Value = Kind> {
    // Most replies are to a few roots, so that chains form.
    let reply = prop::option::weighted(0.8, (0..2usize, any_post()));
    let post = (reply, prop::option::weighted(0.3, any_post()), 0..2usize)
        .prop_map(|(reply, quotes, version)| Kind::Post { reply, quotes, version });
    prop_oneof![
        8 => post,
        2 => (0..6usize).prop_map(|rules| Kind::ThreadGate { rules }),
        1 => any::<bool>().prop_map(|forbids| Kind::PostGate { forbids }),
        1 => (0..DIDS).prop_map(|subject| Kind::Follow { subject }),
        1 => (0..DIDS).prop_map(|subject| Kind::ListItem { subject }),
        1 => any_post().prop_map(|of| Kind::Repost { of }),
        1 => any_post().prop_map(|of| Kind::Like { of }),
    ]
}

fn steps(kind: impl Strategy<Value = Kind>, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (kind, 0..DIDS, 0..POSTS, 0..8usize).prop_map(|(kind, did, post, action)| Step {
        kind,
        did,
        post,
        action,
    });
    prop::collection::vec(step, 1..most)
}

const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
const AT: &str = "2024-01-01T00:00:00.000Z";

fn did(number: usize) -> String {
    format!("did:plc:d{number}")
}

fn post_uri(number: usize) -> String {
    format!("at://{}/app.bsky.feed.post/p{}", did(number / POSTS), number % POSTS)
}

fn strong(number: usize) -> Value {
    json!({"uri": post_uri(number), "cid": CID})
}

fn record(step: &Step) -> (&'static str, String, Value) {
    let own = step.did * POSTS + step.post;
    let rkey = format!("p{}", step.post);
    match &step.kind {
        Kind::Post { reply, quotes, version } => {
            let facets = json!([{"index": {"byteStart": 0, "byteEnd": 1}, "features":
                [{"$type": "app.bsky.richtext.facet#mention", "did": did(own % DIDS)}]}]);
            let mut post = json!({"text": format!("v{version}"), "facets": facets, "createdAt": AT});
            if let Some((root, parent)) = reply {
                post["reply"] = json!({"root": strong(root * POSTS), "parent": strong(*parent)});
            }
            if let Some(quoted) = quotes {
                post["embed"] = json!({"$type": "app.bsky.embed.record", "record": strong(*quoted)});
            } else if *version == 1 {
                let blob = json!({"cid": CID, "mimeType": "image/png"});
                post["embed"] = json!({"$type": "app.bsky.embed.video", "video": blob});
            }
            ("app.bsky.feed.post", rkey, post)
        }
        Kind::ThreadGate { rules } => {
            let rule = |name: &str| json!({"$type": format!("app.bsky.feed.threadgate#{name}")});
            let mut gate = json!({"post": post_uri(own), "createdAt": AT});
            match rules {
                0 => {}
                1 => gate["allow"] = json!([]),
                2 => gate["allow"] = json!([rule("mentionRule")]),
                3 => gate["allow"] = json!([rule("followingRule")]),
                4 => gate["allow"] = json!([rule("followerRule")]),
                _ => {
                    let list = format!("at://{}/app.bsky.graph.list/l", did(0));
                    gate["allow"] = json!([{"$type": "app.bsky.feed.threadgate#listRule", "list": list}]);
                    gate["hiddenReplies"] = json!([post_uri(own + 1)]);
                }
            }
            ("app.bsky.feed.threadgate", rkey, gate)
        }
        Kind::PostGate { forbids } => {
            let rules =
                if *forbids { json!([{"$type": "app.bsky.feed.postgate#disableRule"}]) } else { json!([]) };
            let gate = json!({"post": post_uri(own), "createdAt": AT, "embeddingRules": rules});
            ("app.bsky.feed.postgate", rkey, gate)
        }
        Kind::Follow { subject } => {
            ("app.bsky.graph.follow", rkey, json!({"subject": did(*subject), "createdAt": AT}))
        }
        Kind::ListItem { subject } => {
            let list = format!("at://{}/app.bsky.graph.list/l", did(step.did));
            let item = json!({"subject": did(*subject), "list": list, "createdAt": AT});
            ("app.bsky.graph.listitem", rkey, item)
        }
        Kind::Repost { of } => {
            ("app.bsky.feed.repost", rkey, json!({"subject": strong(*of), "createdAt": AT}))
        }
        Kind::Like { of } => ("app.bsky.feed.like", rkey, json!({"subject": strong(*of), "createdAt": AT})),
    }
}

/// The history as work; `only_creates` makes every step a create.
fn works(steps: &[Step], only_creates: bool) -> Vec<Work> {
    let mut works = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let (collection, rkey, mut record) = record(step);
        record["$type"] = json!(collection);
        let text = record.to_string();
        // Content decides the CID, as in a repository.
        let cid =
            format!("bafyrei{:x}", text.bytes().fold(7u64, |sum, b| sum.wrapping_mul(131) + u64::from(b)));
        let mut event = json!({
            "seq": at + 1, "time": format!("2024-02-01T00:00:{:02}.{:03}Z", at / 1000, at % 1000),
            "did": did(step.did), "commit": format!("bafycommit{at}"), "rev": format!("3r{at:010}"),
            "collection": collection, "rkey": rkey,
        });
        let kind = match step.action {
            _ if only_creates => "create",
            0..=4 => "create",
            5 => "update",
            _ => "delete",
        };
        event["type"] = json!(kind);
        if kind != "delete" {
            event["record"] = record;
            event["cid"] = json!(cid);
        }
        match intake::read(&event.to_string()) {
            Intake::Work(work) => works.push(work),
            other => panic!("{event}: {other:?}"),
        }
    }
    works
}

async fn apply(connection: &mut PgConnection, statements: &Statements, works: &[Work], batch: usize) {
    for chunk in works.chunks(batch) {
        engine::apply(connection, statements, &chunk.iter().collect::<Vec<_>>()).await.unwrap();
    }
}

fn check(
    name: &str,
    cases: u32,
    test: impl AsyncFn(&Db, &mut PgConnection, Vec<Step>, usize) -> Result<(), TestCaseError>,
    kind: impl Strategy<Value = Kind>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = Db::new(name);
    db.sql(&format!(
        r#"INSERT INTO thread_mute ("rootUri", "mutedByDid", "createdAt") VALUES ('{}', '{}', '{AT}')"#,
        post_uri(0),
        did(1)
    ));
    let connection = RefCell::new(runtime.block_on(PgConnection::connect(db.url())).unwrap());
    let mut runner = TestRunner::new(property(cases));
    let outcome = runner.run(&(steps(kind, 45), 2usize..50), |(steps, batch)| {
        runtime.block_on(test(&db, &mut connection.borrow_mut(), steps, batch))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn batches_end_in_the_rows_of_one_event_at_a_time() {
    let test = async |db: &Db, connection: &mut PgConnection, steps: Vec<Step>, batch: usize| {
        let works = works(&steps, false);
        let statements = reference_statements().with_notifications(Notifications::Live);
        db.truncate(connection).await;
        apply(connection, &statements, &works, 1).await;
        let one_by_one = dump_without_clocks(connection).await;
        db.truncate(connection).await;
        apply(connection, &statements, &works, batch).await;
        let batched = dump_without_clocks(connection).await;
        prop_assert!(one_by_one == batched, "batches of {batch}: {}", unlike(&one_by_one, &batched));
        apply(connection, &statements, &works, batch).await;
        let twice = dump_without_clocks(connection).await;
        prop_assert!(batched == twice, "applied twice: {}", unlike(&batched, &twice));
        Ok(())
    };
    check("threads", 200, test, kind());
}

/// Only creates, no gates: whatever the order, a thread is a thread.
#[test]
fn threads_do_not_depend_on_who_came_first() {
    let reply = prop::option::weighted(0.8, (0..2usize, any_post()));
    let posts = (reply, prop::option::weighted(0.3, any_post())).prop_map(|(reply, quotes)| Kind::Post {
        reply,
        quotes,
        version: 0,
    });
    let test = async |db: &Db, connection: &mut PgConnection, mut steps: Vec<Step>, batch: usize| {
        // One version of each post: what counts is the order of arrival alone.
        let mut seen = HashSet::new();
        steps.retain(|step| seen.insert((step.did, step.post)));
        let all = works(&steps, true);
        let statements = reference_statements();
        db.truncate(connection).await;
        apply(connection, &statements, &all, 1).await;
        let forwards = dump_without_clocks(connection).await;
        // The accounts one after the other, the last first; each in its own order.
        let mut by_account = all.clone();
        by_account
            .sort_by_key(|work| std::cmp::Reverse(work.change.as_ref().map(|change| change.did.clone())));
        db.truncate(connection).await;
        apply(connection, &statements, &by_account, batch).await;
        let otherwise = dump_without_clocks(connection).await;
        prop_assert!(forwards == otherwise, "in another order: {}", unlike(&forwards, &otherwise));
        Ok(())
    };
    check("interleaved", 100, test, posts);
}
