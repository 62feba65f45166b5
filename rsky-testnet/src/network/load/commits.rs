//! The firehose: commit frames made once, sent again and again with new seqs.

use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;

use super::super::car::car;
use super::super::cbor_out::{Cbor, cid_of};
use super::super::frames::{self, peek};
use super::super::script::Script;
use super::FIRST_SEQ;
use super::activity::{Act, Action, Activity, Mix};
use super::draw::Rng;
use super::notes::Notes;

/// MST nodes of a commit, from the root down.
const NODES: usize = 8;
/// Entries of a node: about 400 bytes.
const ENTRIES: usize = 3;

const MIX: Mix = Mix {
    likes: 65,
    reposts: 10,
    follows: 10,
    posts: 10,
    blocks: 2,
    updates: 0,
    deletes: 3,
    others: 0,
    replies: 30,
    rich: false,
};

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Chooses everything.
    pub seed: u64,
    /// Accounts, at least 2.
    pub dids: usize,
    /// Frames made, at least 1. After them the same frames come again with higher seqs: the same DIDs and revs.
    pub ring: usize,
    /// Seq of the first frame; 2^32 or more, or the encoding is not canonical.
    pub first_seq: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { seed: 1, dids: 2_500, ring: 20_000, first_seq: FIRST_SEQ }
    }
}

/// The generated frames, about 4.5 KB of memory each.
pub struct CommitRing {
    first_seq: u64,
    frames: Vec<Vec<u8>>,
    /// Where the eight bytes of the seq begin in each frame.
    seqs: Vec<usize>,
    /// The URI of the record that each frame creates, if it does.
    created: Vec<Option<String>>,
}

impl CommitRing {
    /// Generates the frames: 20 000 take about a second in a release build.
    pub fn generate(options: LoadOptions) -> Self {
        let mut activity = Activity::new(options.seed, options.dids, MIX);
        let count = options.ring.max(1);
        let (mut frames, mut seqs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut created = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let act = activity.next();
            let frame = commit(&act, options.first_seq + index, activity.rng());
            let seq_at = peek(&frame).seq_at.expect("a commit has a seq");
            seqs.push(seq_at + 1);
            frames.push(frame.to_vec());
            let uri = || format!("at://{}/{}/{}", act.did, act.collection, act.rkey);
            created.push((act.action == Action::Create).then(uri));
        }
        Self { first_seq: options.first_seq, frames, seqs, created }
    }

    /// The frame of a seq from the first one on.
    pub fn frame(&self, seq: u64) -> Bytes {
        let index = (seq.saturating_sub(self.first_seq) % self.frames.len() as u64) as usize;
        let (mut frame, at) = (self.frames[index].clone(), self.seqs[index]);
        frame[at..at + 8].copy_from_slice(&seq.to_be_bytes());
        frame.into()
    }

    /// Seq of the first frame.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The records that are created when the ring is sent once: number of the frame, from 1, and URI.
    pub fn created(&self) -> impl Iterator<Item = (u64, &str)> {
        (1..).zip(&self.created).filter_map(|(number, uri)| Some((number, uri.as_deref()?)))
    }

    /// Bytes of all frames together.
    pub fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }

    /// What a relay sends: `frames` of them, or for ever.
    pub fn script(self: &Arc<Self>, frames: Option<u64>) -> Script {
        let ring = Arc::clone(self);
        let make = move |seq| ring.frame(seq);
        match frames {
            Some(count) => Script::generated(self.first_seq, count, make),
            None => Script::endless(self.first_seq, make),
        }
    }

    /// The same, `frames` of them, with a note of when they were sent.
    pub fn noted_script(self: &Arc<Self>, frames: u64, notes: Notes) -> Script {
        let ring = Arc::clone(self);
        Script::generated(self.first_seq, frames, move |seq| {
            let frame = ring.frame(seq);
            // A socket asks for a frame when it takes it.
            notes.sent(seq.saturating_sub(ring.first_seq) + 1);
            frame
        })
    }
}

fn commit(act: &Act, seq: u64, rng: &mut Rng) -> Bytes {
    let nodes = nodes(act, rng);
    let data = nodes[0].0;
    let root = frames::signed_commit(&act.did, &act.rev, data, rng.bytes());
    let commit = cid_of(&root);
    let record = act.record.as_ref().map(|(_, block, cid)| (*cid, block.as_slice()));
    let nodes = nodes.iter().map(|(cid, block)| (*cid, block.as_slice()));
    let blocks = car(&[commit], [(commit, root.as_slice())].into_iter().chain(nodes).chain(record));
    let mut op = vec![
        ("action", Cbor::text(act.action.name())),
        ("path", Cbor::text(format!("{}/{}", act.collection, act.rkey))),
        ("cid", record.map_or(Cbor::Null, |(cid, _)| Cbor::Link(cid))),
    ];
    op.extend(act.prev.map(|prev| ("prev", Cbor::Link(prev))));
    frames::typed(
        "#commit",
        Cbor::map([
            ("ops", Cbor::List(vec![Cbor::map(op)])),
            ("rev", Cbor::text(act.rev.as_str())),
            ("seq", Cbor::WideUint(seq)),
            ("repo", Cbor::text(act.did.as_str())),
            ("time", Cbor::text(act.time.as_str())),
            ("blobs", Cbor::List(Vec::new())),
            ("since", act.since.as_deref().map_or(Cbor::Null, Cbor::text)),
            ("blocks", Cbor::Bytes(blocks)),
            ("commit", Cbor::Link(commit)),
            ("rebase", Cbor::Bool(false)),
            ("tooBig", Cbor::Bool(false)),
            ("prevData", link(rng)),
        ]),
    )
}

/// The path from the root of the tree to the record, each node with the CID of the next one; root first.
fn nodes(act: &Act, rng: &mut Rng) -> Vec<(Cid, Vec<u8>)> {
    let mut below = None;
    let mut nodes: Vec<(Cid, Vec<u8>)> = (0..NODES)
        .map(|level| {
            let entries = (0..ENTRIES).map(|entry| {
                let value = match &act.record {
                    Some((_, _, cid)) if level == 0 && entry == 0 => Cbor::Link(*cid),
                    _ => link(rng),
                };
                let (prefix, key) = if entry == 0 {
                    (0, format!("{}/{}", act.collection, act.rkey))
                } else {
                    (act.collection.len() as i64 + 4, act.rkey.chars().skip(3).collect())
                };
                Cbor::map([
                    ("k", Cbor::Bytes(key.into_bytes())),
                    ("p", Cbor::Int(prefix)),
                    ("t", link(rng)),
                    ("v", value),
                ])
            });
            let entries = Cbor::List(entries.collect());
            let left = below.map_or(Cbor::Null, Cbor::Link);
            let block = Cbor::map([("e", entries), ("l", left)]).encode();
            let cid = cid_of(&block);
            below = Some(cid);
            (cid, block)
        })
        .collect();
    nodes.reverse();
    nodes
}

/// A link to a block nobody has.
fn link(rng: &mut Rng) -> Cbor {
    // The tag, and a CIDv1 of DAG-CBOR with a SHA-256 of 32 random bytes.
    let mut raw = vec![0xd8, 42, 0x58, 37, 0, 1, 0x71, 0x12, 32];
    raw.extend_from_slice(&rng.bytes::<32>());
    Cbor::Raw(raw)
}
