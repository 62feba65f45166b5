//! The streams and keys that the ingester makes of the recorded corpus, against what the TypeScript made of it.
//!
//! Differences, all from DECISIONS: 4 (label `sig` as `$bytes`), 5 (dead letters exist), 24 (`repo_backfill_priority`).

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rsky_testnet::network::{Network, corpus, frames};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, get, length, values, wait_until};

fn golden(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/streams").join(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// The raw values of one field of a golden stream.
fn golden_values(stream: &str, field: &str) -> Vec<String> {
    let text = golden(&format!("{stream}.jsonl.gz"));
    let value = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["fields"][field].as_str().unwrap().to_owned()
    };
    text.lines().map(value).collect()
}

/// DECISIONS 4: the reference writes a signature as `{"type":"Buffer","data":[…]}`.
fn with_sig_as_bytes(label: &str) -> String {
    use std::fmt::Write;
    let Some((before, rest)) = label.split_once("{\"type\":\"Buffer\",\"data\":[") else {
        return label.to_owned();
    };
    let (numbers, after) = rest.split_once("]}").unwrap();
    let bytes: Vec<u8> = numbers
        .split(',')
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().unwrap())
        .collect();
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all =
            chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            write!(text, "{}", char::from(ALPHABET[(all >> (18 - 6 * place)) as usize & 63])).unwrap();
        }
    }
    format!("{before}{{\"$bytes\":\"{text}\"}}{after}")
}

#[track_caller]
fn assert_same(ours: &[String], golden: &[String]) {
    for (index, (ours, golden)) in ours.iter().zip(golden).enumerate() {
        assert_eq!(ours, golden, "entry {index}");
    }
    assert_eq!(ours.len(), golden.len(), "number of entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_cursors_equal_the_golden_ones() {
    let network = Network::builder().corpus(corpus::recorded()).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let url = network.url();
    let host = url.strip_prefix("http://").unwrap().to_owned();
    let mut ingester =
        Ingester::start(&redis.url(), &[("INGESTER_RELAY_HOSTS", &url), ("INGESTER_LABELER_HOSTS", &url)]);

    let keys: serde_json::Value = serde_json::from_str(&golden("keys.json.gz")).unwrap();
    let cursors: Vec<(String, String)> = keys
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(key, facts)| {
            Some((key.replace("127.0.0.1:5590", &host), facts["value"].as_str()?.to_owned()))
        })
        .collect();
    assert_eq!(cursors.len(), 3);
    for (key, value) in &cursors {
        wait_until(&format!("{key} is {value}"), || get(&redis, key).as_ref() == Some(value));
    }

    let firehose = golden_values("firehose_live", "event");
    assert!(firehose.len() > 1000);
    assert_same(&values(&redis, "firehose_live", "event"), &firehose);
    let labels: Vec<String> =
        golden_values("label_live", "event").iter().map(|label| with_sig_as_bytes(label)).collect();
    assert_same(&values(&redis, "label_live", "event"), &labels);
    let repos: Vec<String> = golden_values("repo_backfill", "repo")
        .iter()
        .map(|repo| repo.replace("http://127.0.0.1:5590", &url))
        .collect();
    assert_same(&values(&redis, "repo_backfill", "repo"), &repos);

    // DECISIONS 24: every #sync of the corpus, and its one commit that was too big.
    let recorded = corpus::Corpus::read(&corpus::recorded()).unwrap();
    let syncs =
        recorded.firehose.iter().filter(|frame| frames::peek(frame).t.as_deref() == Some("#sync")).count();
    assert_eq!(length(&redis, "repo_backfill_priority"), syncs as i64 + 1);
    ingester.wait_for("firehose_ingester_stream_events_total", &url, firehose.len() as f64);
    ingester.wait_for("ingester_backfill_complete", &url, 1.0);
    assert_eq!(ingester.get("/readyz").0, 200, "{}", ingester.get("/readyz").1);
    assert!(ingester.get("/").1.contains("firehose_live"));
    assert_eq!(ingester.terminate(), Some(0));

    // A second start adds nothing: the cursors say that everything is there.
    let before = length(&redis, "firehose_live");
    let mut again =
        Ingester::start(&redis.url(), &[("INGESTER_RELAY_HOSTS", &url), ("INGESTER_LABELER_HOSTS", &url)]);
    wait_until("connected again", || {
        again.metric("ingester_websocket_connections", "firehose_live") == Some(1.0)
    });
    let last = network.relay().control().cursors().last().cloned().flatten();
    assert!(last.as_deref() >= Some("1804"), "{last:?}");
    assert_eq!(length(&redis, "firehose_live"), before);
    assert_eq!(length(&redis, "repo_backfill"), repos.len() as i64);
    assert_eq!(again.terminate(), Some(0));
}
