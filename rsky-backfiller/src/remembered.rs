//! Which revision of which repository was queued last: a table of fixed size in Redis.
//!
//! A repository has one slot of sixteen bytes, found by its DID: a fingerprint of the DID and of the collections that
//! were queued, and the revision as a number. Two repositories of one slot make each other forgotten, and the
//! forgotten one is fetched once more. The slots lie in strings of 64 KiB that come into being when used.

use redis::Cmd;

/// Bytes of a slot.
const SLOT: u64 = 16;
/// Slots of one string.
const SLOTS_PER_KEY: u64 = 4096;
/// The alphabet of revisions, in order.
const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// The table.
#[derive(Debug, Clone)]
pub struct Remembered {
    prefix: String,
    slots: u64,
    collections: u64,
}

impl Remembered {
    /// The table for an output stream, of at most `bytes` bytes; another size, or other collections, forget everything.
    pub fn new(output: &str, bytes: u64, collections: &str) -> Self {
        let slots = (bytes / SLOT).max(SLOTS_PER_KEY);
        Self { prefix: format!("{output}:revs:{slots}"), slots, collections: hash(2, collections.as_bytes()) }
    }

    /// The command that reads a repository's slot.
    pub fn look(&self, did: &str) -> Cmd {
        let (key, offset) = self.place(did);
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(offset).arg(offset + SLOT - 1);
        command
    }

    /// Whether a slot's content says that this revision, or a later one, was queued.
    pub fn knows(&self, slot: &[u8], did: &str, rev: &str) -> bool {
        let Some((whose, stored)) = slot.split_first_chunk::<8>() else { return false };
        let (Some(stored), Some(asked)) = (stored.first_chunk::<8>(), number(rev)) else { return false };
        u64::from_be_bytes(*whose) == self.fingerprint(did) && u64::from_be_bytes(*stored) >= asked
    }

    /// Whether a slot's content says that any revision was queued.
    pub fn knows_of(&self, slot: &[u8], did: &str) -> bool {
        slot.first_chunk::<8>().is_some_and(|whose| u64::from_be_bytes(*whose) == self.fingerprint(did))
    }

    /// Whether a text has the form of a revision, so that its order means something.
    pub fn is_revision(rev: &str) -> bool {
        number(rev).is_some()
    }

    /// The command that remembers; `None` for a revision of another form.
    pub fn remember(&self, did: &str, rev: &str) -> Option<Cmd> {
        let rev = number(rev)?;
        let (key, offset) = self.place(did);
        let value = [self.fingerprint(did).to_be_bytes(), rev.to_be_bytes()].concat();
        let mut command = redis::cmd("SETRANGE");
        command.arg(key).arg(offset).arg(value);
        Some(command)
    }

    fn fingerprint(&self, did: &str) -> u64 {
        // An empty slot reads as zeros.
        hash(self.collections, did.as_bytes()).max(1)
    }

    fn place(&self, did: &str) -> (String, u64) {
        let slot = hash(0, did.as_bytes()) % self.slots;
        (format!("{}:{}", self.prefix, slot / SLOTS_PER_KEY), slot % SLOTS_PER_KEY * SLOT)
    }
}

/// A revision as a number of the same order; `None` if it is not thirteen characters of the alphabet.
fn number(rev: &str) -> Option<u64> {
    if rev.len() != 13 {
        return None;
    }
    rev.bytes().try_fold(0_u64, |sum, byte| {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        sum.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)
    })
}

/// A revision for a commit that has none: the time now, in the form of the others.
pub fn revision_of_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut rest = u64::try_from(now.as_micros()).unwrap_or(0) << 10;
    let mut letters = [b'2'; 13];
    for letter in letters.iter_mut().rev() {
        *letter =
            usize::try_from(rest % 32).ok().and_then(|digit| ALPHABET.get(digit)).copied().unwrap_or(b'2');
        rest /= 32;
    }
    String::from_utf8_lossy(&letters).into_owned()
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

    fn slot(table: &Remembered, did: &str, rev: &str) -> Vec<u8> {
        [table.fingerprint(did).to_be_bytes(), number(rev).unwrap().to_be_bytes()].concat()
    }

    #[test]
    fn the_same_or_an_older_revision_is_known() {
        let table = Remembered::new("out", 1 << 20, "a");
        let stored = slot(&table, "did:plc:a", "3jzfcijpj2z2b");
        assert!(table.knows(&stored, "did:plc:a", "3jzfcijpj2z2b"));
        assert!(table.knows(&stored, "did:plc:a", "3jzfcijpj2z2a"));
        assert!(!table.knows(&stored, "did:plc:a", "3jzfcijpj2z2c"));
        assert!(!table.knows(&stored, "did:plc:b", "3jzfcijpj2z2b"));
        assert!(!table.knows(&stored, "did:plc:a", ""));
        assert!(!table.knows(&[0; 16], "did:plc:a", "2222222222222"));
        assert!(!table.knows(&[], "did:plc:a", "3jzfcijpj2z2b"));
        let others = Remembered::new("out", 1 << 20, "b");
        assert!(!others.knows(&stored, "did:plc:a", "3jzfcijpj2z2b"), "other collections were queued then");
    }

    #[test]
    fn revisions_made_up_grow_and_have_the_form() {
        let first = revision_of_now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = revision_of_now();
        assert!(first < second && number(&first) < number(&second), "{first} {second}");
        assert!(table_place_is_stable());
    }

    fn table_place_is_stable() -> bool {
        let table = Remembered::new("out", 0, "");
        table.remember("did:plc:a", "bad").is_none() && table.remember("did:plc:a", "3jzfcijpj2z2a").is_some()
    }
}
