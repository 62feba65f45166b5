//! What small pieces of hostile input take of memory. Frames and repositories are looked at in the daemons.

use allocation_counter::measure;
use rsky_common::cbor::{MAX_TEXT_BYTES, Scratch};
use rsky_common::identity::DidDocument;
use rsky_common::wire::parse_labels;

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
/// Largest document that is read.
const DOCUMENT: usize = 256 << 10;

#[test]
fn hostile_did_documents_take_a_small_multiple_of_their_bytes() {
    let with = |member: &str, item: &str, rest: &str| {
        let items = vec![item; DOCUMENT / (item.len() + 1)].join(",");
        format!(r#"{{"id":"{DID}","{member}":[{items}{rest}]}}"#)
    };
    let numbers = vec!["1"; DOCUMENT / 2].join(",");
    let documents = [
        with("alsoKnownAs", r#""""#, ""),
        with("alsoKnownAs", r#""at://x""#, ""),
        with("verificationMethod", r##"{"id":"#atproto","type":"","controller":""}"##, ""),
        with("service", r#"{"id":"","type":"","serviceEndpoint":1}"#, ""),
        format!(r#"{{"id":"{DID}","service":[{{"id":"","type":"","serviceEndpoint":[{numbers}]}}]}}"#),
        format!(r#"{{"id":"{DID}","more":[{numbers}]}}"#),
        format!(r#"{{"id":"{}"}}"#, "x".repeat(DOCUMENT)),
        format!(r#"{{"id":"{DID}","alsoKnownAs":["{}"]}}"#, "\\u0001".repeat(DOCUMENT / 6)),
        format!(r#"{{"id":"{DID}","more":{}"#, "[".repeat(DOCUMENT)),
    ];
    for document in documents {
        let mut read = None;
        let info = measure(|| read = Some(DidDocument::parse(document.as_bytes(), DID).is_ok()));
        println!("{} bytes of {}: peak {}", document.len(), &document[..60], info.bytes_max);
        assert!(info.bytes_max <= 24 * document.len() as u64, "{}", info.bytes_max);
    }
}

#[test]
fn what_a_labeler_can_put_into_an_entry_makes_no_trees() {
    let numbers = vec!["0"; 1 << 20].join(",");
    for member in ["neg", "sig", "ver", "more"] {
        let entry = format!(
            r#"{{"type":"label","label":{{"src":"s","uri":"u","val":"v","cts":"T","{member}":[{numbers}]}}}}"#
        );
        let info = measure(|| assert!(parse_labels(&entry).is_ok()));
        assert!(info.bytes_max <= 1 << 10, "{member}: {}", info.bytes_max);
    }
}

#[test]
fn what_converting_keeps_is_bounded() {
    let mut keys = vec![0xba, 0, 1, 0, 0];
    for number in 0..1_u32 << 16 {
        keys.extend([0x64]);
        keys.extend(format!("{number:04x}").bytes());
        keys.push(0);
    }
    let mut scratch = Scratch::default();
    let mut out = String::new();
    let info = measure(|| scratch.write_record(&keys, &mut out, MAX_TEXT_BYTES).unwrap());
    // A vector that grows is there twice for a moment.
    assert!(info.bytes_max <= 6 << 20, "{}", info.bytes_max);
    assert!(info.bytes_current <= 4 << 20, "{}", info.bytes_current);
    out.clear();
    let info = measure(|| scratch.write_record(&keys, &mut out, MAX_TEXT_BYTES).unwrap());
    assert_eq!(info.bytes_total, 0, "what is there is used again");
}
