//! What hostile entries take of memory while they are taken apart, and afterwards, beside what they are charged.

use allocation_counter::measure;
use rsky_common::redis::consumer::Entry;

use crate::intake::Intake;
use crate::job::Payload;
use crate::kind::{Events, Kind, Labels};
use crate::lexicon::Edition;
use crate::prepare::TREE;
use crate::reader::charge_of;

/// Bytes of a hostile record, so that its items are a few more than a power of two: lists that double have just doubled.
const SIZE: usize = (1 << 20) + 64;

const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

/// So many copies of an item that they fill a hostile record.
fn many(item: &str) -> String {
    vec![item; SIZE / (item.len() + 1)].join(",")
}

/// Values that a record may have in a member that no lexicon knows.
fn values() -> Vec<(&'static str, String)> {
    let names = (0..SIZE / 12).map(|number| format!("\"{number:x}\":1")).collect::<Vec<_>>().join(",");
    vec![
        ("numbers", format!("[{}]", many("1"))),
        ("empty strings", format!("[{}]", many(r#""""#))),
        ("strings with an escape", format!("[{}]", many(r#""\n""#))),
        ("empty lists", format!("[{}]", many("[]"))),
        ("lists of one", format!("[{}]", many("[1]"))),
        ("lists of two", format!("[{}]", many("[1,1]"))),
        ("lists of lists of one", format!("[{}]", many("[[1]]"))),
        ("empty objects", format!("[{}]", many("{}"))),
        ("objects of one", format!("[{}]", many(r#"{"":1}"#))),
        ("objects with one name twice", format!("[{}]", many(r#"{"":1,"":1}"#))),
        ("one name again and again", format!("{{{}}}", many(r#""":1"#))),
        ("one name with an escape", format!("{{{}}}", many(r#""\n":1"#))),
        ("many names, one twice", format!("{{{names},\"0\":1}}")),
        ("many names", format!("{{{names}}}")),
        ("bytes", format!("[{}]", many(r#"{"$bytes":""}"#))),
        ("deep", format!("{}{}", "[".repeat(100), "]".repeat(100))),
        ("too deep", format!("{}{}", "[".repeat(SIZE / 2), "]".repeat(SIZE / 2))),
        ("a long string", format!("\"{}\"", "x".repeat(SIZE))),
        ("a long string of escapes", format!("\"{}\"", r"\u0001".repeat(SIZE / 6))),
    ]
}

fn event(kind: &str, collection: &str, record: &str) -> String {
    format!(
        r#"{{"type":"{kind}","record":{record},"cid":"{CID}","seq":5,"time":"2024-01-01T00:00:00.000Z","did":"did:plc:a","commit":"{CID}","rev":"3k2222222222a","collection":"{collection}","rkey":"1"}}"#
    )
}

fn events() -> Vec<(String, String)> {
    let like = |more: &str| {
        format!(
            r#"{{"$type":"app.bsky.feed.like","subject":{{"uri":"at://did:plc:s/app.bsky.feed.post/1","cid":"{CID}"}},"createdAt":"2024-01-01T00:00:00.000Z"{more}}}"#
        )
    };
    let post = |more: &str| {
        format!(r#"{{"$type":"app.bsky.feed.post","text":"","createdAt":"2024-01-01T00:00:00.000Z"{more}}}"#)
    };
    let mut events = Vec::new();
    for (name, value) in values() {
        let of = |what: &str, payload| (format!("{what}: {name}"), payload);
        events.push(of("like", event("create", "app.bsky.feed.like", &like(&format!(r#","more":{value}"#)))));
        events.push(of("record", event("update", "app.bsky.feed.post", &value)));
        events.push(of(
            "facets",
            event("create", "app.bsky.feed.post", &post(&format!(r#","facets":{value}"#))),
        ));
        let unread = event("create", "com.example.x", &value);
        events.push(of(
            "member of the entry",
            unread.replacen("\"seq\"", &format!("\"more\":{value},\"seq\""), 1),
        ));
        events.push(of("no rule", unread));
        events.push(of("type", format!(r#"{{"type":{value}}}"#)));
        events
            .push(of("cut", event("create", "app.bsky.feed.like", &value).chars().take(SIZE / 2).collect()));
    }
    let facet = r#"{"index":{"byteStart":0,"byteEnd":0},"features":[{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:a"}]}"#;
    let mentions = post(&format!(r#","facets":[{}]"#, many(facet)));
    events.push(("mentions".to_owned(), event("create", "app.bsky.feed.post", &mentions)));
    let gate = format!(
        r#"{{"$type":"app.bsky.feed.threadgate","post":"at://did:plc:a/app.bsky.feed.post/1","createdAt":"2024-01-01T00:00:00.000Z","hiddenReplies":[{}]}}"#,
        many(r#""at://did:plc:a/app.bsky.feed.post/1""#)
    );
    events.push(("hidden replies".to_owned(), event("create", "app.bsky.feed.threadgate", &gate)));
    events
}

fn labels() -> Vec<(String, String)> {
    let label = |more: &str| format!(r#"{{"src":"","uri":"","val":"","cts":""{more}}}"#);
    let mut labels = Vec::new();
    for (name, value) in values() {
        for member in ["sig", "neg", "ver", "more"] {
            let label = label(&format!(r#","{member}":{value}"#));
            labels.push((format!("{member}: {name}"), format!(r#"{{"type":"label","label":{label}}}"#)));
        }
        let sig = label(&format!(r#","sig":{{"type":"Buffer","data":{value}}}"#));
        labels.push((format!("data: {name}"), format!(r#"{{"type":"label","label":{sig}}}"#)));
        labels.push((format!("labels: {name}"), format!(r#"{{"labels":{value}}}"#)));
    }
    labels.push(("the smallest".to_owned(), format!(r#"{{"labels":[{}]}}"#, many(&label("")))));
    let signed = label(r#","sig":[1,2,3,4]"#);
    labels.push(("signed".to_owned(), format!(r#"{{"labels":[{}]}}"#, many(&signed))));
    labels
}

/// Takes an entry apart as the pipeline does, and looks at its peak of memory and at what is held afterwards.
fn check<K: Kind>(name: &str, payload: &[u8]) {
    let charged = charge_of::<K>(&entry(payload));
    let mut kept = None;
    let info = measure(|| {
        let mut entry = entry(payload);
        let payload = Payload::of(K::FIELDS, &mut entry);
        let read = payload.read::<K>(Edition::Reference);
        kept = Some((entry, payload, read));
    });
    let (peak, held) = (info.bytes_max, u64::try_from(info.bytes_current).unwrap());
    let what = match &kept {
        Some((.., Intake::Work(_))) => "work",
        Some((.., Intake::Nothing(reason) | Intake::Rejected { reason, .. })) => *reason,
        None => "",
    };
    let size = payload.len();
    let factor = (peak as usize).saturating_sub(charged) / size.max(1);
    println!("{name} ({what}): {size} bytes, charged {charged}, held {held}, peak {peak}: {factor} beyond");
    // A list of many short mentions is more than two copies of the entry.
    assert!(held <= (charged + charged / 4) as u64, "{name}: {held} held, {charged} charged");
    assert!(
        peak <= (charged + TREE * size) as u64,
        "{name}: peak {peak}, charged {charged} for {size} bytes"
    );
}

fn entry(payload: &[u8]) -> Entry {
    Entry { id: "1-1".to_owned(), fields: vec![(b"event".to_vec(), payload.to_vec())] }
}

#[test]
fn hostile_events_take_what_they_are_charged() {
    for (name, payload) in events() {
        check::<Events>(&name, payload.as_bytes());
    }
}

#[test]
fn hostile_labels_take_what_they_are_charged() {
    for (name, payload) in labels() {
        check::<Labels>(&name, payload.as_bytes());
    }
}

#[test]
fn entries_of_many_fields_and_of_no_text_take_what_they_are_charged() {
    let fields = || (0..10_000).map(|number| (format!("{number}").into_bytes(), b"x".to_vec())).collect();
    let many = Entry { id: "1-1".to_owned(), fields: fields() };
    let info = measure(|| drop(Entry { id: "1-1".to_owned(), fields: fields() }));
    assert!(info.bytes_max <= charge_of::<Events>(&many) as u64, "{}", info.bytes_max);
    check::<Events>("no text", &vec![0xff; SIZE]);
}
