//! A Merkle search tree that is changed key by key, and knows which of its blocks are new.

use cid::Cid;
use rsky_common::repo::key_layer;

use super::super::cbor_out::{Cbor, cid_of};

/// The tree of a repository: keys are `collection/rkey`, values the CIDs of records.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    layer: usize,
    keys: Vec<(String, Cid)>,
    /// What lies before, between and after the keys; one more than there are keys.
    below: Vec<Option<Box<Node>>>,
    /// Its CID, once it was encoded and as long as nothing in it has changed.
    encoded: Option<Cid>,
}

impl Tree {
    /// Sets a key.
    pub(super) fn insert(&mut self, key: &str, value: Cid) {
        let layer = key_layer(key.as_bytes());
        if self.root.is_empty() {
            self.root = Node::new(layer);
        }
        while self.root.layer < layer {
            let above = Node::new(self.root.layer + 1);
            let old = std::mem::replace(&mut self.root, above);
            self.root.below[0] = Some(Box::new(old));
        }
        self.root.insert(key, layer, value);
    }

    /// Removes a key that is there.
    pub(super) fn remove(&mut self, key: &str) {
        self.root.remove(key, key_layer(key.as_bytes()));
        while self.root.keys.is_empty() && self.root.layer > 0 {
            self.root = self.root.below.pop().flatten().map_or_else(Node::default, |only| *only);
        }
    }

    /// The root; every block that is new since the last call is given to `each`.
    pub(super) fn root(&mut self, each: &mut dyn FnMut(Cid, Vec<u8>)) -> Cid {
        self.root.encode(each)
    }

    /// The blocks from the root down to where `key` is or would be: with them a reader can tell what the tree was before
    /// the key came or went. The tree was encoded and has not changed since.
    pub(super) fn path(&self, key: &str, each: &mut dyn FnMut(Cid, Vec<u8>)) {
        let mut node = Some(&self.root);
        while let Some(here) = node {
            let block = here.block();
            each(cid_of(&block), block);
            let at = here.position(key);
            let found = here.keys.get(at).is_some_and(|(own, _)| own == key);
            node = if found { None } else { here.below.get(at).and_then(Option::as_deref) };
        }
    }

    /// All blocks, the root first. The tree was encoded and has not changed since.
    pub(super) fn blocks(&self, each: &mut dyn FnMut(Cid, Vec<u8>)) {
        self.root.blocks(each);
    }
}

impl Node {
    fn new(layer: usize) -> Self {
        Self { layer, keys: Vec::new(), below: vec![None], encoded: None }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.below.iter().all(Option::is_none)
    }

    fn position(&self, key: &str) -> usize {
        self.keys.partition_point(|(own, _)| own.as_str() < key)
    }

    fn insert(&mut self, key: &str, layer: usize, value: Cid) {
        self.encoded = None;
        let at = self.position(key);
        if self.layer > layer {
            let below = self.below[at].get_or_insert_with(|| Box::new(Self::new(self.layer - 1)));
            below.insert(key, layer, value);
        } else if self.keys.get(at).is_some_and(|(own, _)| own == key) {
            self.keys[at].1 = value;
        } else {
            let (left, right) = split(self.below[at].take(), key);
            self.keys.insert(at, (key.to_owned(), value));
            self.below[at] = left;
            self.below.insert(at + 1, right);
        }
    }

    fn remove(&mut self, key: &str, layer: usize) {
        self.encoded = None;
        let at = self.position(key);
        if self.layer == layer {
            self.keys.remove(at);
            let right = self.below.remove(at + 1);
            self.below[at] = merge(self.below[at].take(), right);
        } else if let Some(below) = &mut self.below[at] {
            below.remove(key, layer);
            if below.is_empty() {
                self.below[at] = None;
            }
        }
    }

    fn encode(&mut self, each: &mut dyn FnMut(Cid, Vec<u8>)) -> Cid {
        if let Some(encoded) = self.encoded {
            return encoded;
        }
        for below in self.below.iter_mut().flatten() {
            below.encode(each);
        }
        let block = self.block();
        let cid = cid_of(&block);
        self.encoded = Some(cid);
        each(cid, block);
        cid
    }

