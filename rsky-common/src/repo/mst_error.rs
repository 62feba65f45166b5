//! What can be wrong with a tree.

use std::io;

use thiserror::Error;

use crate::cbor::CborError;

/// A tree that is not as the protocol says.
#[derive(Debug, Error)]
pub enum MstError {
    /// A node is not CBOR.
    #[error("tree node: {0}")]
    Cbor(#[from] CborError),
    /// A block in the place of a node is none.
    #[error("a tree node is malformed")]
    NotANode,
    /// A link to something that cannot be a block.
    #[error("a tree node links to an unsupported CID")]
    BadLink,
    /// A key that is not `collection/rkey` in the allowed characters, or too long.
    #[error("a key of the tree is not a record path")]
    BadKey,
    /// A key that is not larger than the one before.
    #[error("keys of the tree are not in order")]
    Order,
    /// A key that stands in another layer than its hash says.
    #[error("a key stands in the wrong layer of the tree")]
    Layer,
    /// More layers than there can be, or nodes too large.
    #[error("the tree is too deep")]
    TooDeep,
    /// A node below the root without any key.
    #[error("the tree has an empty node")]
    EmptyNode,
    /// A node is missing.
    #[error("a node of the tree is missing")]
    MissingNode,
    /// A record is missing.
    #[error("the block of record {0} is missing")]
    MissingRecord(String),
    /// A temporary file cannot be read.
    #[error("temporary file: {0}")]
    Io(#[from] io::Error),
}
