//! Entries of streams, whoever wrote them.

use rsky_common::atproto::{CollectionFilter, convert, convert_labels};
use rsky_common::wire::parse_backfill;
use rsky_indexer::intake::read_in;
use rsky_indexer::labels;
use rsky_indexer::lexicon::Edition;

use crate::cost::Cost;
use crate::{Target, seeds};

/// An entry of `firehose_live` or `firehose_backfill`.
pub const EVENT: Target = Target {
    name: "event_entry",
    seeds: || {
        let frames = seeds::frames(false);
        let converted = frames.iter().map(|frame| convert(frame, &CollectionFilter::all()));
        converted.flat_map(|one| one.entries.first().map(|entry| entry.to_string().into_bytes())).collect()
    },
    run: |input| {
        let Ok(payload) = std::str::from_utf8(input) else { return };
        for edition in [Edition::Reference, Edition::Fork, Edition::Upstream] {
            drop(read_in(edition, payload));
        }
    },
    cost: Cost::of(16, 80),
};

/// An entry of `label_live`.
pub const LABELS: Target = Target {
    name: "label_entry",
    seeds: || {
        let frames = seeds::frames(true);
        let converted = frames.iter().map(|frame| convert_labels(frame));
        let entries =
            converted.flat_map(|one| one.entries.first().map(|entry| entry.to_string().into_bytes()));
        let old: &[u8] = br#"{"labels":[{"src":"did:plc:a","uri":"at://did:plc:b","val":"x","cts":"2024-01-01T00:00:00.000Z","sig":{"type":"Buffer","data":[1,2]}}]}"#;
        entries.chain([old.to_vec()]).collect()
    },
    run: |input| {
        let Ok(payload) = std::str::from_utf8(input) else { return };
        drop(labels::read(payload));
    },
    cost: Cost::of(24, 80),
};

/// An entry of `repo_backfill`: what was read is written, and read as the same.
pub const BACKFILL: Target = Target {
    name: "backfill_entry",
    seeds: || {
        [
            r#"{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","host":"https://relay.example","rev":"3jzfcijpj2z2a","status":"takendown","active":false}"#,
            r#"{"did":"did:web:example.com","host":"relay.example","rev":"","status":null,"more":[{}]}"#,
        ]
        .map(|json| json.as_bytes().to_vec())
        .to_vec()
    },
    run: |input| {
        let Ok(payload) = std::str::from_utf8(input) else { return };
        if let Ok(event) = parse_backfill(payload) {
            let json = event.to_json();
            match parse_backfill(&json) {
                Ok(again) => assert_eq!(again, event, "{json}"),
                Err(error) => panic!("{error}: {json}"),
            }
        }
    },
    cost: Cost::of(16, 40),
};
