//! Which lexicons a record is held against: those of the AppView that reads the database (SCHEMA-VARIANTS §5,
//! VALIDATION 7).
//!
//! An edition is the reference's lexicons and the records that it has new or changed. What upstream checks more strictly
//! since (sizes of blobs, forms of strings) is not among them: all editions are as loose as the reference, which readers
//! tolerate.

use super::schema::{Array, Format, Object, Record, Type, optional, required, string, up_to};
use super::{RECORDS, embeds, feed, gates};

/// Whose lexicons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edition {
    /// `divy/backfill-exp`, October 2025 (generation D).
    #[default]
    Reference,
    /// Blacksky's fork, August 2026 (generation B).
    Fork,
    /// Upstream `main`, August 2026 (generation U).
    Upstream,
}

impl Edition {
    /// Whether it is later than the reference.
    pub fn is_later(self) -> bool {
        self != Self::Reference
    }

    /// Whether its AppView looks at an account's handle with each of its commits: where the in-process subscription
    /// indexes, not where the stream indexer does.
    pub fn looks_at_handles_with_commits(self) -> bool {
        self.is_later()
    }

    /// The lexicon of a collection, by exact NSID.
    pub(super) fn record(self, nsid: &str) -> Option<&'static Record> {
        let tables: &[&'static [Record]] = match self {
            Self::Reference => &[RECORDS],
            Self::Fork => &[LATER, RECORDS],
            Self::Upstream => &[UPSTREAM, LATER, RECORDS],
        };
        tables.iter().copied().flatten().find(|record| record.nsid == nsid)
    }
}

/// What the fork and upstream have new or changed.
static LATER: &[Record] = &[
    Record::new("app.bsky.feed.threadgate", &THREAD_GATE),
    Record::new("com.germnetwork.declaration", &GERM_DECLARATION),
];

/// What the fork does not have.
static UPSTREAM: &[Record] = &[Record::new("app.bsky.feed.post", &POST)];

static THREAD_GATE: Object = Object(&gates::thread_gate(&HIDDEN_REPLIES));

static HIDDEN_REPLIES: Array = up_to(300, string().format(Format::AtUri));

/// Videos may be described at any length.
static POST: Object = Object(&feed::post(embeds::EMBED_UPSTREAM));

static GERM_DECLARATION: Object = Object(&[
    required("version", string().at_least(5).bytes(14).any()),
    required("currentKey", Type::Bytes),
    optional("messageMe", Type::Ref(&MESSAGE_ME)),
    optional("keyPackage", Type::Bytes),
    optional("continuityProofs", Type::Array(&PROOFS)),
]);

static MESSAGE_ME: Object = Object(&[
    required("messageMeUrl", string().at_least(1).bytes(2047).format(Format::Uri)),
    required("showButtonTo", string().at_least(1).bytes(100).any()),
]);

static PROOFS: Array = up_to(1000, Type::Bytes);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::validate_in;
    use super::*;
    use crate::text::json::Json;

    const EDITIONS: [Edition; 3] = [Edition::Reference, Edition::Fork, Edition::Upstream];
    const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

    fn verdicts(nsid: &str, mut record: Value) -> [bool; 3] {
        record["$type"] = nsid.into();
        record["createdAt"] = "2024-01-01T00:00:00Z".into();
        let text = record.to_string();
        EDITIONS.map(|edition| validate_in(edition, nsid, &Json::parse(&text).unwrap()).is_ok())
    }

    #[test]
    fn thread_gates_hide_more_replies() {
        let gate = |count| json!({"post": "at://did:plc:a/app.bsky.feed.post/1", "hiddenReplies": vec!["at://did:plc:b/app.bsky.feed.post/1"; count]});
        assert_eq!(verdicts("app.bsky.feed.threadgate", gate(50)), [true; 3]);
        assert_eq!(verdicts("app.bsky.feed.threadgate", gate(51)), [false, true, true]);
        assert_eq!(verdicts("app.bsky.feed.threadgate", gate(300)), [false, true, true]);
        assert_eq!(verdicts("app.bsky.feed.threadgate", gate(301)), [false; 3]);
    }

    #[test]
    fn upstream_describes_videos_at_length() {
        let video = |length| {
            json!({"$type": "app.bsky.embed.video", "alt": "x".repeat(length),
            "video": {"$type": "blob", "ref": {"$link": CID}, "mimeType": "video/mp4", "size": 1}})
        };
        let post = |length| json!({"text": "", "embed": video(length)});
        let beside = |length| {
            let record = json!({"record": {"uri": "at://did:plc:a/app.bsky.feed.post/1", "cid": CID}});
            json!({"text": "", "embed": {"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": video(length)}})
        };
        assert_eq!(verdicts("app.bsky.feed.post", post(1000)), [true; 3]);
        assert_eq!(verdicts("app.bsky.feed.post", post(1001)), [false, false, true]);
        assert_eq!(verdicts("app.bsky.feed.post", beside(1001)), [false, false, true]);
        assert_eq!(verdicts("app.bsky.feed.post", json!({"text": 1})), [false; 3]);
    }

    #[test]
    fn germ_declarations() {
        let nsid = "com.germnetwork.declaration";
        let bytes = json!({"$bytes": "AAEC"});
        let whole = json!({"version": "1.1.0", "currentKey": bytes, "keyPackage": bytes, "continuityProofs": [bytes],
            "messageMe": {"messageMeUrl": "https://landing.ger.mx/a", "showButtonTo": "everyone"}});
        assert_eq!(verdicts(nsid, whole.clone()), [false, true, true]);
        assert_eq!(verdicts(nsid, json!({"version": "1.1.0", "currentKey": bytes})), [false, true, true]);
        for (name, value) in [
            ("version", json!("1.1")),
            ("version", json!("1.1.0-and-a-half")),
            ("currentKey", json!("AAEC")),
            ("currentKey", json!([])),
            ("keyPackage", json!(null)),
            ("continuityProofs", json!([1])),
            ("continuityProofs", json!(vec![bytes; 1001])),
            ("messageMe", json!({"messageMeUrl": "nonsense", "showButtonTo": "x"})),
            ("messageMe", json!({"messageMeUrl": "https://a.b", "showButtonTo": ""})),
            ("messageMe", json!({"messageMeUrl": "https://a.b"})),
        ] {
            let mut wrong = whole.clone();
            wrong[name] = value;
            assert_eq!(verdicts(nsid, wrong.clone()), [false; 3], "{wrong}");
        }
        assert_eq!(verdicts(nsid, json!({"version": "1.1.0"})), [false; 3]);
    }
}
