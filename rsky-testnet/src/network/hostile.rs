//! Input that is small, and made to become large or slow: for tests of what it costs.

use bytes::Bytes;

use super::car::car;
use super::cbor_out::{Cbor, cid_of, head};
use super::frames;
use super::repos::{self, Tree};

/// Bytes of a large block, a little less than a block may have.
const LARGE: usize = 1_900_000;

fn key(text: &str, out: &mut Vec<u8>) {
    head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// A map of one member.
fn map_of(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa1];
    key(name, &mut out);
    out.extend_from_slice(value);
    out
}

fn repeated(major: u8, count: usize, one: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + count * one.len());
    head(major, count as u64, &mut out);
    out.extend(one.repeat(count));
    out
}

/// A map of so many keys of four digits in base 36, each with a number; in the order of DAG-CBOR or turned round.
fn keys(count: usize, ordered: bool) -> Vec<u8> {
    let digit = |number: usize| b"0123456789abcdefghijklmnopqrstuvwxyz"[number % 36];
    let mut out = Vec::with_capacity(9 + count * 6);
    head(5, count as u64, &mut out);
    for at in 0..count {
        let number = if ordered { at } else { count - 1 - at };
        out.extend([0x64, b'a' + (number / 46_656) as u8]);
        out.extend([digit(number / 1296), digit(number / 36), digit(number), 0]);
    }
    out
}

/// Blocks of up to two megabytes, each hostile in a way of its own, with a name.
pub fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let large_bytes = repeated(2, LARGE, &[7]);
    let odd = |value: &[u8]| {
        let mut out = vec![0xa2, 0x61, b'b'];
        out.extend_from_slice(value);
        out.extend([0x61, b'0', 0]);
        out
    };
    let nested = (0..60).fold(repeated(2, LARGE / 8, &[7]), |inner, _| odd(&inner));
    let lost = (0..60).fold(large_bytes.clone(), |inner, _| map_of("__proto__", &inner));
    let base58 = format!("z{}", "2".repeat(LARGE));
    let mut legacy = vec![0xa2];
    key("cid", &mut legacy);
    key(&base58, &mut legacy);
    key("mimeType", &mut legacy);
    key("", &mut legacy);
    vec![
        ("what JavaScript loses", map_of("__proto__", &large_bytes)),
        ("what JavaScript loses, nested", lost),
        ("the same key", repeated(5, LARGE / 2, &[0x60, 0xf6])),
        ("far too many keys", keys(LARGE / 6, true)),
        ("many keys", keys(65_536, true)),
        ("many keys in no order", keys(65_536, false)),
        ("empty byte strings", map_of("v", &repeated(4, LARGE, &[0x40]))),
        ("some empty byte strings", map_of("v", &repeated(4, 100_000, &[0x40]))),
        ("empty maps", map_of("v", &repeated(4, LARGE, &[0xa0]))),
        ("control characters", map_of("v", &repeated(3, LARGE, &[1]))),
        ("some control characters", map_of("v", &repeated(3, 300_000, &[1]))),
        ("no text", map_of("v", &repeated(3, LARGE, &[0xff]))),
        ("maps that are put in order, nested", map_of("v", &nested)),
        ("an endless CID", legacy),
        ("zeros", vec![0; LARGE]),
        ("arrays in arrays", [vec![0x81; LARGE], vec![0]].concat()),
    ]
}

/// A commit of so many operations that all name one block.
pub fn commit_naming(seq: u64, block: &[u8], times: usize) -> Bytes {
    let cid = cid_of(block);
    let op = |number: usize| {
        Cbor::map([
            ("action", Cbor::text("create")),
            ("path", Cbor::text(format!("app.bsky.feed.post/{number}"))),
            ("cid", Cbor::Link(cid)),
        ])
    };
    let ops = Cbor::List((0..times).map(op).collect());
    commit(seq, ops, car(&[cid], [(cid, block)]))
}

fn commit(seq: u64, ops: Cbor, car: Vec<u8>) -> Bytes {
    frames::typed(
        "#commit",
        Cbor::map([
            ("ops", ops),
            ("rev", Cbor::text(repos::REV)),
            ("seq", Cbor::Int(seq as i64)),
            ("repo", Cbor::text("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")),
            ("time", Cbor::text("2025-10-01T00:00:00.000Z")),
            ("blocks", Cbor::Bytes(car)),
            ("commit", Cbor::Link(cid_of(b"commit"))),
            ("tooBig", Cbor::Bool(false)),
        ]),
    )
}

