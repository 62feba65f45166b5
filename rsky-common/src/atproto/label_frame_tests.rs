use ipld_core::ipld;
use ipld_core::ipld::Ipld;

use super::*;

fn frame(header: &Ipld, body: &Ipld) -> Vec<u8> {
    [serde_ipld_dagcbor::to_vec(header).unwrap(), serde_ipld_dagcbor::to_vec(body).unwrap()].concat()
}

fn labels(t: &str, body: &Ipld) -> Converted {
    convert_labels(&frame(&ipld!({"op": 1, "t": t}), body))
}

fn label(val: &str) -> Ipld {
    ipld!({"cts": "T", "sig": Ipld::Bytes(vec![1, 2]), "src": "did:plc:l", "uri": "at://x", "val": val, "ver": 1})
}

#[test]
fn one_entry_per_label() {
    let body = ipld!({"seq": 5, "labels": [label("a"), label("b")]});
    let expected = |val: &str| {
        format!(
            r#"{{"type":"label","label":{{"cts":"T","sig":{{"$bytes":"AQI"}},"src":"did:plc:l","uri":"at://x","val":"{val}","ver":1}}}}"#
        )
    };
    for t in ["#labels", "com.atproto.label.subscribeLabels#labels"] {
        let converted = labels(t, &body);
        assert_eq!(converted.entries, [expected("a"), expected("b")]);
        assert_eq!((&converted.kind, converted.seq, converted.counted), (&FrameKind::Labels, Some(5), true));
    }
    let converted = labels("#labels", &ipld!({"seq": 6, "labels": []}));
    assert_eq!((converted.entries.len(), converted.seq, converted.counted), (0, Some(6), true));
}

#[test]
fn a_label_that_is_none_is_rejected_alone() {
    let converted = labels("#labels", &ipld!({"seq": 5, "labels": [label("a"), 7, label("b")]}));
    assert_eq!((converted.entries.len(), converted.counted), (2, true));
    let reasons: Vec<_> = converted.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [reason::BAD_LABEL]);
}

#[test]
fn notes_errors_and_unknown_types_do_not_move_the_cursor() {
    let converted = labels("#info", &ipld!({"name": "OutdatedCursor"}));
    assert_eq!(converted.kind, FrameKind::Info { name: "OutdatedCursor".to_owned(), message: None });
    assert!(!converted.counted);
    let converted =
        convert_labels(&frame(&ipld!({"op": -1}), &ipld!({"error": "FutureCursor", "message": "m"})));
    let expected = FrameKind::Error { error: "FutureCursor".to_owned(), message: Some("m".to_owned()) };
    assert_eq!((converted.kind, converted.counted), (expected, false));
    let converted = labels("#other", &ipld!({"seq": 1}));
    assert_eq!((converted.kind, converted.counted), (FrameKind::Other { t: "#other".to_owned() }, false));
}

#[test]
fn broken_bodies_are_rejected_and_passed_over() {
    for (body, seq) in [
        (ipld!({"seq": 5}), Some(5)),
        (ipld!({"seq": 5, "labels": {"a": 1}}), Some(5)),
        (ipld!({"seq": -5, "labels": []}), None),
        (ipld!([]), None),
    ] {
        let converted = labels("#labels", &body);
        assert_eq!(
            (&converted.kind, converted.seq, converted.counted),
            (&FrameKind::Undecodable, seq, seq.is_some())
        );
        assert_eq!(converted.rejected.first().map(|rejected| rejected.reason), Some(reason::BAD_FRAME));
    }
}

#[test]
fn of_many_bad_labels_only_some_are_listed() {
    let converted = labels("#labels", &ipld!({"seq": 5, "labels": Ipld::List(vec![ipld!(7); 1_000])}));
    assert_eq!((converted.rejected.len(), converted.rejected_unlisted), (100, 900));
}

#[test]
fn a_frame_does_not_become_far_more_than_it_is() {
    // A byte each, as an entry more than a hundred.
    let many = |count: usize| {
        labels(
            "#labels",
            &ipld!({"labels": Ipld::List(vec![Ipld::Map(Default::default()); count]), "seq": 5}),
        )
    };
    let refused = |converted: Converted| {
        let reasons: Vec<_> = converted.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, [reason::TOO_LARGE]);
        assert_eq!((converted.entries.len(), converted.counted, converted.seq), (0, true, Some(5)));
    };
    assert_eq!(many(100_000).entries.len(), 100_000);
    refused(many(100_001));
    // Each byte of a control character becomes six.
    let label = label(&"\u{1}".repeat(1 << 20));
    refused(labels("#labels", &ipld!({"labels": [label.clone(), label.clone(), label], "seq": 5})));
}
