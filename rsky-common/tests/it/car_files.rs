//! Repositories written by several implementations, and damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use rsky_common::atproto::car::{Block, CarBlocks, CarError, CarReader};

use crate::support::{cid_text, fixture, read_by_iroh, testdata};

fn read_all(car: &[u8]) -> Result<Vec<Block<'_>>, CarError> {
    let mut reader = CarReader::new(car)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block);
    }
    Ok(blocks)
}

fn agrees_with_iroh(car: &[u8]) -> usize {
    let (roots, theirs) = read_by_iroh(car);
    let ours = read_all(car).unwrap();
    assert_eq!(CarReader::new(car).unwrap().roots(), roots);
    assert_eq!(ours.len(), theirs.len());
    for (block, (cid, data)) in ours.iter().zip(&theirs) {
        assert_eq!((block.cid, block.data), (cid.as_slice(), data.as_slice()));
    }
    let lookup = CarBlocks::parse(car).unwrap();
    for block in &ours {
        assert_eq!(lookup.get(block.cid), Some(block.data));
    }
    ours.len()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn repositories_of_several_implementations() {
    let Some(folder) = fixture("car") else { return };
    let mut blocks = 0;
    let mut read = Vec::new();
    for path in files(&folder).into_iter().chain(files(&folder.join("v2"))) {
        let car = fs::read(&path).unwrap();
        println!("{}: {:?}", name(&path), read_all(&car).map(|blocks| blocks.len()));
        match name(&path) {
            // Blocks under codecs or hashes that repositories do not use.
            "carv1_basic.car" => {
                assert_eq!(read_all(&car), Err(CarError::UnsupportedCid(192)));
            }
            "testv1.car" => assert!(matches!(read_all(&car), Err(CarError::UnsupportedCid(_)))),
            file => {
                blocks += agrees_with_iroh(&car);
                read.push(file.to_owned());
            }
        }
    }
    println!("{blocks} blocks of {read:?}");
    assert_eq!(read.len(), 10);
}

#[test]
fn damaged_cars_are_refused() {
    let Some(folder) = fixture("car/corrupt") else { return };
    let mut seen = 0;
    for path in files(&folder) {
        let car = fs::read(&path).unwrap();
        let error = read_all(&car).unwrap_err();
        println!("{}: {error}", name(&path));
        seen += 1;
        if name(&path).contains("v2") {
            assert_eq!(error, CarError::Version(2));
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_production_repository_holds_its_records() {
    let Some(folder) = fixture("firehose-real") else { return };
    let car = fs::read(folder.join("repo.car")).unwrap();
    assert!(agrees_with_iroh(&car) > 0);
    let held: Vec<String> = read_all(&car).unwrap().iter().map(|block| cid_text(block.cid)).collect();
    let commit = fs::read_to_string(folder.join("car_expected_commit.txt")).unwrap();
    let data = commit.lines().find_map(|line| line.strip_prefix("Data CID: ")).unwrap();
    assert!(held.iter().any(|held| held == data), "{data}");
    let records = fs::read_to_string(folder.join("car_expected_records.tsv")).unwrap();
    let expected: Vec<&str> =
        records.split_whitespace().filter(|word| word.starts_with("bafyrei") && word.len() == 59).collect();
    assert!(!expected.is_empty());
    for cid in expected {
        assert!(held.iter().any(|held| held == cid), "{cid}");
    }
}

#[test]
fn the_cars_inside_of_recorded_frames() {
    use rsky_common::atproto::frame::{Frame, decode_frame};
    let recording = testdata("corpus/firehose.frames");
    let mut cars = 0;
    for frame in crate::support::frames(&recording).into_iter().step_by(16) {
        if let Ok(Frame::Commit(commit)) = decode_frame(frame) {
            agrees_with_iroh(commit.blocks);
            cars += 1;
        }
    }
    assert!(cars > 50, "{cars}");
}
