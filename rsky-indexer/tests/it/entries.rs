//! Entries for a stream, made one after the other: each has a later time and a newer rev than the one before.

use serde_json::{Value, json};

/// A CID for references.
pub const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
/// When all records say that they were made.
pub const AT: &str = "2024-01-01T00:00:00.000Z";

pub const POST: &str = "app.bsky.feed.post";
pub const THREAD_GATE: &str = "app.bsky.feed.threadgate";
pub const POST_GATE: &str = "app.bsky.feed.postgate";
pub const LIKE: &str = "app.bsky.feed.like";
pub const REPOST: &str = "app.bsky.feed.repost";
pub const FOLLOW: &str = "app.bsky.graph.follow";
pub const BLOCK: &str = "app.bsky.graph.block";
pub const LIST: &str = "app.bsky.graph.list";
pub const LIST_ITEM: &str = "app.bsky.graph.listitem";

/// Writes entries as the ingester does, or as the backfiller does.
pub struct Scribe {
    number: usize,
    backfilled: bool,
    late: usize,
    clock: isize,
}

impl Scribe {
    /// Of the live stream.
    pub fn live() -> Self {
        Self { number: 0, backfilled: false, late: 0, clock: 0 }
    }

    /// Of a backfill: without a number of the relay.
    pub fn backfilled() -> Self {
        Self { number: 0, backfilled: true, late: 0, clock: 0 }
    }

    /// The next entries are of the live stream, or of a backfill.
    pub fn set_backfilled(&mut self, backfilled: bool) {
        self.backfilled = backfilled;
    }

    /// The commits of the next entries are so many entries old.
    pub fn set_late(&mut self, late: usize) {
        self.late = late;
    }

    /// The next entries say that they happened so many milliseconds later than they did, or earlier.
    pub fn set_clock(&mut self, clock: isize) {
        self.clock = clock;
    }

    /// As if so many entries had been before the next.
    pub fn skip(&mut self, entries: usize) {
        self.number += entries;
    }

    /// A record comes.
    pub fn create(&mut self, did: &str, collection: &str, rkey: &str, record: Value) -> String {
        self.write("create", did, collection, rkey, record)
    }

    /// A record is replaced.
    pub fn update(&mut self, did: &str, collection: &str, rkey: &str, record: Value) -> String {
        self.write("update", did, collection, rkey, record)
    }

    /// A record goes.
    pub fn delete(&mut self, did: &str, collection: &str, rkey: &str) -> String {
        self.event("delete", did, collection, rkey).to_string()
    }

    /// The host of an account says that it is hidden, or shown again.
    pub fn account(&mut self, did: &str, active: bool) -> String {
        self.number += 1;
        let mut event = json!({"type": "account", "seq": self.number, "time": time(self.number.saturating_add_signed(self.clock)), "did": did,
            "active": active});
        if !active {
            event["status"] = json!("deactivated");
        }
        event.to_string()
    }

    fn write(&mut self, kind: &str, did: &str, collection: &str, rkey: &str, mut record: Value) -> String {
        let mut event = self.event(kind, did, collection, rkey);
        record["$type"] = json!(collection);
        event["cid"] = json!(content_cid(&record));
        event["record"] = record;
        event.to_string()
    }

    fn event(&mut self, kind: &str, did: &str, collection: &str, rkey: &str) -> Value {
        self.number += 1;
        let number = self.number;
        let rev = number.saturating_sub(self.late);
        let seq = if self.backfilled { json!(-1) } else { json!(number) };
        json!({"type": kind, "seq": seq, "time": time(number.saturating_add_signed(self.clock)), "did": did, "commit": format!("bafycommit{number}"),
            "rev": format!("3r{rev:011}"), "collection": collection, "rkey": rkey})
    }
}

/// So many milliseconds into a day.
fn time(number: usize) -> String {
    let (seconds, millis) = (number / 1000, number % 1000);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    format!("2024-02-01T{hours:02}:{:02}:{:02}.{millis:03}Z", minutes % 60, seconds % 60)
}

/// Content decides the CID, as in a repository.
fn content_cid(record: &Value) -> String {
    let hash = record
        .to_string()
        .bytes()
        .fold(7u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte)));
    format!("bafyrei{hash:x}")
}

pub fn uri(did: &str, collection: &str, rkey: &str) -> String {
    format!("at://{did}/{collection}/{rkey}")
}

/// A reference to a version of a record.
pub fn strong(uri: &str) -> Value {
    json!({"uri": uri, "cid": CID})
}

pub fn post(text: &str) -> Value {
    json!({"text": text, "createdAt": AT})
}

pub fn reply(root: &str, parent: &str) -> Value {
    json!({"text": "reply", "createdAt": AT, "reply": {"root": strong(root), "parent": strong(parent)}})
}

pub fn quote(of: &str) -> Value {
    let embed = json!({"$type": "app.bsky.embed.record", "record": strong(of)});
    json!({"text": "quote", "createdAt": AT, "embed": embed})
}

/// Adds a mention of each of these accounts to a post.
pub fn mention(post: &mut Value, dids: &[String]) {
    let facet = |did: &String| {
        json!({"index": {"byteStart": 0, "byteEnd": 1},
            "features": [{"$type": "app.bsky.richtext.facet#mention", "did": did}]})
    };
    post["facets"] = dids.iter().map(facet).collect();
}

/// A gate that allows whom these rules (`mentionRule` and so on) say: nobody, if there are none.
pub fn thread_gate(of: &str, rules: &[&str]) -> Value {
    let allow: Vec<Value> =
        rules.iter().map(|rule| json!({"$type": format!("app.bsky.feed.threadgate#{rule}")})).collect();
    json!({"post": of, "createdAt": AT, "allow": allow})
}

/// A gate that allows the members of a list.
pub fn thread_gate_by_list(of: &str, list: &str) -> Value {
    json!({"post": of, "createdAt": AT,
        "allow": [{"$type": "app.bsky.feed.threadgate#listRule", "list": list}]})
}

/// A gate that forbids quotes.
pub fn post_gate(of: &str) -> Value {
    json!({"post": of, "createdAt": AT, "embeddingRules": [{"$type": "app.bsky.feed.postgate#disableRule"}]})
}

/// A like or a repost.
pub fn signal(of: &str) -> Value {
    json!({"subject": strong(of), "createdAt": AT})
}

/// A follow or a block.
pub fn about(did: &str) -> Value {
    json!({"subject": did, "createdAt": AT})
}

pub fn list_item(list: &str, did: &str) -> Value {
    json!({"list": list, "subject": did, "createdAt": AT})
}
