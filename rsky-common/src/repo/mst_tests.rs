use super::*;
use crate::repo::DiskBudget;
use crate::repo::StoreLimits;

/// A tree written by hand: entries are (shared, suffix, right).
fn node(left: Option<[u8; 36]>, entries: &[(u8, &str, Option<[u8; 36]>)]) -> Vec<u8> {
    let link = |cid: Option<[u8; 36]>| match cid {
        Some(cid) => [b"\xd8\x2a\x58\x25\0".as_slice(), &cid].concat(),
        None => vec![0xf6],
    };
    let mut out = vec![0xa2, 0x61, b'e', 0x80 | u8::try_from(entries.len()).unwrap()];
    for (shared, suffix, right) in entries {
        out.extend([0xa4, 0x61, b'k', 0x58, u8::try_from(suffix.len()).unwrap()]);
        // Strict readers want the shortest head.
        if suffix.len() < 24 {
            let at = out.len() - 2;
            out.drain(at..at + 1);
            *out.last_mut().unwrap() = 0x40 | u8::try_from(suffix.len()).unwrap();
        }
        out.extend(suffix.as_bytes());
        out.extend([0x61, b'p', *shared]);
        out.extend([0x61, b't']);
        out.extend(link(*right));
        out.extend([0x61, b'v']);
        out.extend(link(Some(cid_of(b"record"))));
    }
    out.extend([0x61, b'l']);
    out.extend(link(left));
    out
}

fn cid_of(data: &[u8]) -> [u8; 36] {
    let mut cid = [0; 36];
    cid[..4].copy_from_slice(&[1, 0x71, 0x12, 0x20]);
    cid[4..].copy_from_slice(Sha256::digest(data).as_slice());
    cid
}

fn walk(root: &[u8], others: &[&[u8]]) -> Result<Vec<String>, MstError> {
    let mut store = BlockStore::new(StoreLimits {
        memory: u64::MAX,
        directory: std::env::temp_dir(),
        disk: DiskBudget::unlimited(),
    });
    for block in others.iter().chain([&root]) {
        store.insert(&cid_of(block)[4..].try_into().unwrap(), block).unwrap();
    }
    let mut walk = Walk::new(&mut store, &cid_of(root), true)?;
    let mut paths = Vec::new();
    while let Some(leaf) = walk.next(&mut store)? {
        paths.push(leaf.path);
    }
    Ok(paths)
}

/// Keys of layer 0 and 1, found by trying.
fn keys(layer: usize, count: usize) -> Vec<String> {
    (0..10_000)
        .map(|n| format!("a.b/{n:04}"))
        .filter(|key| key_layer(key.as_bytes()) == layer)
        .take(count)
        .collect()
}

#[test]
fn layers_are_those_of_the_protocol() {
    for (key, layer) in [
        ("", 0),
        ("asdf", 0),
        ("blue", 1),
        ("2653ae71", 0),
        ("88bfafc7", 2),
        ("2a92d355", 4),
        ("884976f5", 6),
        ("app.bsky.feed.post/454397e440ec", 4),
        ("app.bsky.feed.post/9adeb165882c", 8),
    ] {
        assert_eq!(key_layer(key.as_bytes()), layer, "{key}");
    }
}

#[test]
fn good_trees_are_walked_in_order() {
    assert_eq!(walk(&node(None, &[]), &[]).unwrap(), Vec::<String>::new());
    let low = keys(0, 3);
    let flat = node(None, &[(0, &low[0], None), (4, low[1].get(4..).unwrap(), None)]);
    assert_eq!(walk(&flat, &[]).unwrap(), low[..2]);
    let high = keys(1, 1);
    let left: Vec<&String> = low.iter().filter(|key| **key < high[0]).collect();
    let leaf = node(None, &[(0, left[0], None)]);
    let root = node(Some(cid_of(&leaf)), &[(0, &high[0], None)]);
    assert_eq!(walk(&root, &[&leaf]).unwrap(), [left[0].clone(), high[0].clone()]);
    assert!(matches!(walk(&root, &[]), Err(MstError::MissingNode)));
}

#[test]
fn bad_shapes_have_their_errors() {
    let low = keys(0, 2);
    let high = keys(1, 1);
    let swapped = node(None, &[(0, &low[1], None), (0, &low[0], None)]);
    assert!(matches!(walk(&swapped, &[]), Err(MstError::Order)));
    let twice = node(None, &[(0, &low[0], None), (0, &low[0], None)]);
    assert!(matches!(walk(&twice, &[]), Err(MstError::Order)));
    let mut mixed = [(0, low[0].as_str(), None), (0, high[0].as_str(), None)];
    mixed.sort_by_key(|entry| entry.1);
    assert!(matches!(walk(&node(None, &mixed), &[]), Err(MstError::Layer)));
    let empty = node(None, &[]);
    assert!(matches!(
        walk(&node(Some(cid_of(&empty)), &[(0, &high[0], None)]), &[&empty]),
        Err(MstError::EmptyNode)
    ));
    for key in ["nopath", "a.b/c/d", "/c", "a.b/", "a.b/ü", "a.b/c d"] {
        assert!(matches!(walk(&node(None, &[(0, key, None)]), &[]), Err(MstError::BadKey)), "{key}");
    }
    assert!(matches!(walk(&node(None, &[(3, "a.b/c", None)]), &[]), Err(MstError::BadKey)));
    assert!(matches!(walk(b"\x80", &[]), Err(MstError::NotANode)));
    assert!(matches!(walk(b"\xa0", &[]), Err(MstError::NotANode)));
    assert!(matches!(walk(b"", &[]), Err(MstError::Cbor(_))));
}

#[test]
fn a_chain_of_empty_nodes_is_too_deep() {
    let mut blocks = vec![node(None, &[(0, &keys(0, 1)[0], None)])];
    for _ in 0..200 {
        blocks.push(node(Some(cid_of(blocks.last().unwrap())), &[]));
    }
    let root = blocks.pop().unwrap();
    let others: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
    assert!(matches!(walk(&root, &others), Err(MstError::TooDeep)));
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::repo::{CarStream, CarStreamError, Commit};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// A node with one byte changed is walked or refused, and nothing else.
        #[test]
        fn a_damaged_node_is_walked_or_refused(at in 0_usize..400, value: u8, count in 0_usize..4) {
            let low = keys(0, count);
            let entries: Vec<(u8, &str, Option<[u8; 36]>)> = low.iter().map(|key| (0, key.as_str(), None)).collect();
            let mut block = node(None, &entries);
            let length = block.len();
            *block.get_mut(at % length).unwrap() = value;
            drop(walk(&block, &[]));
        }

        #[test]
        fn any_bytes_are_a_node_or_refused(block: Vec<u8>) {
            drop(walk(&block, &[]));
            drop(Commit::parse(&block));
        }

        #[test]
        fn any_bytes_are_a_car_or_refused(pieces: Vec<Vec<u8>>) {
            let mut stream = CarStream::new();
            for piece in &pieces {
                if stream.feed(piece, |_, _| Ok::<(), CarStreamError>(())).is_err() {
                    return Ok(());
                }
            }
            drop(stream.finish());
        }
    }
}
