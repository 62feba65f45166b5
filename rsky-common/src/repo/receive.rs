//! A repository from the pieces of its CAR: the one place that receives one. Blocking code: it hashes, and large
//! repositories are in files.

use std::io;

use thiserror::Error;

use super::{BlockStore, CarStream, CarStreamError, Commit, CommitError, MstError, StoreLimits, Walk};
use crate::atproto::{cid, tid};

/// A repository whose blocks are all here and have the hashes they are named by.
#[derive(Debug)]
pub struct ReceivedCar {
    /// Its blocks.
    pub store: BlockStore,
    /// Its commit; whose it is and who signed it has not been looked at.
    pub commit: Commit,
    /// The commit's CID as text.
    pub cid: String,
    /// Its revision; made up for old commits that have none.
    pub rev: String,
    /// Bytes of the CAR.
    pub bytes: u64,
}

/// Why a CAR was not received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// It is larger than what was allowed.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// It is damaged, or no CAR.
    #[error(transparent)]
    Car(#[from] CarStreamError),
    /// A temporary file cannot be written or read.
    #[error("temporary file: {0}")]
    Io(#[from] io::Error),
    /// Its root names no block that there could be.
    #[error("the root is no CID of a block")]
    Root,
    /// The block that its root names is not in it.
    #[error("the commit is missing")]
    NoCommit,
    /// That block is no commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The revision would be in every entry, and orders changes.
    #[error("the revision is no TID: {0}")]
    Revision(String),
}

impl ReceivedCar {
    /// Takes pieces until there are no more.
    ///
    /// # Errors
    /// See [`ReceiveError`]; `most` is the largest CAR, in bytes.
    pub fn receive<P: AsRef<[u8]>>(
        mut next_piece: impl FnMut() -> Option<P>,
        limits: StoreLimits,
        most: u64,
    ) -> Result<Self, ReceiveError> {
        let (mut car, mut store) = (CarStream::new(), BlockStore::new(limits));
        let mut bytes = 0_u64;
        while let Some(piece) = next_piece() {
            let piece = piece.as_ref();
            bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if bytes > most {
                return Err(ReceiveError::TooLarge(most));
            }
            car.feed(piece, |digest, data| store.insert(digest, data).map_err(ReceiveError::from))?;
        }
        car.finish()?;
        store.finish()?;
        let root = car.root().unwrap_or_default();
        let digest = cid::block_digest(root).ok_or(ReceiveError::Root)?;
        let mut block = Vec::new();
        if !store.read(digest, &mut block)? {
            return Err(ReceiveError::NoCommit);
        }
        let commit = Commit::parse(&block)?;
        let cid = cid::to_text(root).map_err(|_| ReceiveError::Root)?;
        let rev = match &commit.rev {
            Some(rev) if !tid::is_tid(rev) => return Err(ReceiveError::Revision(rev.clone())),
            Some(rev) => rev.clone(),
            // A commit without one (PIPELINE 6.5).
            None => tid::now(),
        };
        Ok(Self { store, commit, cid, rev, bytes })
    }

    /// Walks the tree: its shape, and that every record is there. Gives how many there are.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_tree(&mut self) -> Result<u64, MstError> {
        let mut walk = Walk::new(&mut self.store, &self.commit.data, true)?;
        let mut records = 0_u64;
        while let Some(leaf) = walk.next(&mut self.store)? {
            if !self.store.contains(&leaf.digest)? {
                return Err(MstError::MissingRecord(leaf.path));
            }
            records = records.saturating_add(1);
        }
        Ok(records)
    }
}
