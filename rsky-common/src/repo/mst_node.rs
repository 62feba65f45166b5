//! One node of a tree, read entry by entry. Keys are written with the part they share with the one before left out, so a
//! small node can stand for many bytes of keys; nothing is unfolded ahead of its turn.

use super::mst_error::MstError;
use crate::atproto::cid;
use crate::cbor::{CID_TAG, Item, Mode, Reader};

/// A digest that names a block.
pub(super) type Digest = [u8; 32];

/// A node and how far it was read.
#[derive(Debug)]
pub(super) struct Node {
    block: Vec<u8>,
    /// Where the next entry begins.
    at: usize,
    left_to_read: u64,
    pub(super) left: Option<Digest>,
    pub(super) entries: u64,
}

/// The next entry; its key replaces the one before in the buffer given to [`Node::next`].
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) value: Digest,
    pub(super) value_cid: [u8; 36],
    pub(super) right: Option<Digest>,
}

impl Node {
    /// Reads the frame of a node; its entries are read by [`Node::next`].
    pub(super) fn parse(block: Vec<u8>) -> Result<Self, MstError> {
        let mut reader = Reader::new(&block, Mode::Strict);
        let Item::Map(Some(pairs)) = reader.item()? else { return Err(MstError::NotANode) };
        let (mut left, mut entries, mut at) = (None, None, 0);
        for _ in 0..pairs {
            match reader.item()? {
                Item::Text(b"l") => left = Some(optional_link(&mut reader)?),
                Item::Text(b"e") => {
                    let Item::Array(Some(count)) = reader.item()? else { return Err(MstError::NotANode) };
                    at = reader.position();
                    reader.skip_rest_of(Item::Array(Some(count)))?;
                    entries = Some(count);
                }
                Item::Text(_) => reader.skip()?,
                _ => return Err(MstError::NotANode),
            }
        }
        reader.finish()?;
        let (Some(left), Some(entries)) = (left, entries) else { return Err(MstError::NotANode) };
        Ok(Self { left: left.map(|(digest, _)| digest), entries, at, left_to_read: entries, block })
    }

    /// Bytes of memory it takes.
    pub(super) fn size(&self) -> usize {
        self.block.capacity()
    }

    /// The next entry, its key put into `key`, which holds the one before; `None` at the end.
    pub(super) fn next(&mut self, key: &mut Vec<u8>, is_first: bool) -> Result<Option<NodeEntry>, MstError> {
        if self.left_to_read == 0 {
            return Ok(None);
        }
        self.left_to_read -= 1;
        let rest = self.block.get(self.at..).unwrap_or_default();
        let mut reader = Reader::new(rest, Mode::Strict);
        let Item::Map(Some(pairs)) = reader.item()? else { return Err(MstError::NotANode) };
        let (mut suffix, mut shared, mut value, mut right) = (None, None, None, None);
        for _ in 0..pairs {
            match reader.item()? {
                Item::Text(b"k") => match reader.item()? {
                    Item::Bytes(bytes) => suffix = Some(bytes),
                    _ => return Err(MstError::NotANode),
                },
                Item::Text(b"p") => match reader.item()? {
                    Item::Uint(count) => shared = usize::try_from(count).ok(),
                    _ => return Err(MstError::NotANode),
                },
                Item::Text(b"t") => right = Some(optional_link(&mut reader)?),
                Item::Text(b"v") => value = optional_link(&mut reader)?,
                Item::Text(_) => reader.skip()?,
                _ => return Err(MstError::NotANode),
            }
        }
        let (Some(suffix), Some(shared), Some((value, value_cid)), Some(right)) =
            (suffix, shared, value, right)
        else {
            return Err(MstError::NotANode);
        };
        // The first key of a node is written out in full.
        if shared > if is_first { 0 } else { key.len() }
            || shared.saturating_add(suffix.len()) > MAX_KEY_BYTES
        {
            return Err(MstError::BadKey);
        }
        key.truncate(shared);
        key.extend_from_slice(suffix);
        self.at += reader.position();
        Ok(Some(NodeEntry { value, value_cid, right: right.map(|(digest, _)| digest) }))
    }
}

/// Longest key (PIPELINE 6.5).
pub(super) const MAX_KEY_BYTES: usize = 1024;

fn optional_link(reader: &mut Reader<'_>) -> Result<Option<(Digest, [u8; 36])>, MstError> {
    match reader.item()? {
        Item::Null => Ok(None),
        Item::Tag(CID_TAG) => {
            let Item::Bytes([0, bytes @ ..]) = reader.item()? else { return Err(MstError::NotANode) };
            let digest = cid::block_digest(bytes).ok_or(MstError::BadLink)?;
            let whole = bytes.try_into().map_err(|_| MstError::BadLink)?;
            Ok(Some((*digest, whole)))
        }
        _ => Err(MstError::NotANode),
    }
}
