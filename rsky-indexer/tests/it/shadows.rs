//! `indexer shadow`: beside an indexer that writes what ours would, nothing differs; what was written differently is named;
//! and nothing is changed by looking. Postgres is asked by a role that may only read, Redis (where that is said) as a user that
//! may only read.

use std::path::{Path, PathBuf};

use rsky_testnet::servers::{Generation, Process, Redis, command};
use serde_json::{Value, json};

use crate::entries::{self, Scribe, about, quote, reply, signal, uri};
use crate::golden;
use crate::process::{Indexer, LABELS, LIVE, PATIENCE, Ran, add, run, wait_drained, wait_until};
use crate::support::Db;

const BACKFILL: &str = "firehose_backfill";
const A: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";

/// The URL of a role that may only read.
pub fn reader(db: &Db) -> String {
    let role = db.sql("SELECT 'reader_' || current_database()");
    db.sql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"));
    db.url().replacen("postgres@", &format!("{role}@"), 1)
}

/// The groups, as the indexer makes them.
pub fn groups(redis: &Redis) {
    for (stream, group) in [(LIVE, "firehose_group"), (BACKFILL, "firehose_group"), (LABELS, "label_group")] {
        redis.command(&["XGROUP", "CREATE", stream, group, "0", "MKSTREAM"]).unwrap();
    }
}

/// Everything there is to see of the streams.
pub fn state(redis: &Redis) -> String {
    let of = |stream: &&str| format!("{:?}", redis.command(&["XINFO", "STREAM", stream, "FULL"]).unwrap());
    [LIVE, BACKFILL, LABELS].iter().map(of).collect()
}

/// The command at work.
pub struct Shadow {
    pub process: Process,
    log: PathBuf,
}

impl Shadow {
    pub fn start(name: &str, redis_url: &str, database_url: &str, arguments: &[&str]) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.log", std::process::id()));
        drop(std::fs::remove_file(&log));
        let mut program = command(env!("CARGO_BIN_EXE_indexer"), None);
        program.arg("shadow").args(arguments).env_clear();
        program.env("DATABASE_URL", database_url).env("REDIS_URL", redis_url);
        Self { process: Process::spawn(program, &log).unwrap(), log }
    }

    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        wait_until(words, || self.said().contains(words));
    }

    /// Its exit code, and everything it said.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.process.wait(PATIENCE).unwrap().expect("it ends").code();
        let said = self.said();
        drop(std::fs::remove_file(&self.log));
        (code, said)
    }
}

/// An indexer has written these entries, and they stand in the streams as finished ones: acknowledged, not deleted.
pub struct Finished {
    pub redis: Redis,
    pub db: Db,
    reader: String,
    entries: usize,
}

impl Finished {
    pub fn new(name: &str, generation: Generation, streams: &[(&str, Vec<String>)]) -> Self {
        let (redis, db) = (Redis::start().unwrap(), Db::of(generation, name));
        groups(&redis);
        let mut indexer = Indexer::start(&redis.url(), db.url(), &[]);
        for (stream, entries) in streams {
            add(&redis, stream, entries);
            wait_drained(&redis, stream);
        }
        assert_eq!(indexer.terminate(), Some(0));
        let finished = Self { reader: reader(&db), redis, db, entries: 0 };
        streams.iter().fold(finished, |finished, (stream, entries)| finished.and(stream, entries))
    }

    /// More entries that count as finished.
    pub fn and(mut self, stream: &str, entries: &[String]) -> Self {
        add(&self.redis, stream, entries);
        let group = if stream == LABELS { "label_group" } else { "firehose_group" };
        self.redis.command(&["XGROUP", "SETID", stream, group, "$"]).unwrap();
        self.entries += entries.len();
        self
    }

    /// Looks at all of them.
    #[track_caller]
    pub fn shadow(&self, arguments: &[&str]) -> Ran {
        let before = state(&self.redis);
        let (url, entries) = (self.redis.url(), self.entries.to_string());
        let settings = [("REDIS_URL", url.as_str()), ("DATABASE_URL", &self.reader)];
        let fixed = ["shadow", "--from", "0", "--settle", "0", "--entries", &entries, "--examples", "100"];
        let ran = run(&[&fixed[..], arguments].concat(), &settings, "");
        assert!(before == state(&self.redis), "looking changes nothing");
        ran
    }
}

fn label(val: &str, neg: bool, cts: &str) -> String {
    let label = json!({"src": "did:plc:l", "uri": A, "val": val, "neg": neg, "cts": cts});
    json!({"type": "label", "seq": 1, "label": label}).to_string()
}

