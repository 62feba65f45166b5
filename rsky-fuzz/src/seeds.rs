//! Input to begin with: what was recorded of real servers, and what is made to become large or slow.

use std::fs;
use std::path::PathBuf;

use rsky_common::atproto::{CollectionFilter, convert};
use rsky_common::repo::{CarStream, CarStreamError};
use rsky_common::wire::{self, StreamEvent};
use rsky_testnet::network::corpus::{Corpus, read_maybe_gz, recorded};
use serde_json::Value;

use crate::linked::{self, Blocks};

/// Longest seed that is changed, in bytes.
const LONGEST: usize = 16 << 10;

/// Records of a collection.
const OF_EACH: usize = 12;

/// Frames of the relay and of the labeler that are short enough, every so manieth.
pub(crate) fn frames(labels: bool) -> Vec<Vec<u8>> {
    let corpus = Corpus::read(&recorded()).unwrap_or_default();
    let frames = if labels { corpus.labels } else { corpus.firehose };
    let short = frames.into_iter().map(|frame| frame.to_vec()).filter(|frame| frame.len() <= LONGEST);
    let short: Vec<Vec<u8>> = short.collect();
    let step = (short.len() / 150).max(1);
    short.into_iter().step_by(step).collect()
}

/// The bytes of the files in a folder of the recording, by the end of their names, without `.gz`.
fn files(folder: &str, end: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = recorded().join(folder);
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let plain = |path: PathBuf| {
        if path.extension().is_some_and(|end| end == "gz") { path.with_extension("") } else { path }
    };
    let named = names.into_iter().map(plain).filter(|path| path.to_string_lossy().ends_with(end));
    named.filter_map(|path| read_maybe_gz(&path).ok().flatten()).collect()
}

/// Whole repositories.
pub(crate) fn cars() -> Vec<Vec<u8>> {
    let mut cars = files("repos", ".car");
    cars.sort_by_key(Vec::len);
    cars.truncate(12);
    cars
}

/// Blocks of repositories in the form of [`linked`].
pub(crate) fn trees() -> Vec<Vec<u8>> {
    cars()
        .iter()
        .filter_map(|car| blocks_of(car))
        .map(|(root, blocks)| linked::write(&blocks, &root))
        .collect()
}

/// Records as blocks.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let blocks = cars().into_iter().filter_map(|car| blocks_of(&car)).flat_map(|(_, blocks)| blocks);
    let mut records: Vec<Vec<u8>> =
        blocks.map(|(_, block)| block).filter(|block| block.len() <= LONGEST).collect();
    records.sort();
    records.dedup();
    let step = (records.len() / 200).max(1);
    records.into_iter().step_by(step).collect()
}

/// Records that the relay told of, as JSON, with their collections: at most a few of each.
pub(crate) fn written() -> Vec<(String, String)> {
    let corpus = Corpus::read(&recorded()).unwrap_or_default();
    let mut written: Vec<(String, String)> = Vec::new();
    for frame in &corpus.firehose {
        for entry in &convert(frame, &CollectionFilter::all()).entries {
            let text = entry.to_string();
            let Ok(StreamEvent::Create(event) | StreamEvent::Update(event)) = wire::parse(&text) else {
                continue;
            };
            let (collection, record) = (event.collection.into_owned(), event.record.get().to_owned());
            let alike = written.iter().filter(|(of, _)| *of == collection).count();
            if record.len() <= LONGEST && alike < OF_EACH {
                written.push((collection, record));
            }
        }
    }
    written
}

fn blocks_of(car: &[u8]) -> Option<(Vec<u8>, Blocks)> {
    let (mut stream, mut blocks) = (CarStream::new(), Blocks::new());
    let read = stream.feed(car, |_, block| {
        blocks.push((linked::cid_of(block), block.to_vec()));
        Ok::<(), CarStreamError>(())
    });
    read.ok()?;
    Some((stream.root()?.to_vec(), blocks))
}

/// Documents of the directory.
pub(crate) fn documents() -> Vec<Vec<u8>> {
    let mut documents = files("plc", ".json");
    documents.truncate(40);
    documents
}

/// Pages of listRepos.
pub(crate) fn pages() -> Vec<Vec<u8>> {
    let pages: Vec<Value> = read_maybe_gz(&recorded().join("listRepos.json"))
        .ok()
        .flatten()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for mut page in pages {
        for number in [1, 20] {
            if let Some(repos) = page.get_mut("repos").and_then(Value::as_array_mut) {
                repos.truncate(number);
            }
            seeds.push(page.to_string().into_bytes());
        }
    }
    seeds.push(br#"{"cursor":"20","repos":[{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","head":"bafyreiaaaa","rev":"3jzfcijpj2z2a","active":true,"status":"x"},{"did":1}]}"#.to_vec());
    seeds
}
