//! Records: from their blocks to JSON, and from JSON to rows.

use rsky_common::cbor::write_record_json;
use rsky_indexer::collections::ALL;
use rsky_indexer::intake::read_in;
use rsky_indexer::lexicon::Edition;
use rsky_indexer::text::json::Json;
use rsky_indexer::text::json_text::to_json_text;
use rsky_testnet::network::hostile;

use super::is_json;
use crate::cost::Cost;
use crate::{Target, seeds};

/// A block that is taken for a record becomes JSON that any reader takes.
pub const RECORD_TO_JSON: Target = Target {
    name: "record_to_json",
    seeds: || {
        let hostile = hostile::blocks().into_iter().map(|(_, block)| block);
        seeds::records().into_iter().chain(hostile).collect()
    },
    run: |input| {
        let mut json = String::new();
        if write_record_json(input, &mut json).is_ok() {
            assert!(is_json(&json), "{json}");
        }
    },
    cost: Cost::of(40, 80),
};

/// A record in an entry is held against the lexicons and becomes a row. The first byte says of which collection.
pub const JSON_TO_RECORD: Target = Target {
    name: "json_to_record",
    seeds: || {
        let mut seeds = Vec::new();
        for (collection, record) in seeds::written() {
            let Some(at) = ALL.iter().position(|one| one.nsid == collection) else { continue };
            let mut seed = vec![u8::try_from(at).unwrap_or(0)];
            seed.extend(record.into_bytes());
            seeds.push(seed);
        }
        seeds
    },
    run: |input| {
        let Some((first, record)) = input.split_first() else { return };
        let Some(collection) = usize::from(*first).checked_rem(ALL.len()).and_then(|at| ALL.get(at)) else {
            return;
        };
        let Ok(record) = std::str::from_utf8(record) else { return };
        if let Ok(json) = Json::parse(record) {
            // What a column of JSON gets can be read, and says the same.
            let text = to_json_text(&json);
            match Json::parse(&text) {
                Ok(again) => assert_eq!(to_json_text(&again), text),
                Err(error) => panic!("{error}: {text}"),
            }
        }
        let entry = format!(
            r#"{{"type":"create","record":{record},"cid":"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq","seq":5,"time":"2024-01-01T00:00:00.000Z","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","commit":"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq","rev":"3k2222222222a","collection":"{}","rkey":"self"}}"#,
            collection.nsid
        );
        for edition in [Edition::Reference, Edition::Fork, Edition::Upstream] {
            drop(read_in(edition, &entry));
        }
    },
    cost: Cost::of(24, 120),
};
