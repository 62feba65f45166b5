//! A repository from the pieces of its CAR, and whether it is what it should be. Blocking code: it hashes, and large
//! repositories are in files.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rsky_common::atproto::cid;
use rsky_common::repo::{
    BlockStore, CarStream, CarStreamError, Commit, MstError, StoreLimits, Walk, revision_of_now,
};
use tokio::sync::mpsc;

use super::account::Account;

/// A repository whose blocks are all here and have the hashes they are named by.
pub(super) struct Repository {
    pub(super) store: BlockStore,
    pub(super) commit: Commit,
    /// The commit's CID as text.
    pub(super) cid: String,
    /// Its revision; made up for old commits that have none.
    pub(super) rev: String,
    /// Bytes of the CAR.
    pub(super) bytes: u64,
}

impl Repository {
    /// Takes the pieces of a CAR until the sender hangs up.
    ///
    /// # Errors
    /// A CAR or a commit that is not as it should be, or larger than `most` bytes.
    pub(super) fn receive(
        pieces: &mut mpsc::Receiver<Bytes>,
        limits: StoreLimits,
        most: u64,
    ) -> anyhow::Result<Self> {
        let (mut car, mut store) = (CarStream::new(), BlockStore::new(limits));
        let mut bytes = 0_u64;
        while let Some(piece) = pieces.blocking_recv() {
            bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if bytes > most {
                bail!("it is larger than {most} bytes (--max-size)");
            }
            car.feed(&piece, |digest, data| {
                store.insert(digest, data).context("write a temporary file").map_err(Damage::Other)
            })?;
        }
        car.finish().context("it is not a repository")?;
        store.finish().context("write a temporary file")?;
        let root = car.root().unwrap_or_default();
        let digest = cid::block_digest(root).context("its root is no CID of a block")?;
        let mut block = Vec::new();
        if !store.read(digest, &mut block).context("read a temporary file")? {
            bail!("its commit is missing");
        }
        let commit = Commit::parse(&block).context("its commit cannot be read")?;
        let cid = cid::to_text(root).context("its root is no CID")?;
        let rev = commit.rev.clone().unwrap_or_else(revision_of_now);
        Ok(Self { store, commit, cid, rev, bytes })
    }

    /// Whose it is, by DID and signature, and that the tree has its shape and every record of it is here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(&mut self, account: &Account) -> anyhow::Result<()> {
        let Account { did, pds, key } = account;
        if self.commit.did != *did {
            let whose: String = self.commit.did.chars().take(100).collect();
            bail!("the repository that {pds} gives for {did} is that of {whose:?}");
        }
        self.commit
            .verify(key)
            .with_context(|| format!("the repository of {did} is refused: its signature is wrong"))?;
        self.check_tree().with_context(|| format!("the repository of {did} is refused"))
    }

    fn check_tree(&mut self) -> Result<(), MstError> {
        let mut walk = Walk::new(&mut self.store, &self.commit.data, true)?;
        while let Some(leaf) = walk.next(&mut self.store)? {
            if !self.store.contains(&leaf.digest)? {
                return Err(MstError::MissingRecord(leaf.path));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("did", &self.commit.did).field("rev", &self.rev).finish()
    }
}

/// What ends the reading of a CAR.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it is not a repository: {0}")]
    Car(#[from] CarStreamError),
    #[error("{0:#}")]
    Other(anyhow::Error),
}
