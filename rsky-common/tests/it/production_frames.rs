//! 150 contiguous frames of the production network, against what another implementation made of them.

use std::collections::BTreeMap;
use std::fs;

use rsky_common::atproto::{CollectionFilter, Converted, convert};
use rsky_common::wire::{self, StreamEvent};
use serde_json::Value;

use crate::support::{fixture, frames};

#[test]
fn the_same_operations_come_out() {
    let Some(folder) = fixture("firehose-real") else { return };
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let recording = fs::read(folder.join("frames.bin")).unwrap();
    let all = CollectionFilter::all();
    let converted: Vec<Converted> =
        frames(&recording).into_iter().map(|frame| convert(frame, &all)).collect();

    assert_eq!(converted.len() as u64, manifest["frames"].as_u64().unwrap());
    assert!(converted.iter().all(|one| one.rejected.is_empty() && one.counted));
    let seqs: Vec<i64> = converted.iter().map(|one| one.seq.unwrap()).collect();
    assert_eq!(seqs.first().copied(), manifest["seq_first"].as_i64());
    assert_eq!(seqs.last().copied(), manifest["seq_last"].as_i64());
    assert!(seqs.is_sorted());

    let total = |count: fn(&Converted) -> u32| converted.iter().map(count).sum::<u32>();
    let kinds = |label: &str| converted.iter().filter(|one| one.kind.label() == label).count() as u64;
    for (name, found) in [
        ("creates", u64::from(total(|one| one.ops.creates))),
        ("updates", u64::from(total(|one| one.ops.updates))),
        ("deletes", u64::from(total(|one| one.ops.deletes))),
        ("commit_frames", kinds("commit")),
        ("identity", kinds("identity")),
        ("account", kinds("account")),
        ("v1_events", converted.iter().map(|one| one.entries.len() as u64).sum()),
    ] {
        assert_eq!(Some(found), manifest[name].as_u64(), "{name}");
    }

    // The other implementation does not keep the order of frames of different accounts.
    let expected = fs::read_to_string(folder.join("expected_v1.jsonl")).unwrap();
    let expected = expected.lines().map(|line| theirs(&serde_json::from_str(line).unwrap()));
    let ours = converted.iter().flat_map(|one| &one.entries).map(|entry| ours(&entry.to_string()));
    let sorted = |events: &mut dyn Iterator<Item = (String, Value)>| events.collect::<BTreeMap<_, _>>();
    let (expected, ours) = (sorted(&mut expected.into_iter()), sorted(&mut ours.into_iter()));
    assert_eq!(ours.len() as u64, manifest["v1_events"].as_u64().unwrap());
    assert_eq!(ours, expected);
}

/// An event as a key that is its own and the rest of it.
fn theirs(event: &Value) -> (String, Value) {
    let did = event["did"].as_str().unwrap();
    match event["kind"].as_str().unwrap() {
        "commit" => {
            let commit = &event["commit"];
            let text = |name: &str| commit[name].as_str().unwrap();
            let key = format!(
                "{did}/{}/{} {} {}",
                text("collection"),
                text("rkey"),
                text("operation"),
                text("rev")
            );
            (key, serde_json::json!([commit["cid"], commit["record"]]))
        }
        kind => (format!("{did} {kind}"), event[kind].clone()),
    }
}

fn ours(entry: &str) -> (String, Value) {
    let key = |did: &str, collection: &str, rkey: &str, action: &str, rev: &str| {
        format!("{did}/{collection}/{rkey} {action} {rev}")
    };
    let parsed = wire::parse(entry).unwrap();
    match &parsed {
        StreamEvent::Create(event) | StreamEvent::Update(event) => {
            let action = if matches!(parsed, StreamEvent::Update(_)) { "update" } else { "create" };
            let record: Value = serde_json::from_str(event.record.get()).unwrap();
            let key = key(&event.did, &event.collection, &event.rkey, action, &event.rev);
            (key, serde_json::json!([event.cid, record]))
        }
        StreamEvent::Delete(event) => (
            key(&event.did, &event.collection, &event.rkey, "delete", &event.rev),
            serde_json::json!([null, null]),
        ),
        StreamEvent::Account(event) => (
            format!("{} account", event.did),
            serde_json::json!({"active": event.active, "did": event.did, "seq": event.seq, "time": event.time}),
        ),
        StreamEvent::Identity(event) => {
            let mut identity = serde_json::json!({"did": event.did, "seq": event.seq, "time": event.time});
            if let Some(handle) = &event.handle {
                identity["handle"] = serde_json::json!(handle);
            }
            (format!("{} identity", event.did), identity)
        }
        other => panic!("unexpected {other:?}"),
    }
}
