//! Frames of relays and labelers.

use rsky_common::atproto::{CollectionFilter, convert, convert_labels, frame};
use rsky_common::wire;
use rsky_testnet::network::hostile;

use super::is_json;
use crate::cost::Cost;
use crate::{Target, seeds};

/// A frame of `subscribeRepos` becomes entries that the indexer can read.
pub const RELAY: Target = Target {
    name: "relay_frame",
    seeds: || {
        let hostile = hostile::commits().into_iter().map(|(_, frame)| frame.to_vec());
        seeds::frames(false).into_iter().chain(hostile).collect()
    },
    run: |input| {
        frame::is_error(input);
        let converted = convert(input, &CollectionFilter::all());
        for entry in &converted.entries {
            let text = entry.to_string();
            match wire::parse(&text) {
                Ok(event) => assert_eq!(event.did(), converted.did.as_deref(), "{text}"),
                Err(error) => panic!("{error}: {text}"),
            }
        }
    },
    cost: Cost::of(48, 100),
};

/// A frame of `subscribeLabels` likewise.
pub const LABELER: Target = Target {
    name: "label_frame",
    seeds: || {
        let hostile = hostile::labels().into_iter().map(|(_, frame)| frame.to_vec());
        seeds::frames(true).into_iter().chain(hostile).collect()
    },
    run: |input| {
        for entry in &convert_labels(input).entries {
            let text = entry.to_string();
            // Labels that lack something are passed on as they are; they become dead letters where they are indexed.
            assert!(is_json(&text), "{text}");
            drop(wire::parse_labels(&text));
        }
    },
    cost: Cost::of(100, 400),
};
