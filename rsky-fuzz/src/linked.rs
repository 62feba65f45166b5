//! Blocks that name each other by their hashes, as bytes that can be changed: whatever is changed, the hashes are right again.
//!
//! Without that every change of a repository would end at the first block, whose hash it is not.

use sha2::{Digest as _, Sha256};

/// What comes before the digest in a CID of a block of DAG-CBOR.
const HEAD: [u8; 4] = [0x01, 0x71, 0x12, 0x20];

/// Blocks, each with its CID; each names only such as come before it.
pub(crate) type Blocks = Vec<([u8; 36], Vec<u8>)>;

/// Reads blocks, each after its length in two bytes. The first byte of a digest within a block is the number of the block
/// that it names, from the beginning; of a first block nothing can be named.
pub(crate) fn read(mut input: &[u8]) -> Blocks {
    let mut blocks: Blocks = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        let block = with_links(block.to_vec(), &blocks);
        blocks.push((cid_of(&block), block));
        input = rest;
    }
    blocks
}

/// The CID of a block.
pub(crate) fn cid_of(block: &[u8]) -> [u8; 36] {
    let mut cid = [0; 36];
    let (head, digest) = cid.split_at_mut(HEAD.len());
    head.copy_from_slice(&HEAD);
    digest.copy_from_slice(&Sha256::digest(block));
    cid
}

fn with_links(mut block: Vec<u8>, named: &Blocks) -> Vec<u8> {
    for at in places(&block) {
        let Some(digest) = block.get_mut(at..at + 32) else { continue };
        let number = digest.first().map_or(0, |number| usize::from(*number));
        let named = number.checked_rem(named.len()).and_then(|number| named.get(number));
        if let Some(named) = named.and_then(|(cid, _)| cid.get(HEAD.len()..)) {
            digest.copy_from_slice(named);
        }
    }
    block
}

/// Where digests begin.
fn places(block: &[u8]) -> Vec<usize> {
    let heads = block.windows(HEAD.len()).enumerate().filter(|(_, window)| *window == HEAD);
    heads.map(|(at, _)| at + HEAD.len()).collect()
}

/// The input that [`read`] makes these blocks of. Blocks come in an order in which each names only earlier ones; the last is
/// `root`. At most 250 blocks: the others are left out, and what names them names something else.
pub(crate) fn write(blocks: &Blocks, root: &[u8]) -> Vec<u8> {
    let mut order: Vec<[u8; 36]> = Vec::new();
    put(blocks, root, &mut order);
    let mut out = Vec::new();
    for cid in &order {
        let Some((_, block)) = blocks.iter().find(|(of, _)| of == cid) else { continue };
        let mut block = block.clone();
        for at in places(&block) {
            let Some(digest) = block.get_mut(at..at + 32) else { continue };
            let number = order.iter().position(|cid| cid.get(HEAD.len()..) == Some(digest));
            digest.fill(0);
            if let Some(first) = digest.first_mut() {
                *first = number.and_then(|number| u8::try_from(number).ok()).unwrap_or(0);
            }
        }
        out.extend(u16::try_from(block.len()).unwrap_or(u16::MAX).to_be_bytes());
        block.truncate(usize::from(u16::MAX));
        out.extend(block);
    }
    out
}

fn put(blocks: &Blocks, cid: &[u8], order: &mut Vec<[u8; 36]>) {
    let Some((cid, block)) = blocks.iter().find(|(of, _)| of == cid) else { return };
    if order.contains(cid) || order.len() >= 250 {
        return;
    }
    for at in places(block) {
        if let Some(named) = block.get(at - HEAD.len()..at + 32) {
            put(blocks, named, order);
        }
    }
    order.push(*cid);
}
