//! The reference's `actor` rows, from the recorded streams and the network it was run with: the documents and handles
//! of the corpus, and its repositories, whose hosts tell which accounts are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rsky_testnet::network::RepoAnswer;
use rsky_testnet::servers::Redis;
use serde_json::Value;

use crate::accounts::World;
use crate::golden::{assert_golden, expected_rows, read_gz, stream, testdata};
use crate::process::{LIVE, count, dead_letters, run, wait_drained};
use crate::support::Db;

const BACKFILL: &str = "firehose_backfill";

/// The network of the recording.
fn recorded() -> World {
    let world = World::new();
    let parsed = |path: &str| serde_json::from_str::<Value>(&read_gz(path)).unwrap();
    for handles in ["corpus/handles.json.gz", "corpus/handles-extra.json.gz"] {
        for (handle, did) in parsed(handles).as_object().unwrap() {
            world.directory.set_handle(handle, did.as_str());
        }
    }
    let names = |folder: &str| {
        fs::read_dir(testdata(folder)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap())
    };
    for name in names("corpus/plc") {
        world.directory.set_document(parsed(&format!("corpus/plc/{name}")));
    }
    for name in names("corpus/repos") {
        if let Some(did) = name.strip_suffix(".car.gz") {
            world.directory.set_repo(did, RepoAnswer::Car(bytes::Bytes::new()));
        } else {
            let answer = parsed(&format!("corpus/repos/{name}"));
            let status = answer["status"].as_u64().unwrap().try_into().unwrap();
            let error = RepoAnswer::Error { status, body: answer["body"].clone() };
            world.directory.set_repo(name.strip_suffix(".error.json.gz").unwrap(), error);
        }
    }
    world
}

/// Whether an entry is about an account rather than one of its records.
fn is_about_account(event: &Value) -> bool {
    event["type"] == "identity"
        || event["type"] == "account"
        || event["collection"] == "app.bsky.actor.profile"
}

/// One event after the other, as the reference took them. Their ids are of long ago, so that a resolution of this run
/// has seen what an identity event announces: the window applies to it as in the reference, and DECISIONS 18 does not
/// show.
fn take_one_by_one(redis: &Redis, name: &str) {
    let about_account = |payload: &String| is_about_account(&serde_json::from_str(payload).unwrap());
    for (at, payload) in stream(name).into_iter().filter(about_account).enumerate() {
        redis.command(&["XADD", name, &format!("1-{}", at + 1), "event", &payload]).unwrap();
        wait_drained(redis, name);
    }
}

fn actors(db: &Db) -> BTreeMap<&'static str, Vec<String>> {
    let rows = db.sql("SELECT row_to_json(t)::text FROM actor t");
    BTreeMap::from([("actor", rows.lines().map(str::to_owned).collect())])
}

/// The reference's errors about accounts, by seq, without those for a status, which are none here (DECISIONS 17).
fn errors_of_the_reference() -> BTreeSet<i64> {
    let errors = read_gz("golden/index-errors.jsonl.gz");
    let errors = errors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    errors
        .filter(|error| error["stream"] == LIVE && is_about_account(&error["event"]))
        .filter(|error| !error["error"].as_str().unwrap().starts_with("Unrecognized account status"))
        .map(|error| error["event"]["seq"].as_i64().unwrap())
        .collect()
}

#[test]
fn the_live_stream_then_a_backfill_give_the_golden_actors() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("golden_actors"), recorded());
    let _indexer = world.indexer(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "1")]);
    take_one_by_one(&redis, LIVE);
    assert_golden("tables-live", actors(&db), 85);
    let letters = dead_letters(&redis, LIVE);
    let seqs = letters.iter().map(|letter| {
        let event: Value = serde_json::from_str(&letter["event"]).unwrap();
        event["seq"].as_i64().unwrap()
    });
    assert_eq!(seqs.collect::<BTreeSet<_>>(), errors_of_the_reference());
    take_one_by_one(&redis, BACKFILL);
    assert_golden("tables", actors(&db), 87);
}

#[test]
fn a_backfill_gives_the_golden_actors() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("golden_actors_backfill"), recorded());
    let _indexer = world.indexer(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "1")]);
    take_one_by_one(&redis, BACKFILL);
    assert_golden("tables-backfill", actors(&db), 47);
}

/// Each stream at once, in as many lanes as there are, with one account that is gone. Two things depend on which events
/// met: who has the handle that two accounts claim, and from which of its events an account without a handle has its
/// time.
#[test]
fn streams_at_once_give_the_golden_actors() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("golden_actors_at_once"), recorded());
    let _indexer = world.indexer(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "1")]);
    for name in [LIVE, BACKFILL] {
        for (at, payload) in stream(name).iter().enumerate() {
            redis.command(&["XADD", name, &format!("1-{}", at + 1), "event", payload]).unwrap();
        }
        wait_drained(&redis, name);
    }
    let rivals = ["did:plc:extrcaaaaaaaaaaaaaaaaaaa", "did:plc:extrdaaaaaaaaaaaaaaaaaaa"];
    let settled = |row: &Value| !rivals.iter().any(|rival| row["did"] == *rival);
    let comparable = |mut row: Value| {
        if row["handle"].is_null() {
            row["indexedAt"] = Value::Null;
        }
        row.to_string()
    };
    let found: Vec<Value> =
        actors(&db)["actor"].iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let ours: BTreeSet<String> = found.iter().filter(|row| settled(row)).cloned().map(comparable).collect();
    let golden = expected_rows("tables", "actor");
    let golden: BTreeSet<String> = golden.into_iter().filter(settled).map(comparable).collect();
    assert_eq!(ours.symmetric_difference(&golden).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(ours.len() > 80);
    let owners: Vec<&Value> = found.iter().filter(|row| row["handle"] == "contested.test").collect();
    assert!(owners.len() == 1 && rivals.iter().any(|rival| owners[0]["did"] == *rival), "{owners:?}");
    // Nothing is left of the account that is gone, and the counters of others are those of a recount.
    let gone = "did:plc:3fidh3krp5wnfyb4wsocydze";
    for (table, column) in
        [("record", "did"), ("post", "creator"), ("\"like\"", "creator"), ("follow", "creator")]
    {
        assert_eq!(count(&db, &format!("{table} WHERE {column} = '{gone}'")), 0, "{table}");
    }
    db.sql("CREATE TABLE posts_before AS SELECT * FROM post_agg; CREATE TABLE profiles_before AS SELECT * FROM profile_agg");
    let ran = run(&["recount", "--all"], &[("DATABASE_URL", db.url())], "");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(count(&db, "(TABLE post_agg EXCEPT TABLE posts_before) t"), 0);
    assert_eq!(
        count(&db, &format!("(TABLE profile_agg EXCEPT TABLE profiles_before) t WHERE did <> '{gone}'")),
        0
    );
}
