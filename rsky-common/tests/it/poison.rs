//! Three commits each, the middle one bad: it alone is rejected, and says why.

use rsky_common::atproto::reject::reason;
use rsky_common::atproto::{CollectionFilter, FrameKind, convert};

use crate::support::{frames, testdata};

fn check(kind: &str, reason: &str, error: &str, path: Option<&str>) {
    let recording = testdata(&format!("corpus/poison/{kind}/firehose.frames"));
    let all = CollectionFilter::all();
    let converted: Vec<_> = frames(&recording).into_iter().map(|frame| convert(frame, &all)).collect();
    let [first, bad, last] = converted.as_slice() else { panic!("{kind}: {} frames", converted.len()) };
    for (good, seq) in [(first, 1), (last, 3)] {
        assert_eq!((good.seq, good.entries.len(), good.ops.creates), (Some(seq), 1, 1), "{kind}");
        assert!(good.rejected.is_empty() && good.counted, "{kind}");
    }
    assert_eq!(
        (&bad.kind, bad.seq, bad.counted, bad.entries.len()),
        (&FrameKind::Commit, Some(2), true, 0),
        "{kind}"
    );
    let [rejected] = bad.rejected.as_slice() else { panic!("{kind}: {:?}", bad.rejected) };
    assert_eq!(
        (rejected.reason, rejected.error.as_str(), rejected.path.as_deref()),
        (reason, error, path),
        "{kind}"
    );
    assert_eq!(rejected.did.as_deref(), Some("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), "{kind}");
}

#[test]
fn a_car_that_is_none() {
    check("badcar", reason::BAD_CAR, "bad CAR header", None);
}

#[test]
fn a_block_that_is_not_what_its_cid_says() {
    let error = "block bafyreifspzyzkl7q6tezsmxkdzk5yemzr6sa22724bvb5ix2hg5tptdm5e does not match its hash";
    check("cidmismatch", reason::HASH_MISMATCH, error, None);
}

#[test]
fn a_record_that_is_no_map() {
    check("nonmap", reason::BAD_RECORD, "record is not a map", Some("app.bsky.feed.post/3aaa2"));
}

#[test]
fn paths_that_name_no_record() {
    check("badpath", reason::BAD_PATH, "path is not collection/rkey", Some("nopath"));
    check("badpath3", reason::BAD_PATH, "path is not collection/rkey", Some("a.b.c/d/e"));
}
