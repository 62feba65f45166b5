//! `indexer verify`: what differs is found and put right, what is on its way is left alone.

use rsky_testnet::network::repos;
use rsky_testnet::servers::Generation;

use crate::process::{Ran, count};
use crate::repositories::{AT, DID, OLD, World, apply, creates, event, post, some};
use crate::support::Db;

fn verify(world: &World, db: &Db, arguments: &[&str]) -> Ran {
    world.run_with(db.url(), &[], &[&["verify", "--settle", "0"], arguments].concat())
}

#[test]
fn differences_are_found_named_and_put_right() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let (records, db) = (some(), Db::of(generation, "verify"));
        let world = World::of(&records);
        apply(&db, creates(&records, OLD));
        let ran = verify(&world, &db, &[DID]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("1 accounts compared, 0 of them differ"), "{}", ran.out);

        for (missing, table) in [("app.bsky.feed.post/c", "post"), ("app.bsky.feed.like/a", "\"like\"")] {
            db.sql(&format!("DELETE FROM record WHERE uri LIKE '%{missing}'; DELETE FROM {table} WHERE uri LIKE '%{missing}'"));
        }
        apply(&db, [event("create", OLD, "app.bsky.feed.post/z", Some(&post("z", "deleted since").1))]);
        db.sql("DELETE FROM repost");
        let before = count(&db, "record");
        let ran = verify(&world, &db, &[DID]);
        assert_eq!(ran.code, Some(3), "{}{}", ran.out, ran.err);
        for line in [
            "did:plc:repo missing: app.bsky.feed.post/c",
            "did:plc:repo missing: app.bsky.feed.like/a",
            "did:plc:repo too much: app.bsky.feed.post/z",
            "did:plc:repo without its row: app.bsky.feed.repost/a",
            "8 records the same, 2 missing, 0 different, 1 too much, 1 without their row",
        ] {
            assert!(ran.out.contains(line), "{generation:?} {line}: {}", ran.out);
        }
        assert_eq!(count(&db, "record"), before, "looking changes nothing");

        let ran = verify(&world, &db, &[DID, "--repair"]);
        assert_eq!(ran.code, Some(0), "{generation:?} {}{}", ran.out, ran.err);
        assert!(ran.out.contains("did:plc:repo 4 records put right"), "{}", ran.out);
        assert_eq!(count(&db, "repost"), 1);
        assert_eq!(verify(&world, &db, &[DID]).code, Some(0));
    }
}

/// A reply that is hidden without a reason any more.
#[test]
fn flags_that_no_longer_fit_are_found() {
    let (records, db) = (some(), Db::new("verify_flags"));
    let world = World::of(&records);
    apply(&db, creates(&records, OLD));
    db.sql(r#"UPDATE post SET "invalidReplyRoot" = true WHERE uri LIKE '%/b'"#);
    let ran = verify(&world, &db, &[DID]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.out.contains("hidden though its parent is shown: app.bsky.feed.post/b"), "{}", ran.out);
}

#[test]
fn a_sample_is_drawn_summed_up_and_has_an_exit_code() {
    let (records, db, world) = (some(), Db::new("verify_sample"), World::new());
    world.publish(&records);
    apply(&db, creates(&records, OLD));
    let actor = |did: &str, status: &str| {
        db.sql(&format!(
            r#"INSERT INTO actor (did, "indexedAt", "upstreamStatus") VALUES ('{did}', '{AT}', {status})"#
        ))
    };
    let ran = verify(&world, &db, &["--sample", "5"]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("no active account"), "{}", ran.err);
    actor(DID, "NULL");
    actor("did:plc:gone", "NULL");
    actor("did:plc:off", "'deactivated'");
    world.directory.set_document(repos::document("did:plc:gone", &repos::key(2), "http://localhost:1"));
    let ran = verify(&world, &db, &["--sample", "5", "--seed", "1"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("did:plc:gone passed over: "), "{}", ran.out);
    assert!(ran.out.contains("1 accounts compared, 0 of them differ; 1 passed over"), "{}", ran.out);
    // Enough that they are drawn by index, and most without a document.
    db.sql(r#"INSERT INTO actor (did, "indexedAt") SELECT 'did:plc:' || substr(translate(md5(g::text), '0189', 'wxyz'), 1, 24), 'x'
        FROM generate_series(1, 200) g"#);
    let ran = verify(&world, &db, &["--sample", "20", "--seed", "7"]);
    let again = verify(&world, &db, &["--sample", "20", "--seed", "7"]);
    let accounts = |ran: &Ran| {
        let mut lines: Vec<String> =
            ran.out.lines().filter(|line| line.contains("passed over: ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(accounts(&ran).len() >= 19, "{}", ran.out);
    assert_eq!(accounts(&ran), accounts(&again));
}
