//! The load: decoded by a decoder that is not its encoder's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use rsky_testnet::network::Network;
use rsky_testnet::network::cbor_out::cid_of;
use rsky_testnet::network::load::{CommitRing, EventOptions, FIRST_SEQ, LoadOptions, Notes, stream_events};
use serde_json::Value;

use super::client::Subscriber;

const FRAMES: usize = 3_000;

fn ring(seed: u64) -> CommitRing {
    CommitRing::generate(LoadOptions { seed, dids: 200, ring: FRAMES, ..LoadOptions::default() })
}

/// The body of a frame; strict: canonical DAG-CBOR only.
fn body(frame: &Bytes) -> BTreeMap<String, Ipld> {
    let header = b"\xa2\x61t\x67#commit\x62op\x01";
    let body = frame.strip_prefix(header).expect("the header of a commit");
    map(serde_ipld_dagcbor::from_slice(body).unwrap())
}

fn map(value: Ipld) -> BTreeMap<String, Ipld> {
    match value {
        Ipld::Map(map) => map,
        other => panic!("a map was expected, not {other:?}"),
    }
}

fn text(value: &Ipld) -> &str {
    match value {
        Ipld::String(text) => text,
        other => panic!("a text was expected, not {other:?}"),
    }
}

/// Blocks of a CAR by CID in binary form, the CIDs checked, and the root.
fn blocks(car: &[u8]) -> (HashMap<Vec<u8>, Vec<u8>>, Ipld) {
    let mut rest = car;
    let mut section = || {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = *rest.split_off_first()?;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return Some(rest.split_off(..length).expect("a whole section").to_vec());
            }
        }
    };
    let header = map(serde_ipld_dagcbor::from_slice(&section().unwrap()).unwrap());
    let mut blocks = HashMap::new();
    while let Some(mut cid) = section() {
        let block = cid.split_off(36);
        assert_eq!(cid, cid_of(&block).to_bytes());
        blocks.insert(cid, block);
    }
    let Ipld::List(roots) = &header["roots"] else { panic!("roots are a list") };
    (blocks, roots[0].clone())
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (one, same, other) = (ring(1), ring(1), ring(2));
    for seq in FIRST_SEQ..FIRST_SEQ + FRAMES as u64 {
        assert_eq!(one.frame(seq), same.frame(seq));
        assert_ne!(one.frame(seq), other.frame(seq));
    }
}

#[test]
fn commits_are_whole_and_canonical() {
    let ring = ring(1);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut revs: HashMap<String, String> = HashMap::new();
    let mut alive: HashMap<String, Ipld> = HashMap::new();
    let mut size = 0;
    for seq in FIRST_SEQ..FIRST_SEQ + FRAMES as u64 {
        let frame = ring.frame(seq);
        size += frame.len();
        let body = body(&frame);
        assert_eq!(body["seq"], Ipld::Integer(i128::from(seq)));
        let (did, rev) = (text(&body["repo"]).to_owned(), text(&body["rev"]).to_owned());
        let Ipld::Bytes(car) = &body["blocks"] else { panic!("blocks are bytes") };
        let (blocks, root) = blocks(car);
        assert_eq!(root, body["commit"]);
        let block = |link: &Ipld| match link {
            Ipld::Link(cid) => map(serde_ipld_dagcbor::from_slice(&blocks[&cid.to_bytes()]).unwrap()),
            other => panic!("a link was expected, not {other:?}"),
        };
        let commit = block(&root);
        assert_eq!((text(&commit["did"]), text(&commit["rev"])), (did.as_str(), rev.as_str()));
        let mut node = block(&commit["data"]);
        let mut depth = 1;
        while node["l"] != Ipld::Null {
            node = block(&node["l"]);
            depth += 1;
        }
        assert_eq!(depth, 8);
        let before = revs.insert(did.clone(), rev.clone());
        assert_eq!(body["since"], before.clone().map_or(Ipld::Null, Ipld::String));
        assert!(before.is_none_or(|before| before < rev), "{did}: revs increase");
        let Ipld::List(ops) = &body["ops"] else { panic!("ops are a list") };
        let op = map(ops[0].clone());
        let (action, path) = (text(&op["action"]).to_owned(), text(&op["path"]).to_owned());
        let (collection, rkey) = path.split_once('/').unwrap();
        assert_eq!((ops.len(), rkey.len(), rev.len()), (1, 13, 13));
        let uri = format!("{did}/{path}");
        if action == "delete" {
            assert_eq!((op["cid"].clone(), alive.remove(&uri)), (Ipld::Null, Some(op["prev"].clone())));
            assert_eq!(blocks.len(), 9);
        } else {
            let record = block(&op["cid"]);
            assert_eq!((text(&record["$type"]), blocks.len()), (collection, 10));
            assert!(text(&record["createdAt"]).ends_with('Z') && text(&record["createdAt"]).len() == 24);
            assert!(rkey < rev.as_str());
            assert!(alive.insert(uri, op["cid"].clone()).is_none());
        }
        *counts.entry((action, collection.to_owned())).or_default() += 1;
    }
    let average = size / FRAMES;
    assert!((4_000..5_000).contains(&average), "{average} bytes a frame");
    let share = |action: &str, collection: &str| {
        let matching = |(a, c): &(String, String)| a == action && (collection.is_empty() || c == collection);
        counts.iter().filter(|(key, _)| matching(key)).map(|(_, count)| count).sum::<usize>() * 100 / FRAMES
    };
    assert!((61..69).contains(&share("create", "app.bsky.feed.like")), "{counts:?}");
    for collection in ["app.bsky.feed.repost", "app.bsky.feed.post", "app.bsky.graph.follow"] {
        assert!((7..13).contains(&share("create", collection)), "{counts:?}");
    }
    assert!((2..5).contains(&share("delete", "")), "{counts:?}");
}

