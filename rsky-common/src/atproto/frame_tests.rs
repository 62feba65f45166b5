use ipld_core::ipld;
use ipld_core::ipld::Ipld;

use super::*;
use crate::cbor::CborError;

fn frame(header: &Ipld, body: &Ipld) -> Vec<u8> {
    [serde_ipld_dagcbor::to_vec(header).unwrap(), serde_ipld_dagcbor::to_vec(body).unwrap()].concat()
}

fn message(t: &str, body: &Ipld) -> Vec<u8> {
    frame(&ipld!({"op": 1, "t": t}), body)
}

fn link() -> Ipld {
    Ipld::Link(
        ipld_core::cid::Cid::try_from("bafyreihxeexyqegnks2kycb3asqr7jlj7jixffzno22dwzwp46va4kkrzu").unwrap(),
    )
}

fn commit_body() -> Ipld {
    ipld!({
        "ops": [
            {"cid": link(), "path": "a.b.c/1", "action": "create"},
            {"cid": null, "path": "a.b.c/2", "action": "delete", "prev": link()},
        ],
        "rev": "3k", "seq": 7, "repo": "did:plc:a", "time": "T", "blobs": [link()], "since": null,
        "blocks": Ipld::Bytes(vec![1, 2]), "commit": link(), "rebase": false, "tooBig": true, "unknown": {"a": [1]},
    })
}

fn error_of(bytes: &[u8]) -> FrameError {
    decode_frame(bytes).unwrap_err()
}

#[test]
fn commits() {
    let bytes = message("#commit", &commit_body());
    let Ok(Frame::Commit(commit)) = decode_frame(&bytes) else { panic!("no commit") };
    assert_eq!((commit.seq, commit.did, commit.rev, commit.time), (7, "did:plc:a", "3k", "T"));
    assert!(commit.too_big);
    assert_eq!((commit.commit.len(), commit.blocks), (36, &[1_u8, 2][..]));
    let [create, delete] = commit.ops.as_slice() else { panic!("{:?}", commit.ops) };
    assert_eq!((create.action, create.path, create.cid), ("create", "a.b.c/1", Some(commit.commit)));
    assert_eq!((delete.action, delete.path, delete.cid), ("delete", "a.b.c/2", None));
}

#[test]
fn the_full_name_of_a_type_is_the_same_type() {
    let bytes = message("com.atproto.sync.subscribeRepos#commit", &commit_body());
    assert!(matches!(decode_frame(&bytes), Ok(Frame::Commit(_))));
    let bytes = message("com.atproto.other#commit", &commit_body());
    assert_eq!(decode_frame(&bytes), Ok(Frame::Other { t: "com.atproto.other#commit" }));
}

#[test]
fn the_other_messages() {
    let bytes = message("#identity", &ipld!({"seq": 1, "did": "did:plc:a", "time": "T"}));
    let identity = Identity { seq: 1, did: "did:plc:a", time: "T", handle: None };
    assert_eq!(decode_frame(&bytes), Ok(Frame::Identity(identity)));
    let bytes =
        message("#account", &ipld!({"seq": 1, "did": "d", "time": "T", "active": false, "status": "X"}));
    let account = Account { seq: 1, did: "d", time: "T", active: false, status: Some("X") };
    assert_eq!(decode_frame(&bytes), Ok(Frame::Account(account)));
    let bytes = message(
        "#sync",
        &ipld!({"seq": 1, "did": "d", "time": "T", "rev": "r", "blocks": Ipld::Bytes(vec![])}),
    );
    assert_eq!(decode_frame(&bytes), Ok(Frame::Sync(Sync { seq: 1, did: "d", rev: Some("r") })));
    let bytes = message("#info", &ipld!({"name": "OutdatedCursor", "message": "m"}));
    assert_eq!(decode_frame(&bytes), Ok(Frame::Info { name: "OutdatedCursor", message: Some("m") }));
    let bytes = message("#future", &ipld!({"seq": "text", "ops": 1}));
    assert_eq!(decode_frame(&bytes), Ok(Frame::Other { t: "#future" }));
    let bytes = frame(&ipld!({"op": 1}), &ipld!({}));
    assert_eq!(decode_frame(&bytes), Ok(Frame::Other { t: "" }));
    let bytes = frame(&ipld!({"op": -1}), &ipld!({"error": "FutureCursor"}));
    assert_eq!(decode_frame(&bytes), Ok(Frame::Error { error: "FutureCursor", message: None }));
}

#[test]
fn lenient_forms_are_read() {
    // Indefinite maps, a length in more bytes than it needs, a foreign tag, keys that are not text.
    let header = b"\xbf\x62op\x18\x01\x61t\x78\x09#identity\xff";
    let body = b"\xbf\x63seq\x1b\0\0\0\0\0\0\0\x05\x01\x02\x63did\xc1\x61d\x64time\x61T\x66handle\xf6\x61x\x9f\x01\xff\xff";
    let bytes = [header.as_slice(), body].concat();
    let identity = Identity { seq: 5, did: "d", time: "T", handle: None };
    assert_eq!(decode_frame(&bytes), Ok(Frame::Identity(identity)));
}

