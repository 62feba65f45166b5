//! A duplicate that takes the place of a deleted record is indexed anew from what `record` holds of it.

use super::change::{Action, Change, Content};
use super::duplicates::Candidate;
use crate::collections::{Collection, Parts, build_row};
use crate::lexicon;
use crate::text::json::Json;

/// The candidate as a change, or `None` where its record is gone or is not valid: then nothing is promoted.
pub(super) fn as_change(collection: &'static Collection, candidate: Candidate) -> Option<(Change, Content)> {
    let Candidate { uri, cid, did, json, time, .. } = candidate;
    let record = Json::parse(&json).ok()?;
    lexicon::validate(collection.nsid, &record).ok()?;
    let rkey = uri.rsplit('/').next()?.to_owned();
    let row = build_row(collection, &rkey, &record);
    let parts = Parts::of(collection, &record);
    drop(record);
    let content = Content { cid, json, row, parts };
    let change =
        Change { uri, did, collection, rkey, rev: String::new(), live: false, time, action: Action::Delete };
    Some((change, content))
}
