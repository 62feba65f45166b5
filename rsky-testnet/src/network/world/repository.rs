//! The repository of one account: records, the tree over them, and signed commits.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use cid::Cid;

use super::super::car::car;
use super::super::cbor_out::{Cbor, cid_of};
use super::event::{Action, Commit, Operation};
use super::keys::SigningKey;
use super::tree::Tree;

/// A repository. What is written into it is part of it at once, and announced by [`Repository::commit`].
#[derive(Default)]
pub(super) struct Repository {
    tree: Tree,
    /// By path: CID and block.
    records: BTreeMap<String, (Cid, Vec<u8>)>,
    head: Option<Head>,
    rev: String,
}

struct Head {
    rev: String,
    cid: Cid,
    block: Vec<u8>,
    data: Cid,
}

impl Repository {
    /// The version of a record.
    pub(super) fn cid(&self, path: &str) -> Option<Cid> {
        self.records.get(path).map(|(cid, _)| *cid)
    }

    /// The block of a record.
    pub(super) fn block(&self, path: &str) -> Option<&[u8]> {
        self.records.get(path).map(|(_, block)| block.as_slice())
    }

    /// Paths, versions and blocks in the order of the tree.
    pub(super) fn records(&self) -> impl Iterator<Item = (&str, Cid, &[u8])> {
        self.records.iter().map(|(path, (cid, block))| (path.as_str(), *cid, block.as_slice()))
    }

    /// Writes records, at a revision that is later than all before.
    pub(super) fn write(&mut self, rev: &str, writes: Vec<(Action, String, Option<Cbor>)>) -> Vec<Operation> {
        rev.clone_into(&mut self.rev);
        writes.into_iter().map(|(action, path, record)| self.operation(action, path, record)).collect()
    }

    fn operation(&mut self, action: Action, path: String, record: Option<Cbor>) -> Operation {
        let prev = self.cid(&path);
        let record = record.map(|record| {
            let block = record.encode();
            let cid = cid_of(&block);
            self.tree.insert(&path, cid);
            self.records.insert(path.clone(), (cid, block));
            (record, cid)
        });
        if record.is_none() {
            self.tree.remove(&path);
            self.records.remove(&path);
        }
        Operation { action, path, record, prev }
    }

    /// Signs what was written since the last commit.
    pub(super) fn commit(&mut self, did: &str, key: &SigningKey, operations: Vec<Operation>) -> Commit {
        let mut new = Vec::new();
        let data = self.tree.root(&mut |cid, block| new.push((cid, block)));
        let (cid, block) = sign(did, &self.rev, data, key);
        for operation in &operations {
            self.tree.path(&operation.path, &mut |cid, block| new.push((cid, block)));
        }
        for operation in &operations {
            if let (Some(cid), Some(block)) = (self.cid(&operation.path), self.block(&operation.path)) {
                new.push((cid, block.to_vec()));
            }
        }
        let mut seen = HashSet::new();
        new.retain(|(cid, _)| seen.insert(*cid));
        let blocks = car(&[cid], [(cid, block.clone())].into_iter().chain(new)).into();
        let before = self.head.replace(Head { rev: self.rev.clone(), cid, block, data });
        Commit {
            rev: self.rev.clone(),
            since: before.as_ref().map(|head| head.rev.clone()),
            prev_data: before.map(|head| head.data),
            cid,
            operations,
            blocks,
        }
    }

    /// Signs what was written and not announced, if there is any: at the end of a history.
    pub(super) fn settle(&mut self, did: &str, key: &SigningKey) {
        if !self.rev.is_empty() && self.head.as_ref().is_none_or(|head| head.rev != self.rev) {
            self.commit(did, key, Vec::new());
        }
    }

    /// Revision and CID of the last commit.
    pub(super) fn head(&self) -> Option<(&str, Cid)> {
        self.head.as_ref().map(|head| (head.rev.as_str(), head.cid))
    }

    /// What getRepo answers.
    pub(super) fn export(&self) -> Option<Bytes> {
        let head = self.head.as_ref()?;
        let mut blocks = vec![(head.cid, head.block.clone())];
        self.tree.blocks(&mut |cid, block| blocks.push((cid, block)));
        let mut seen: HashSet<Cid> = HashSet::new();
        blocks.extend(self.records.values().cloned());
        blocks.retain(|(cid, _)| seen.insert(*cid));
        Some(car(&[head.cid], blocks).into())
    }
}

fn sign(did: &str, rev: &str, data: Cid, key: &SigningKey) -> (Cid, Vec<u8>) {
    let mut members = vec![
        ("did", Cbor::text(did)),
        ("rev", Cbor::text(rev)),
        ("data", Cbor::Link(data)),
        ("prev", Cbor::Null),
        ("version", Cbor::Int(3)),
    ];
    let signature = key.sign(&Cbor::map(members.clone()).encode());
    members.push(("sig", Cbor::Bytes(signature.to_vec())));
    let block = Cbor::map(members).encode();
    (cid_of(&block), block)
}
