//! Walking the tree of a repository in key order, trusting nothing about its shape.
//!
//! Every block's hash was checked when it came in, so a node cannot contain itself. What is checked here makes the rest
//! safe: keys only ever grow, so nothing is visited twice; a key's hash says in which layer it stands, so the tree is as
//! deep as its root says and no deeper; every node but the root holds a key somewhere below it.

use sha2::{Digest as _, Sha256};

use super::BlockStore;
use super::mst_error::MstError;
use super::mst_node::{Digest, Node};

/// Deepest tree: a layer is half the leading zero bits of a SHA-256 hash.
const MAX_LAYERS: usize = 128;
/// Bytes of all nodes that are open at a time. Real nodes have some hundred bytes, and the largest ten thousand.
const MAX_OPEN_BYTES: usize = 2 << 20;

/// A record of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// `collection/rkey`.
    pub path: String,
    /// The digest that names its block.
    pub digest: [u8; 32],
    /// Its CID as bytes.
    pub cid: [u8; 36],
}

impl Leaf {
    /// Collection and record key.
    pub fn split(&self) -> (&str, &str) {
        self.path.split_once('/').unwrap_or((&self.path, ""))
    }
}

struct Open {
    node: Node,
    /// A subtree that comes before the next entry.
    below: Option<Digest>,
    /// The key read last in this node.
    key: Vec<u8>,
    started: bool,
}

/// A walk in key order.
pub struct Walk {
    stack: Vec<Open>,
    open_bytes: usize,
    last_key: Vec<u8>,
    /// The layer of the root, known from the first key.
    root_layer: Option<usize>,
    check_layers: bool,
}

impl Walk {
    /// Starts at the root with this CID (`data` of the commit). `check_layers`: whether keys are hashed to see that they
    /// stand where they belong; a second walk of the same tree need not.
    ///
    /// # Errors
    /// The root is missing or no node.
    pub fn new(store: &mut BlockStore, root: &[u8], check_layers: bool) -> Result<Self, MstError> {
        let digest = *crate::atproto::cid::block_digest(root).ok_or(MstError::BadLink)?;
        let mut walk =
            Self { stack: Vec::new(), open_bytes: 0, last_key: Vec::new(), root_layer: None, check_layers };
        walk.open(store, digest)?;
        Ok(walk)
    }

    /// The next record; `None` at the end. Its block is not looked at.
    ///
    /// # Errors
    /// See [`MstError`]; the walk is over then.
    pub fn next(&mut self, store: &mut BlockStore) -> Result<Option<Leaf>, MstError> {
        loop {
            let depth = self.stack.len();
            let Some(top) = self.stack.last_mut() else { return Ok(None) };
            if let Some(digest) = top.below.take() {
                self.open(store, digest)?;
                continue;
            }
            let Some(entry) = top.node.next(&mut top.key, !top.started)? else {
                self.close();
                continue;
            };
            top.started = true;
            top.below = entry.right;
            let key = &top.key;
            if !self.last_key.is_empty() && *key <= self.last_key {
                return Err(MstError::Order);
            }
            let path = record_path(key)?.to_owned();
            self.last_key.clone_from(key);
            if self.check_layers {
                self.check_layer(depth)?;
            }
            return Ok(Some(Leaf { path, digest: entry.value, cid: entry.value_cid }));
        }
    }

    fn check_layer(&mut self, depth: usize) -> Result<(), MstError> {
        // The root has depth 1 and the highest layer.
        let layer = key_layer(&self.last_key) + (depth - 1);
        if *self.root_layer.get_or_insert(layer) == layer { Ok(()) } else { Err(MstError::Layer) }
    }

    fn open(&mut self, store: &mut BlockStore, digest: Digest) -> Result<(), MstError> {
        let mut block = Vec::new();
        if !store.read(&digest, &mut block)? {
            return Err(MstError::MissingNode);
        }
        let node = Node::parse(block)?;
        if node.entries == 0 && node.left.is_none() && !self.stack.is_empty() {
            return Err(MstError::EmptyNode);
        }
        self.open_bytes += node.size();
        let deepest = self.root_layer.map_or(MAX_LAYERS, |layer| layer + 1);
        if self.stack.len() >= deepest || self.open_bytes > MAX_OPEN_BYTES {
            return Err(MstError::TooDeep);
        }
        let below = node.left;
        self.stack.push(Open { node, below, key: Vec::new(), started: false });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(open) = self.stack.pop() {
            self.open_bytes = self.open_bytes.saturating_sub(open.node.size());
        }
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("depth", &self.stack.len()).finish()
    }
}

/// The layer a key stands in: half the leading zero bits of its hash.
pub fn key_layer(key: &[u8]) -> usize {
    let mut zeros = 0_usize;
    for byte in Sha256::digest(key) {
        zeros += usize::try_from(byte.leading_zeros()).unwrap_or(0);
        if byte != 0 {
            break;
        }
    }
    zeros / 2
}

/// `collection/rkey` in the characters the reference allows (PIPELINE 6.5).
fn record_path(key: &[u8]) -> Result<&str, MstError> {
    let text = str::from_utf8(key).map_err(|_| MstError::BadKey)?;
    let allowed = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_~-:.".contains(&byte))
    };
    match text.split_once('/') {
        Some((collection, rkey)) if allowed(collection) && allowed(rkey) => Ok(text),
        _ => Err(MstError::BadKey),
    }
}

#[cfg(test)]
#[path = "mst_tests.rs"]
mod tests;
