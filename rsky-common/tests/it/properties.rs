//! Properties over generated input: agreement with an independent reading, and no panic on anything.

use std::collections::BTreeMap;

use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use ipld_core::ipld::Ipld;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use rsky_common::atproto::car::CarBlocks;
use rsky_common::atproto::{CollectionFilter, convert, convert_labels};
use rsky_common::cbor::write_label_json;
use rsky_common::wire;
use sha2::{Digest as _, Sha256};

use crate::support::{read_by_iroh, record_json};

fn cid_of(data: &[u8]) -> Cid {
    Cid::new_v1(0x71, Multihash::wrap(0x12, &Sha256::digest(data)).unwrap())
}

fn leaf() -> impl Strategy<Value = Ipld> {
    prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        (-(1_i64 << 53) + 1..1_i64 << 53).prop_map(|number| Ipld::Integer(number.into())),
        (-300_i64..300).prop_map(|number| Ipld::Integer(number.into())),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Ipld::Float),
        ".{0,12}".prop_map(Ipld::String),
        "[\\x00-\\x20\"\\\\\u{2028}é🦀]{0,6}".prop_map(Ipld::String),
        vec(any::<u8>(), 0..20).prop_map(Ipld::Bytes),
        any::<[u8; 4]>().prop_map(|seed| Ipld::Link(cid_of(&seed))),
    ]
}

/// Keys as records have them, with those that JavaScript and the blob rules treat in their own way among them.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z$]{1,8}",
        1 => ".{0,3}",
        1 => "[0-9]{1,11}",
        2 => proptest::sample::select(vec!["$type", "ref", "mimeType", "size", "cid", "__proto__", "0", "10", "9"])
            .prop_map(str::to_owned),
    ]
}

fn blob() -> impl Strategy<Value = Ipld> {
    (any::<[u8; 4]>(), any::<i32>(), "[a-z/]{0,9}", any::<bool>(), any::<bool>()).prop_map(
        |(seed, size, mime, legacy, extra)| {
            let link = cid_of(&seed);
            let mut members = if legacy {
                vec![("cid", Ipld::String(link.to_string())), ("mimeType", Ipld::String(mime))]
            } else {
                vec![
                    ("$type", Ipld::String("blob".to_owned())),
                    ("ref", Ipld::Link(link)),
                    ("mimeType", Ipld::String(mime)),
                    ("size", Ipld::Integer(size.into())),
                ]
            };
            if extra {
                members.push(("extra", Ipld::Null));
            }
            Ipld::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        },
    )
}

fn value() -> impl Strategy<Value = Ipld> {
    let leaf = prop_oneof![6 => leaf(), 1 => blob()];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Ipld::List),
            btree_map(key(), inner, 0..6).prop_map(Ipld::Map),
        ]
    })
}

fn record() -> impl Strategy<Value = BTreeMap<String, Ipld>> {
    btree_map(key(), value(), 0..8)
}

/// What the rules of PIPELINE 3.5 and 3.6 make of a value, by way of a value tree and `serde_json`.
fn oracle(value: &Ipld) -> Option<String> {
    Some(match value {
        Ipld::Null => "null".to_owned(),
        Ipld::Bool(value) => value.to_string(),
        Ipld::Integer(number) => number.to_string(),
        Ipld::Float(number) => {
            ryu_js::Buffer::new().format(if *number == 0.0 { 0.0 } else { *number }).to_owned()
        }
        Ipld::String(text) => serde_json::to_string(text).unwrap(),
        Ipld::Bytes(bytes) => {
            use base64::Engine as _;
            format!(r#"{{"$bytes":"{}"}}"#, base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes))
        }
        Ipld::Link(cid) => format!(r#"{{"$link":"{cid}"}}"#),
        Ipld::List(values) => {
            format!("[{}]", values.iter().map(oracle).collect::<Option<Vec<_>>>()?.join(","))
        }
        Ipld::Map(map) => {
            let mut members: Vec<(&String, &Ipld)> =
                map.iter().filter(|(key, _)| *key != "__proto__").collect();
            let kind = |name: &str| map.get(name).filter(|_| name != "__proto__");
            let is_text = |name: &str| matches!(kind(name), Some(Ipld::String(_)));
            let typed = members.len() == 4
                && kind("$type") == Some(&Ipld::String("blob".to_owned()))
                && matches!(kind("ref"), Some(Ipld::Link(_)))
                && is_text("mimeType")
                && matches!(kind("size"), Some(Ipld::Integer(_) | Ipld::Float(_)));
            if let (2, true, Some(Ipld::String(text))) = (members.len(), is_text("mimeType"), kind("cid")) {
                Cid::try_from(text.as_str()).ok().filter(|cid| cid.to_string() == *text)?;
            }
            let index =
                |key: &str| key.parse::<u32>().ok().filter(|n| *n != u32::MAX && n.to_string() == key);
            members.sort_by_key(|(key, _)| {
                let place = ["$type", "ref", "mimeType", "size"].iter().position(|name| name == key);
                let rank = index(key).map_or((1, 0), |number| (0, number));
                (
                    rank,
                    if typed { place.unwrap_or(9) } else { key.len() },
                    if typed { "" } else { key.as_str() },
                )
            });
            let member = |(key, value): &(&String, &Ipld)| {
                Some(format!("{}:{}", serde_json::to_string(key).unwrap(), oracle(value)?))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Option<Vec<_>>>()?.join(","))
        }
    })
}

/// A CAR of these blocks, by the other implementation.
fn car_of(blocks: &[Vec<u8>]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let header = iroh_car::CarHeader::new_v1(vec![cid_of(b"root")]);
        let mut writer = iroh_car::CarWriter::new(header, Vec::new());
        for block in blocks {
            writer.write(cid_of(block), block).await.unwrap();
        }
        if blocks.is_empty() {
            writer.write_header().await.unwrap();
        }
        writer.into_inner()
    })
}

