//! The validator against recorded verdicts of the reference and the vectors of the specification.

use super::{Invalid, validate};
use crate::text::datetime::normalize_datetime;
use crate::text::json::Json;
use crate::text::recordings::{fixture, golden, read_lines};

#[derive(serde::Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    collection: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    record: Json<'a>,
    valid: bool,
    /// The reference's message.
    #[serde(alias = "error")]
    reason: Option<String>,
    #[serde(rename = "normalizedCreatedAt")]
    normalized_created_at: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Tally {
    valid: usize,
    invalid: usize,
    undecodable: usize,
    undecodable_but_valid: usize,
}

/// The fixtures hold the verdict of the validator alone, for which an unreadable link is a plain object. The golden
/// verdicts are those of the indexer, which decodes first.
fn compare(lines: &[String], decodes_first: bool) -> Tally {
    let mut tally = Tally::default();
    let mut disagreements = Vec::new();
    for line in lines {
        let case: Case<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let found = validate(&case.collection, &case.record);
        if matches!(found, Err(Invalid::Undecodable(_))) && !decodes_first {
            tally.undecodable += 1;
            tally.undecodable_but_valid += usize::from(case.valid);
            continue;
        }
        if case.valid {
            tally.valid += 1
        } else {
            tally.invalid += 1
        }
        let expected = case.reason.as_deref().map(|reason| reason.strip_prefix("ERR ").unwrap_or(reason));
        let message = found.as_ref().err().map(Invalid::to_string);
        // A long `$type` is quoted in part.
        let is_same = match &found {
            Err(Invalid::WrongType { .. }) => {
                expected.is_some_and(|text| text.starts_with(message.as_deref().unwrap()))
            }
            _ => message.as_deref() == expected,
        };
        if found.is_ok() != case.valid || !is_same {
            disagreements.push(format!("{message:?}, not {expected:?}: {line}"));
        }
        if let Some(expected) = &case.normalized_created_at {
            let created_at = case.record.get("createdAt").and_then(Json::as_str).unwrap();
            assert_eq!(normalize_datetime(created_at), expected.as_str());
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements, first: {:#?}",
        disagreements.len(),
        disagreements.first()
    );
    tally
}

#[test]
fn golden_records() {
    assert_eq!(compare(&golden("validation"), true), Tally { valid: 479, invalid: 2459, ..Tally::default() });
}

#[test]
fn fixture_records() {
    let Some(path) = fixture("lexicon/cases.jsonl.gz") else { return };
    let expected = Tally { valid: 2253, invalid: 7698, undecodable: 167, undecodable_but_valid: 3 };
    assert_eq!(compare(&read_lines(&path), false), expected);
}

/// A post with the properties `more` besides those it must have.
fn post_with(more: &str) -> Result<(), String> {
    let more = more
        .replace("CID", "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq")
        .replace("BLOB", r#"{"$type":"blob","ref":{"$link":"CID"},"mimeType":"text/plain","size":99999999}"#)
        .replace("CID", "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq");
    let text =
        format!(r#"{{"$type":"app.bsky.feed.post","text":"x","createdAt":"2024-01-01T00:00:00Z",{more}}}"#);
    let record = Json::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    validate("app.bsky.feed.post", &record).map_err(|invalid| invalid.to_string())
}

/// VALIDATION 5.
#[test]
fn posts_that_are_valid() {
    let family = format!(r#""text":"{}""#, "👩‍👩‍👧‍👧".repeat(120));
    let labels = format!(
        r#""labels":{{"$type":"com.atproto.label.defs#selfLabels","values":[{}]}}"#,
        [r#"{"val":"x"}"#; 10].join(",")
    );
    for more in [
        r#""extra":{"a":[null]}"#,
        r#""embed":{"$type":"com.example.embed","images":5}"#,
        r#""embed":{"$type":"lex:app.bsky.embed.images","images":[]}"#,
        r#""embed":{"$type":""}"#,
        r#""facets":[{"index":{"byteStart":1.0,"byteEnd":1e300},"features":[{"$type":"x"}]}]"#,
        r#""labels":{"$type":"com.example.labels","values":5}"#,
        r#""tags":["","a","b","c","d","e","f","g"]"#,
        r#""entities":[{"index":{"start":0,"end":0},"type":"","value":""}]"#,
        r#""embed":{"$type":"app.bsky.embed.images","images":[{"image":BLOB,"alt":""}]}"#,
        r#""embed":{"$type":"app.bsky.embed.images","images":[{"image":{"cid":"CID","mimeType":""},"alt":""}]}"#,
        r#""embed":{"$type":"app.bsky.embed.images#main","images":[]}"#,
        // What a reference to another definition calls itself is not looked at.
        r#""reply":{"$type":"x","root":{"uri":"at://a.b","cid":"CID"},"parent":{"$type":5,"uri":"at://a.b","cid":"CID"}}"#,
        &family,
        &labels,
    ] {
        assert_eq!(post_with(more), Ok(()), "{more}");
    }
}

/// VALIDATION 5.
#[test]
fn posts_that_are_refused() {
    let letters = format!(r#""text":"{}""#, "a".repeat(301));
    let families = format!(r#""text":"{}""#, "👩‍👩‍👧‍👧".repeat(121));
    let labels = format!(
        r#""labels":{{"$type":"com.atproto.label.defs#selfLabels","values":[{}]}}"#,
        [r#"{"val":"x"}"#; 11].join(",")
    );
    const NO_TYPE: &str = "Record/embed must be an object which includes the \"$type\" property";
    for (more, reason) in [
        (r#""embed":null"#, NO_TYPE),
        (r#""embed":{}"#, NO_TYPE),
        (r#""embed":["$type"]"#, NO_TYPE),
        (r#""embed":{"$type":5}"#, NO_TYPE),
        (r#""embed":BLOB"#, NO_TYPE),
        (r#""langs":null"#, "Record/langs must be an array"),
        (r#""langs":["a","b","c","d"]"#, "Record/langs must not have more than 3 elements"),
        (r#""langs":["en","e_n"]"#, "Record/langs/1 must be a well-formed BCP 47 language tag"),
        (r#""tags":["","","","","","","","",""]"#, "Record/tags must not have more than 8 elements"),
        (r#""text":null"#, "Record/text must be a string"),
        (&letters, "Record/text must not be longer than 300 graphemes"),
        (&families, "Record/text must not be longer than 3000 characters"),
        (&labels, "Record/labels/values must not have more than 10 elements"),
        (
            r#""embed":{"$type":"app.bsky.embed.images","images":[{"image":BLOB}]}"#,
            "Record/embed/images/0 must have the property \"alt\"",
        ),
        (
            r#""embed":{"$type":"app.bsky.embed.images#main","images":[{"image":1,"alt":""}]}"#,
            "Record/embed/images/0/image should be a blob ref",
        ),
        (r#""embed":{"$type":"a#b#c"}"#, "Uri can only have one hash segment"),
        (r##""embed":{"$type":"#a"}"##, "Unable to resolve uri without anchor"),
        (
            r#""facets":[{"index":{"byteStart":-1,"byteEnd":1},"features":[]}]"#,
            "Record/facets/0/index/byteStart can not be less than 0",
        ),
        (
            r#""facets":[{"index":{"byteStart":0,"byteEnd":1.5},"features":[]}]"#,
            "Record/facets/0/index/byteEnd must be an integer",
        ),
        (
            r#""facets":[{"index":{"byteStart":0,"byteEnd":0},"features":[{"$type":"app.bsky.richtext.facet#mention","did":"x"}]}]"#,
            "Record/facets/0/features/0/did must be a valid did",
        ),
        (
            r#""reply":{"root":{"uri":"at://a.b","cid":"CID"},"parent":{"uri":"at://a.b","cid":"x"}}"#,
            "Record/reply/parent/cid must be a cid string",
        ),
        (r#""reply":[]"#, "Record/reply must have the property \"root\""),
        (r#""reply":5"#, "Record/reply must be an object"),
        (
            r#""extra":{"$link":"x"}"#,
            "To parse non base32 or base58btc encoded CID multibase decoder must be provided",
        ),
    ] {
        assert_eq!(post_with(more), Err(reason.to_owned()), "{more}");
    }
}

#[test]
fn the_type_of_a_record() {
    let verdict = |collection: &str, record: &str| {
        validate(collection, &Json::parse(record).unwrap()).map_err(|invalid| invalid.to_string())
    };
    let post = |name: &str| {
        let record = format!(r#"{{"$type":{name},"text":"","createdAt":"2024-01-01T00:00:00Z"}}"#);
        verdict("app.bsky.feed.post", &record)
    };
    assert_eq!(post(r#""app.bsky.feed.post""#), Ok(()));
    assert_eq!(post(r#""lex:app.bsky.feed.post""#), Ok(()));
    for (name, reason) in [
        (
            r#""app.bsky.feed.post#main""#,
            "Invalid $type: must be lex:app.bsky.feed.post, got app.bsky.feed.post#main",
        ),
        (r#""""#, "Invalid $type: must be lex:app.bsky.feed.post, got "),
        (r#""a#b#c""#, "Uri can only have one hash segment"),
        ("5", "Record/$type must be a string"),
        ("null", "Record/$type must be a string"),
    ] {
        assert_eq!(post(name), Err(reason.to_owned()));
    }
    for record in ["null", "5", "\"x\""] {
        assert_eq!(verdict("app.bsky.feed.post", record), Err("Record must be an object".to_owned()));
    }
    assert_eq!(verdict("app.bsky.feed.post", "[]"), Err("Record/$type must be a string".to_owned()));
    assert_eq!(verdict("com.example.record", "{}"), Err(Invalid::UnknownCollection.to_string()));
    assert!(verdict("chat.bsky.actor.declaration", "5").is_err());
    assert_eq!(
        verdict(
            "app.bsky.notification.declaration",
            r#"{"$type":"app.bsky.notification.declaration","allowSubscriptions":"zzz"}"#
        ),
        Ok(())
    );
    // A long `$type` is not repeated in full.
    assert_eq!(
        post(&format!("\"{}\"", "é".repeat(500))).unwrap_err().chars().filter(|&c| c == 'é').count(),
        200
    );
}

/// The interoperability suite, where its rules are those of the reference: these are looser for at-uris (any record
/// key) and of their own for the other formats.
#[test]
fn interop_syntax() {
    use super::schema::Format;
    for (file, format, expected) in [
        ("did_syntax_valid", Format::Did, true),
        ("did_syntax_invalid", Format::Did, false),
        ("handle_syntax_valid", Format::Handle, true),
        ("handle_syntax_invalid", Format::Handle, false),
        ("nsid_syntax_valid", Format::Nsid, true),
        ("nsid_syntax_invalid", Format::Nsid, false),
        ("aturi_syntax_valid", Format::AtUri, true),
    ] {
        let Some(path) = fixture(&format!("interop/syntax/{file}.txt")) else { return };
        let text = std::fs::read_to_string(path).unwrap();
        let samples: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(samples.len() > 5, "{file}");
        for sample in samples {
            assert_eq!(format.accepts(sample), expected, "{file}: {sample}");
        }
    }
}
