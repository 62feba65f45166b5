//! Which revision of which repository was queued last, and which was compared with the AppView: two tables in Redis.
//!
//! A repository is one of some hundred fields of a small hash, which Redis keeps in some twenty bytes: the field is a
//! fingerprint of the DID and of the collections that were queued, the value the revision as a number. Hash and
//! fingerprint come of SHA-256 with a secret that lies beside the tables, so nobody can make DIDs that meet. The hashes
//! come into being when used. A full one forgets a repository for each new one, which is then fetched once more; that is
//! counted, and warned about (`known.rs`).

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use redis::Cmd;
use rsky_common::atproto::tid;
use rsky_common::redis::{LinkError, RedisLink};
use sha2::{Digest as _, Sha256};

/// Most fields of a hash: what Redis keeps compactly by default (`hash-max-listpack-entries`).
const MOST_FIELDS: u64 = 120;
/// What a hash of that many fields takes, its own key included.
const HASH_BYTES: u64 = 2560;
/// Bytes of a fingerprint: among those of one hash, one in 10^12 is taken for another.
const FINGERPRINT: usize = 6;

/// Sets a field, after removing another from a full hash; the second key counts those.
const REMEMBER: &str = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 \
and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then \
redis.call('HDEL', KEYS[1], redis.call('HRANDFIELD', KEYS[1])) redis.call('INCR', KEYS[2]) end \
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1";

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Its records were queued.
    Queued,
    /// And what it no longer has was deleted.
    Compared,
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Remembered {
    prefix: String,
    hashes: u64,
    collections: String,
    secret: Arc<OnceLock<Vec<u8>>>,
}

impl Remembered {
    /// The tables for an output stream, of at most about `bytes` bytes each; another size, or other collections, forget
    /// everything.
    pub fn new(output: &str, bytes: u64, collections: &str) -> Self {
        Self {
            prefix: format!("{output}:revs"),
            hashes: (bytes / HASH_BYTES).max(1),
            collections: collections.to_owned(),
            secret: Arc::default(),
        }
    }

    /// Gets the secret, or makes one. `false`: there is none, and a full Redis takes none; nothing is known then.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn open(&self, link: &mut RedisLink) -> Result<bool, LinkError> {
        if self.secret.get().is_some() {
            return Ok(true);
        }
        let key = format!("{}:secret", self.prefix);
        let get = || {
            let mut command = redis::cmd("GET");
            command.arg(&key);
            command
        };
        let mut found: Option<Vec<u8>> = link.query(&get()).await?;
        if found.is_none() {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(random()).arg("NX");
            match link.query::<redis::Value>(&set).await {
                Ok(_) => found = link.query(&get()).await?,
                Err(error) if error.is_transient() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(found.is_some_and(|found| self.secret.set(found).is_ok() || self.secret.get().is_some()))
    }

    /// The command that reads what a table has of a repository; `None` before the tables are open.
    pub fn look(&self, table: Table, did: &str) -> Option<Cmd> {
        let (key, field) = self.place(table, did)?;
        let mut command = redis::cmd("HGET");
        command.arg(key).arg(field.as_slice());
        Some(command)
    }

    /// The command that remembers; `None` for a revision of another form, and before the tables are open.
    pub fn remember(&self, table: Table, did: &str, rev: &str) -> Option<Cmd> {
        let rev = tid::to_number(rev)?;
        let (key, field) = self.place(table, did)?;
        let mut command = redis::cmd("EVAL");
        command.arg(REMEMBER).arg(2).arg(key).arg(self.forgotten_key());
        command.arg(field.as_slice()).arg(rev.to_be_bytes().as_slice()).arg(MOST_FIELDS);
        Some(command)
    }

    /// The command that tells how many were forgotten for others.
    pub fn forgotten(&self) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(self.forgotten_key());
        command
    }

    fn forgotten_key(&self) -> String {
        format!("{}:forgotten", self.prefix)
    }

    /// Hash and field of a repository.
    fn place(&self, table: Table, did: &str) -> Option<(String, [u8; FINGERPRINT])> {
        let mut hasher = Sha256::new();
        let parts = [self.secret.get()?.as_slice(), self.collections.as_bytes(), did.as_bytes()];
        for part in parts {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let (number, rest) = digest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number) % self.hashes;
        let table = match table {
            Table::Queued => "q",
            Table::Compared => "c",
        };
        let key = format!("{}:{table}{}:{number}", self.prefix, self.hashes);
        Some((key, *rest.first_chunk::<FINGERPRINT>()?))
    }
}

/// Whether what a table has says that this revision, or a later one, is in it.
pub fn has(found: Option<&[u8]>, rev: &str) -> bool {
    let stored = found.and_then(|found| found.first_chunk::<8>());
    match (stored, tid::to_number(rev)) {
        (Some(stored), Some(asked)) => u64::from_be_bytes(*stored) >= asked,
        _ => false,
    }
}

/// 256 bits that nobody can guess, of the process' own randomness.
fn random() -> Vec<u8> {
    (0..4_u8).flat_map(|part| RandomState::new().hash_one(part).to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn open(bytes: u64, collections: &str, secret: u8) -> Remembered {
        let table = Remembered::new("out", bytes, collections);
        table.secret.set(vec![secret; 32]).unwrap();
        table
    }

    #[test]
    fn the_same_or_an_older_revision_is_known() {
        let stored = tid::to_number("3jzfcijpj2z2b").unwrap().to_be_bytes();
        for (rev, known) in
            [("3jzfcijpj2z2b", true), ("3jzfcijpj2z2a", true), ("3jzfcijpj2z2c", false), ("", false)]
        {
            assert_eq!(has(Some(&stored), rev), known, "{rev}");
            assert!(!has(None, rev) && !has(Some(&[]), rev));
        }
    }

    #[test]
    fn places_depend_on_the_secret_and_on_what_was_queued() {
        let place = |table: &Remembered, which| table.place(which, "did:plc:a").unwrap();
        let table = open(1 << 20, "a", 1);
        assert_eq!(place(&table, Table::Queued), place(&open(1 << 20, "a", 1), Table::Queued));
        for other in [open(1 << 20, "b", 1), open(1 << 20, "a", 2)] {
            assert_ne!(place(&table, Table::Queued).1, place(&other, Table::Queued).1);
        }
        assert_ne!(place(&table, Table::Queued).0, place(&table, Table::Compared).0);
        assert!(table.remember(Table::Queued, "did:plc:a", "bad").is_none());
        assert!(Remembered::new("out", 0, "").look(Table::Queued, "did:plc:a").is_none(), "not open");
    }

    #[test]
    fn the_default_holds_a_network_of_forty_million_accounts() {
        let bytes = 1 << 30;
        let hashes = bytes / HASH_BYTES;
        // Hashes fill by chance: of one in a thousand of the accounts and hashes, few meet a full one.
        let (few, accounts) = (hashes / 1000, 40_000);
        let table = open(few * HASH_BYTES, "", 3);
        let mut fields: HashMap<String, u64> = HashMap::new();
        for number in 0..accounts {
            *fields
                .entry(table.place(Table::Queued, &format!("did:plc:{number}")).unwrap().0)
                .or_default() += 1;
        }
        let forgotten: u64 = fields.values().map(|fields| fields.saturating_sub(MOST_FIELDS)).sum();
        assert!(forgotten * 100 < accounts, "{forgotten} of {accounts}");
    }

    #[test]
    fn secrets_differ() {
        assert_eq!(random().len(), 32);
        assert_ne!(random(), random());
    }
}
