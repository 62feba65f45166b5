//! Builders for single frames.

use bytes::Bytes;
use cid::Cid;

use super::super::car::car;
use super::super::cbor_out::{Cbor, cid_of};

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// `create`, `update`, `delete`, or anything else a bad peer may say.
    pub action: String,
    /// `collection/rkey`.
    pub path: String,
    /// The record; its block goes into the CAR. `None` for a delete.
    pub record: Option<Cbor>,
    /// CID of the version before, for `update` and `delete`.
    pub prev: Option<Cid>,
}

impl Op {
    /// A record is made.
    pub fn create(path: impl Into<String>, record: Cbor) -> Self {
        Self { action: "create".into(), path: path.into(), record: Some(record), prev: None }
    }

    /// A record is replaced.
    pub fn update(path: impl Into<String>, record: Cbor) -> Self {
        Self { action: "update".into(), path: path.into(), record: Some(record), prev: None }
    }

    /// A record is removed.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { action: "delete".into(), path: path.into(), record: None, prev: None }
    }
}

/// A frame of any type: header `{t, op: 1}` and `body`.
pub fn typed(t: &str, body: Cbor) -> Bytes {
    two(Cbor::map([("t", Cbor::text(t)), ("op", Cbor::Int(1))]), body)
}

/// A `#commit` of `ops` with a CAR of the commit block and every record; CIDs are correct, the signature is not.
pub fn commit(seq: u64, did: &str, rev: &str, time: &str, ops: &[Op]) -> Bytes {
    let records: Vec<Option<Vec<u8>>> = ops.iter().map(|op| op.record.as_ref().map(Cbor::encode)).collect();
    let cids: Vec<Option<Cid>> = records.iter().map(|record| record.as_deref().map(cid_of)).collect();
    let root = signed_commit(did, rev, cid_of(did.as_bytes()), [7; 64]);
    let commit = cid_of(&root);
    let blocks = cids
        .iter()
        .zip(&records)
        .filter_map(|(cid, record)| Some((cid.as_ref().copied()?, record.as_ref()?)));
    let blocks = car(&[commit], [(commit, &root)].into_iter().chain(blocks));
    let ops = ops.iter().zip(&cids).map(|(op, cid)| {
        let mut entry = vec![
            ("action".to_owned(), Cbor::text(op.action.as_str())),
            ("path".to_owned(), Cbor::text(op.path.as_str())),
            ("cid".to_owned(), cid.map_or(Cbor::Null, Cbor::Link)),
        ];
        entry.extend(op.prev.map(|prev| ("prev".to_owned(), Cbor::Link(prev))));
        Cbor::Map(entry)
    });
    commit_car(Cbor::Int(seq as i64), did, rev, time, commit, ops.collect(), blocks)
}

/// A `#commit` with everything given: `ops` as CBOR and `blocks` as they are, right or wrong.
pub fn commit_car(
    seq: Cbor,
    did: &str,
    rev: &str,
    time: &str,
    commit: Cid,
    ops: Vec<Cbor>,
    blocks: Vec<u8>,
) -> Bytes {
    typed(
        "#commit",
        Cbor::map([
            ("ops", Cbor::List(ops)),
            ("rev", Cbor::text(rev)),
            ("seq", seq),
            ("repo", Cbor::text(did)),
            ("time", Cbor::text(time)),
            ("blobs", Cbor::List(Vec::new())),
            ("since", Cbor::Null),
            ("blocks", Cbor::Bytes(blocks)),
            ("commit", Cbor::Link(commit)),
            ("rebase", Cbor::Bool(false)),
            ("tooBig", Cbor::Bool(false)),
        ]),
    )
}

/// The block of a version 3 commit object.
pub fn signed_commit(did: &str, rev: &str, data: Cid, sig: [u8; 64]) -> Vec<u8> {
    Cbor::map([
        ("did", Cbor::text(did)),
        ("rev", Cbor::text(rev)),
        ("sig", Cbor::Bytes(sig.to_vec())),
        ("data", Cbor::Link(data)),
        ("prev", Cbor::Null),
        ("version", Cbor::Int(3)),
    ])
    .encode()
}

/// An `#identity`.
pub fn identity(seq: u64, did: &str, time: &str, handle: Option<&str>) -> Bytes {
    let mut body = event(seq, did, time);
    body.extend(handle.map(|handle| ("handle", Cbor::text(handle))));
    typed("#identity", Cbor::map(body))
}

/// An `#account`.
pub fn account(seq: u64, did: &str, time: &str, active: bool, status: Option<&str>) -> Bytes {
    let mut body = event(seq, did, time);
    body.push(("active", Cbor::Bool(active)));
    body.extend(status.map(|status| ("status", Cbor::text(status))));
    typed("#account", Cbor::map(body))
}

/// A `#sync` with a CAR of one commit block.
pub fn sync(seq: u64, did: &str, rev: &str, time: &str) -> Bytes {
    let root = signed_commit(did, rev, cid_of(did.as_bytes()), [7; 64]);
    let cid = cid_of(&root);
    let mut body = event(seq, did, time);
    body.extend([("rev", Cbor::text(rev)), ("blocks", Cbor::Bytes(car(&[cid], [(cid, &root)])))]);
    typed("#sync", Cbor::map(body))
}

/// An `#info`, which has no seq.
pub fn info(name: &str, message: &str) -> Bytes {
    typed("#info", Cbor::map([("name", Cbor::text(name)), ("message", Cbor::text(message))]))
}

/// A `#labels` frame of label objects (`src`, `uri`, `val`, `cts`, …) as they are.
pub fn labels(seq: u64, labels: Vec<Cbor>) -> Bytes {
    typed("#labels", Cbor::map([("seq", Cbor::Int(seq as i64)), ("labels", Cbor::List(labels))]))
}

/// A frame of a type no reader knows, with a seq.
pub fn unknown(seq: u64, t: &str) -> Bytes {
    typed(t, Cbor::map([("seq", Cbor::Int(seq as i64)), ("foo", Cbor::Int(1))]))
}

/// An error frame without a message.
pub fn error(error: &str) -> Bytes {
    error_frame(Cbor::map([("error", Cbor::text(error))]))
}

/// An error frame.
pub fn error_with_message(error: &str, message: &str) -> Bytes {
    error_frame(Cbor::map([("error", Cbor::text(error)), ("message", Cbor::text(message))]))
}

fn error_frame(body: Cbor) -> Bytes {
    two(Cbor::map([("op", Cbor::Int(-1))]), body)
}

fn event(seq: u64, did: &str, time: &str) -> Vec<(&'static str, Cbor)> {
    vec![("did", Cbor::text(did)), ("seq", Cbor::Int(seq as i64)), ("time", Cbor::text(time))]
}

fn two(header: Cbor, body: Cbor) -> Bytes {
    let mut out = header.encode();
    body.encode_into(&mut out);
    out.into()
}
