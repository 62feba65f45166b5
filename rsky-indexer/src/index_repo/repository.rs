//! A repository from the pieces of its CAR, and whether it is what it should be. Blocking code: it hashes, and large
//! repositories are in files.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use rsky_common::repo::{ReceiveError, ReceivedCar, StoreLimits};
use tokio::sync::mpsc;

use super::account::Account;

/// A repository whose blocks are all here and have the hashes they are named by.
pub(super) type Repository = ReceivedCar;

/// Takes the pieces of a CAR until the sender hangs up.
///
/// # Errors
/// A CAR or a commit that is not as it should be, or larger than `most` bytes.
pub(super) fn receive(
    pieces: &mut mpsc::Receiver<Bytes>,
    limits: StoreLimits,
    most: u64,
) -> anyhow::Result<Repository> {
    ReceivedCar::receive(|| pieces.blocking_recv(), limits, most).map_err(|error| match error {
        ReceiveError::TooLarge(most) => anyhow!("it is larger than {most} bytes (--max-size)"),
        ReceiveError::Car(error) => anyhow!(error).context("it is not a repository"),
        ReceiveError::Io(error) => anyhow!(error).context("write a temporary file"),
        ReceiveError::Root => anyhow!("its root is no CID of a block"),
        ReceiveError::NoCommit => anyhow!("its commit is missing"),
        ReceiveError::Commit(error) => anyhow!(error).context("its commit cannot be read"),
        ReceiveError::Revision(rev) => anyhow!("its revision is no TID: {rev}"),
    })
}

/// Whose it is, by DID and signature, and that the tree has its shape and every record of it is here.
///
/// # Errors
/// What is wrong with it.
pub(super) fn verify(repository: &mut Repository, account: &Account) -> anyhow::Result<()> {
    let Account { did, pds, key } = account;
    if repository.commit.did != *did {
        let whose: String = repository.commit.did.chars().take(100).collect();
        bail!("the repository that {pds} gives for {did} is that of {whose:?}");
    }
    repository
        .commit
        .verify(key)
        .with_context(|| format!("the repository of {did} is refused: its signature is wrong"))?;
    repository.check_tree().with_context(|| format!("the repository of {did} is refused"))?;
    Ok(())
}
