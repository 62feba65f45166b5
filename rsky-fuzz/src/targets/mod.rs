//! The targets, by what the input is.

pub mod answers;
pub mod entries;
pub mod frames;
pub mod names;
pub mod records;
pub mod repositories;

/// JSON that any reader takes.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}
