//! The events of the hot subject: a post, and likes of it by as many accounts as one wants.

use rsky_common::atproto::tid;
use rsky_common::clock;
use rsky_testnet::network::cbor_out::{Cbor, cid_of};
use rsky_testnet::network::load::FIRST_SEQ;

const POST: &str = "app.bsky.feed.post";
const LIKE: &str = "app.bsky.feed.like";
/// 2026-01-01T00:00:00Z in microseconds since 1970.
const BEGIN: u64 = 1_767_225_600_000_000;
/// Between two likes.
const STEP_MILLIS: u64 = 1;
/// The times of day that are written; beyond, they begin again.
const DAY_MILLIS: u64 = 86_400_000;
/// Digits of the method-specific part of a did:plc.
const PLC_DIGITS: usize = 24;

/// A post that everybody likes.
pub(super) struct Subject {
    seed: u64,
    name: &'static str,
    did: String,
    rkey: String,
    record: Cbor,
}

impl Subject {
    /// The same for the same seed and name, and with no account in common with others.
    pub(super) fn new(seed: u64, name: &'static str) -> Self {
        let record = Cbor::map([
            ("$type", Cbor::text(POST)),
            ("text", Cbor::text(name)),
            ("createdAt", Cbor::text(time(0))),
        ]);
        Self { seed, name, did: did(seed, name, "author"), rkey: tid::of_time(BEGIN, 0), record }
    }

    /// The post.
    pub(super) fn uri(&self) -> String {
        format!("at://{}/{POST}/{}", self.did, self.rkey)
    }

    /// The event that makes the post.
    pub(super) fn post(&self) -> String {
        event(&self.did, POST, &self.rkey, &self.record, 0)
    }

    /// The event of the like with this number, by an account that has made no other.
    pub(super) fn like(&self, number: u64) -> String {
        let millis = STEP_MILLIS.saturating_mul(number.saturating_add(1));
        let subject = Cbor::map([
            ("uri", Cbor::text(self.uri())),
            ("cid", Cbor::text(cid_of(&self.record.encode()).to_string())),
        ]);
        let record = Cbor::map([
            ("$type", Cbor::text(LIKE)),
            ("subject", subject),
            ("createdAt", Cbor::text(time(millis))),
        ]);
        let did = did(self.seed, self.name, &number.to_string());
        event(&did, LIKE, &tid::of_time(micros(millis), 0), &record, millis)
    }
}

/// A create as the ingester writes it (PIPELINE 3.1). Nothing in it needs escaping.
fn event(did: &str, collection: &str, rkey: &str, record: &Cbor, millis: u64) -> String {
    // A commit is made just after its record.
    let rev = tid::of_time(micros(millis).saturating_add(20), 0);
    let (cid, commit) = (cid_of(&record.encode()), cid_of(rev.as_bytes()));
    let mut out = String::with_capacity(768);
    out.push_str(r#"{"type":"create","record":"#);
    record.write_json(&mut out);
    out.push_str(&format!(
        r#","cid":"{cid}","seq":{},"time":"{}","did":"{did}","commit":"{commit}","rev":"{rev}","collection":"{collection}","rkey":"{rkey}"}}"#,
        FIRST_SEQ.saturating_add(millis),
        time(millis.saturating_add(30)),
    ));
    out
}

/// As a real one, part of a hash in base32, so that neighbours in the stream are none in an index.
fn did(seed: u64, name: &str, number: &str) -> String {
    let hash = cid_of(format!("{seed} {name} {number}").as_bytes()).to_string();
    let prefix = hash.len().saturating_sub(PLC_DIGITS);
    format!("did:plc:{}", hash.chars().skip(prefix).collect::<String>())
}

fn micros(millis: u64) -> u64 {
    BEGIN.saturating_add(millis.saturating_mul(1_000))
}

/// The time of 2026-01-01 so many milliseconds after midnight.
fn time(millis: u64) -> String {
    clock::iso(BEGIN / 1_000 + millis % DAY_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The text between two others.
    fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
        text.split_once(before).unwrap().1.split_once(after).unwrap().0
    }

    #[test]
    fn every_like_is_by_another_account_and_of_the_same_version_of_the_post() {
        let (hot, other) = (Subject::new(1, "hot"), Subject::new(1, "other"));
        let cid = between(&hot.post(), r#"},"cid":""#, "\"").to_owned();
        let subject = format!(r#""subject":{{"cid":"{cid}","uri":"{}"}}"#, hot.uri());
        let mut dids = HashSet::new();
        for number in 0..2_000 {
            let like = hot.like(number);
            assert!(like.contains(&subject), "{like}");
            for like in [like, other.like(number)] {
                let did = between(&like, r#""did":""#, "\"").to_owned();
                assert!(did.len() == 32 && did.starts_with("did:plc:"), "{did}");
                assert!(dids.insert(did));
            }
        }
        assert_ne!(hot.uri(), other.uri());
        assert_ne!(Subject::new(2, "hot").uri(), hot.uri());
    }

    #[test]
    fn the_cid_is_that_of_the_record() {
        let like = Subject::new(1, "hot").like(7);
        // Canonical CBOR by hand: a map of three, shorter keys first, then bytewise.
        let text =
            |text: &str| [vec![0x78, u8::try_from(text.len()).unwrap()], text.as_bytes().to_vec()].concat();
        let (uri, cid) = (between(&like, r#""uri":""#, "\""), between(&like, r#"{"cid":""#, "\""));
        let block = [
            b"\xa3\x65$type\x72app.bsky.feed.like\x67subject\xa2\x63cid".to_vec(),
            text(cid),
            b"\x63uri".to_vec(),
            text(uri),
            b"\x69createdAt".to_vec(),
            text("2026-01-01T00:00:00.008Z"),
        ];
        assert_eq!(between(&like, r#"},"cid":""#, "\""), cid_of(&block.concat()).to_string());
    }

    #[test]
    fn times_and_tids() {
        assert_eq!(time(DAY_MILLIS - 1), "2026-01-01T23:59:59.999Z");
        assert_eq!(time(DAY_MILLIS), "2026-01-01T00:00:00.000Z");
        let tids: Vec<String> = (0..100).map(|millis| tid::of_time(micros(millis * 977), 0)).collect();
        assert!(tids.is_sorted() && tids.iter().all(|tid| tid.len() == 13));
        assert_eq!(tids.iter().collect::<HashSet<_>>().len(), 100);
    }
}
