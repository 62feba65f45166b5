//! What is scraped is what is declared, no more and no less.

use rsky_common::admin::{COMMON, differences};
use rsky_indexer::metrics::DECLARED;
use rsky_testnet::servers::Redis;

use crate::golden::stream;
use crate::process::{Indexer, LABELS, LIVE, add, wait_drained, wait_until};
use crate::support::Db;

/// The recorded streams: every type of event, what is refused, labels.
#[test]
fn a_scrape_is_as_declared() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("declared"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let groups = [DECLARED, COMMON].concat();
    wait_until("ready", || indexer.get("/readyz").0 == 200);
    let (_, scrape) = indexer.get("/metrics");
    assert_eq!(differences(&scrape, &groups), Vec::<String>::new(), "{scrape}");
    add(&redis, LIVE, &stream("firehose_live"));
    add(&redis, LABELS, &stream("label_live"));
    wait_drained(&redis, LIVE);
    wait_drained(&redis, LABELS);
    wait_until("Redis was looked at", || indexer.metric("rsky_redis_seen", &[]) == 1);
    let (_, scrape) = indexer.get("/metrics");
    assert_eq!(differences(&scrape, &groups), Vec::<String>::new(), "{scrape}");
    assert!(indexer.metric("indexer_batch_phase_seconds_count", &["phase=\"commit\""]) > 0);
    assert!(indexer.metric("indexer_lane_seconds_without_commit", &["lane=\"event lane 0\""]) < 60);
}

/// What the former daemon and the reference counted is what these counters say.
#[test]
fn former_names_count_the_same() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("former"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    let of = |kind: &str| {
        let wanted = format!("\"type\":\"{kind}\"");
        stream("firehose_live").into_iter().filter(|event| event.contains(&wanted)).collect::<Vec<_>>()
    };
    let events = [of("create"), of("delete"), of("account"), of("identity")].concat();
    add(&redis, LIVE, &events);
    add(&redis, LABELS, &stream("label_live"));
    wait_drained(&redis, LIVE);
    wait_drained(&redis, LABELS);
    let value = |name: &str| indexer.metric(name, &[]);
    indexer.assert_metric("stream_indexer_messages_processed_total", &[], events.len() as u64);
    let dead = indexer.metric("indexer_entries_total", &["firehose_live", "outcome=\"dead_letter\""]);
    assert!(dead > 0 && dead == value("indexer_expected_errors_total"));
    assert_eq!(value("indexer_events_processed_total"), events.len() as u64 - dead);
    let timed = |kind: &str| {
        indexer.metric("stream_indexer_message_processing_time_count", &[&format!("type=\"{kind}")])
    };
    for kind in ["create", "delete", "account", "identity"] {
        let counted = value(&format!("indexer_{kind}_events_total"));
        assert!(counted > 0 && timed(kind) == counted, "{kind}: {counted}, {}", timed(kind));
    }
    let likes: u64 =
        ["create", "delete"].map(|action| timed(&format!("{action}-app.bsky.feed.like\""))).iter().sum();
    assert_eq!(value("indexer_like_events_total"), likes);
    let labels = value("indexer_labels_processed_total");
    assert!(
        labels > 0 && labels == value("indexer_labels_added_total") + value("indexer_labels_removed_total")
    );
    assert_eq!(value("indexer_db_writes_total"), value("indexer_rows_total"));
}
