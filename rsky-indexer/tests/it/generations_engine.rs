//! Creates, updates and deletes in the generations whose records have no rev, or one that may be NULL.

use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_indexer::labels;
use rsky_testnet::servers::Generation;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::process::{block_on, count};
use crate::support::{Db, statements};

const DID: &str = "did:plc:a";
const BOTH: [Generation; 2] = [Generation::B, Generation::U];

/// An event of `did:plc:a`, of the live stream.
fn event(kind: &str, rev: u32, path: &str, cid: &str, record: Value) -> Value {
    let (collection, rkey) = path.split_once('/').unwrap();
    let mut event = json!({
        "type": kind, "seq": rev, "time": format!("2024-02-01T00:00:00.{rev:03}Z"), "did": DID,
        "commit": format!("commit{rev}"), "rev": format!("3r{rev:03}"), "collection": collection, "rkey": rkey,
    });
    if kind != "delete" {
        event["record"] = record;
        event["record"]["$type"] = json!(collection);
        event["cid"] = json!(cid);
    }
    event
}

fn delete(rev: u32, path: &str) -> Value {
    event("delete", rev, path, "", json!({}))
}

/// The same event of a backfill.
fn backfilled(mut event: Value) -> Value {
    event["seq"] = json!(-1);
    event
}

const FOLLOW: &str = "app.bsky.graph.follow/1";
const LIST: &str = "app.bsky.graph.list/1";

fn follow(kind: &str, rev: u32, subject: &str) -> Value {
    let via = json!({"uri": "at://did:plc:v/app.bsky.graph.starterpack/1", "cid": "viacid"});
    let record =
        json!({"subject": format!("did:plc:{subject}"), "createdAt": "2024-01-01T00:00:00.000Z", "via": via});
    event(kind, rev, FOLLOW, &format!("cid-{subject}"), record)
}

fn list(kind: &str, rev: u32, name: &str) -> Value {
    let record = json!({"name": name, "purpose": "p", "createdAt": "2024-01-01T00:00:00.000Z"});
    event(kind, rev, LIST, &format!("cid-{name}"), record)
}

/// Applies events as one batch; the rows that changed.
fn apply(db: &Db, events: &[Value]) -> usize {
    let works: Vec<Work> = events
        .iter()
        .map(|event| match intake::read(&event.to_string()) {
            Intake::Work(work) => work,
            other => panic!("{event}: {other:?}"),
        })
        .collect();
    block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = statements(&mut connection).await;
        engine::apply(&mut connection, &statements, &works.iter().collect::<Vec<_>>()).await.unwrap()
    })
}

#[test]
fn records_come_change_and_go() {
    for generation in BOTH {
        let db = Db::of(generation, "comes_and_goes");
        apply(&db, &[follow("create", 1, "b"), list("create", 1, "one")]);
        assert_eq!(db.sql("SELECT cid FROM record ORDER BY uri"), "cid-b\ncid-one");
        assert_eq!(db.sql("SELECT \"subjectDid\" FROM follow"), "did:plc:b");

        // Delivered again: nothing.
        let before = db.sql("SELECT r, f FROM record r, follow f ORDER BY r.uri");
        apply(&db, &[follow("create", 1, "b"), list("create", 1, "one")]);
        assert_eq!(db.sql("SELECT r, f FROM record r, follow f ORDER BY r.uri"), before);
        assert_eq!(
            db.sql("SELECT did, \"followsCount\" FROM profile_agg WHERE \"followsCount\" > 0"),
            "did:plc:a|1"
        );

        apply(&db, &[follow("update", 2, "c"), list("create", 2, "two")]);
        assert_eq!(db.sql("SELECT \"subjectDid\" FROM follow"), "did:plc:c");
        assert_eq!(db.sql("SELECT name, \"indexedAt\" FROM list"), "two|2024-02-01T00:00:00.002Z");
        assert_eq!(db.sql("SELECT sum(\"followersCount\") FROM profile_agg"), "1");

        apply(&db, &[delete(3, FOLLOW), delete(3, LIST), delete(3, "app.bsky.graph.list/unknown")]);
        for table in ["record", "follow", "list"] {
            assert_eq!(count(&db, table), 0, "{generation:?} {table}");
        }
        assert_eq!(db.sql("SELECT sum(\"followsCount\"), sum(\"followersCount\") FROM profile_agg"), "0|0");
        // Delivered again: nothing; nobody remembers a deletion.
        apply(&db, &[delete(3, FOLLOW)]);
        assert_eq!(count(&db, "record"), 0);
    }
}

