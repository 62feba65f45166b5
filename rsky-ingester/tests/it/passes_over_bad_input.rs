//! Everything a bad peer can send is counted, dead-lettered and passed over; the next good frame arrives.

use std::path::Path;

use bytes::Bytes;
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Network, Script, frames};
use rsky_testnet::servers::Redis;

use crate::support::{
    Ingester, TIME, entries, get, length, like, padded_like, record_commit, rev, seqs, values, wait_until,
};

fn start(redis: &Redis, url: &str, more: &[(&str, &str)]) -> Ingester {
    Ingester::of_relays("firehose", redis, url, more)
}

fn reasons(redis: &Redis, stream: &str) -> Vec<String> {
    entries(redis, stream).into_iter().map(|mut entry| entry.remove("reason").unwrap()).collect()
}

/// Unsigned 2^63: one more than an i64 holds.
const BEYOND_I64: [u8; 9] = [0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0];

fn flip_a_block_byte(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = bytes.windows(9).rposition(|window| window == b"createdAt").unwrap();
    bytes[at + 12] ^= 1;
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_bad_frame_is_passed_over() {
    let truncated = like(20).slice(..100);
    let bad: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"\xff\xff\xff"),
        Bytes::from_static(b"not cbor at all"),
        truncated,
        flip_a_block_byte(&like(30)),
        record_commit(40, Cbor::map([("number", Cbor::Raw(BEYOND_I64.to_vec()))])),
        record_commit(50, Cbor::List(vec![Cbor::Int(1)])),
    ];
    let harmless: Vec<Bytes> = vec![
        record_commit(60, Cbor::map([("text", Cbor::text("a\u{0}b"))])),
        frames::unknown(70, "#future"),
        frames::info("OutdatedCursor", "some events are gone"),
        frames::identity(80, "did:plc:abc", TIME, None),
        padded_like(90, 5_000_000),
    ];
    let mut script = vec![like(1)];
    let mut seq = 100;
    for frame in bad.iter().chain(&harmless) {
        script.push(frame.clone());
        script.push(like(seq));
        seq += 1;
    }
    let network = Network::builder().relay(Script::unnumbered(script.iter().cloned())).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network.url(), &[]);
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("the last good frame", || get(&redis, &key) == Some((seq - 1).to_string()));

    let written = seqs(&redis, "firehose_live");
    for good in std::iter::once(1).chain(100..seq as i64).chain([60, 80, 90]) {
        assert!(written.contains(&good), "{good} is missing");
    }
    assert_eq!(written.len(), 1 + bad.len() + harmless.len() + 3);
    assert!(values(&redis, "firehose_live", "event").iter().any(|event| event.contains(r"a\u0000b")));
    let letters = entries(&redis, "firehose_live_dlq");
    assert_eq!(letters.len(), bad.len(), "{:?}", reasons(&redis, "firehose_live_dlq"));
    for field in ["event", "reason", "error", "attempts", "source_id", "at"] {
        assert!(letters.iter().all(|letter| letter.contains_key(field)), "{field}");
    }
    ingester.wait_for("ingester_rejected_total", "", bad.len() as f64);
    ingester.wait_for("ingester_rejected_total", "hash_mismatch", 1.0);
    ingester.wait_for("ingester_outdated_cursors_total", "", 1.0);
    ingester.wait_for("ingester_frames_total", "kind=\"other\"", 1.0);
    assert_eq!(network.relay().control().connections(), 1, "none of it costs the connection");
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_poison_spoils_only_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus/poison");
    for kind in std::fs::read_dir(folder).unwrap() {
        let kind = kind.unwrap().path();
        let content =
            rsky_testnet::network::corpus::read_maybe_gz(&kind.join("firehose.frames")).unwrap().unwrap();
        let script = frames::read(&content).unwrap();
        assert_eq!(script.len(), 3);
        let network = Network::builder().relay(Script::frames(script.clone())).start().await.unwrap();
        let last = frames::peek(&script[2]).seq.unwrap();
        let redis = Redis::start().unwrap();
        let mut ingester = start(&redis, &network.url(), &[]);
        let key = format!("firehose_live:cursor:{}", network.addr());
        wait_until("the last good frame", || get(&redis, &key) == Some(last.to_string()));
        let name = kind.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(
            length(&redis, "firehose_live_dlq"),
            1,
            "{name}: {:?}",
            reasons(&redis, "firehose_live_dlq")
        );
        let written = seqs(&redis, "firehose_live");
        let middle = frames::peek(&script[1]).seq.unwrap() as i64;
        assert!(!written.contains(&middle) && written.contains(&(last as i64)), "{name}: {written:?}");
        assert_eq!(ingester.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_above_the_limit_is_stepped_over_and_nothing_else_is() {
    // Gaps in the numbers, as relays have them: its number is in its beginning, so none of the others is asked for.
    let script = vec![like(9), like(10), padded_like(1_010, 200_000), like(1_014), like(1_015)];
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    // Not live: the cursor is before the first frame.
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "8"]).unwrap();
    let mut ingester = start(&redis, &network.url(), &[("INGESTER_MAX_FRAME_BYTES", "64KiB")]);
    wait_until("what comes after it", || length(&redis, "firehose_live") >= 4);
    assert_eq!(seqs(&redis, "firehose_live"), [9, 10, 1_014, 1_015]);
    let letters = entries(&redis, "firehose_live_dlq");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "oversized_frame");
    assert!(letters[0]["source_id"].ends_with("@1010"), "{}", letters[0]["source_id"]);
    assert!(letters[0]["event"].len() > 60_000, "its beginning is kept");
    ingester.wait_for("ingester_cursor_skips_total", "", 1.0);
    // The first, one that met it, one that measured it, one behind it.
    assert!(network.relay().control().connections() <= 4, "{:?}", network.relay().control().cursors());
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_with_a_number_that_is_an_accident_freezes_nothing() {
    // One that nobody can mean, and one that somebody could, of which the relay then says that it is in the future.
    for accident in [i64::MAX.unsigned_abs() - 1, 1 << 52] {
        let numbered = |seq: u64, frame| (Some(seq), frame);
        let script = vec![
            numbered(9, like(9)),
            numbered(10, padded_like(accident, 200_000)),
            numbered(11, padded_like(11, 200_000)),
            numbered(12, like(12)),
        ];
        let network = Network::builder().relay(Script::fixed(script)).start().await.unwrap();
        let redis = Redis::start().unwrap();
        redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "8"]).unwrap();
        let mut ingester = start(&redis, &network.url(), &[("INGESTER_MAX_FRAME_BYTES", "64KiB")]);
        wait_until("what comes after it", || length(&redis, "firehose_live") >= 2);
        assert_eq!(seqs(&redis, "firehose_live"), [9, 12], "{accident}");
        assert_eq!(ingester.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_behind_a_notice_is_stepped_over_too() {
    // The notice has no number: however often it is read, the large frame stays the first after the cursor.
    let notice = frames::info("OutdatedCursor", "some events are gone");
    let script = vec![notice, padded_like(12, 200_000), like(13)];
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "10"]).unwrap();
    let mut ingester = start(&redis, &network.url(), &[("INGESTER_MAX_FRAME_BYTES", "64KiB")]);
    wait_until("what comes after it", || length(&redis, "firehose_live") == 1);
    assert_eq!(seqs(&redis, "firehose_live"), [13]);
    assert_eq!(reasons(&redis, "firehose_live_dlq"), ["oversized_frame"]);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_frame_of_a_labeler_may_be_too_large() {
    let large = frames::labels(1, vec![Cbor::map([("val", Cbor::text("x".repeat(200_000)))])]);
    let small = frames::labels(2, vec![Cbor::map([("val", Cbor::text("x"))])]);
    let network = Network::builder()
        .relay(Script::frames([]))
        .labeler(Script::frames([large, small]))
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let settings = [
        ("INGESTER_LABELER_HOSTS", network.url()),
        ("INGESTER_MODE", "labeler".to_owned()),
        ("INGESTER_MAX_FRAME_BYTES", "64KiB".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("what comes after it", || length(&redis, "label_live") == 1);
    assert_eq!(reasons(&redis, "label_live_dlq"), ["oversized_frame"]);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_labels_spoil_only_themselves() {
    let label = |val: &str| {
        Cbor::map([
            ("cts", Cbor::text(TIME)),
            ("src", Cbor::text("did:plc:l")),
            ("uri", Cbor::text("did:plc:u")),
            ("val", Cbor::text(val)),
        ])
    };
    let script = vec![
        frames::labels(1, vec![label("a"), Cbor::Int(7), label("b")]),
        Bytes::from_static(b"junk"),
        frames::info("Hello", "there"),
        frames::labels(2, vec![]),
        frames::labels(3, vec![label("c")]),
    ];
    let network = Network::builder()
        .relay(Script::frames([like(1)]))
        .labeler(Script::unnumbered(script))
        .start()
        .await
        .unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = Ingester::start(
        &redis.url(),
        &[("INGESTER_LABELER_HOSTS", &network.url()), ("INGESTER_MODE", "labeler")],
    );
    let key = format!("label_live:cursor:{}", network.addr());
    wait_until("the last label", || get(&redis, &key).as_deref() == Some("3"));
    let vals: Vec<String> = values(&redis, "label_live", "event")
        .iter()
        .map(|event| {
            let event: serde_json::Value = serde_json::from_str(event).unwrap();
            event["label"]["val"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(vals, ["a", "b", "c"]);
    assert_eq!(reasons(&redis, "label_live_dlq"), ["bad_label", "bad_frame"]);
    assert_eq!(
        network.labeler().control().cursors(),
        [Some("0".to_owned())],
        "a labeler is read from the beginning"
    );
    ingester.wait_for("labeler_ingester_incoming_events_total", "", 4.0);
    ingester.wait_for("labeler_ingester_stream_events_total", "", 3.0);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_whose_events_do_not_tell_are_queued_first() {
    let script = vec![like(1), frames::sync(2, "did:plc:stale", &rev(2), TIME), like(3)];
    let network = Network::builder().relay(Script::frames(script)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network.url(), &[]);
    wait_until("the repository", || {
        length(&redis, "repo_backfill_priority") == 1 && length(&redis, "firehose_live") == 2
    });
    let expected = format!(r#"{{"did":"did:plc:stale","host":"{}","rev":"{}"}}"#, network.url(), rev(2));
    assert_eq!(values(&redis, "repo_backfill_priority", "repo"), [expected]);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chosen_collections_are_queued_and_the_cursor_moves_all_the_same() {
    let network = Network::builder().relay(Script::frames([like(1), like(2)])).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network.url(), &[("INGESTER_COLLECTIONS", "app.bsky.graph.*")]);
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("the cursor", || get(&redis, &key).as_deref() == Some("2"));
    assert_eq!(length(&redis, "firehose_live"), 0);
    ingester.wait_for("ingester_operations_total", "filtered", 2.0);
    assert_eq!(ingester.terminate(), Some(0));
}
