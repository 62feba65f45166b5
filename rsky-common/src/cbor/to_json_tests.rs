use super::*;

const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

/// A value of text, short enough for a one-byte head.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = match u8::try_from(text.len()).unwrap() {
        short @ 0..24 => vec![0x60 + short],
        long => vec![0x78, long],
    };
    bytes.extend(text.as_bytes());
    bytes
}

fn map(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0xa0 + u8::try_from(members.len()).unwrap()];
    for (key, value) in members {
        bytes.extend(text(key));
        bytes.extend(*value);
    }
    bytes
}

fn link(cid: &str) -> Vec<u8> {
    let cid = ::cid::Cid::try_from(cid).unwrap().to_bytes();
    [&[0xd8, 42, 0x58, u8::try_from(cid.len() + 1).unwrap(), 0], cid.as_slice()].concat()
}

fn json(block: &[u8]) -> Result<String, RecordError> {
    let mut out = String::from("before");
    let written = write_record_json(block, &mut out);
    let after = out.strip_prefix("before").unwrap().to_owned();
    if written.is_err() {
        assert_eq!(after, "", "an error leaves the output as it was");
    }
    written.map(|()| after)
}

/// The JSON of a record whose only member is `v`.
fn value(bytes: &[u8]) -> Result<String, RecordError> {
    json(&map(&[("v", bytes)])).map(|json| {
        let inner = json.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
        inner.unwrap().to_owned()
    })
}