#[test]
fn a_record_that_comes_and_goes_in_one_batch_is_gone() {
    for generation in BOTH {
        let db = Db::of(generation, "one_batch");
        apply(
            &db,
            &[follow("create", 1, "b"), delete(2, FOLLOW), follow("create", 3, "c"), delete(4, FOLLOW)],
        );
        assert_eq!((count(&db, "record"), count(&db, "follow")), (0, 0));
        apply(&db, &[follow("create", 5, "b"), delete(6, FOLLOW), follow("create", 7, "c")]);
        assert_eq!(db.sql("SELECT \"subjectDid\" FROM follow"), "did:plc:c");
        assert_eq!(db.sql("SELECT cid FROM record"), "cid-c");
        assert_eq!(db.sql("SELECT sum(\"followsCount\") FROM profile_agg"), "1");
    }
}

#[test]
fn a_nullable_rev_guards_where_it_is_set() {
    let db = Db::of(Generation::B, "nullable");
    apply(&db, &[list("create", 5, "five")]);
    assert_eq!(db.sql("SELECT rev FROM record"), "3r005");
    apply(&db, &[list("update", 4, "four")]);
    apply(&db, &[delete(3, LIST)]);
    assert_eq!(db.sql("SELECT name FROM list"), "five");

    // A row from before there were revs is older than anything, also than what says the same.
    db.sql("UPDATE record SET rev = NULL");
    apply(&db, &[list("create", 2, "five")]);
    assert_eq!(db.sql("SELECT rev FROM record"), "3r002");
    db.sql("UPDATE record SET rev = NULL");
    apply(&db, &[list("update", 1, "one")]);
    assert_eq!(db.sql("SELECT name, rev FROM list, record"), "one|3r001");
    db.sql("UPDATE record SET rev = NULL");
    apply(&db, &[delete(1, LIST)]);
    assert_eq!((count(&db, "record"), count(&db, "list")), (0, 0));
}

#[test]
fn rows_without_a_record_are_served() {
    let db = Db::of(Generation::B, "unrecorded");
    let stranded = || {
        apply(&db, &[follow("create", 1, "b")]);
        db.sql("DELETE FROM record");
    };
    stranded();
    apply(&db, &[follow("create", 1, "b")]);
    assert_eq!((count(&db, "record"), count(&db, "follow")), (0, 1));
    apply(&db, &[follow("update", 2, "c")]);
    assert_eq!(db.sql("SELECT \"subjectDid\", rev FROM follow, record"), "did:plc:c|3r002");
    db.sql("DELETE FROM record");
    apply(&db, &[delete(3, FOLLOW)]);
    assert_eq!((count(&db, "record"), count(&db, "follow")), (0, 0));
    assert_eq!(db.sql("SELECT sum(\"followsCount\"), sum(\"followersCount\") FROM profile_agg"), "0|0");
    stranded();
    apply(&db, &[delete(2, FOLLOW), follow("create", 3, "d")]);
    assert_eq!(db.sql("SELECT \"subjectDid\", rev FROM follow, record"), "did:plc:d|3r003");
}

#[test]
fn without_revs_a_late_backfill_overwrites_nothing() {
    let db = Db::of(Generation::U, "late");
    apply(&db, &[list("create", 5, "five")]);
    apply(&db, &[backfilled(list("create", 4, "four"))]);
    apply(&db, &[backfilled(delete(4, LIST))]);
    assert_eq!(db.sql("SELECT name FROM list"), "five");
    // What is not stored may be news.
    let mut other = backfilled(list("create", 4, "four"));
    other["rkey"] = json!("2");
    apply(&db, &[other]);
    assert_eq!(count(&db, "list"), 2);
    // Of the newest commit or a later one: not late.
    apply(&db, &[backfilled(list("create", 5, "new"))]);
    assert_eq!(db.sql("SELECT name FROM list WHERE uri LIKE '%/1'"), "new");

    // The commits of the batch itself count, in order.
    let db = Db::of(Generation::U, "late_in_batch");
    apply(
        &db,
        &[
            backfilled(list("create", 4, "four")),
            list("update", 5, "five"),
            backfilled(list("create", 4, "four")),
        ],
    );
    assert_eq!(db.sql("SELECT name FROM list"), "five");
}

/// How a `#sync` ends: the repository is read whole, and its last entry names the commit.
#[test]
fn a_repository_that_was_read_whole_moves_the_sync_state() {
    let repo = |rev: u32| {
        json!({"type": "repo", "seq": -2, "time": "2024-02-01T00:00:00.000Z", "did": DID,
            "commit": format!("commit{rev}"), "rev": format!("3r{rev:03}")})
    };
    for generation in [Generation::B, Generation::U, Generation::D] {
        let db = Db::of(generation, "read_whole");
        let state = || db.sql("SELECT \"commitCid\", \"repoRev\" FROM actor_sync");
        apply(&db, &[list("create", 1, "one")]);
        apply(&db, &[backfilled(list("create", 5, "five")), repo(5)]);
        assert_eq!((state().as_str(), db.sql("SELECT name FROM list")), ("commit5|3r005", "five".to_owned()));
        // Commits that are older come late, or have been overtaken.
        apply(&db, &[list("update", 4, "five"), repo(3)]);
        assert_eq!(state(), "commit5|3r005");
        apply(&db, &[list("update", 6, "six"), repo(5)]);
        assert_eq!(state(), "commit6|3r006");
        db.sql("UPDATE actor_sync SET \"repoRev\" = NULL");
        apply(&db, &[repo(2)]);
        assert_eq!(state(), "commit2|3r002", "{generation:?}");
        // An account of which nothing is known, and that has nothing.
        db.sql("DELETE FROM actor_sync");
        apply(&db, &[repo(7)]);
        assert_eq!(state(), "commit7|3r007");
    }
}

