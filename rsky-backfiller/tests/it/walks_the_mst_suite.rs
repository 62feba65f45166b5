//! The trees of the mst-test-suite: every one is walked, and the records of every pair differ as the suite says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use rsky_common::atproto::cid;
use rsky_common::repo::{BlockStore, CarStream, CarStreamError, DiskBudget, StoreLimits, Walk};
use serde_json::Value;

type Records = BTreeMap<String, String>;

fn records(car: &[u8]) -> Records {
    let (mut stream, mut records) = (CarStream::new(), Records::new());
    let mut store = BlockStore::new(StoreLimits {
        memory: u64::MAX,
        directory: std::env::temp_dir(),
        disk: DiskBudget::unlimited(),
    });
    stream
        .feed(car, |digest, data| store.insert(digest, data).map_err(|_| CarStreamError::Truncated))
        .unwrap();
    stream.finish().unwrap();
    store.finish().unwrap();
    let mut walk = Walk::new(&mut store, stream.root().unwrap(), true).unwrap();
    while let Some(leaf) = walk.next(&mut store).unwrap() {
        let cid = cid::to_text(&leaf.cid).unwrap();
        assert!(records.insert(leaf.path, cid).is_none());
    }
    records
}

/// The files of a tar, one after the other.
fn files(tar: &[u8], mut each: impl FnMut(&str, &[u8])) {
    let mut at = 0;
    while let Some(head) = tar.get(at..at + 512) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&head[range]).trim_end_matches(['\0', ' ']).to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap_or(0);
        if head[156] == b'0' {
            each(&text(0..100), &tar[at + 512..at + 512 + size]);
        }
        at += 512 + size.div_ceil(512) * 512;
    }
}

#[test]
fn trees_and_differences() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/mst/mst-test-suite.tar.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        println!("skipped: {} is not here", path.display());
        return;
    };
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    let mut trees = BTreeMap::new();
    files(&tar, |name, content| {
        if name.ends_with(".car") {
            trees.insert(name.trim_start_matches("./").to_owned(), records(content));
        }
    });
    assert_eq!(trees.len(), 128);
    let mut compared = 0;
    files(&tar, |name, content| {
        if !name.ends_with(".json") {
            return;
        }
        let case: Value = serde_json::from_slice(content).unwrap();
        if case["$type"] != "mst-diff" {
            return;
        }
        let tree = |which: &str| &trees[case["inputs"][which].as_str().unwrap().trim_start_matches("./")];
        let (before, after) = (tree("mst_a"), tree("mst_b"));
        let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differences: Vec<(&str, Option<&str>, Option<&str>)> = paths
            .into_iter()
            .map(|path| {
                (path.as_str(), before.get(path).map(String::as_str), after.get(path).map(String::as_str))
            })
            .filter(|(_, old, new)| old != new)
            .collect();
        let operations = case["results"]["record_ops"].as_array().unwrap();
        let expected: Vec<(&str, Option<&str>, Option<&str>)> = operations
            .iter()
            .map(|op| (op["rpath"].as_str().unwrap(), op["old_value"].as_str(), op["new_value"].as_str()))
            .collect();
        assert_eq!(differences, expected, "{name}");
        compared += 1;
    });
    assert_eq!(compared, 16_384);
}
