use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use iroh_car::CarReader as IrohReader;
use rsky_common::atproto::cid;
use rsky_common::cbor::write_record_json;

/// A compressed file of the repository's `testdata` folder.
pub(crate) fn testdata(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(format!("{name}.gz"));
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A file or folder of the fixtures that live outside of the repository; `None`, said aloud, where they are absent.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// The frames of a recording: u32 little-endian length, then the frame, repeated.
pub(crate) fn frames(recording: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = recording;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame);
        rest = after;
    }
    assert!(rest.is_empty(), "a recording ends with a whole frame");
    frames
}

/// The values of one field of a recorded stream, in order.
pub(crate) fn golden_stream(name: &str, field: &str) -> Vec<String> {
    let lines = String::from_utf8(testdata(&format!("golden/streams/{name}.jsonl"))).unwrap();
    let value = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["fields"][field].as_str().unwrap().to_owned()
    };
    lines.lines().map(value).collect()
}

/// The JSON of a record block.
pub(crate) fn record_json(block: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    write_record_json(block, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// The text of a CID.
pub(crate) fn cid_text(bytes: &[u8]) -> String {
    cid::to_text(bytes).unwrap()
}

/// Bytes of `hex`.
pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Bytes of a CID and content.
pub(crate) type OwnedBlock = (Vec<u8>, Vec<u8>);

/// Roots and blocks as the other implementation reads them.
pub(crate) fn read_by_iroh(car: &[u8]) -> (Vec<Vec<u8>>, Vec<OwnedBlock>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = IrohReader::new(car).await.unwrap();
        let roots = reader.header().roots().iter().map(|root| root.to_bytes()).collect();
        let mut blocks = Vec::new();
        while let Some((cid, data)) = reader.next_block().await.unwrap() {
            blocks.push((cid.to_bytes(), data));
        }
        (roots, blocks)
    })
}

/// The sections of a CAR as they are, the header first, nothing checked.
pub(crate) fn car_sections(car: &[u8]) -> Vec<&[u8]> {
    let mut sections = Vec::new();
    let mut rest = car;
    while !rest.is_empty() {
        let digits = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let length =
            rest[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let (section, after) = rest[digits..].split_at(length);
        sections.push(section);
        rest = after;
    }
    sections
}
