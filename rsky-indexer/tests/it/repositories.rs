//! A simulated PDS with one repository, and what the engine makes of its records.

use std::collections::BTreeMap;

use bytes::Bytes;
use rsky_indexer::engine;
use rsky_indexer::intake::{self, Intake};
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Directory, Network, RepoAnswer, RunningNetwork, repos};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::process::{Ran, block_on, run};
use crate::support::{Db, dump, statements, unlike};

pub const DID: &str = "did:plc:repo";
pub const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
pub const AT: &str = "2024-01-01T00:00:00.000Z";
pub const OLD: &str = "3jzfcijpj2z2a";
pub const NEW: &str = "3zzzzzzzzzzzz";

pub type Records = BTreeMap<String, Cbor>;

/// A network with a runtime of its own: the tests block.
pub struct World {
    pub directory: Directory,
    pub url: String,
    _network: RunningNetwork,
    _runtime: Runtime,
}

impl World {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let network = runtime.block_on(Network::builder().start()).unwrap();
        let world =
            Self { directory: network.directory(), url: network.url(), _network: network, _runtime: runtime };
        world.directory.set_document(repos::document(DID, &repos::key(1), "http://localhost:1"));
        world
    }

    pub fn of(records: &Records) -> Self {
        let world = Self::new();
        world.serve(car(DID, records, 1));
        world
    }

    pub fn serve(&self, car: Vec<u8>) {
        self.directory.set_repo(DID, RepoAnswer::Car(Bytes::from(car)));
    }

    /// Serves a repository, and each of its records by itself.
    pub fn publish(&self, records: &Records) {
        self.serve(car(DID, records, 1));
        for (path, record) in records {
            let mut text = String::new();
            record.write_json(&mut text);
            let cid = cid_text(&repos::block_cid(&record.encode()));
            let value = serde_json::from_str(&text).unwrap();
            self.directory.set_record(&format!("at://{DID}/{path}"), Some((cid, value)));
        }
    }

    pub fn refuse(&self, status: u16, error: &str) {
        let body = json!({"error": error, "message": "said the host"});
        self.directory.set_repo(DID, RepoAnswer::Error { status, body });
    }

    pub fn run(&self, database_url: &str, arguments: &[&str]) -> Ran {
        self.run_with(database_url, &[], &[&["index-repo"], arguments].concat())
    }

    /// Runs any command, with more settings.
    pub fn run_with(&self, database_url: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let fixed = [
            ("DATABASE_URL", database_url),
            ("PLC_URL", self.url.as_str()),
            ("HANDLE_RESOLVER_URL", self.url.as_str()),
            ("ALLOW_PRIVATE_ADDRESSES", "true"),
        ];
        run(arguments, &[&fixed[..], settings].concat(), "")
    }

    /// Runs it; it must go well. What it printed.
    pub fn index(&self, db: &Db, arguments: &[&str]) -> String {
        let ran = self.run(db.url(), &[&[DID], arguments].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs it; it must not go well. Why.
    pub fn fails(&self, db: &Db, account: &str) -> String {
        let ran = self.run(db.url(), &[account]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        ran.err
    }
}

pub fn car(did: &str, records: &Records, key: u8) -> Vec<u8> {
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

pub fn cbor(value: &Value) -> Cbor {
    match value {
        Value::String(text) => Cbor::text(text),
        Value::Bool(value) => Cbor::Bool(*value),
        Value::Number(number) => Cbor::Int(number.as_i64().unwrap()),
        Value::Array(items) => Cbor::List(items.iter().map(cbor).collect()),
        Value::Object(members) => Cbor::map(members.iter().map(|(name, value)| (name.clone(), cbor(value)))),
        Value::Null => Cbor::Null,
    }
}

pub fn record(path: &str, mut members: Value) -> (String, Cbor) {
    members["$type"] = path.split('/').next().unwrap().into();
    members["createdAt"] = AT.into();
    (path.to_owned(), cbor(&members))
}

pub fn post(rkey: &str, text: &str) -> (String, Cbor) {
    record(&format!("app.bsky.feed.post/{rkey}"), json!({"text": text, "langs": ["en"]}))
}

pub fn follow(rkey: &str, subject: &str) -> (String, Cbor) {
    record(&format!("app.bsky.graph.follow/{rkey}"), json!({"subject": format!("did:plc:{subject}")}))
}

/// Some of what an account has, a duplicate, and something that is not indexed.
pub fn some() -> Records {
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

pub fn event(kind: &str, rev: &str, path: &str, record: Option<&Cbor>) -> String {
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

pub fn cid_text(cid: &[u8]) -> String {
    rsky_common::atproto::cid::to_text(cid).unwrap()
}

/// Applies events one by one.
pub fn apply(db: &Db, events: impl IntoIterator<Item = String>) {
    block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = statements(&mut connection).await;
        for event in events {
            let Intake::Work(work) = intake::read(&event) else { panic!("{event}") };
            engine::apply(&mut connection, &statements, &[&work]).await.unwrap();
        }
    });
}

pub fn creates(records: &Records, rev: &'static str) -> impl Iterator<Item = String> {
    records.iter().map(move |(path, record)| event("create", rev, path, Some(record)))
}

/// Every row, without tombstones and without the time of indexing.
pub fn rows(db: &Db) -> BTreeMap<&'static str, Vec<String>> {
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
pub fn assert_same(a: &Db, b: &Db) {
    let unlike = unlike(&rows(a), &rows(b));
    assert!(unlike.is_empty(), "{unlike}");
}

pub fn last(out: &str) -> &str {
    out.lines().last().unwrap()
}
