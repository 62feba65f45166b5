//! The page and `/status` show what Redis has, and nothing that is secret or could be taken for markup.

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;
use serde_json::{Value, json};

use crate::support::{Ingester, like, wait_until};

const HOSTILE: &str = "<script>alert(1)</script>";

fn letter(redis: &Redis, stream: &str, reason: &str, payload: &str) {
    let fields = ["event", payload, "reason", reason, "error", HOSTILE, "source_id", "7-1"];
    redis.command(&[&["XADD", stream, "*"][..], &fields].concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_is_on_the_page() {
    let network = Network::builder().relay(Script::generated(1, 20, like)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["XGROUP", "CREATE", "label_live", "label_group", "0", "MKSTREAM"]).unwrap();
    for _ in 0..3 {
        letter(&redis, "firehose_live_dlq", "invalid_record", "{}");
    }
    // One that is large is the last that is looked at.
    letter(&redis, "repo_backfill_dlq", "old", "{}");
    letter(&redis, "repo_backfill_dlq", "large", &"x".repeat(2 << 20));
    letter(&redis, "repo_backfill_dlq", "new", "{}");
    redis.command(&["CONFIG", "SET", "requirepass", "hunter2"]).unwrap();
    let url = redis.url().replace("redis://", "redis://:hunter2@");
    let ingester = Ingester::start(
        &url,
        &[
            ("INGESTER_RELAY_HOSTS", &network.url()),
            ("INGESTER_MODE", "firehose"),
            ("INGESTER_BATCH_SIZE", "7"),
        ],
    );
    let status = || serde_json::from_str::<Value>(&ingester.get("/status").1).unwrap();
    wait_until("every event is seen", || status()["redis"]["firehose_live"]["length"] == json!(20));
    let seen = status();
    let live = &seen["redis"]["firehose_live"];
    assert!(
        live["entries_added"] == json!(20) && live["oldest_entry_ms"].as_u64().unwrap() > 1_700_000_000_000
    );
    assert_eq!(live["newest_dead_letters"]["by_reason"], json!([["invalid_record", 3]]));
    assert_eq!(live["newest_dead_letters"]["examples"][0]["source"], json!("7-1"));
    let repos = &seen["redis"]["repo_backfill"]["newest_dead_letters"];
    assert_eq!(repos["by_reason"], json!([["new", 1], ["large", 1]]), "the oldest is not looked at");
    let labels = &seen["redis"]["label_live"];
    assert!(labels["groups"]["label_group"].is_object() && labels["oldest_entry_ms"].is_null(), "{labels}");
    assert_eq!(seen["settings"]["INGESTER_BATCH_SIZE"], json!({ "value": "7", "set": true }));
    let notes: Vec<&str> = seen["verdict"]["notes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|note| note["text"].as_str())
        .collect();
    for said in ["nobody reads it: it has no consumer group", "3 dead letters, mostly invalid record"] {
        assert!(notes.contains(&said), "{said}: {notes:?}");
    }
    wait_until("there is a sample", || {
        let values = status()["last_half_hour"]["length firehose_live"]["values"].clone();
        values.as_array().unwrap().last() == Some(&json!(20.0))
    });
    let (code, page) = ingester.get("/");
    assert_eq!(code, 200);
    for said in
        ["have a look", "invalid record", "label_group", "INGESTER_BATCH_SIZE", "&lt;script&gt;alert(1)"]
    {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.contains(HOSTILE) && !page.contains("hunter2") && !seen.to_string().contains("hunter2"));
}
