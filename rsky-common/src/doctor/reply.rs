//! Replies of Redis that are lists of names and values.

use std::collections::HashMap;

use redis::Value;

/// Names and values, as `XINFO` gives them.
pub(crate) type Facts = HashMap<String, Value>;

pub(crate) fn number(facts: &Facts, name: &str) -> Option<u64> {
    match facts.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

pub(crate) fn text(facts: &Facts, name: &str) -> String {
    facts.get(name).map(of_value).unwrap_or_default()
}

pub(super) fn of_value(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

/// A line of `INFO`.
pub(super) fn info<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Both parts of an entry's id, in order.
pub(super) fn id(text: &str) -> (u64, u64) {
    let (ms, number) = text.split_once('-').unwrap_or((text, "0"));
    (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))
}
