//! `indexer index-repo`: what a repository says and the database does not.

use rsky_testnet::network::repos;
use rsky_testnet::servers::Generation;
use serde_json::json;

use crate::process::{count, run};
use crate::repositories::{
    DID, NEW, OLD, World, apply, assert_same, car, creates, event, last, post, record, rows, some,
};
use crate::support::{Db, unlike};

#[test]
fn an_empty_database_gets_what_the_engine_makes_of_it_and_once_more_is_no_more() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (records, one, other) = (some(), Db::of(generation, "empty"), Db::of(generation, "engine"));
        let world = World::of(&records);
        let out = world.index(&one, &[]);
        assert!(
            last(&out).starts_with("created 10, updated 0, deleted 0, unchanged 0, newer in the database 0"),
            "{out}"
        );
        assert!(out.contains("  app.bsky.feed.post: 3 created") && out.contains("1 of collections"), "{out}");
        apply(&other, creates(&records, repos::REV));
        assert_same(&one, &other);
        assert_eq!((count(&one, "duplicate_record"), count(&one, "actor_sync")), (1, 0));

        let before = one.sql("SELECT r FROM record r ORDER BY uri");
        let out = world.index(&one, &["--verbose"]);
        assert!(last(&out).starts_with("created 0, updated 0, deleted 0, unchanged 10,"), "{out}");
        assert_eq!(one.sql("SELECT r FROM record r ORDER BY uri"), before);
    }
}

#[test]
fn a_drifted_database_is_corrected() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (records, db, right) = (some(), Db::of(generation, "drifted"), Db::of(generation, "right"));
        let world = World::of(&records);
        let mut drifted = records.clone();
        for missing in ["app.bsky.feed.post/c", "app.bsky.feed.like/a", "app.bsky.graph.follow/a"] {
            drifted.remove(missing).unwrap();
        }
        drifted.extend([
            post("a", "something else"),
            post("aa", "deleted since"),
            record("app.bsky.graph.list/a", json!({"name": "old", "purpose": "app.bsky.graph.defs#modlist"})),
            record("app.bsky.graph.block/z", json!({"subject": "did:plc:z"})),
        ]);
        apply(&db, creates(&drifted, OLD));
        // Of somebody else, and a name that begins as the account's.
        let other = |did: &str| {
            event("create", OLD, "app.bsky.feed.post/o", Some(&post("o", "o").1)).replace(DID, did)
        };
        apply(&db, [other("did:plc:other"), other("did:plc:repository")]);

        let before = rows(&db);
        let out = world.index(&db, &["--dry-run"]);
        assert!(last(&out).contains("would be: created 3, updated 2, deleted 2, unchanged 5"), "{out}");
        assert!(out.contains("app.bsky.feed.post/aa would be deleted"), "{out}");
        assert_eq!(unlike(&before, &rows(&db)), "", "a dry run changes nothing");

        let out = world.index(&db, &["--verbose"]);
        assert!(last(&out).starts_with("created 3, updated 2, deleted 2, unchanged 5"), "{out}");
        for line in
            ["app.bsky.feed.post/aa deleted", "app.bsky.feed.post/a updated", "app.bsky.feed.post/c created"]
        {
            assert!(out.lines().any(|said| said == line), "{line}: {out}");
        }
        apply(&right, [other("did:plc:other"), other("did:plc:repository")]);
        apply(
            &right,
            creates(&drifted, OLD).filter(|event| event.contains("follow/") || event.contains("\"b\"")),
        );
        world.index(&right, &[]);
        let text = |db: &Db| {
            db.sql(&format!(
                "SELECT uri, cid, json FROM record WHERE did = '{DID}' AND json <> '' ORDER BY uri"
            ))
        };
        assert_eq!(text(&db), text(&right));
        for sql in [
            "SELECT uri, cid, text FROM post ORDER BY uri",
            "SELECT uri, cid FROM \"like\" ORDER BY uri",
            "SELECT uri, name FROM list ORDER BY uri",
            "SELECT uri FROM actor_block",
            "SELECT did, \"followersCount\", \"followsCount\", \"postsCount\" FROM profile_agg WHERE did <> 'did:plc:z' ORDER BY did",
            "SELECT uri, \"likeCount\" FROM post_agg WHERE \"likeCount\" > 0 ORDER BY uri",
        ] {
            assert_eq!(db.sql(sql), right.sql(sql), "{generation:?} {sql}");
        }
        assert!(last(&world.index(&db, &[])).starts_with("created 0, updated 0, deleted 0, unchanged 10"));
    }
}

#[test]
fn what_came_later_stays() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (records, db) = (some(), Db::of(generation, "later"));
        let world = World::of(&records);
        let live = |event: String| event.replace("\"seq\":-2", "\"seq\":7");
        apply(&db, creates(&records, OLD));
        let newer = [
            event("create", NEW, "app.bsky.feed.post/new", Some(&post("new", "new").1)),
            event("update", NEW, "app.bsky.feed.post/a", Some(&post("a", "newer").1)),
            event("delete", NEW, "app.bsky.feed.post/c", None),
        ];
        apply(&db, newer.map(live));
        let before = rows(&db);
        let out = world.index(&db, &[]);
        if generation == Generation::D {
            assert!(
                last(&out).contains("created 0, updated 0, deleted 0, unchanged 8, newer in the database 3"),
                "{out}"
            );
            assert_eq!(unlike(&before, &rows(&db)), "");
        } else {
            // Without a tombstone nothing tells that a record is gone.
            assert!(
                last(&out).contains("created 1, updated 0, deleted 0, unchanged 8, newer in the database 2"),
                "{out}"
            );
        }
        assert_eq!(db.sql("SELECT text FROM post WHERE uri LIKE '%/a'"), "newer");
        assert_eq!(db.sql("SELECT text FROM post WHERE uri LIKE '%/new'"), "new");
        assert_eq!(db.sql("SELECT \"repoRev\" FROM actor_sync"), NEW);
    }
}

