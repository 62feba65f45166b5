//! Which revision of which repository was queued: a table of fixed size in Redis.
//!
//! Forty million accounts in a hash would take gigabytes. A repository has one slot of eight bytes, found by its DID,
//! that holds a fingerprint of DID and revision. Two repositories of one slot make each other forgotten, which queues
//! one of them again (harmless: it is fetched once more). That a changed repository is taken for an unchanged one has a
//! chance of 2⁻⁶⁴. Slots lie in strings of 64 KiB that come into being when used, so a small relay needs little.

use redis::Cmd;
use rsky_common::redis::{LinkError, RedisLink};

use super::page::Repo;
use crate::source::Source;

/// Bytes of a slot.
const SLOT: u64 = 8;
/// Slots of one string.
const SLOTS_PER_KEY: u64 = 8192;

/// The table of one relay.
#[derive(Debug)]
pub(super) struct Remembered {
    prefix: String,
    slots: u64,
}

impl Remembered {
    /// The table for a source, of at most `bytes` bytes. Another size forgets what was remembered.
    pub(super) fn new(source: &Source, bytes: u64) -> Self {
        let slots = (bytes / SLOT).max(SLOTS_PER_KEY);
        Self { prefix: format!("{}:revs:{slots}", source.cursor_key()), slots }
    }

    /// Which of the repositories were queued at the revision they have.
    pub(super) async fn known(&self, link: &mut RedisLink, repos: &[Repo]) -> Result<Vec<bool>, LinkError> {
        if repos.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::Pipeline::with_capacity(repos.len());
        for repo in repos {
            let (key, offset) = self.place(&repo.did);
            pipeline.cmd("GETRANGE").arg(key).arg(offset).arg(offset + SLOT - 1);
        }
        loop {
            match link.pipeline::<Vec<Vec<u8>>>(&pipeline).await {
                Ok(found) => {
                    link.succeeded();
                    return Ok(repos
                        .iter()
                        .zip(found)
                        .map(|(repo, found)| !repo.rev.is_empty() && found == fingerprint(repo))
                        .collect());
                }
                Err(error) => link.wait_out(error).await?,
            }
        }
    }

    /// The commands that remember them.
    pub(super) fn remember(&self, repos: &[&Repo]) -> Vec<Cmd> {
        let one = |repo: &&Repo| {
            let (key, offset) = self.place(&repo.did);
            let mut command = redis::cmd("SETRANGE");
            command.arg(key).arg(offset).arg(&fingerprint(repo)[..]);
            command
        };
        repos.iter().map(one).collect()
    }

    fn place(&self, did: &str) -> (String, u64) {
        let slot = hash(0, did.as_bytes()) % self.slots;
        (format!("{}:{}", self.prefix, slot / SLOTS_PER_KEY), slot % SLOTS_PER_KEY * SLOT)
    }
}

fn fingerprint(repo: &Repo) -> [u8; 8] {
    // All zeros is what an empty slot reads as.
    hash(hash(1, repo.did.as_bytes()), repo.rev.as_bytes()).max(1).to_be_bytes()
}

/// FNV-1a with a final mix; it must stay the same over releases, since its values are stored.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed =
        bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(did: &str, rev: &str) -> Repo {
        Repo { did: did.to_owned(), rev: rev.to_owned(), status: None, active: None }
    }

    #[test]
    fn values_are_stable_because_they_are_stored() {
        assert_eq!(hash(0, b"did:plc:abc"), hash(0, b"did:plc:abc"));
        assert_eq!(
            fingerprint(&repo("did:plc:abc", "3jzfcijpj2z2a")),
            hash(hash(1, b"did:plc:abc"), b"3jzfcijpj2z2a").to_be_bytes()
        );
        assert_ne!(fingerprint(&repo("a", "1")), fingerprint(&repo("a", "2")));
        assert_ne!(fingerprint(&repo("a", "1")), fingerprint(&repo("b", "1")));
    }

    #[test]
    fn slots_are_spread_and_within_the_table() {
        let table = Remembered { prefix: "p".to_owned(), slots: 100_000 };
        let mut places: Vec<_> = (0..1000).map(|number| table.place(&format!("did:plc:{number}"))).collect();
        assert!(places.iter().all(|(_, offset)| *offset <= (SLOTS_PER_KEY - 1) * SLOT && offset % SLOT == 0));
        places.sort();
        places.dedup();
        assert!(places.len() > 980, "{}", places.len());
    }
}
