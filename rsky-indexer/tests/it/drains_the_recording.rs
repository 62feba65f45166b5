//! The recorded streams through the real program: the reference's rows, once and again.

use rsky_testnet::servers::Redis;

use crate::golden::{assert_golden, stream};
use crate::process::{Indexer, LABELS, LIVE, add, assert_no_dead_letters, dead_letters, rows, wait_drained};
use crate::support::{Db, unlike};

/// Live events and labels, at the default concurrency; a second delivery of all of it changes nothing.
#[test]
fn live_events_give_the_golden_rows_once_and_again() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("recording"));
    let (live, labels) = (stream("firehose_live"), stream("label_live"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let mut first = None;
    for _ in 0..2 {
        add(&redis, LIVE, &live);
        wait_drained(&redis, LIVE);
        let mut found = rows(db.url());
        // A commit that writes one path twice is taken twice, and tells its people anew.
        for row in found.get_mut("notification").into_iter().flatten() {
            let mut value: serde_json::Value = serde_json::from_str(row).unwrap();
            value.as_object_mut().unwrap().remove("id");
            *row = value.to_string();
        }
        found.get_mut("notification").into_iter().for_each(|rows| rows.sort());
        let first = first.get_or_insert_with(|| found.clone());
        assert!(*first == found, "the second delivery changed rows: {}", unlike(first, &found));
        found.insert("label", Vec::new());
        assert_golden("tables-live", found, 900);
    }
    let refused = dead_letters(&redis, LIVE).len() as u64;
    indexer.assert_metric("indexer_entries_total", &["outcome=\"dead_letter\""], refused);
    assert!(refused > 0, "the recording has records that are not valid");

    add(&redis, LABELS, &labels);
    wait_drained(&redis, LABELS);
    let once = rows(db.url());
    assert!(!once["label"].is_empty());
    add(&redis, LABELS, &labels);
    wait_drained(&redis, LABELS);
    assert_eq!(once, rows(db.url()));
    assert_eq!(dead_letters(&redis, LABELS), Vec::new());
}

/// Live, backfill and labels, each stream after the other, as the reference was run.
#[test]
fn all_streams_give_the_golden_rows() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("recording_all"));
    let _indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "50")]);
    let mut events = Vec::new();
    for name in [LIVE, "firehose_backfill", LABELS] {
        let payloads = stream(name);
        add(&redis, name, &payloads);
        wait_drained(&redis, name);
        if name != LABELS {
            events.extend(payloads);
        }
    }
    assert_golden("tables", rows(db.url()), 2000);
}

/// What the load generator makes is valid: no test that counts it counts refusals.
#[test]
fn generated_load_is_indexed_to_the_last_entry() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("load"));
    let payloads = crate::load::events(1, 3000);
    add(&redis, LIVE, &payloads);
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    indexer.assert_metric("indexer_entries_total", &["outcome=\"indexed\""], 3000);
    crate::process::assert_as_undisturbed(db.url(), &payloads);
}
