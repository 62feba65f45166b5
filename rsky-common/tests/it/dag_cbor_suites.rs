//! DAG-CBOR suites of others, judged by the rules of this pipeline (PIPELINE 4.3).

use std::fs;

use rsky_common::atproto::car::{CarBlocks, CarError, verify_block};
use rsky_common::cbor::{CborError, Mode, Reader};
use serde_json::Value;

use crate::support::{car_sections, fixture, record_json, unhex};

/// The value as the only member of a record.
fn as_record(value: &[u8]) -> Vec<u8> {
    [b"\xa1\x61v", value].concat()
}

fn is_strict_cbor(bytes: &[u8]) -> Result<(), CborError> {
    let mut reader = Reader::new(bytes, Mode::Strict);
    reader.skip()?;
    reader.finish()
}

/// Where the reference, and so this pipeline, takes what the suite calls invalid DAG-CBOR.
const LOOSER: &[(&str, &str)] = &[
    ("fb8000000000000000", "-0 is written as 0"),
    ("f93e00", "floats of any width are read"),
    ("a2616201616100", "keys may come in any order"),
    ("f7", "undefined becomes null"),
    ("62c328", "invalid UTF-8 becomes U+FFFD"),
    ("d82a450001551200", "links may be CIDs that cannot name a block"),
    ("d82a582300122022ad631c69ee983095b5b8acd029ff94aff1dc6c48837878589a92b90dfea317", "CIDv0"),
    ("d82a5824000155121f5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be", "any digest length"),
    (
        "d82a582600015512215891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be0300",
        "any digest length",
    ),
    ("d82a58250001701220e9822efc7c48027a5429fdbd988d02b2b8e4eaee8f62c32bd1021dcf922e05de", "any codec"),
    ("d82a58190001551114f572d396fae9206628714fb2ce00f72e94f2258f", "any hash"),
];

/// Where the pipeline refuses what the suite calls valid for some specification.
const STRICTER: &[(&str, &str)] = &[
    ("f97e00", "NaN"),
    ("1bffffffffffffffff", "beyond 2^53 - 1"),
    ("3bffffffffffffffff", "beyond 2^53 - 1"),
    ("1b0020000000000001", "beyond 2^53 - 1"),
    ("3b0020000000000000", "beyond 2^53 - 1"),
    ("c249010000000000000000", "tags other than 42"),
    ("c349010000000000000000", "tags other than 42"),
    ("a20a00f9490000", "keys that are not text"),
];

#[test]
fn accepted_and_refused_as_the_rules_say() {
    let Some(folder) = fixture("dasl/fixtures/cbor") else { return };
    let (mut accepted, mut refused, mut looser, mut stricter) = (0, 0, 0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let cases: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let hex = case["data"].as_str().unwrap();
            let for_dag_cbor = case["tags"]
                .as_array()
                .unwrap()
                .iter()
                .any(|tag| matches!(tag.as_str(), Some("basic" | "dag-cbor" | "dasl-cid")));
            let expected = match case["type"].as_str().unwrap() {
                "roundtrip" => true,
                "invalid_in" if for_dag_cbor => false,
                // How to encode, and what only other specifications forbid.
                _ => continue,
            };
            let found = record_json(&as_record(&unhex(hex)));
            match (expected, found.is_ok()) {
                (true, true) => accepted += 1,
                (false, false) => refused += 1,
                (false, true) => {
                    assert!(LOOSER.iter().any(|(known, _)| *known == hex), "accepted: {case}");
                    looser += 1;
                }
                (true, false) => {
                    assert!(STRICTER.iter().any(|(known, _)| *known == hex), "{found:?}: {case}");
                    stricter += 1;
                }
            }
        }
    }
    println!("accepted {accepted}, refused {refused}, looser {looser}, stricter {stricter}");
    assert!(accepted >= 15 && refused >= 30, "{accepted} {refused}");
    assert_eq!((looser, stricter), (LOOSER.len(), STRICTER.len()));
}

#[test]
fn duplicate_keys_are_refused() {
    let Some(path) = fixture("codec/duplicate-keys.json") else { return };
    let cases: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let hex = cases[0]["hex"].as_str().unwrap();
    assert_eq!(record_json(&unhex(hex)), Err("a map has a key twice".to_owned()));
}

/// The suite's CAR also holds blocks of codecs that repositories do not have, so it is refused as a CAR; its 128
/// DAG-CBOR values, each a form of its own, are all strict CBOR.
#[test]
fn every_form_of_the_codec_fixtures() {
    let Some(path) = fixture("codec/fixtures.car") else { return };
    let car = fs::read(path).unwrap();
    let refused = CarBlocks::parse(&car).map(|blocks| blocks.len());
    assert!(matches!(refused, Err(CarError::UnsupportedCid(_))), "{refused:?}");

    let (mut values, mut links, mut beyond) = (0, 0, Vec::new());
    for section in car_sections(&car).into_iter().skip(1) {
        let (cid, data) = section.split_at_checked(36).unwrap_or_default();
        if cid.get(1) != Some(&0x71) {
            continue;
        }
        values += 1;
        assert_eq!(verify_block(cid, data, 0), Ok(()));
        assert_eq!(is_strict_cbor(data), Ok(()), "{data:x?}");
        match record_json(&as_record(data)) {
            Ok(json) => links += usize::from(json.contains("$link")),
            Err(error) => beyond.push(error),
        }
    }
    println!("{values} values, {links} with links, not in JSON: {beyond:?}");
    assert_eq!(values, 128);
    assert!(links > 0);
    assert!(beyond.iter().all(|error| error == "integer is beyond 2^53 - 1"), "{beyond:?}");
    assert!(!beyond.is_empty());
}
