//! Whatever stands in a stream: it is counted, kept where it can be looked at, acknowledged, and holds up nothing.

use rsky_testnet::servers::Redis;
use serde_json::{Value, json};

use crate::load::{like, padded_like};
use crate::process::{
    Indexer, LABELS, LIVE, add, add_field, count, dead_letters, read_and_vanish, wait_drained,
};
use crate::support::Db;

fn event(changes: &[(&str, Value)]) -> String {
    let mut event: Value = serde_json::from_str(&like(999_999)).unwrap();
    for (pointer, value) in changes {
        *event.pointer_mut(pointer).unwrap() = value.clone();
    }
    event.to_string()
}

fn list_item() -> String {
    let record = json!({"$type": "app.bsky.graph.listitem", "subject": "did:plc:s", "createdAt": "2024-01-01T00:00:00Z",
        "list": "at://did:plc:somebody/app.bsky.graph.list/x"});
    event(&[("/collection", json!("app.bsky.graph.listitem")), ("/record", record)])
}

/// Bad payloads with the reason they are counted under.
fn poison() -> Vec<(&'static str, Vec<u8>)> {
    let without = |field: &str| {
        let mut event: Value = serde_json::from_str(&like(999_998)).unwrap();
        event.as_object_mut().unwrap().remove(field).unwrap();
        event.to_string()
    };
    // Such bytes inside of a string: text with them replaced would be a valid entry.
    let mut not_utf8 = padded_like(999_997, 3).into_bytes();
    let at = not_utf8.windows(3).position(|three| three == b"xxx").unwrap();
    not_utf8[at] = 0xff;
    let huge_seq = like(999_996).replace("\"seq\":999996", "\"seq\":99999999999999999999");
    assert!(huge_seq.contains("9999999999999999999"));
    vec![
        ("malformed_entry", b"{\"type\":\"create\"".to_vec()),
        ("malformed_entry", b"null".to_vec()),
        ("malformed_entry", b"[]".to_vec()),
        ("malformed_entry", Vec::new()),
        ("malformed_entry", without("type").into_bytes()),
        ("malformed_entry", without("did").into_bytes()),
        ("malformed_entry", huge_seq.into_bytes()),
        ("malformed_entry", [vec![b'['; 100_000], vec![b']'; 100_000]].concat()),
        ("not_utf8", not_utf8),
        ("unknown_type", event(&[("/type", json!("future"))]).into_bytes()),
        ("invalid_record", event(&[("/record/createdAt", json!("yesterday"))]).into_bytes()),
        ("invalid_record", event(&[("/record/subject", json!("at://x"))]).into_bytes()),
        ("invalid_record", event(&[("/record", json!("text"))]).into_bytes()),
        ("not_the_owner", list_item().into_bytes()),
        ("refused_by_postgres", event(&[("/rkey", json!("r\0"))]).into_bytes()),
        ("refused_by_postgres", event(&[("/did", json!("did:plc:\0")), ("/rkey", json!("q"))]).into_bytes()),
    ]
}

#[test]
fn every_kind_of_bad_entry_is_a_dead_letter_and_the_good_ones_are_indexed() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("poison"));
    let poison = poison();
    let mut good = 0;
    let mut next = |count: usize| {
        good += count;
        (good - count..good).map(like).collect::<Vec<_>>()
    };
    for (_, payload) in &poison {
        add(&redis, LIVE, &next(7));
        add(&redis, LIVE, &[payload]);
    }
    add(&redis, LIVE, &next(7));
    add_field(&redis, LIVE, "evnt", &["{}"]);
    add(&redis, LIVE, &next(7));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), i64::try_from(good).unwrap());

    let letters = dead_letters(&redis, LIVE);
    for letter in &letters {
        let fields: Vec<&str> = letter.keys().map(String::as_str).collect();
        assert_eq!(fields, ["at", "attempts", "error", "event", "reason", "source_id"]);
        assert!(!letter["error"].is_empty());
        assert!(
            letter["at"].parse::<u64>().unwrap() > 1_700_000_000_000 && letter["source_id"].contains('-')
        );
        assert_eq!(letter["attempts"], "1");
    }
    let mut reasons: Vec<&str> = poison.iter().map(|(reason, _)| *reason).collect();
    reasons.push("missing_field");
    assert_eq!(letters.len(), reasons.len());
    for reason in &reasons {
        let expected = reasons.iter().filter(|other| *other == reason).count();
        assert_eq!(letters.iter().filter(|letter| letter["reason"] == *reason).count(), expected, "{reason}");
        indexer.assert_dead(reason, expected as u64);
    }
    // What was sent is what is kept, where it is text.
    for (_, payload) in
        poison.iter().filter(|(reason, payload)| *reason != "not_utf8" && payload.len() <= 1 << 20)
    {
        assert!(letters.iter().any(|letter| letter["event"].as_bytes() == *payload));
    }
}

