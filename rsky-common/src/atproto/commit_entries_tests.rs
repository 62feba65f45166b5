use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use ipld_core::ipld;
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};

use super::*;

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

fn cid_of(data: &[u8]) -> Cid {
    Cid::new_v1(0x71, Multihash::wrap(0x12, &Sha256::digest(data)).unwrap())
}

fn section(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap();
    // A varint of two bytes, needed or not.
    [&[(length & 0x7f) as u8 | 0x80, (length >> 7) as u8], body.as_slice()].concat()
}

fn car(blocks: &[&[u8]]) -> Vec<u8> {
    let mut car = section(&[b"\xa2eroots\x80gversion\x01"]);
    for block in blocks {
        car.extend(section(&[&cid_of(block).to_bytes(), block]));
    }
    car
}

fn op(action: &str, path: &str, cid: Option<Cid>) -> Ipld {
    ipld!({"action": action, "path": path, "cid": cid.map_or(Ipld::Null, Ipld::Link)})
}

fn commit_frame(ops: Vec<Ipld>, blocks: Vec<u8>, too_big: bool) -> Vec<u8> {
    let header = serde_ipld_dagcbor::to_vec(&ipld!({"op": 1, "t": "#commit"})).unwrap();
    let body = serde_ipld_dagcbor::to_vec(&ipld!({
        "seq": 7, "repo": DID, "rev": "3k", "time": "T", "commit": Ipld::Link(cid_of(b"commit")), "tooBig": too_big,
        "ops": Ipld::List(ops), "blocks": Ipld::Bytes(blocks),
    }));
    [header, body.unwrap()].concat()
}

fn all(ops: Vec<Ipld>, blocks: Vec<u8>) -> Converted {
    convert(&commit_frame(ops, blocks, false), &CollectionFilter::all())
}