#[test]
fn exactly_two_items() {
    let good = message("#commit", &commit_body());
    let mut longer = good.clone();
    longer.push(0);
    let error = error_of(&longer);
    assert_eq!((error.kind, error.seq), (FrameErrorKind::Cbor(CborError::TrailingBytes), Some(7)));
    let header_only = serde_ipld_dagcbor::to_vec(&ipld!({"op": 1, "t": "#commit"})).unwrap();
    assert_eq!(error_of(&header_only).kind, FrameErrorKind::Cbor(CborError::Truncated));
    assert_eq!(error_of(&[]).kind, FrameErrorKind::Cbor(CborError::Truncated));
}

#[test]
fn bad_headers() {
    for header in [
        ipld!(1),
        ipld!({}),
        ipld!({"op": 2}),
        ipld!({"op": -2}),
        ipld!({"op": "1"}),
        ipld!({"op": 1, "t": 1}),
    ] {
        assert_eq!(error_of(&frame(&header, &ipld!({}))).kind, FrameErrorKind::BadHeader, "{header:?}");
    }
    assert_eq!(error_of(&message("#commit", &ipld!([]))).kind, FrameErrorKind::BodyNotAMap);
}

#[test]
fn a_wrong_field_still_tells_whose_frame_it_was() {
    let wrong = [
        ("blocks", ipld!("text")),
        ("ops", ipld!({"a": 1})),
        ("ops", ipld!([1])),
        ("ops", ipld!([{"path": "a.b.c/d"}])),
        ("commit", ipld!("bafy")),
        ("rev", ipld!(1)),
        ("tooBig", ipld!("yes")),
        ("time", ipld!([])),
    ];
    for (field, value) in wrong {
        let Ipld::Map(mut body) = commit_body() else { panic!("no map") };
        body.insert(field.to_owned(), value);
        let error = error_of(&message("#commit", &Ipld::Map(body)));
        assert_eq!(error.kind, FrameErrorKind::BadField(field));
        assert_eq!(
            (error.seq, error.did.as_deref(), error.t.as_deref()),
            (Some(7), Some("did:plc:a"), Some("#commit"))
        );
    }
    for field in ["ops", "rev", "time", "blocks", "commit"] {
        let Ipld::Map(mut body) = commit_body() else { panic!("no map") };
        body.remove(field);
        let error = error_of(&message("#commit", &Ipld::Map(body)));
        assert_eq!((error.kind, error.seq), (FrameErrorKind::MissingField(field), Some(7)));
    }
}

#[test]
fn sequence_numbers_are_not_negative_and_fit() {
    for seq in
        [ipld!(-1), ipld!(i128::from(u64::MAX)), ipld!(1_i128 << 63), ipld!("7"), ipld!(null), ipld!(1.0)]
    {
        let error = error_of(&message("#identity", &ipld!({"seq": seq, "did": "d", "time": "T"})));
        assert_eq!(error.kind, FrameErrorKind::BadField("seq"));
        assert_eq!((error.seq, error.did.as_deref()), (None, Some("d")));
    }
    let bytes = message("#identity", &ipld!({"seq": i64::MAX, "did": "d", "time": "T"}));
    assert!(matches!(decode_frame(&bytes), Ok(Frame::Identity(Identity { seq: i64::MAX, .. }))));
}

#[test]
fn a_truncated_commit_tells_its_seq() {
    let bytes = message("#commit", &commit_body());
    let error = error_of(bytes.get(..bytes.len() - 20).unwrap());
    assert_eq!((error.kind, error.seq), (FrameErrorKind::Cbor(CborError::Truncated), Some(7)));
}

#[test]
fn texts_that_go_into_every_entry_are_bounded() {
    let bad = |t: &str, body: &Ipld, field: &'static str| {
        let error = error_of(&message(t, body));
        assert_eq!((error.kind, error.seq), (FrameErrorKind::BadField(field), Some(7)));
    };
    let with = |field: &str, length: usize| {
        let Ipld::Map(mut body) = commit_body() else { panic!("no map") };
        body.insert(field.to_owned(), Ipld::String("x".repeat(length)));
        Ipld::Map(body)
    };
    for (field, name, most) in [("rev", "rev", 256), ("time", "time", 256), ("repo", "did", 2048)] {
        assert!(decode_frame(&message("#commit", &with(field, most))).is_ok(), "{field}");
        bad("#commit", &with(field, most + 1), name);
    }
    let long = "x".repeat(257);
    bad(
        "#account",
        &ipld!({"seq": 7, "did": "did:plc:a", "time": "T", "active": false, "status": &*long}),
        "status",
    );
    bad("#identity", &ipld!({"seq": 7, "did": "did:plc:a", "time": "T", "handle": &*long}), "handle");
    let error = error_of(&message("#commit", &with("repo", 4096)));
    assert_eq!(error.did, None, "nothing of it is kept");
}