/// Some of everything.
fn some() -> Vec<String> {
    let mut live = Scribe::live();
    let blob = json!({"$type": "blob", "ref": {"$link": entries::CID}, "mimeType": "image/png", "size": 1});
    let root = uri(A, entries::POST, "root");
    let with = |text: &str, embed: Value| {
        let mut post = entries::post(text);
        post["embed"] = embed;
        post
    };
    let image = json!({"$type": "app.bsky.embed.images", "images": [{"alt": "one", "image": blob}, {"alt": "two", "image": blob}]});
    let card = json!({"$type": "app.bsky.embed.external", "external": {"uri": "https://x.test", "title": "t", "description": "d"}});
    let video = json!({"$type": "app.bsky.embed.video", "video": {"$type": "blob", "ref": {"$link": entries::CID}, "mimeType": "video/mp4", "size": 1}});
    let mut first = entries::post("root");
    first["langs"] = json!(["en", "de"]);
    vec![
        live.create(A, "app.bsky.actor.profile", "self", json!({"displayName": "A"})),
        live.create(A, entries::POST, "root", first),
        live.create(B, entries::POST, "reply", reply(&root, &root)),
        live.create(B, entries::POST, "quote", quote(&root)),
        live.create(A, entries::POST, "image", with("image", image)),
        live.create(A, entries::POST, "card", with("card", card)),
        live.create(A, entries::POST, "video", with("video", video)),
        live.create(B, entries::LIKE, "1", signal(&root)),
        live.create(B, entries::LIKE, "again", signal(&root)),
        live.create(B, entries::REPOST, "1", signal(&root)),
        live.create(B, entries::FOLLOW, "1", about(A)),
        live.create(B, entries::BLOCK, "1", about("did:plc:c")),
        live.create(
            A,
            entries::LIST,
            "1",
            json!({"name": "l", "purpose": "app.bsky.graph.defs#modlist", "createdAt": entries::AT}),
        ),
        live.create(A, entries::THREAD_GATE, "root", entries::thread_gate(&root, &["mentionRule"])),
        live.create(A, entries::POST, "changed", entries::post("before")),
        live.update(A, entries::POST, "changed", entries::post("after")),
        live.create(A, entries::POST, "gone", entries::post("gone")),
        live.delete(A, entries::POST, "gone"),
        live.create(B, entries::LIKE, "gone", signal(&uri(A, entries::POST, "card"))),
        live.delete(B, entries::LIKE, "gone"),
        live.create(A, "com.example.thing", "1", json!({"any": "thing"})),
        live.create(A, entries::POST, "bad", json!({"text": 5})),
        live.account("did:plc:hidden", false),
        live.account("did:plc:shown", true),
    ]
}

fn labels() -> Vec<String> {
    vec![
        label("spam", false, "2024-01-01T00:00:00.000Z"),
        label("spam", true, "2024-01-02T00:00:00.000Z"),
        label("rude", false, "2024-01-01T00:00:00.000Z"),
    ]
}

#[test]
fn what_ours_has_written_is_as_ours_would_write_it() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        let world = Finished::new("shadow_same", generation, &[(LIVE, some()), (LABELS, labels())]);
        let ran = world.shadow(&[]);
        assert_eq!(ran.code, Some(0), "{generation:?} {}{}", ran.out, ran.err);
        assert!(ran.out.contains("firehose_live: 24 entries read, 0 deleted before"), "{}", ran.out);
        // A post that was changed, one and a like that are gone, a label that was taken back.
        assert!(ran.out.contains("22 as ours would write them, 0 differ, 4 superseded"), "{}", ran.out);
        assert!(ran.out.contains("1 refused by both"), "{}", ran.out);
    }
}

/// The recording, as a user that may do nothing but read, and may run no scripts.
#[test]
fn a_recording_is_as_ours_would_write_it() {
    let streams = [LIVE, BACKFILL, LABELS].map(|name| (name, golden::stream(name)));
    let world = Finished::new("shadow_recording", Generation::D, &streams);
    world
        .redis
        .command(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "-@all", "+@read", "+@connection"])
        .unwrap();
    let url = world.redis.url().replacen("redis://", "redis://reader:secret@", 1);
    let (reader, entries) = (world.reader.clone(), world.entries.to_string());
    let settings = [("REDIS_URL", url.as_str()), ("DATABASE_URL", &reader)];
    let before = state(&world.redis);
    let ran = run(&["shadow", "--from", "0", "--settle", "0", "--entries", &entries], &settings, "");
    assert!(before == state(&world.redis), "looking changes nothing");
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(" 0 differ, ") && ran.out.contains("; 0 not decided, 0 lost"), "{}", ran.out);
}

