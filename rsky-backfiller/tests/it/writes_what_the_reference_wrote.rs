//! The recorded corpus through the daemon, against what the TypeScript wrote for it. Every difference has a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rsky_testnet::network::corpus::{read_maybe_gz, recorded};
use rsky_testnet::network::{Network, RepoPage};
use rsky_testnet::servers::Redis;
use serde_json::Value;

use crate::support::{Backfiller, dead, entries, left, wait_until};

type Repo = (Vec<Value>, usize);

/// Creates in order, and the number of `repo` events, of every account.
fn by_repo(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, Repo> {
    let mut repos: BTreeMap<String, Repo> = BTreeMap::new();
    for text in texts {
        let event: Value = serde_json::from_str(&text).unwrap();
        let repo = repos.entry(event["did"].as_str().unwrap().to_owned()).or_default();
        if event["type"] == "repo" { repo.1 += 1 } else { repo.0.push(event) }
    }
    repos
}

fn golden() -> Vec<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/streams/firehose_backfill.jsonl");
    let text = String::from_utf8(read_maybe_gz(&path).unwrap().unwrap()).unwrap();
    let event = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        entry["fields"]["event"].as_str().unwrap().to_owned()
    };
    text.lines().map(event).collect()
}

/// The reference's broken encoding of bytes, links and old blobs (DECISIONS 3), undone as far as it can be told apart.
fn is_broken(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key("hash") && members.contains_key("code")
                || !members.is_empty() && members.keys().enumerate().all(|(at, key)| *key == at.to_string())
                || members.get("size") == Some(&Value::from(-1))
                || members.values().any(is_broken)
        }
        Value::Array(items) => items.iter().any(is_broken),
        _ => false,
    }
}

/// Puts `null` in the place of everything that DECISIONS 3 writes differently.
fn without_differences(ours: &mut Value, golden: &mut Value) {
    let differs_here = match (&*ours, &*golden) {
        (_, Value::Object(members)) => {
            members.contains_key("hash")
                || members.get("size") == Some(&Value::from(-1))
                || !members.is_empty() && members.keys().enumerate().all(|(at, key)| *key == at.to_string())
        }
        _ => false,
    };
    if differs_here {
        (*ours, *golden) = (Value::Null, Value::Null);
        return;
    }
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) => {
            for (key, value) in ours.iter_mut() {
                if let Some(golden) = golden.get_mut(key) {
                    without_differences(value, golden);
                }
            }
        }
        (Value::Array(ours), Value::Array(golden)) => {
            ours.iter_mut().zip(golden).for_each(|(ours, golden)| without_differences(ours, golden));
        }
        _ => {}
    }
}

