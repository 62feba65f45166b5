//! What is scraped is what is declared, no more and no less.

use rsky_common::admin::{COMMON, differences};
use rsky_ingester::metrics::DECLARED;
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Network, RepoPage, Script, frames};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, length, like, wait_until};

/// A relay that is listed as well, a labeler, bad input of each; before and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_as_declared() {
    let label = Cbor::map([("val", Cbor::text("x".to_owned())), ("src", Cbor::text("did:plc:l"))]);
    let network = Network::builder()
        .relay(Script::frames((1..=20).map(like).chain([bytes::Bytes::from_static(b"junk")])))
        .labeler(Script::frames([frames::labels(1, vec![label]), bytes::Bytes::from_static(b"junk")]))
        .repo_pages(vec![RepoPage::default()])
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let (url, groups) = (network.url(), [DECLARED, COMMON].concat());
    let ingester =
        Ingester::start(&redis.url(), &[("INGESTER_RELAY_HOSTS", &url), ("INGESTER_LABELER_HOSTS", &url)]);
    wait_until("all is written", || {
        length(&redis, "firehose_live") == 20 && length(&redis, "label_live") == 1
    });
    wait_until("Redis was looked at", || ingester.metric("rsky_redis_seen", "") == Some(1.0));
    let (_, scrape) = ingester.get("/metrics");
    assert_eq!(differences(&scrape, &groups), Vec::<String>::new(), "{scrape}");
    // Those that may be absent are there by now.
    ingester.wait_for("ingester_firehose_live_length", "", 20.0);
    ingester.wait_for("ingester_cursor", "host=", 20.0 + 1.0);
    for (name, value) in [
        ("ingester_firehose_events_total", 20.0),
        ("ingester_firehose_create_events_total", 20.0),
        ("ingester_stream_events_total", 20.0),
        ("ingester_labels_written_total", 1.0),
    ] {
        ingester.wait_for(name, "", value);
    }
    ingester.wait_for("ingester_rejected_total", "bad_frame", 2.0);
    assert!(ingester.metric("ingester_errors_total", "").unwrap() >= 2.0);
}