#[test]
fn the_ring_comes_again_with_higher_seqs() {
    let ring = ring(1);
    let (first, again) = (ring.frame(FIRST_SEQ + 5), ring.frame(FIRST_SEQ + 5 + FRAMES as u64));
    let (mut first, mut again) = (body(&first), body(&again));
    assert_eq!(first.remove("seq"), Some(Ipld::Integer(i128::from(FIRST_SEQ + 5))));
    assert_eq!(again.remove("seq"), Some(Ipld::Integer(i128::from(FIRST_SEQ) + 5 + FRAMES as i128)));
    assert_eq!(first, again);
}

#[tokio::test]
async fn a_relay_serves_as_many_frames_as_told() {
    let ring = Arc::new(CommitRing::generate(LoadOptions { dids: 20, ring: 50, ..LoadOptions::default() }));
    let network = Network::builder().relay(ring.script(Some(120))).start().await.unwrap();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    let expected: Vec<Bytes> = (FIRST_SEQ..FIRST_SEQ + 120).map(|seq| ring.frame(seq)).collect();
    assert_eq!(subscriber.frames(120).await, expected);
    subscriber.expect_silence().await;
    let mut rest = Subscriber::relay(&network, &format!("?cursor={}", FIRST_SEQ + 117)).await.unwrap();
    assert_eq!(rest.seqs(2).await, [Some(FIRST_SEQ + 118), Some(FIRST_SEQ + 119)]);
}