/// Queues the repositories of the recorded listing; how many.
fn queue_all(redis: &Redis, url: &str) -> usize {
    let pages: Vec<RepoPage> = ["listRepos.json", "listRepos-extra.json"]
        .iter()
        .flat_map(|name| -> Vec<RepoPage> {
            serde_json::from_slice(&read_maybe_gz(&recorded().join(name)).unwrap().unwrap()).unwrap()
        })
        .collect();
    let mut client = redis.client().unwrap();
    let mut listed = 0;
    for repo in pages.iter().flat_map(|page| &page.repos) {
        let mut repo = serde_json::to_value(repo).unwrap();
        repo["host"] = url.into();
        client.command(&["XADD", "repo_backfill", "*", "repo", &repo.to_string()]).unwrap();
        listed += 1;
    }
    listed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_gives_the_recorded_stream() {
    let network = Network::builder().corpus(recorded()).start().await.unwrap();
    let redis = Redis::start().unwrap();
    assert_eq!(queue_all(&redis, &network.url()), 88);
    let mut backfiller = Backfiller::start(&redis.url(), &network.url(), &[("BACKFILLER_COLLECTIONS", "*")]);
    wait_until("all repositories are settled", || left(&redis) == 0);

    let dead: BTreeSet<(String, String)> = dead(&redis).into_iter().collect();
    let mut ours = by_repo(
        entries(&redis, "firehose_backfill").into_iter().map(|mut entry| entry.remove("event").unwrap()),
    );
    let mut golden = by_repo(golden());

    // What the reference left pending for ever (DECISIONS 8, 9, 21): done, or a dead letter with its reason.
    let expected =
        [("extrgarbage", "bad_car"), ("extrtruncated", "missing_block"), ("extrwrongdid", "wrong_did")];
    let expected =
        expected.map(|(name, reason)| (format!("{:a<32}", format!("did:plc:{name}")), reason.to_owned()));
    assert_eq!(dead.into_iter().collect::<Vec<_>>(), expected);
    for (class, count) in [("deactivated", 1.0), ("takendown", 1.0), ("gone", 1.0), ("queued", 82.0)] {
        backfiller.assert_class(class, count);
    }
    // DECISIONS 2: an empty repository has its repo event.
    ours.retain(|did, (creates, repos)| {
        assert_eq!(*repos, 1, "exactly one repo event: {did}");
        let is_empty_one = creates.is_empty() && !golden.contains_key(did);
        if is_empty_one {
            println!("empty: {did}");
        }
        !is_empty_one
    });
    assert_eq!(ours.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    let mut broken = 0;
    let mut compared = 0;
    for (did, (golden, _)) in &mut golden {
        let ours = &mut ours.get_mut(did).unwrap().0;
        assert_eq!(ours.len(), golden.len(), "{did}");
        for (ours, golden) in ours.iter_mut().zip(golden) {
            ours["time"] = golden["time"].clone();
            if golden["rev"] != ours["rev"] {
                // An old commit without a revision: both made one up.
                println!("rev made up: {did}");
                ours["rev"] = golden["rev"].clone();
            }
            if is_broken(golden) {
                broken += 1;
                without_differences(ours, golden);
            }
            assert_eq!(ours, golden);
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(ours), keys(golden));
            compared += 1;
        }
    }
    println!("compared {compared} records, {broken} of them with DECISIONS 3");
    assert!(compared > 2800 && broken > 0, "{compared} {broken}");
    assert_eq!(backfiller.terminate(), Some(0));
    network.stop().await.unwrap();
}

/// The collections that an indexer has a rule for (DECISIONS 22), one by one.
const INDEXED: [&str; 18] = [
    "app.bsky.actor.profile",
    "app.bsky.actor.status",
    "app.bsky.feed.generator",
    "app.bsky.feed.like",
    "app.bsky.feed.post",
    "app.bsky.feed.postgate",
    "app.bsky.feed.repost",
    "app.bsky.feed.threadgate",
    "app.bsky.graph.block",
    "app.bsky.graph.follow",
    "app.bsky.graph.list",
    "app.bsky.graph.listblock",
    "app.bsky.graph.listitem",
    "app.bsky.graph.starterpack",
    "app.bsky.graph.verification",
    "app.bsky.labeler.service",
    "app.bsky.notification.declaration",
    "chat.bsky.actor.declaration",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_only_collections_with_a_rule_are_queued() {
    let network = Network::builder().corpus(recorded()).start().await.unwrap();
    let redis = Redis::start().unwrap();
    queue_all(&redis, &network.url());
    let backfiller = Backfiller::start(&redis.url(), &network.url(), &[]);
    wait_until("all repositories are settled", || left(&redis) == 0);
    let record = |event: &Value| {
        [&event["collection"], &event["rkey"], &event["cid"]].map(|text| text.as_str().unwrap().to_owned())
    };
    let ours = by_repo(
        entries(&redis, "firehose_backfill").into_iter().map(|mut entry| entry.remove("event").unwrap()),
    );
    let (mut kept, mut filtered) = (0, 0);
    for (did, (golden, _)) in by_repo(golden()) {
        let (expected, others): (Vec<&Value>, Vec<&Value>) =
            golden.iter().partition(|event| INDEXED.contains(&event["collection"].as_str().unwrap()));
        let ours = &ours[&did];
        assert_eq!(ours.1, 1, "{did}: also a repository of which nothing is queued has its repo event");
        let ours: Vec<[String; 3]> = ours.0.iter().map(record).collect();
        assert_eq!(ours, expected.into_iter().map(record).collect::<Vec<_>>(), "{did}");
        kept += ours.len();
        filtered += others.len();
    }
    println!("{kept} records queued, {filtered} of other collections");
    assert!(kept > 1000 && filtered > 0, "{kept} {filtered}");
    assert_eq!(backfiller.metric("backfiller_records_filtered_total", ""), Some(filtered as f64));
    network.stop().await.unwrap();
}
