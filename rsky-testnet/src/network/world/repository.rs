//! The repository of one account: records, the tree over them, and signed commits.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use cid::Cid;

use super::super::car::car;
use super::super::cbor_out::{Cbor, cid_of};
use super::event::{Action, Commit, Operation};
use super::keys::SigningKey;
use super::tree::Tree;
use super::trouble::Announced;

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

    /// Signs what was written since the last commit. It may be announced as another than it is.
    pub(super) fn commit(
        &mut self,
        did: &str,
        key: &SigningKey,
        operations: Vec<Operation>,
        announced: Option<&Announced>,
    ) -> Commit {
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
        let said = announced.map_or_else(
            || (self.rev.clone(), (cid, block.clone())),
            |announced| {
                let rev = announced.rev.as_ref().unwrap_or(&self.rev);
                (rev.clone(), sign(did, rev, data, announced.key.as_ref().unwrap_or(key)))
            },
        );
        let (said_rev, (said_cid, said_block)) = said;
        let blocks = car(&[said_cid], [(said_cid, said_block)].into_iter().chain(new)).into();
        let before = self.head.replace(Head { rev: self.rev.clone(), cid, block, data });
        Commit {
            rev: said_rev,
            since: before.as_ref().map(|head| head.rev.clone()),
            prev_data: before.map(|head| head.data),
            cid: said_cid,
            operations,
            blocks,
        }
    }

    /// Signs what was written and not announced, if there is any: at the end of a history.
    pub(super) fn settle(&mut self, did: &str, key: &SigningKey) {
        if !self.rev.is_empty() && self.head.as_ref().is_none_or(|head| head.rev != self.rev) {
            self.commit(did, key, Vec::new(), None);
        }
    }

    /// Revision and CID of the last commit.
    pub(super) fn head(&self) -> Option<(&str, Cid)> {
        self.head.as_ref().map(|head| (head.rev.as_str(), head.cid))
    }

    /// What getRepo answers.
    pub(super) fn export(&self) -> Option<Bytes> {
        let head = self.head.as_ref()?;
        Some(self.exported(head.cid, head.block.clone()))
    }

    /// The same, signed with this key.
    pub(super) fn export_signed(&self, did: &str, key: &SigningKey) -> Option<Bytes> {
        let head = self.head.as_ref()?;
        let (cid, block) = sign(did, &head.rev, head.data, key);
        Some(self.exported(cid, block))
    }

    fn exported(&self, head: Cid, block: Vec<u8>) -> Bytes {
        let mut blocks = vec![(head, block)];
        self.tree.blocks(&mut |cid, block| blocks.push((cid, block)));
        let mut seen: HashSet<Cid> = HashSet::new();
        blocks.extend(self.records.values().cloned());
        blocks.retain(|(cid, _)| seen.insert(*cid));
        car(&[head], blocks).into()
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