#[tokio::test]
async fn every_third_created_record_and_the_end_are_noted_once() {
    let ring = Arc::new(CommitRing::generate(LoadOptions { dids: 20, ring: 50, ..LoadOptions::default() }));
    let path = std::env::temp_dir().join(format!("rsky-notes-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    let notes = Notes::new(&ring, 120, NonZeroUsize::new(3).unwrap(), file);
    let network = Network::builder().relay(ring.noted_script(120, notes)).start().await.unwrap();
    let frames = Subscriber::relay(&network, "").await.unwrap().frames(120).await;
    Subscriber::relay(&network, "?cursor=0").await.unwrap().frames(120).await;
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();

    let uri = |frame: &Bytes| {
        let body = body(frame);
        let Ipld::List(ops) = &body["ops"] else { panic!("ops are a list") };
        let op = map(ops[0].clone());
        let created = text(&op["action"]) == "create";
        created.then(|| format!("at://{}/{}", text(&body["repo"]), text(&op["path"])))
    };
    let created = (1..).zip(&frames[..50]).filter_map(|(number, frame)| Some((number, uri(frame)?)));
    let mut expected: Vec<String> =
        created.step_by(3).map(|(number, uri): (u64, String)| format!("{number} {uri}")).collect();
    expected.push("120".to_owned());
    let (times, noted): (Vec<u64>, Vec<String>) = written
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(time, note)| (time.parse::<u64>().unwrap(), note.to_owned()))
        .unzip();
    assert_eq!(noted, expected);
    assert!(times.is_sorted() && times[0] > 1_700_000_000_000_000);
}

#[test]
fn events_have_the_wire_form_and_the_mix() {
    let options = EventOptions { dids: 200, ..EventOptions::default() };
    let events: Vec<String> = stream_events(options).take(5_000).collect();
    assert_eq!(events, stream_events(options).take(5_000).collect::<Vec<_>>());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut revs, mut alive, mut pairs) = (HashMap::new(), HashSet::new(), HashSet::new());
    for (index, json) in events.iter().enumerate() {
        let event: Value = serde_json::from_str(json).unwrap();
        let field = |name: &str| event[name].as_str().unwrap().to_owned();
        let action = field("type");
        let record = if action == "delete" { &[][..] } else { &["record", "cid"] };
        let rest = ["seq", "time", "did", "commit", "rev", "collection", "rkey"];
        let keys: Vec<&str> = ["type"].iter().chain(record).chain(&rest).copied().collect();
        let places: Vec<Option<usize>> = keys.iter().map(|key| json.rfind(&format!("\"{key}\":"))).collect();
        assert!(places.iter().all(Option::is_some), "{json}");
        assert!(places[if record.is_empty() { 1 } else { 2 }..].is_sorted(), "{json}");
        assert_eq!(
            (event.as_object().unwrap().len(), &event["seq"]),
            (keys.len(), &(FIRST_SEQ + index as u64).into())
        );
        let before = revs.insert(field("did"), field("rev"));
        assert!(before.is_none_or(|before| before < field("rev")));
        let uri = (field("did"), field("collection"), field("rkey"));
        match action.as_str() {
            "create" => {
                assert!(alive.insert(uri));
                let subject = event["record"]["subject"].to_string();
                assert!(pairs.insert((field("did"), field("collection"), subject)), "a repeat: {json}");
                let collection = field("collection");
                let kind =
                    ["like", "repost", "follow", "block"].into_iter().find(|kind| collection.ends_with(kind));
                *counts.entry(kind.unwrap()).or_default() += 1;
            }
            "update" => {
                assert!(alive.contains(&uri));
                *counts.entry("change").or_default() += 1;
            }
            _ => {
                assert!(alive.remove(&uri));
                *counts.entry("change").or_default() += 1;
            }
        }
    }
    for (kind, percent) in [("like", 50), ("follow", 20), ("repost", 15), ("block", 10), ("change", 5)] {
        assert!((percent - 2..=percent + 2).contains(&(counts[kind] / 50)), "{counts:?}");
    }
}

/// Replies name a post of the load with its CID and its thread's root, gates a post of their author.
#[test]
fn threads_of_a_full_load_hang_together() {
    use std::collections::HashMap;

    use rsky_testnet::network::load::EventMix;
    let options = EventOptions { dids: 200, mix: EventMix::Full, ..EventOptions::default() };
    let mut posts: HashMap<String, (String, String)> = HashMap::new();
    let (mut replies, mut known, mut gates, mut quotes) = (0, 0, 0, 0);
    for event in stream_events(options).take(20_000) {
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let uri =
            format!("at://{}/{}/{}", text(&event["did"]), text(&event["collection"]), text(&event["rkey"]));
        let record = &event["record"];
        if event["type"] != "create" {
            continue;
        }
        quotes += usize::from(record["embed"]["$type"] == "app.bsky.embed.record");
        if text(&event["collection"]).ends_with("gate") {
            gates += 1;
            assert!(
                text(&record["post"]).contains(&text(&event["did"]))
                    && text(&record["post"]).ends_with(&text(&event["rkey"]))
            );
        }
        if event["collection"] != "app.bsky.feed.post" {
            continue;
        }
        let root = match record["reply"]["parent"]["uri"].as_str() {
            None => uri.clone(),
            Some(parent) => {
                replies += 1;
                if let Some((cid, root)) = posts.get(parent) {
                    known += 1;
                    assert_eq!(
                        (&text(&record["reply"]["parent"]["cid"]), &text(&record["reply"]["root"]["uri"])),
                        (cid, root)
                    );
                }
                text(&record["reply"]["root"]["uri"])
            }
        };
        posts.insert(uri, (text(&event["cid"]), root));
    }
    assert!(posts.len() > 3000 && replies > posts.len() * 2 / 5 && known > replies / 2, "{replies} {known}");
    assert!(gates > 100 && quotes > 100, "{gates} {quotes}");
}