/// Every kind of row: one that is gone, one too many, one with another value.
#[test]
fn what_was_written_differently_is_named() {
    let world = Finished::new("shadow_differs", Generation::D, &[(LIVE, some()), (LABELS, labels())]);
    let sql = |statement: &str| world.db.sql(statement);
    let bad = some().into_iter().find(|entry| entry.contains("\"text\":5")).unwrap();
    let refused = serde_json::from_str::<Value>(&bad).unwrap()["cid"].as_str().unwrap().to_owned();
    for statement in [
        "DELETE FROM record WHERE uri LIKE '%/card'",
        "UPDATE record SET cid = 'bafyother' WHERE uri LIKE '%graph.block/1'",
        "UPDATE record SET json = replace(json, 'modlist', 'curatelist') WHERE uri LIKE '%graph.list/1'",
        r#"UPDATE post SET text = 'other', langs = '["en"]' WHERE uri LIKE '%/root'"#,
        r#"UPDATE post SET "invalidReplyRoot" = true WHERE uri LIKE '%/reply'"#,
        "DELETE FROM post_embed_image WHERE position = '1'",
        "INSERT INTO post_embed_image VALUES ((SELECT uri FROM post WHERE uri LIKE '%/image'), '7', 'cid', 'alt')",
        r#"UPDATE post_embed_video SET alt = 'alt'"#,
        "DELETE FROM quote",
        r#"UPDATE feed_item SET "sortAt" = '2020' WHERE type = 'repost'"#,
        "DELETE FROM follow",
        r#"UPDATE profile SET "displayName" = NULL"#,
        "DELETE FROM duplicate_record",
        &format!(
            "INSERT INTO post (uri, cid, creator, text, \"createdAt\", \"indexedAt\") VALUES ('{}', 'c', '{A}', '', 'x', 'x')",
            uri(A, entries::POST, "gone")
        ),
        "UPDATE record SET cid = 'bafyback', json = '{}' WHERE uri LIKE '%like/gone'",
        &format!(
            "INSERT INTO record (uri, cid, did, json, \"indexedAt\", rev) VALUES ('{}', '{refused}', '{A}', '{{}}', 'x', '3')",
            uri(A, entries::POST, "bad")
        ),
        "DELETE FROM actor WHERE did = 'did:plc:hidden'",
        r#"UPDATE actor_sync SET "repoRev" = '2'"#,
        "UPDATE label SET neg = false WHERE val = 'spam'",
        "DELETE FROM label WHERE val = 'rude'",
    ] {
        sql(statement);
    }
    let ran = world.shadow(&[]);
    assert_eq!(ran.code, Some(3), "{}{}", ran.out, ran.err);
    for kind in [
        "record missing",
        "record.cid different",
        "record.json different",
        "post.text different",
        "post.langs different",
        "post.invalidReplyRoot different",
        "post_embed_image missing",
        "post_embed_image too much",
        "post_embed_video.alt different",
        "quote missing",
        "feed_item.sortAt different",
        "follow missing",
        "profile.displayName different",
        "duplicate_record missing",
        "post too much",
        "actor missing",
        "label.neg different",
        "label missing",
    ] {
        assert!(ran.out.contains(&format!("\n  1 {kind}\n")), "{kind}: {}", ran.out);
    }
    assert!(ran.out.contains("\n  2 record too much\n"), "{}", ran.out);
    assert!(ran.out.contains("ours nothing, since invalid_record: "), "{}", ran.out);
    assert!(ran.out.contains("actor_sync.repoRev different: "), "{}", ran.out);
    let example = format!("post.text different: {} (firehose_live ", uri(A, entries::POST, "root"));
    let line =
        ran.out.lines().find(|line| line.starts_with(&example)).unwrap_or_else(|| panic!("{}", ran.out));
    assert!(line.ends_with("ours root; stands other"), "{line}");
}

/// What the tables have of a later commit is no difference; nor is what comes again and is older.
#[test]
fn what_is_superseded_is_no_difference() {
    let mut live = Scribe::live();
    let first = live.create(A, entries::POST, "1", entries::post("first"));
    let second = live.create(A, entries::POST, "2", entries::post("second"));
    let written = vec![
        first.clone(),
        second.clone(),
        live.update(A, entries::POST, "1", entries::post("changed")),
        live.delete(A, entries::POST, "2"),
    ];
    for generation in [Generation::D, Generation::B, Generation::U] {
        let all = Finished::new("shadow_superseded", generation, &[(LIVE, written.clone())]);
        // The relay repeats itself.
        let ran = all.and(LIVE, &[first.clone(), second.clone()]).shadow(&[]);
        assert_eq!(ran.code, Some(0), "{generation:?} {}{}", ran.out, ran.err);
        assert!(ran.out.contains(" 0 differ, 4 superseded"), "{generation:?} {}", ran.out);
        // Only what is older was seen: the tables are further.
        let older = Finished::new("shadow_superseded", generation, &[(LIVE, written.clone())]);
        older.redis.command(&["XTRIM", LIVE, "MAXLEN", "0"]).unwrap();
        let older = Finished { entries: 0, ..older }.and(LIVE, &[first.clone(), second.clone()]);
        let ran = older.shadow(&[]);
        assert_eq!(ran.code, Some(0), "{generation:?} {}{}", ran.out, ran.err);
        assert!(ran.out.contains(" 0 differ, 2 superseded"), "{generation:?} {}", ran.out);
        assert!(ran.out.contains("some had been deleted before it began"), "{generation:?} {}", ran.out);
    }
}
