//! Repositories: CARs as bytes, and trees whose hashes are right whatever their blocks say.

use rsky_common::cbor::write_record_json;
use rsky_common::repo::{
    CarStream, CarStreamError, DiskBudget, MAX_BLOCK_BYTES, ReceivedCar, StoreLimits, Walk,
};
use rsky_testnet::network::repos;

use super::is_json;
use crate::cost::Cost;
use crate::{Target, linked, seeds};

/// A CAR in pieces gives the blocks that it gives in one piece.
pub const CAR: Target = Target {
    name: "car",
    seeds: seeds::cars,
    run: |input| {
        let Some((first, car)) = input.split_first() else { return };
        let whole = blocks(car, car.len().max(1));
        assert_eq!(whole, blocks(car, usize::from(*first) + 1));
    },
    // A block that is said to come has its room at once: some two megabytes.
    cost: Cost::of(12, 60).and(MAX_BLOCK_BYTES),
};

/// The blocks, and whether the end was reached.
fn blocks(car: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut stream, mut blocks) = (CarStream::new(), Vec::new());
    for piece in car.chunks(piece) {
        let fed = stream.feed(piece, |_, block| {
            blocks.push(block.to_vec());
            Ok::<(), CarStreamError>(())
        });
        if fed.is_err() {
            return (blocks, false);
        }
    }
    let whole = stream.finish().is_ok();
    (blocks, whole)
}

/// A repository is received, its tree walked, its records read.
pub const TREE: Target = Target {
    name: "tree",
    seeds: seeds::trees,
    run: |input| {
        let blocks = linked::read(input);
        let Some((root, _)) = blocks.last() else { return };
        let mut car = Vec::new();
        repos::header(root, &mut car);
        blocks.iter().for_each(|(cid, block)| repos::block_section(cid, block, &mut car));
        walk(&car);
    },
    cost: Cost::of(24, 80).and(MAX_BLOCK_BYTES),
};

fn walk(car: &[u8]) {
    let limits = StoreLimits { memory: 64 << 20, directory: std::env::temp_dir(), disk: DiskBudget::new(0) };
    let mut pieces = car.chunks(1000);
    let Ok(mut repository) = ReceivedCar::receive(|| pieces.next(), limits, 64 << 20) else { return };
    let counted = repository.check_tree().ok();
    let ReceivedCar { mut store, commit, .. } = repository;
    let Ok(mut walk) = Walk::new(&mut store, &commit.data, true) else { return };
    let (mut before, mut walked, mut block) = (String::new(), 0, Vec::new());
    while let Ok(Some(leaf)) = walk.next(&mut store) {
        assert!(leaf.path > before, "{} after {before}", leaf.path);
        before = leaf.path;
        walked += 1;
        if matches!(store.read(&leaf.digest, &mut block), Ok(true)) {
            let mut json = String::new();
            if write_record_json(&block, &mut json).is_ok() {
                assert!(is_json(&json), "{json}");
            }
        }
    }
    assert!(counted.is_none_or(|counted| counted == walked), "{counted:?} counted, {walked} walked");
}
