//! What the indexer reads out of text: JSON trees, datetimes and at-uris.

pub mod at_uri;
pub mod datetime;
mod js_date;
pub mod json;
pub mod json_text;
pub(crate) mod sort_key;

#[cfg(test)]
pub(crate) mod recordings;