    /// What lies below has its CID.
    fn block(&self) -> Vec<u8> {
        let link = |below: Option<&Option<Box<Self>>>| {
            below.and_then(Option::as_ref).and_then(|node| node.encoded).map_or(Cbor::Null, Cbor::Link)
        };
        let mut before = "";
        let mut entries = Vec::with_capacity(self.keys.len());
        for (at, (key, value)) in self.keys.iter().enumerate() {
            let shared = key.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
            entries.push(Cbor::map([
                ("k", Cbor::Bytes(key.as_bytes()[shared..].to_vec())),
                ("p", Cbor::Int(shared as i64)),
                ("t", link(self.below.get(at + 1))),
                ("v", Cbor::Link(*value)),
            ]));
            before = key;
        }
        Cbor::map([("e", Cbor::List(entries)), ("l", link(self.below.first()))]).encode()
    }

    fn blocks(&self, each: &mut dyn FnMut(Cid, Vec<u8>)) {
        let block = self.block();
        each(cid_of(&block), block);
        self.below.iter().flatten().for_each(|below| below.blocks(each));
    }
}

/// What of a subtree is before `key`, and what is after it.
fn split(node: Option<Box<Node>>, key: &str) -> (Option<Box<Node>>, Option<Box<Node>>) {
    let Some(mut left) = node else { return (None, None) };
    let at = left.position(key);
    let mut right = Node::new(left.layer);
    right.keys = left.keys.split_off(at);
    right.below = left.below.split_off(at);
    let (below_left, below_right) = split(right.below[0].take(), key);
    right.below[0] = below_right;
    left.below.push(below_left);
    left.encoded = None;
    let some = |node: Box<Node>| (!node.is_empty()).then_some(node);
    (some(left), some(Box::new(right)))
}

/// Two subtrees of one layer, all keys of the one before those of the other.
fn merge(left: Option<Box<Node>>, right: Option<Box<Node>>) -> Option<Box<Node>> {
    match (left, right) {
        (Some(mut left), Some(mut right)) => {
            left.encoded = None;
            left.keys.append(&mut right.keys);
            let mut others = right.below.into_iter();
            let (last, first) = (left.below.pop().flatten(), others.next().flatten());
            left.below.push(merge(last, first));
            left.below.extend(others);
            Some(left)
        }
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::super::super::load::draw::Rng;
    use super::super::super::repos;
    use super::*;

    /// What the builder of whole trees, which knows nothing of changes, makes of the same keys.
    fn built(keys: &BTreeMap<String, Cid>) -> Vec<u8> {
        let mut tree = repos::Tree::default();
        for (key, value) in keys {
            tree.add(key.clone(), value.to_bytes().try_into().unwrap(), &mut |_, _| {});
        }
        tree.finish(&mut |_, _| {}).to_vec()
    }

    #[test]
    fn after_any_changes_it_is_the_tree_of_its_keys() {
        let mut rng = Rng::new(7);
        let (mut tree, mut keys) = (Tree::default(), BTreeMap::new());
        let mut known: HashMap<Cid, Vec<u8>> = HashMap::new();
        for round in 0..900_usize {
            let key = format!("app.bsky.feed.like/{:04}", rng.below(150));
            let dies = keys.contains_key(&key) && (round > 750 || rng.below(3) > 0);
            if dies {
                keys.remove(&key);
                tree.remove(&key);
            } else {
                let value = cid_of(&rng.bytes::<8>());
                keys.insert(key.clone(), value);
                tree.insert(&key, value);
            }
            let root = tree.root(&mut |cid, block| drop(known.insert(cid, block)));
            assert_eq!(root.to_bytes(), built(&keys), "round {round}");
            // Whatever is reachable was given away before.
            tree.blocks(&mut |cid, block| assert_eq!(known.get(&cid), Some(&block), "round {round}"));
            let mut first = None;
            tree.path(&key, &mut |cid, _| first = first.or(Some(cid)));
            assert_eq!(first, Some(root));
        }
    }
}
