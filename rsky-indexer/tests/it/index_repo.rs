//! `indexer index-repo`: what a repository says and the database does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use rsky_indexer::engine;
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Directory, Network, RepoAnswer, RunningNetwork, repos};
use rsky_testnet::servers::Generation;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::process::{Ran, block_on, count, run};
use crate::support::{Db, dump, statements, unlike};

const DID: &str = "did:plc:repo";
const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
const AT: &str = "2024-01-01T00:00:00.000Z";
const OLD: &str = "3jzfcijpj2z2a";
const NEW: &str = "3zzzzzzzzzzzz";

type Records = BTreeMap<String, Cbor>;

/// A network with a runtime of its own: the tests block.
struct World {
    directory: Directory,
    url: String,
    _network: RunningNetwork,
    _runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let network = runtime.block_on(Network::builder().start()).unwrap();
        let world =
            Self { directory: network.directory(), url: network.url(), _network: network, _runtime: runtime };
        world.directory.set_document(repos::document(DID, &repos::key(1), "http://localhost:1"));
        world
    }

    fn of(records: &Records) -> Self {
        let world = Self::new();
        world.serve(car(DID, records, 1));
        world
    }

    fn serve(&self, car: Vec<u8>) {
        self.directory.set_repo(DID, RepoAnswer::Car(Bytes::from(car)));
    }

    fn refuse(&self, status: u16, error: &str) {
        let body = json!({"error": error, "message": "said the host"});
        self.directory.set_repo(DID, RepoAnswer::Error { status, body });
    }

    fn run(&self, database_url: &str, arguments: &[&str]) -> Ran {
        let arguments = [&["index-repo"], arguments].concat();
        let environment = [
            ("DATABASE_URL", database_url),
            ("PLC_URL", self.url.as_str()),
            ("HANDLE_RESOLVER_URL", self.url.as_str()),
            ("ALLOW_PRIVATE_ADDRESSES", "true"),
        ];
        run(&arguments, &environment, "")
    }

    /// Runs it; it must go well. What it printed.
    fn index(&self, db: &Db, arguments: &[&str]) -> String {
        let ran = self.run(db.url(), &[&[DID], arguments].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs it; it must not go well. Why.
    fn fails(&self, db: &Db, account: &str) -> String {
        let ran = self.run(db.url(), &[account]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        ran.err
    }
}

fn car(did: &str, records: &Records, key: u8) -> Vec<u8> {
    let (mut tree, mut blocks) = (repos::Tree::default(), Vec::new());
    for (path, record) in records {
        let block = record.encode();
        let cid = repos::block_cid(&block);
        blocks.push((cid, block));
        tree.add(path.clone(), cid, &mut |cid, block| blocks.push((*cid, block.to_vec())));
    }
    let root = tree.finish(&mut |cid, block| blocks.push((*cid, block.to_vec())));
    let commit = repos::commit(did, &root, &repos::key(key));
    let mut out = Vec::new();
    repos::header(&repos::block_cid(&commit), &mut out);
    repos::block_section(&repos::block_cid(&commit), &commit, &mut out);
    blocks.iter().for_each(|(cid, block)| repos::block_section(cid, block, &mut out));
    out
}

fn cbor(value: &Value) -> Cbor {
    match value {
        Value::String(text) => Cbor::text(text),
        Value::Bool(value) => Cbor::Bool(*value),
        Value::Number(number) => Cbor::Int(number.as_i64().unwrap()),
        Value::Array(items) => Cbor::List(items.iter().map(cbor).collect()),
        Value::Object(members) => Cbor::map(members.iter().map(|(name, value)| (name.clone(), cbor(value)))),
        Value::Null => Cbor::Null,
    }
}

fn record(path: &str, mut members: Value) -> (String, Cbor) {
    members["$type"] = path.split('/').next().unwrap().into();
    members["createdAt"] = AT.into();
    (path.to_owned(), cbor(&members))
}

fn post(rkey: &str, text: &str) -> (String, Cbor) {
    record(&format!("app.bsky.feed.post/{rkey}"), json!({"text": text, "langs": ["en"]}))
}

fn follow(rkey: &str, subject: &str) -> (String, Cbor) {
    record(&format!("app.bsky.graph.follow/{rkey}"), json!({"subject": format!("did:plc:{subject}")}))
}

/// Some of what an account has, a duplicate, and something that is not indexed.
fn some() -> Records {
    let root = json!({"uri": format!("at://{DID}/app.bsky.feed.post/a"), "cid": CID});
    let subject = json!({"uri": "at://did:plc:s/app.bsky.feed.post/1", "cid": CID});
    [
        post("a", "first"),
        record("app.bsky.feed.post/b", json!({"text": "reply", "reply": {"root": root, "parent": root}})),
        post("c", "third"),
        record("app.bsky.feed.like/a", json!({"subject": subject})),
        record("app.bsky.feed.repost/a", json!({"subject": subject})),
        follow("a", "x"),
        follow("b", "y"),
        follow("c", "x"),
        record("app.bsky.graph.list/a", json!({"name": "list", "purpose": "app.bsky.graph.defs#modlist"})),
        record("app.bsky.actor.profile/self", json!({"displayName": "Me"})),
        record("com.example.thing/a", json!({"text": "of no interest"})),
    ]
    .into()
}

fn event(kind: &str, rev: &str, path: &str, record: Option<&Cbor>) -> String {
    let (collection, rkey) = path.split_once('/').unwrap();
    let mut event = json!({"type": kind, "seq": -2, "time": AT, "did": DID, "commit": CID, "rev": rev,
        "collection": collection, "rkey": rkey});
    if let Some(record) = record {
        let mut text = String::new();
        record.write_json(&mut text);
        let (head, block) = (event.to_string(), repos::block_cid(&record.encode()));
        let cid = cid_text(&block);
        return format!("{},\"cid\":\"{cid}\",\"record\":{text}}}", head.strip_suffix('}').unwrap());
    }
    event["cid"] = Value::Null;
    event.to_string()
}

fn cid_text(cid: &[u8]) -> String {
    rsky_common::atproto::cid::to_text(cid).unwrap()
}

/// Applies events one by one.
fn apply(db: &Db, events: impl IntoIterator<Item = String>) {
    block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = statements(&mut connection).await;
        for event in events {
            let Intake::Work(work) = intake::read(&event) else { panic!("{event}") };
            engine::apply(&mut connection, &statements, &[&work]).await.unwrap();
        }
    });
}

fn creates(records: &Records, rev: &'static str) -> impl Iterator<Item = String> {
    records.iter().map(move |(path, record)| event("create", rev, path, Some(record)))
}

/// Every row, without tombstones and without the time of indexing.
fn rows(db: &Db) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = block_on(async { dump(&mut PgConnection::connect(db.url()).await.unwrap()).await });
    for rows in tables.values_mut() {
        let mut values: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        values.retain(|row| row["json"] != "");
        for row in &mut values {
            for column in ["indexedAt", "id"] {
                row.as_object_mut().unwrap().remove(column);
            }
        }
        *rows = values.iter().map(Value::to_string).collect();
        rows.sort();
    }
    tables
}

#[track_caller]
fn assert_same(a: &Db, b: &Db) {
    let unlike = unlike(&rows(a), &rows(b));
    assert!(unlike.is_empty(), "{unlike}");
}

fn last(out: &str) -> &str {
    out.lines().last().unwrap()
}

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