/// Random bytes, and recorded frames with some bytes changed, which get much further.
fn damaged_frame(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let recording = crate::support::testdata(&format!("corpus/{name}.frames"));
    let frames: Vec<Vec<u8>> = crate::support::frames(&recording).into_iter().map(<[u8]>::to_vec).collect();
    let changes = vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (proptest::sample::select(frames), changes, any::<proptest::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, cut, truncate)| {
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if truncate {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_equals_that_of_a_value_tree(record in record()) {
        let block = serde_ipld_dagcbor::to_vec(&record).unwrap();
        let tree: Ipld = serde_ipld_dagcbor::from_slice(&block).unwrap();
        match oracle(&tree) {
            Some(expected) => prop_assert_eq!(record_json(&block), Ok(expected)),
            None => prop_assert_eq!(record_json(&block), Err("legacy blob with an unparsable cid".to_owned())),
        }
    }

    #[test]
    fn cars_are_read_as_they_were_written(blocks in vec(vec(any::<u8>(), 0..40), 0..40)) {
        let car = car_of(&blocks);
        let read = CarBlocks::parse(&car).unwrap();
        prop_assert_eq!(read.len(), blocks.len());
        prop_assert_eq!(read.roots(), [cid_of(b"root").to_bytes()]);
        for block in &blocks {
            prop_assert_eq!(read.get(&cid_of(block).to_bytes()), Some(block.as_slice()));
        }
        prop_assert_eq!(read_by_iroh(&car).1.len(), blocks.len());
    }

    #[test]
    fn a_changed_byte_in_a_car_never_goes_unnoticed(
        blocks in btree_set(vec(any::<u8>(), 1..40), 1..10),
        at in any::<proptest::sample::Index>(),
        flip in 1_u8..,
    ) {
        let blocks: Vec<Vec<u8>> = blocks.into_iter().collect();
        let mut car = car_of(&blocks);
        let header = car_of(&[]).len();
        let at = header + at.index(car.len() - header);
        car[at] ^= flip;
        // A length may change so that the rest is still a CAR: of fewer blocks.
        if let Ok(read) = CarBlocks::parse(&car) {
            let kept = blocks.iter().filter(|block| read.get(&cid_of(block).to_bytes()).is_some()).count();
            prop_assert!(kept < blocks.len());
        }
    }

    #[test]
    fn nothing_panics_on_random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        let mut out = String::from("before");
        let converted = convert(&bytes, &CollectionFilter::all());
        prop_assert!(!converted.counted || converted.seq.is_some());
        convert_labels(&bytes);
        prop_assert!(CarBlocks::parse(&bytes).map_or(true, |blocks| blocks.len() < bytes.len()));
        if let Err(error) = rsky_common::cbor::write_record_json(&bytes, &mut out) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert_eq!(&out, "before");
        }
        if write_label_json(&bytes, &mut String::new()).is_ok() {
            prop_assert!(!bytes.is_empty());
        }
    }

    #[test]
    fn whatever_becomes_json_is_json(frame in damaged_frame("firehose-extra"), label in damaged_frame("labels-extra")) {
        for converted in [convert(&frame, &CollectionFilter::all()), convert_labels(&label)] {
            for entry in &converted.entries {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&entry.to_string()).is_ok(), "{}", entry);
            }
            prop_assert!(!converted.counted || converted.seq.is_some());
            for rejected in &converted.rejected {
                prop_assert!(rsky_common::atproto::reject::reason::ALL.contains(&rejected.reason));
            }
        }
    }

    #[test]
    fn nothing_panics_on_random_text(text in ".{0,80}", json in "[\\[\\]{}\",:a-z0-9\\\\ -]{0,60}") {
        for text in [&text, &json] {
            let read = wire::parse(text).is_ok() || wire::parse_labels(text).is_ok() || wire::parse_backfill(text).is_ok();
            let has_object = text.contains('{');
            prop_assert!(!read || has_object);
        }
    }
}
