//! Entries of the event streams, for measuring the indexer without an ingester.

use super::super::cbor_out::{cid_of, json_string};
use super::FIRST_SEQ;
use super::activity::{Act, Activity, Mix};

const GRAPH: Mix = Mix {
    likes: 50,
    reposts: 15,
    follows: 20,
    posts: 0,
    blocks: 10,
    updates: 2,
    deletes: 3,
    others: 0,
    replies: 0,
    rich: false,
};

const FULL: Mix = Mix {
    likes: 43,
    reposts: 10,
    follows: 14,
    posts: 19,
    blocks: 4,
    updates: 2,
    deletes: 3,
    others: 5,
    replies: 50,
    rich: true,
};

/// What happens in a load of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventMix {
    /// Likes 50 %, follows 20 %, reposts 15 %, blocks 10 %: no event depends on what another account did.
    Graph,
    /// Likes 43 %, posts 19 % (half of them replies; embeds, quotes, mentions), follows 14 %, reposts 10 %, gates, lists,
    /// feed generators and blocks 9 %.
    Full,
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventOptions {
    /// Chooses everything.
    pub seed: u64,
    /// Accounts, at least 2.
    pub dids: usize,
    /// Seq of the first event.
    pub first_seq: u64,
    /// What happens.
    pub mix: EventMix,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self { seed: 1, dids: 2_500, first_seq: FIRST_SEQ, mix: EventMix::Graph }
    }
}

/// An endless stream of event JSON as the ingester writes it (PIPELINE 3.1), of one [`EventMix`]; 5 % are updates and
/// deletes of records created shortly before.
pub fn stream_events(options: EventOptions) -> StreamEvents {
    let mix = match options.mix {
        EventMix::Graph => GRAPH,
        EventMix::Full => FULL,
    };
    StreamEvents { activity: Activity::new(options.seed, options.dids, mix), seq: options.first_seq }
}

/// See [`stream_events`].
pub struct StreamEvents {
    activity: Activity,
    seq: u64,
}

impl Iterator for StreamEvents {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let event = event(&self.activity.next(), self.seq);
        self.seq += 1;
        Some(event)
    }
}

fn event(act: &Act, seq: u64) -> String {
    let mut out = String::with_capacity(768);
    out.push_str("{\"type\":");
    json_string(act.action.name(), &mut out);
    if let Some((record, _, cid)) = &act.record {
        out.push_str(",\"record\":");
        record.write_json(&mut out);
        member("cid", &cid.to_string(), &mut out);
    }
    out.push_str(",\"seq\":");
    out.push_str(&seq.to_string());
    member("time", &act.time, &mut out);
    member("did", &act.did, &mut out);
    member("commit", &cid_of(act.rev.as_bytes()).to_string(), &mut out);
    member("rev", &act.rev, &mut out);
    member("collection", act.collection, &mut out);
    member("rkey", &act.rkey, &mut out);
    out.push('}');
    out
}

fn member(key: &str, value: &str, out: &mut String) {
    out.push(',');
    json_string(key, out);
    out.push(':');
    json_string(value, out);
}
