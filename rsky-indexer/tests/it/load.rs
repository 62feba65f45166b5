//! Seeded entries, and seeded choices of a moment.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rsky_testnet::network::load::{EventOptions, stream_events};

/// The first `count` entries of a seed.
pub fn events(seed: u64, count: usize) -> Vec<String> {
    stream_events(EventOptions { seed, dids: 300, ..EventOptions::default() }).take(count).collect()
}

/// One like of a post that nobody has indexed; `number` makes it another one.
pub fn like(number: usize) -> String {
    like_of(number, "")
}

/// As [`like`], with so much more in the record.
pub fn padded_like(number: usize, padding: usize) -> String {
    like_of(number, &format!(r#""padding":"{}","#, "x".repeat(padding)))
}

fn like_of(number: usize, more: &str) -> String {
    let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
    let did = format!("did:plc:like{}", number % 50);
    let subject = format!(r#"{{"uri":"at://did:plc:s/app.bsky.feed.post/{number}","cid":"{cid}"}}"#);
    let record = format!(
        r#"{{"$type":"app.bsky.feed.like",{more}"subject":{subject},"createdAt":"2024-01-01T00:00:00.000Z"}}"#
    );
    format!(
        r#"{{"type":"create","record":{record},"cid":"{cid}","seq":{number},"time":"2024-02-01T00:00:00.000Z","did":"{did}","commit":"{cid}","rev":"3k{number:011}","collection":"app.bsky.feed.like","rkey":"r{number}"}}"#
    )
}

/// The rows that do not speak of any of the accounts of these entries.
pub fn without(
    rows: &BTreeMap<&'static str, Vec<String>>,
    entries: &[String],
) -> BTreeMap<&'static str, Vec<String>> {
    let dids: HashSet<String> = entries
        .iter()
        .map(|entry| {
            serde_json::from_str::<serde_json::Value>(entry).unwrap()["did"].as_str().unwrap().to_owned()
        })
        .collect();
    let speaks = |row: &str| {
        row.match_indices("did:plc:").any(|(at, _)| dids.contains(&row[at..row.len().min(at + 32)]))
    };
    rows.iter()
        .map(|(table, rows)| (*table, rows.iter().filter(|row| !speaks(row)).cloned().collect()))
        .collect()
}

/// Seeded moments.
pub struct Moments(u64);

impl Moments {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A pause below `limit`.
    pub fn pause(&mut self, limit: Duration) {
        // Knuth's MMIX constants.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(limit.mul_f64((self.0 >> 40) as f64 / f64::from(1 << 24)));
    }
}