/// An array of so many equal values.
fn many(count: usize, one: &[u8]) -> Cbor {
    Cbor::Raw(repeated(4, count, one))
}

/// Commits of some megabytes, each hostile in a way of its own, with a name.
pub fn commits() -> Vec<(String, Bytes)> {
    let named = |(name, block): (&str, Vec<u8>)| {
        (format!("200 operations, one block of {name}"), commit_naming(1, &block, 200))
    };
    let mut commits: Vec<(String, Bytes)> = blocks().into_iter().map(named).collect();
    let delete = Cbor::map([("action", Cbor::text("delete")), ("path", Cbor::text("a/b"))]).encode();
    let no_blocks = car(&[], NO_BLOCKS);
    commits.push(("very many operations".into(), commit(1, many(60_000, &delete), no_blocks.clone())));
    commits.push(("many operations".into(), commit(1, many(10_000, &delete), no_blocks.clone())));
    commits.push(("operations that are none".into(), commit(1, many(400_000, &[0xa0]), no_blocks)));
    let block = b"\xa0".to_vec();
    let blocks = car(&[], vec![(cid_of(&block), block); 100_000]);
    commits.push(("very many blocks".into(), commit(1, many(0, &[]), blocks)));
    let roots = car(&vec![cid_of(b""); 100_000], NO_BLOCKS);
    commits.push(("very many roots".into(), commit(1, many(0, &[]), roots)));
    let bad = vec![0x80];
    let cid = cid_of(&bad);
    let long = |number: usize| {
        Cbor::map([
            ("action", Cbor::text("create")),
            ("path", Cbor::text(format!("a/{}{number}", "x".repeat(10_000)))),
            ("cid", Cbor::Link(cid)),
        ])
    };
    let long = Cbor::List((0..200).map(long).collect());
    commits.push(("bad records of long names".into(), commit(1, long, car(&[cid], [(cid, bad)]))));
    commits
}

const NO_BLOCKS: [(cid::Cid, Vec<u8>); 0] = [];

/// Frames of a labeler of some megabytes, each hostile in a way of its own, with a name.
pub fn labels() -> Vec<(&'static str, Bytes)> {
    let all = |labels: Cbor| frames::typed("#labels", Cbor::map([("seq", Cbor::Int(1)), ("labels", labels)]));
    let one = |label: Vec<u8>| all(many(1, &label));
    vec![
        ("a label of members of two bytes", one(repeated(5, 2_000_000, &[0x60, 0]))),
        ("a label of far too many keys", one(keys(400_000, true))),
        ("a label of many keys", one(keys(65_536, false))),
        ("labels of many keys", all(many(10, &keys(65_536, false)))),
        ("as many empty labels as there may be", all(many(100_000, &[0xa0]))),
        ("far too many empty labels", all(many(2_000_000, &[0xa0]))),
        ("labels that are none", all(many(100_000, &[0xf6]))),
        ("a label of empty byte strings", one(map_of("v", &repeated(4, 2_000_000, &[0x40])))),
        ("a label of control characters", one(map_of("val", &repeated(3, 9_000_000, &[1])))),
        ("a label that JavaScript loses", one(map_of("__proto__", &repeated(2, 5_000_000, &[7])))),
    ]
}

/// A repository whose keys name these blocks in turn.
pub fn repository(did: &str, blocks: &[Vec<u8>], records: usize) -> Vec<u8> {
    let (mut sections, mut tree) = (Vec::new(), Tree::default());
    let cids: Vec<repos::Cid> = blocks.iter().map(|block| repos::block_cid(block)).collect();
    for (cid, block) in cids.iter().zip(blocks) {
        repos::block_section(cid, block, &mut sections);
    }
    let mut add = |cid: &repos::Cid, node: &[u8]| repos::block_section(cid, node, &mut sections);
    (0..records).for_each(|number| tree.add(repos::path(number), cids[number % cids.len()], &mut add));
    let root = tree.finish(&mut add);
    let commit = repos::commit(did, &root, &repos::key(1));
    let mut out = Vec::new();
    repos::header(&repos::block_cid(&commit), &mut out);
    repos::block_section(&repos::block_cid(&commit), &commit, &mut out);
    out.extend(sections);
    out
}