#[test]
fn scalars() {
    let safe = [0x1b, 0, 0x1f, 255, 255, 255, 255, 255, 255];
    let least = [0x3b, 0, 0x1f, 255, 255, 255, 255, 255, 254];
    let cases: [(&[u8], &str); 14] = [
        (&[0x00], "0"),
        (&[0x20], "-1"),
        (&safe, "9007199254740991"),
        (&least, "-9007199254740991"),
        (&[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0], "1"),
        (&[0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0], "0"),
        (&[0xfa, 0x3f, 0x80, 0, 0], "1"),
        (&[0xf9, 0x3e, 0], "1.5"),
        (&[0xfb, 0x44, 0x4b, 0x1a, 0xe4, 0xd6, 0xe2, 0xef, 0x50], "1e+21"),
        (&[0xf5], "true"),
        (&[0xf6], "null"),
        (&[0xf7], "null"),
        (&[0x43, 1, 2, 3], r#"{"$bytes":"AQID"}"#),
        (&[0x80], "[]"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(value(bytes).as_deref(), Ok(expected), "{bytes:x?}");
    }
    assert_eq!(value(&[0x83, 1, 0xa0, 0x81, 0x40]).as_deref(), Ok(r#"[1,{},[{"$bytes":""}]]"#));
}

#[test]
fn text_is_escaped_and_repaired() {
    assert_eq!(value(&text("a\"\u{1}\u{2028}")).as_deref(), Ok("\"a\\\"\\u0001\u{2028}\""));
    assert_eq!(value(&[0x62, 0xc3, 0x28]).as_deref(), Ok("\"\u{fffd}(\""));
    assert_eq!(json(&[0xa1, 0x61, 0xff, 0]).as_deref(), Ok("{\"\u{fffd}\":0}"));
}

#[test]
fn links_of_both_versions() {
    let version_0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    for cid in [CID, version_0] {
        assert_eq!(value(&link(cid)), Ok(format!(r#"{{"$link":"{cid}"}}"#)));
    }
    for bad in [&[0xd8, 42, 0x41, 0][..], &[0xd8, 42, 0x40], &[0xd8, 42, 0x61, 0], &[0xd8, 42, 0x42, 1, 1]] {
        assert_eq!(value(bad), Err(RecordError::BadLink), "{bad:x?}");
    }
}

#[test]
fn what_the_reference_cannot_convert_is_refused() {
    let cases: [(&[u8], RecordError); 12] = [
        (&[0x1b, 0, 0x20, 0, 0, 0, 0, 0, 0], RecordError::IntegerTooLarge),
        (&[0x3b, 0, 0x1f, 255, 255, 255, 255, 255, 255], RecordError::IntegerTooLarge),
        (&[0x3b, 255, 255, 255, 255, 255, 255, 255, 255], RecordError::IntegerTooLarge),
        (&[0xc1, 0], RecordError::Tag(1)),
        (&[0xa1, 0, 0], RecordError::NonTextKey),
        (&[0xa1, 0x41, b'k', 0], RecordError::NonTextKey),
        (&[0xf9, 0x7c, 0], CborError::NotFinite.into()),
        (&[0x9f, 0xff], CborError::Indefinite.into()),
        (&[0xbf, 0xff], CborError::Indefinite.into()),
        (&[0x18, 1], CborError::NonMinimal.into()),
        (&[0xe0], CborError::Simple.into()),
        (&[0x82, 1], CborError::Truncated.into()),
    ];
    for (bytes, error) in cases {
        assert_eq!(value(bytes), Err(error), "{bytes:x?}");
    }
    assert_eq!(json(&[0x80]), Err(RecordError::NotAMap));
    assert_eq!(json(&text("record")), Err(RecordError::NotAMap));
    assert_eq!(json(&[0xa0, 0]), Err(CborError::TrailingBytes.into()));
    assert_eq!(json(&[]), Err(CborError::Truncated.into()));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| [vec![0x81; levels], vec![0]].concat();
    assert!(value(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(value(&nested(MAX_DEPTH)), Err(CborError::TooDeep.into()));
    let maps = b"\xa1\x61a".repeat(100_000);
    assert_eq!(json(&maps), Err(CborError::TooDeep.into()));
}

#[test]
fn keys_keep_their_order() {
    assert_eq!(
        json(&map(&[("b", &[1]), ("a", &[2]), ("aa", &[3])])).as_deref(),
        Ok(r#"{"b":1,"a":2,"aa":3}"#)
    );
}

#[test]
fn keys_that_javascript_treats_in_its_own_way() {
    let block = map(&[("b", &[1]), ("17", &[2]), ("4294967295", &[3]), ("2", &[4]), ("01", &[5])]);
    assert_eq!(json(&block).as_deref(), Ok(r#"{"2":4,"17":2,"b":1,"4294967295":3,"01":5}"#));
    let block = map(&[("a", &[1]), ("__proto__", &[0xa1, 0x61, b'x', 1]), ("b", &[2])]);
    assert_eq!(json(&block).as_deref(), Ok(r#"{"a":1,"b":2}"#));
    assert_eq!(json(&map(&[("__proto__", &[0xf6])])).as_deref(), Ok("{}"));
    assert_eq!(json(&map(&[("__proto__", &[0xf6]), ("a", &[1])])).as_deref(), Ok(r#"{"a":1}"#));
    assert_eq!(json(&map(&[("__proto__", &[0xc1, 0])])), Err(RecordError::Tag(1)), "a value all the same");
    let deep = [vec![0x81; MAX_DEPTH], vec![0]].concat();
    let lost: [(&[u8], RecordError); 4] = [
        (&[0xa1, 1, 1], RecordError::NonTextKey),
        (&[0x81, 0xd8, 42, 0x41, 1], RecordError::BadLink),
        (&[0x82, 0xa1, 0x61, b'a', 0xf6, 0xe0], CborError::Simple.into()),
        (&deep, CborError::TooDeep.into()),
    ];
    for (value, error) in lost {
        assert_eq!(json(&map(&[("__proto__", value)])), Err(error), "{value:x?}");
    }
    let nested = [&[0x82, 0xa1, 0x61, b'a', 0xd8, 42, 0x41, 0, 0x62, b'x'][..], b"y"].concat();
    assert_eq!(json(&map(&[("__proto__", &nested), ("a", &[1])])).as_deref(), Ok(r#"{"a":1}"#));
    // What is lost does not count as a member.
    let members: [(&str, &[u8]); 3] = [("__proto__", &[1]), ("cid", b"\x61x"), ("mimeType", b"\x61y")];
    assert_eq!(json(&map(&members)), Err(RecordError::BadLegacyBlob));
}

#[test]
fn equal_keys_are_refused_wherever_they_stand() {
    let twice: [&[(&str, &[u8])]; 5] = [
        &[("a", &[1]), ("a", &[2])],
        &[("a", &[1]), ("b", &[2]), ("a", &[3])],
        &[("b", &[1]), ("a", &[2]), ("c", &[3]), ("b", &[4])],
        &[("1", &[1]), ("0", &[2]), ("1", &[3])],
        &[("__proto__", &[1]), ("a", &[2]), ("__proto__", &[3])],
    ];
    for members in twice {
        assert_eq!(json(&map(members)), Err(RecordError::DuplicateKey), "{members:?}");
        assert_eq!(value(&map(members)), Err(RecordError::DuplicateKey), "{members:?}");
        let mut label = String::new();
        assert_eq!(write_label_json(&map(members), &mut label), Err(RecordError::DuplicateKey));
    }
    // Two invalid keys that become the same text are equal.
    assert_eq!(json(&[0xa2, 0x61, 0xff, 1, 0x61, 0xfe, 2]), Err(RecordError::DuplicateKey));
    assert_eq!(json(&[0xa2, 0x61, 0xff, 1, 0x63, 0xef, 0xbf, 0xbd, 2]), Err(RecordError::DuplicateKey));
    // The same key in maps beside and inside of each other is another key.
    let inner = map(&[("a", &[1])]);
    assert_eq!(json(&map(&[("a", &inner), ("b", &inner)])).as_deref(), Ok(r#"{"a":{"a":1},"b":{"a":1}}"#));
}

#[test]
fn odd_maps_inside_of_odd_maps() {
    let inner = map(&[("x", &[1]), ("0", &[2])]);
    let outer = map(&[("y", &inner), ("1", &inner), ("x", &[0x80])]);
    let whole = map(&[("z", &outer), ("a", &[1])]);
    assert_eq!(json(&whole).as_deref(), Ok(r#"{"z":{"1":{"0":2,"x":1},"y":{"0":2,"x":1},"x":[]},"a":1}"#));
    // One member of each level is out of order: the work must not double with every level.
    let mut deep = map(&[("b", &[1]), ("0", &[2])]);
    for _ in 0..MAX_DEPTH - 2 {
        deep = map(&[("b", &deep), ("0", &[2])]);
    }
    assert!(value(&deep).is_ok());
}

/// A map of so many keys of five digits, in an order that is none.
fn many_keys(count: u32) -> Vec<u8> {
    let mut block = vec![0xba];
    block.extend(count.to_be_bytes());
    if let Ok(count) = u16::try_from(count) {
        block = [&[0xb9], count.to_be_bytes().as_slice()].concat();
    }
    for number in 0..count {
        block.extend(text(&format!("k{:05}", u64::from(number) * 7919 % 99_991)));
        block.push(0);
    }
    block
}

#[test]
fn members_are_bounded_and_their_order_costs_no_quadratic_time() {
    let most = u32::try_from(members::MAX_MEMBERS).unwrap();
    assert_eq!(json(&many_keys(most)).unwrap().matches("\"k").count(), members::MAX_MEMBERS);
    assert_eq!(json(&many_keys(most + 1)), Err(RecordError::TooManyMembers));
    // Those of maps that have ended do not count.
    let ended = [vec![0x99, 0x01, 0x00], map(&[("a", &[1]), ("b", &[2])]).repeat(256)].concat();
    let mut record = vec![0xb9, 0x03, 0xe8];
    (0..1000).for_each(|number| {
        record.extend(text(&format!("{number:03}x")));
        record.extend(&ended);
    });
    assert_eq!(json(&record).unwrap().matches("\"b\"").count(), 256_000);
}

#[test]
fn a_million_empty_keys_end_with_the_second() {
    let mut block = vec![0xba];
    block.extend(950_000_u32.to_be_bytes());
    block.extend([0x60, 0xf6].repeat(950_000));
    // Two hundred thousand times, it would take days if all were looked at.
    let mut scratch = Scratch::default();
    let mut out = String::new();
    for _ in 0..200_000 {
        assert_eq!(scratch.write_record(&block, &mut out, MAX_TEXT_BYTES), Err(RecordError::DuplicateKey));
    }
    assert!(out.capacity() < 1024);
}

#[test]
fn text_is_bounded_before_it_is_written() {
    let head = |major: u8, length: usize| {
        [vec![major << 5 | 26], u32::try_from(length).unwrap().to_be_bytes().to_vec()].concat()
    };
    let record =
        |major: u8, bytes: &[u8]| [b"\xa1\x61v".to_vec(), head(major, bytes.len()), bytes.to_vec()].concat();
    let most = 100_000;
    for (block, fits) in [
        (record(3, &vec![b'x'; most - 8]), true),
        (record(3, &vec![b'x'; most - 7]), false),
        (record(3, &vec![1; most - 8]), false),
        (record(2, &vec![1; most / 4 * 3 - 30]), true),
        (record(2, &vec![1; most]), false),
        // An empty byte string becomes fourteen bytes.
        (
            record(4, &[]).into_iter().take(3).chain(head(4, 100_000)).chain(vec![0x40; 100_000]).collect(),
            false,
        ),
        (map(&[("__proto__", &[head(2, most), vec![0; most]].concat())]), true),
    ] {
        let mut out = String::new();
        let written = Scratch::default().write_record(&block, &mut out, most);
        assert_eq!(
            written,
            if fits { Ok(()) } else { Err(RecordError::TooLong(most)) },
            "{:x?}",
            &block[..9]
        );
        assert!(out.len() <= most && out.capacity() <= 2 * most, "{} {}", out.len(), out.capacity());
    }
}

#[test]
fn a_cid_that_is_a_megabyte_of_base58_costs_nothing() {
    // The time to decode it goes by the square of its length.
    let cid = format!("z{}", "2".repeat(1 << 20));
    let cid = [&[0x7a, 0x00, 0x10, 0x00, 0x01], cid.as_bytes()].concat();
    let block = map(&[("cid", &cid), ("mimeType", b"\x61y")]);
    for _ in 0..100 {
        assert_eq!(json(&block), Err(RecordError::BadLegacyBlob));
    }
}

#[test]
fn typed_blobs_have_one_order() {
    let link = link(CID);
    let expected = format!(r#"{{"$type":"blob","ref":{{"$link":"{CID}"}},"mimeType":"image/png","size":7}}"#);
    let members: [(&str, &[u8]); 4] =
        [("ref", &link), ("size", &[7]), ("$type", b"\x64blob"), ("mimeType", b"\x69image/png")];
    assert_eq!(value(&map(&members)), Ok(expected.clone()));
    let mut reversed = members;
    reversed.reverse();
    assert_eq!(value(&map(&reversed)), Ok(expected.clone()));
    // Also as the record itself.
    assert_eq!(json(&map(&members)), Ok(expected.clone()));
    let [a, _, c, d] = members;
    let sizes: [(&[u8], &str); 2] = [(&[0x20], "-1"), (&[0xf9, 0x3e, 0], "1.5")];
    for (size, text) in sizes {
        assert_eq!(
            value(&map(&[a, ("size", size), c, d])),
            Ok(expected.replace("size\":7", &format!("size\":{text}")))
        );
    }
}

#[test]
fn what_only_looks_like_a_typed_blob_keeps_its_order() {
    let link = link(CID);
    let cid_text = text(CID);
    let (size, tag, mime): (&[u8], &[u8], &[u8]) = (&[7], b"\x64blob", b"\x61m");
    let extra =
        map(&[("ref", &link), ("size", size), ("$type", tag), ("extra", &[0xf6]), ("mimeType", mime)]);
    assert!(value(&extra).unwrap().starts_with(r#"{"ref":"#));
    for members in [
        [("ref", cid_text.as_slice()), ("size", size), ("$type", tag), ("mimeType", mime)],
        [("ref", link.as_slice()), ("size", b"\x617"), ("$type", tag), ("mimeType", mime)],
        [("ref", link.as_slice()), ("size", size), ("$type", b"\x64blub"), ("mimeType", mime)],
        [("ref", link.as_slice()), ("size", size), ("$type", tag), ("mimeType", &[1])],
    ] {
        assert!(value(&map(&members)).unwrap().starts_with(r#"{"ref":"#));
    }
}

#[test]
fn legacy_blobs_keep_their_form_but_must_have_a_cid() {
    let (cid, mime) = (text(CID), text("image/png"));
    let forward = map(&[("cid", &cid), ("mimeType", &mime)]);
    assert_eq!(value(&forward), Ok(format!(r#"{{"cid":"{CID}","mimeType":"image/png"}}"#)));
    let backward = map(&[("mimeType", &mime), ("cid", &cid)]);
    assert_eq!(value(&backward), Ok(format!(r#"{{"mimeType":"image/png","cid":"{CID}"}}"#)));
    for bad in ["", "x", "bafy\"", "mAXESIA"] {
        let bad = text(bad);
        assert_eq!(value(&map(&[("cid", &bad), ("mimeType", &mime)])), Err(RecordError::BadLegacyBlob));
        assert_eq!(json(&map(&[("mimeType", &mime), ("cid", &bad)])), Err(RecordError::BadLegacyBlob));
    }
    // A third key, or another type, makes it a plain map.
    assert!(value(&map(&[("cid", &text("x")), ("a", &[1]), ("mimeType", &mime)])).is_ok());
    assert!(value(&map(&[("cid", &[1]), ("mimeType", &mime)])).is_ok());
}

#[test]
fn labels_are_read_leniently_and_without_blob_rules() {
    let mut out = String::new();
    let label =
        [&[0xbf][..], b"\x63sig\x41\x01", b"\x63cid\x61x", b"\x68mimeType\x61y", b"\x63ver\x18\x01", &[0xff]];
    write_label_json(&label.concat(), &mut out).unwrap();
    assert_eq!(out, r#"{"sig":{"$bytes":"AQ"},"cid":"x","mimeType":"y","ver":1}"#);
    out.clear();
    write_label_json(&map(&[("cid", &text("x")), ("mimeType", &text("y"))]), &mut out).unwrap();
    assert_eq!(out, r#"{"cid":"x","mimeType":"y"}"#);
}
