//! Repositories written by other implementations, record by record, and damaged ones, by reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rsky_backfiller::outcome::{Class, Failure};
use rsky_backfiller::repository::{Making, Received, make_entries, receive};
use rsky_common::atproto::CollectionFilter;
use rsky_common::identity::DidDocument;
use rsky_common::repo::{DiskBudget, SignatureError, StoreLimits, VerifyingKey, key_layer};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::synthetic;

fn fixture(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

fn take(car: &[u8], memory: u64) -> Result<Received, Failure> {
    let (sender, mut pieces) = mpsc::channel(1);
    let car = car.to_vec();
    let feeding = std::thread::spawn(move || {
        for piece in car.chunks(1000) {
            if sender.blocking_send(Bytes::copy_from_slice(piece)).is_err() {
                break;
            }
        }
    });
    let received = receive(
        &mut pieces,
        StoreLimits { memory, directory: std::env::temp_dir(), disk: DiskBudget::unlimited() },
        1 << 30,
    );
    drop(pieces);
    feeding.join().unwrap();
    received
}

/// Path and CID of every record, in order; the number of repo events.
fn records(car: &[u8], memory: u64) -> Result<Vec<(String, String)>, Failure> {
    let mut received = take(car, memory)?;
    let counted = received.check_tree()?;
    let making = Making { filter: CollectionFilter::all(), entries: 7, bytes: 1 << 20, time: "T".to_owned() };
    let (sender, mut chunks) = mpsc::channel(1);
    let making = std::thread::spawn(move || make_entries(received, &making, None, &sender));
    let (mut found, mut repos) = (Vec::new(), 0);
    let mut letters = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        assert_eq!(repos, 0, "the repo event is the last");
        letters += chunk.letters.len();
        for entry in chunk.entries {
            let event: Value = serde_json::from_str(&entry.to_string()).unwrap();
            if event["type"] == "repo" {
                repos += 1;
                continue;
            }
            found.push((
                format!("{}/{}", event["collection"].as_str().unwrap(), event["rkey"].as_str().unwrap()),
                event["cid"].as_str().unwrap().to_owned(),
            ));
        }
    }
    making.join().unwrap()?;
    assert_eq!(repos, 1);
    assert_eq!(counted, (found.len() + letters) as u64);
    Ok(found)
}

#[test]
fn a_repository_of_the_network_record_by_record() {
    let Some(folder) = fixture("firehose-real") else { return };
    let car = std::fs::read(folder.join("repo.car")).unwrap();
    let expected: Vec<(String, String)> = std::fs::read_to_string(folder.join("car_expected_records.tsv"))
        .unwrap()
        .lines()
        .map(|line| line.split_once('\t').map(|(path, cid)| (path.to_owned(), cid.to_owned())).unwrap())
        .collect();
    for memory in [u64::MAX, 0] {
        let mut found = records(&car, memory).unwrap();
        found.sort();
        let mut expected = expected.clone();
        expected.sort();
        assert!(!expected.is_empty());
        assert_eq!(found, expected);
    }
    let received = take(&car, 0).unwrap();
    assert_eq!(received.commit.did, "did:plc:53iucmf5ldftgqyf2ac7hmhd");
    assert_eq!(received.rev, "3migo7fijwi2k");
}

#[test]
fn repositories_of_other_implementations() {
    let Some(folder) = fixture("car") else { return };
    let mut seen = BTreeMap::new();
    for directory in [folder.clone(), folder.join("v2"), folder.join("corrupt")] {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "car") {
                let car = std::fs::read(&path).unwrap();
                let outcome = |memory| {
                    records(&car, memory).map(|records| records.len()).map_err(|failure| failure.class.name())
                };
                let in_memory = outcome(u64::MAX);
                assert_eq!(in_memory, outcome(0), "{}", path.display());
                seen.insert(path.file_name().unwrap().to_string_lossy().into_owned(), in_memory);
            }
        }
    }
    println!("{seen:#?}");
    for (name, outcome) in &seen {
        if name.starts_with("sample-") {
            assert!(outcome.is_err(), "{name}");
        }
    }
    assert!(
        seen.values().filter(|outcome| outcome.as_ref().is_ok_and(|records| *records > 0)).count() >= 3,
        "{seen:?}"
    );
}

