//! Answers of directories and relays.

use rsky_common::identity::DidDocument;
use rsky_ingester::listing::page::Page;
use serde_json::Value;

use crate::cost::Cost;
use crate::{Target, seeds};

/// A DID document, asked for by the name that it gives itself.
pub const DID_DOCUMENT: Target = Target {
    name: "did_document",
    seeds: seeds::documents,
    run: |input| {
        let value: Option<Value> = serde_json::from_slice(input).ok();
        let did = value.as_ref().and_then(|value| value.get("id")?.as_str()).unwrap_or("did:plc:a");
        if let Ok(document) = DidDocument::parse(input, did) {
            assert_eq!(document.did, did);
            drop(document.signing_key());
        }
    },
    cost: Cost::of(24, 40),
};

/// A page of `listRepos`.
pub const LISTING_PAGE: Target = Target {
    name: "listing_page",
    seeds: seeds::pages,
    run: |input| drop(Page::parse(input)),
    cost: Cost::of(24, 40),
};