#[test]
fn repositories_of_several_pages_and_chunks() {
    let (world, db) = (World::new(), Db::new("pages"));
    let key = repos::key(1);
    let by_handle = |car: Vec<u8>| {
        world.serve(car);
        world.directory.set_handle("repo.test", Some(DID));
        let ran = world.run(db.url(), &["@Repo.test"]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        last(&ran.out).to_owned()
    };
    assert!(by_handle(repos::car(DID, 2500, 5, &key)).starts_with("created 2500, updated 0, deleted 0,"));
    assert_eq!(count(&db, "post"), 2500);
    assert!(
        by_handle(repos::car(DID, 1200, 5, &key))
            .starts_with("created 0, updated 0, deleted 1300, unchanged 1200")
    );
    assert_eq!(count(&db, "post"), 1200);
    assert!(
        by_handle(repos::car(DID, 2100, 6, &key))
            .starts_with("created 900, updated 1200, deleted 0, unchanged 0")
    );
    assert_eq!(db.sql("SELECT \"postsCount\" FROM profile_agg"), "2100");
}

#[test]
fn records_that_cannot_be_indexed_are_named() {
    let (mut records, db) = (some(), Db::new("unfit"));
    records.extend([record("app.bsky.feed.post/bad", json!({"text": 1}))]);
    let world = World::of(&records);
    let ran = world.run(db.url(), &[DID]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("skipped app.bsky.feed.post/bad: invalid_record: "), "{}", ran.err);
    assert!(last(&ran.out).starts_with("created 10, ") && ran.out.contains("skipped 1"), "{}", ran.out);
    assert_eq!(count(&db, "record"), 10);

    // One that is valid, and that Postgres does not take.
    records.extend([post("poison", "poison")]);
    let (world, db) = (World::of(&records), Db::new("poison"));
    db.sql("ALTER TABLE post ADD CHECK (text <> 'poison')");
    let ran = world.run(db.url(), &[DID]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("skipped app.bsky.feed.post/poison: "), "{}", ran.err);
    assert!(ran.err.contains("the database refused 1 records"), "{}", ran.err);
    assert!(last(&ran.out).starts_with("created 10, "), "{}", ran.out);
    assert_eq!(count(&db, "record"), 10);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let (world, db) = (World::of(&some()), Db::new("wrong"));
    let says = |account: &str, parts: &[&str]| {
        let said = world.fails(&db, account);
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
        assert_eq!(count(&db, "record"), 0);
    };
    says("did:plc:unknown", &["did:plc:unknown is not known", &world.url]);
    says("nobody.test", &["the handle nobody.test leads to no account"]);
    says("nonsense", &["\"nonsense\" is neither a DID nor a handle"]);
    says("did:key:zabc", &["unsupported kind of DID"]);

    world.serve(car(DID, &some(), 2));
    says(DID, &["refused: its signature is wrong", "does not match the key"]);
    world.serve(car("did:plc:other", &some(), 1));
    says(DID, &["is that of \"did:plc:other\""]);
    let mut damaged = car(DID, &some(), 1);
    *damaged.last_mut().unwrap() ^= 1;
    world.serve(damaged);
    says(DID, &["it is not a repository"]);
    let whole = car(DID, &some(), 1);
    let without_the_root = whole.len() - 20;
    world.serve(whole[..without_the_root].to_vec());
    says(DID, &["it is not a repository", "ends inside a block"]);

    world.refuse(400, "RepoNotFound");
    says(DID, &["the PDS does not have it (HTTP 400 RepoNotFound said the host)", &world.url]);
    world.refuse(400, "RepoDeactivated");
    says(DID, &["the account is deactivated (HTTP 400"]);
    world.refuse(400, "RepoTakendown");
    says(DID, &["the account is taken down (HTTP 400"]);
    world.refuse(503, "");
    says(DID, &["the PDS does not give it (HTTP 503"]);

    world.serve(car(DID, &some(), 1));
    let ran = world.run(db.url(), &[DID, "--max-size", "1000"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("larger than 1000 bytes"), "{}", ran.err);
    let mut bare = repos::document(DID, &repos::key(1), "http://localhost:1");
    bare["service"] = json!([]);
    world.directory.set_document(bare);
    says(DID, &["names no PDS"]);
    world.directory.fail_with(Some(500));
    says(DID, &["the DID document of did:plc:repo: HTTP 500"]);

    let ran = world.run("postgres://user:secret@127.0.0.1:9/none", &[DID]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("connect to the database postgres://***@127.0.0.1:9/none"), "{}", ran.err);
    assert!(!ran.err.contains("secret"), "{}", ran.err);
    let ran = run(&["index-repo", DID], &[], "");
    assert!(ran.code == Some(64) && ran.err.contains("DATABASE_URL"), "{:?} {}", ran.code, ran.err);
    assert!(!ran.err.contains("REDIS"), "{}", ran.err);
}