#[test]
fn signatures_of_the_interoperability_suite() {
    let Some(file) = fixture("interop/crypto/signature-fixtures.json") else { return };
    use base64_lite as base64;
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut high = 0;
    for case in &cases {
        let text = |name: &str| case[name].as_str().unwrap();
        let key =
            VerifyingKey::from_multikey(text("publicKeyDid").strip_prefix("did:key:").unwrap()).unwrap();
        let verdict =
            key.verify(&base64::decode(text("messageBase64")), &base64::decode(text("signatureBase64")));
        assert_eq!(verdict.is_ok(), case["validSignature"].as_bool().unwrap(), "{case}: {verdict:?}");
        high += usize::from(verdict == Err(SignatureError::HighS));
    }
    assert!(cases.len() >= 6 && high >= 1, "{} {high}", cases.len());
}

#[test]
fn key_layers_of_the_interoperability_suite() {
    let Some(file) = fixture("interop/mst/key_heights.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        assert_eq!(
            key_layer(case["key"].as_str().unwrap().as_bytes()) as u64,
            case["height"].as_u64().unwrap(),
            "{case}"
        );
    }
}

#[test]
fn every_commit_of_the_recorded_network_is_signed_by_its_account() {
    let Some(folder) = fixture("firehose-real") else { return };
    let documents: Value =
        serde_json::from_slice(&std::fs::read(folder.join("did_docs.json")).unwrap()).unwrap();
    let frames = std::fs::read(folder.join("frames.bin")).unwrap();
    let (mut at, mut checked) = (0, 0);
    while let Some(length) = frames.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let frame = &frames[at + 4..at + 4 + length];
        at += 4 + length;
        let Ok(rsky_common::atproto::frame::Frame::Commit(commit)) =
            rsky_common::atproto::frame::decode_frame(frame)
        else {
            continue;
        };
        let blocks = rsky_common::atproto::car::CarBlocks::parse(commit.blocks).unwrap();
        let root = rsky_common::repo::Commit::parse(blocks.get(commit.commit).unwrap()).unwrap();
        let document = documents.get(commit.did).unwrap().to_string();
        let document = DidDocument::parse(document.as_bytes(), commit.did).unwrap();
        root.verify(&document.signing_key().unwrap().unwrap()).unwrap();
        assert_eq!(root.did, commit.did);
        checked += 1;
    }
    assert_eq!(checked, 148);
}

#[test]
fn damaged_repositories_have_their_class() {
    let key = synthetic::key(1);
    let car = synthetic::car("did:plc:a", 50, 10, &key);
    assert_eq!(records(&car, u64::MAX).unwrap().len(), 50);
    assert_eq!(records(&car, 0).unwrap(), records(&car, u64::MAX).unwrap());
    assert_eq!(records(&synthetic::car("did:plc:a", 0, 0, &key), 0).unwrap(), []);
    let class = |car: &[u8]| records(car, u64::MAX).unwrap_err().class;
    assert_eq!(class(&car[..car.len() - 1]), Class::BadCar);
    let mut flipped = car.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(class(&flipped), Class::BadCar);
    assert_eq!(class(b""), Class::BadCar);
    assert_eq!(class(b"<html>"), Class::BadCar);
    // One block less, whichever: the repository is not whole.
    let mut at = 0;
    let mut sections = Vec::new();
    while at < car.len() {
        let start = at;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = car[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length;
        sections.push(start..at);
    }
    for missing in sections.iter().skip(1) {
        let without = [&car[..missing.start], &car[missing.end..]].concat();
        assert_eq!(class(&without), Class::MissingBlock);
    }
}

/// Base64 with or without padding, for the vectors.
mod base64_lite {
    pub fn decode(text: &str) -> Vec<u8> {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
        for letter in text.bytes().filter(|letter| *letter != b'=') {
            bits = bits << 6 | LETTERS.iter().position(|other| *other == letter).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
                bits &= (1 << count) - 1;
            }
        }
        out
    }
}
