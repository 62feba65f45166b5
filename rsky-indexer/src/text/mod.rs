//! What the indexer reads out of text: JSON trees, datetimes, at-uris and atproto identifiers.

pub mod at_uri;
pub mod datetime;
mod js_date;
pub mod json;
pub mod json_text;
pub(crate) mod sort_key;
pub mod syntax;

#[cfg(test)]
pub(crate) mod recordings;