#[test]
fn columns_that_one_generation_has_are_written_there() {
    let db = Db::of(Generation::B, "via");
    apply(&db, &[follow("create", 1, "b")]);
    assert_eq!(
        db.sql("SELECT via, \"viaCid\" FROM follow"),
        "at://did:plc:v/app.bsky.graph.starterpack/1|viacid"
    );
    let db = Db::of(Generation::D, "no_via");
    apply(&db, &[follow("create", 1, "b")]);
    assert_eq!(count(&db, "follow"), 1);
}

#[test]
fn what_others_write_survives() {
    let db = Db::of(Generation::B, "takedowns");
    apply(&db, &[follow("create", 1, "b"), list("create", 1, "one")]);
    db.sql(
        "UPDATE record SET \"takedownRef\" = 'r', tags = '[\"t\"]'; UPDATE follow SET \"takedownRef\" = 'f'",
    );
    apply(&db, &[follow("create", 2, "b"), list("update", 2, "two")]);
    assert_eq!(db.sql("SELECT DISTINCT \"takedownRef\", tags, rev FROM record"), "r|[\"t\"]|3r002");
    assert_eq!(db.sql("SELECT \"takedownRef\" FROM follow"), "f");
    apply(&db, &[follow("update", 3, "c")]);
    assert_eq!(db.sql("SELECT \"subjectDid\", \"takedownRef\" FROM follow"), "did:plc:c|f");
}

#[test]
fn a_drifted_database_is_written_without_what_it_lacks() {
    let db = Db::of(Generation::D, "writes_drifted");
    db.sql(r#"ALTER TABLE "like" DROP COLUMN via; ALTER TABLE starter_pack DROP COLUMN name; DROP TABLE verification"#);
    let subject = json!({"uri": "at://did:plc:s/app.bsky.feed.post/1",
        "cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"});
    let at = "2024-01-01T00:00:00.000Z";
    let like = json!({"subject": subject, "via": subject, "createdAt": at});
    let verification =
        json!({"subject": "did:plc:s", "handle": "a.test", "displayName": "A", "createdAt": at});
    let verification = |kind| event(kind, 1, "app.bsky.graph.verification/1", "v", verification.clone());
    apply(&db, &[event("create", 1, "app.bsky.feed.like/1", "l", like), verification("create")]);
    apply(&db, &[verification("update"), delete(2, "app.bsky.graph.verification/1")]);
    assert_eq!(
        db.sql("SELECT \"viaCid\" FROM \"like\""),
        "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
    );
    assert_eq!(db.sql("SELECT cid FROM record"), "l", "a collection without its table is passed over");
    assert_eq!(db.sql("SELECT \"repoRev\" FROM actor_sync"), "3r002");
}

#[test]
fn labels_have_what_their_table_has() {
    let db = Db::of(Generation::B, "label_columns");
    let label = |cts: &str| {
        json!({"type": "label", "label": {"src": "did:plc:l", "uri": "at://x", "val": "porn", "cts": cts,
            "exp": "2030", "sig": {"$bytes": "AQI"}}})
    };
    let write = |cts: &str| {
        let Intake::Work(rows) = labels::read(&label(cts).to_string()) else { panic!() };
        block_on(async {
            let mut connection = PgConnection::connect(db.url()).await.unwrap();
            let statements = statements(&mut connection).await;
            labels::apply(&mut connection, &statements, &rows.iter().collect::<Vec<_>>()).await.unwrap()
        })
    };
    assert_eq!(write("1"), 1);
    assert_eq!(db.sql("SELECT cts, exp FROM label"), "1|2030");
    db.sql("ALTER TABLE label ADD COLUMN sig bytea");
    assert_eq!(write("2"), 1);
    assert_eq!(db.sql("SELECT cts, exp, sig FROM label"), "2|2030|\\x0102");
    db.sql("ALTER TABLE label DROP COLUMN exp");
    assert_eq!(write("3"), 1);
    assert_eq!(db.sql("SELECT cts, sig FROM label"), "3|\\x0102");
    db.sql("ALTER TABLE label DROP COLUMN sig");
    assert_eq!(write("4"), 1);
    assert_eq!(db.sql("SELECT cts FROM label"), "4");
}