#[test]
fn operations_become_entries_in_order() {
    let (one, two) = (b"\xa1\x61a\x01", b"\xa1\x61a\x02");
    let ops = vec![
        op("create", "a.b.c/1", Some(cid_of(one))),
        op("delete", "a.b.c/2", None),
        op("update", "a.b.c/3?x#y", Some(cid_of(two))),
        op("other", "a.b.c/4", None),
        op("create", "a.b.c/5", None),
        op("create", "a.b.c/6", Some(cid_of(b"absent"))),
    ];
    let converted = all(ops, car(&[one, two]));
    let commit = cid_of(b"commit");
    let shared = format!(
        r#""seq":7,"time":"T","did":"{DID}","commit":"{commit}","rev":"3k","collection":"a.b.c","rkey""#
    );
    assert_eq!(
        converted.entries,
        [
            format!(r#"{{"type":"create","record":{{"a":1}},"cid":"{}",{shared}:"1"}}"#, cid_of(one)),
            format!(r#"{{"type":"delete",{shared}:"2"}}"#),
            format!(r#"{{"type":"update","record":{{"a":2}},"cid":"{}",{shared}:"3"}}"#, cid_of(two)),
        ]
    );
    let counts = OpCounts { creates: 1, updates: 1, deletes: 1, filtered: 0, missing: 2, unknown: 1 };
    assert_eq!((converted.ops, converted.rejected.len(), converted.counted), (counts, 0, true));
    assert_eq!(
        (converted.seq, converted.did.as_deref(), converted.rev.as_deref()),
        (Some(7), Some(DID), Some("3k"))
    );
}

#[test]
fn a_record_that_cannot_be_converted_loses_only_its_operation() {
    let (good, bad) = (b"\xa1\x61a\x01", b"\xa1\x61a\x1b\x7f\xff\xff\xff\xff\xff\xff\xff");
    let ops = vec![op("create", "a.b.c/1", Some(cid_of(bad))), op("create", "a.b.c/2", Some(cid_of(good)))];
    let converted = all(ops, car(&[bad, good]));
    assert_eq!((converted.entries.len(), converted.ops.creates), (1, 1));
    let [rejected] = converted.rejected.as_slice() else { panic!("{:?}", converted.rejected) };
    assert_eq!((rejected.reason, rejected.path.as_deref()), (reason::BAD_RECORD, Some("a.b.c/1")));
    assert_eq!((rejected.error.as_str(), rejected.did.as_deref()), ("integer is beyond 2^53 - 1", Some(DID)));
}

#[test]
fn a_bad_path_or_car_loses_the_whole_commit_but_not_the_cursor() {
    let good = b"\xa1\x61a\x01";
    let create = |path: &str| op("create", path, Some(cid_of(good)));
    let mut changed = car(&[good]);
    *changed.last_mut().unwrap() = 2;
    for (ops, blocks, reason) in [
        (vec![create("a.b.c/1"), create("nopath")], car(&[good]), reason::BAD_PATH),
        (vec![create("a.b.c/1"), op("delete", "a.b.c/d e", None)], car(&[good]), reason::BAD_PATH),
        (vec![create("a.b.c/1")], changed, reason::HASH_MISMATCH),
        (vec![create("a.b.c/1")], vec![], reason::BAD_CAR),
        (vec![op("delete", "a.b.c/1", None)], vec![1, 2, 3], reason::BAD_CAR),
        (vec![], vec![], reason::BAD_CAR),
    ] {
        let converted = all(ops, blocks);
        assert_eq!((converted.entries.len(), converted.counted, converted.seq), (0, true, Some(7)));
        let reasons: Vec<_> = converted.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!((reasons, converted.ops), (vec![reason], OpCounts::default()));
    }
}

#[test]
fn held_back_collections_are_counted_and_their_car_is_not_read() {
    let filter = CollectionFilter::parse("app.bsky.*").unwrap();
    let ops = vec![op("delete", "xyz.foo/1", None), op("create", "xyz.foo/2", Some(cid_of(b"x")))];
    let converted = convert(&commit_frame(ops.clone(), vec![], false), &filter);
    assert_eq!((converted.ops.filtered, converted.entries.len(), converted.rejected.len()), (2, 0, 0));
    assert!(converted.counted);
    let ops = [ops, vec![op("delete", "app.bsky.feed.post/3", None)]].concat();
    let converted = convert(&commit_frame(ops, car(&[]), false), &filter);
    assert_eq!((converted.ops.filtered, converted.ops.deletes, converted.entries.len()), (2, 1, 1));
}

#[test]
fn what_does_not_tell_its_changes_asks_for_the_repository() {
    let converted = convert(&commit_frame(vec![], vec![], true), &CollectionFilter::all());
    assert_eq!(
        (converted.resync.as_deref(), converted.rejected.len(), converted.counted),
        (Some(DID), 0, true)
    );
    let header = serde_ipld_dagcbor::to_vec(&ipld!({"op": 1, "t": "#sync"})).unwrap();
    let body = serde_ipld_dagcbor::to_vec(&ipld!({"seq": 8, "did": DID, "rev": "3k", "time": "T"})).unwrap();
    let converted = convert(&[header, body].concat(), &CollectionFilter::all());
    assert_eq!((converted.resync.as_deref(), converted.rev.as_deref()), (Some(DID), Some("3k")));
    assert_eq!((converted.kind, converted.seq, converted.counted), (FrameKind::Sync, Some(8), false));
    assert!(!all(vec![], car(&[])).rejected.iter().any(|_| true));
}

#[test]
fn undecodable_frames_move_the_cursor_if_they_can() {
    let good = commit_frame(vec![], car(&[]), false);
    let converted = convert(good.get(..good.len() - 4).unwrap(), &CollectionFilter::all());
    assert_eq!((&converted.kind, converted.counted), (&FrameKind::Undecodable, converted.seq.is_some()));
    assert_eq!(converted.rejected.first().map(|rejected| rejected.reason), Some(reason::BAD_FRAME));
    let converted = convert(b"\xff\xff", &CollectionFilter::all());
    assert_eq!((converted.seq, converted.counted, converted.rejected.len()), (None, false, 1));
    let sync =
        [serde_ipld_dagcbor::to_vec(&ipld!({"op": 1, "t": "#sync"})).unwrap(), b"\xa1\x63seq\x05".to_vec()];
    let converted = convert(&sync.concat(), &CollectionFilter::all());
    assert_eq!((converted.seq, converted.counted, converted.rejected.len()), (Some(5), false, 1));
}

#[test]
fn a_commit_whose_cid_is_none_is_rejected() {
    let mut frame = commit_frame(vec![], car(&[]), false);
    let commit = cid_of(b"commit").to_bytes();
    let at = frame.windows(36).position(|window| window == commit).unwrap();
    frame[at] = 9;
    let converted = convert(&frame, &CollectionFilter::all());
    assert_eq!(converted.rejected.first().map(|rejected| rejected.reason), Some(reason::BAD_CID));
    assert!(converted.counted);
}

#[test]
fn a_block_that_is_repeated_beyond_measure_is_refused() {
    let block = [b"\xa1\x61a\x79\x30\x00".as_slice(), &[1; 0x3000]].concat();
    let ops = |count: usize| vec![op("create", "a.b.c/1", Some(cid_of(&block))); count];
    let honest = all(ops(200), car(&[&block]));
    assert_eq!((honest.entries.len(), honest.ops.creates, honest.rejected.len()), (200, 200, 0));
    let hostile = all(ops(500), car(&[&block]));
    assert_eq!((hostile.entries.len(), hostile.ops, hostile.counted), (0, OpCounts::default(), true));
    assert_eq!(hostile.rejected.first().map(|rejected| rejected.reason), Some(reason::TOO_LARGE));
}

#[test]
fn what_people_are_told_is_cut() {
    let long = "é".repeat(100_000);
    let frame = |header: &Ipld, body: &Ipld| {
        let bytes = [serde_ipld_dagcbor::to_vec(header).unwrap(), serde_ipld_dagcbor::to_vec(body).unwrap()];
        convert(&bytes.concat(), &CollectionFilter::all()).kind
    };
    let error = frame(&ipld!({"op": -1}), &ipld!({"error": &*long, "message": &*long}));
    let FrameKind::Error { error, message } = error else { panic!("{error:?}") };
    assert_eq!((error.len(), message.unwrap().len()), (1000, 1000));
    let info = frame(&ipld!({"op": 1, "t": "#info"}), &ipld!({"name": &*long, "message": &*long}));
    let FrameKind::Info { name, message } = info else { panic!("{info:?}") };
    assert_eq!((name.len(), message.unwrap().len()), (1000, 1000));
    let other = frame(&ipld!({"op": 1, "t": &*long}), &ipld!({}));
    let FrameKind::Other { t } = other else { panic!("{other:?}") };
    assert_eq!(t.len(), 1000);
}
