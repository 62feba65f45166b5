//! Looking at streams of a private Redis.

use std::collections::BTreeMap;

use crate::servers::{Redis, Value};

/// Entries of a stream.
///
/// # Panics
/// Redis does not answer.
pub fn length(redis: &Redis, stream: &str) -> i64 {
    redis.command(&["XLEN", stream]).unwrap().as_int().unwrap()
}

/// The fields of every entry of a stream, in order.
///
/// # Panics
/// Redis does not answer.
pub fn entries(redis: &Redis, stream: &str) -> Vec<BTreeMap<String, String>> {
    let mut client = redis.client().unwrap();
    let (mut all, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let page = client.command(&["XRANGE", stream, &from, "+", "COUNT", "1000"]).unwrap();
        let Some(last) = page.items().last() else { return all };
        from = format!("({}", last.items()[0].as_text().unwrap());
        all.extend(page.items().iter().map(fields));
    }
}

/// The fields of one entry, as `XRANGE` gives it.
///
/// # Panics
/// It is no entry.
pub fn fields(entry: &Value) -> BTreeMap<String, String> {
    let texts: Vec<String> = entry.items()[1].items().iter().map(|text| text.as_text().unwrap()).collect();
    texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