/// The two numbers are Postgres' and ours: an entry it refuses costs log(batch) more transactions, and only itself.
#[test]
fn one_bad_entry_among_hundreds_is_found_by_halving() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("halving"));
    db.sql(r#"ALTER TABLE "like" ADD CONSTRAINT nobody_knows_of_it CHECK (subject !~ '/(613|14)$')"#);
    add(&redis, LIVE, &(0..800).map(like).collect::<Vec<_>>());
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONCURRENCY", "1")]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 798);
    indexer.assert_dead("refused_by_postgres", 2);
    let splits = indexer.metric("indexer_batch_retries_total", &["cause=\"split\""]);
    assert!((2..=20).contains(&splits), "{splits} splits");
    indexer.assert_metric("indexer_batch_retries_total", &["cause=\"unknown\""], 0);
}

/// Size is no fault; a bad entry of that size is not kept whole.
#[test]
fn entries_of_five_megabytes() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("large"));
    let large = padded_like(1, 5_000_000);
    let cut = &large[..large.len() - 1];
    add(&redis, LIVE, &[like(0).as_str(), &large, cut, &like(2)]);
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_MEMORY", "1MiB")]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 3);
    assert_eq!(count(&db, "record WHERE length(json) > 5000000"), 1);
    let letters = dead_letters(&redis, LIVE);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["event"], cut[..1 << 20]);
    assert!(
        letters[0]["error"].contains(&format!("cut to 1048576 of {} bytes", cut.len())),
        "{}",
        letters[0]["error"]
    );
    indexer.assert_dead("malformed_entry", 1);
}

/// Entries deleted while they were pending, under the own name and under another: nothing is left to keep.
#[test]
fn pending_entries_whose_body_is_gone() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("gone"));
    add(&redis, LIVE, &(0..20).map(like).collect::<Vec<_>>());
    let own = read_and_vanish(&redis, LIVE, "a", 8);
    let others = read_and_vanish(&redis, LIVE, "other", 8);
    for id in own[2..5].iter().chain(&others[3..6]) {
        assert_eq!(redis.command(&["XDEL", LIVE, id]).unwrap().as_int(), Some(1));
    }
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "200")]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 14);
    indexer.assert_metric("indexer_entries_total", &["outcome=\"nothing\"", "reason=\"no_payload\""], 3);
    assert_eq!(dead_letters(&redis, LIVE), Vec::new());
}

#[test]
fn bad_labels() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("bad_labels"));
    let label = |uri: &str| {
        let label = json!({"src": "did:plc:l", "uri": uri, "val": "spam", "cts": "2024-01-01T00:00:00.000Z"});
        json!({"type": "label", "seq": 1, "label": label}).to_string()
    };
    add(
        &redis,
        LABELS,
        &[label("did:plc:a"), "{".into(), label("did:plc:\0"), "{\"type\":\"future\"}".into()],
    );
    add(&redis, LABELS, &[label("did:plc:b")]);
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LABELS);
    // NUL is taken out of columns (DECISIONS 16).
    assert_eq!(db.sql("SELECT uri FROM label ORDER BY uri"), "did:plc:\ndid:plc:a\ndid:plc:b");
    let mut reasons: Vec<String> =
        dead_letters(&redis, LABELS).iter().map(|letter| letter["reason"].clone()).collect();
    reasons.sort();
    assert_eq!(reasons, ["malformed_entry", "unknown_type"]);
    indexer.assert_metric("indexer_entries_total", &["label_live", "dead_letter"], 2);
}
