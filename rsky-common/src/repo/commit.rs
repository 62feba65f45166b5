//! The signed root of a repository.

use thiserror::Error;

use super::{SignatureError, VerifyingKey};
use crate::cbor::{CID_TAG, CborError, Item, Mode, Reader};

/// A block that is no commit of a version we know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// Not CBOR.
    #[error("commit: {0}")]
    Cbor(#[from] CborError),
    /// Not a map with text keys.
    #[error("commit is not a map")]
    NotAMap,
    /// A member is missing or of another type.
    #[error("commit has no usable {0:?}")]
    Member(&'static str),
    /// A version other than 2 and 3.
    #[error("commit version {0} is not supported")]
    Version(u64),
}

/// A commit of version 3, or of version 2, which may lack `rev` (PIPELINE 6.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The account.
    pub did: String,
    /// 2 or 3.
    pub version: u64,
    /// CID of the tree's root, as bytes.
    pub data: Vec<u8>,
    /// The revision; version 2 may have none.
    pub rev: Option<String>,
    signature: Vec<u8>,
    unsigned: Vec<u8>,
}

impl Commit {
    /// Reads a commit block.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn parse(block: &[u8]) -> Result<Self, CommitError> {
        let mut reader = Reader::new(block, Mode::Strict);
        let Item::Map(Some(pairs)) = reader.item()? else { return Err(CommitError::NotAMap) };
        let (mut did, mut version, mut data, mut rev, mut signature) = (None, None, None, None, None);
        let mut has_prev = false;
        // What is signed is the map without `sig`: its other members, byte for byte, under a head of one member less.
        let mut unsigned = Vec::with_capacity(block.len());
        map_head(pairs.saturating_sub(1), &mut unsigned);
        for _ in 0..pairs {
            let start = reader.position();
            let Item::Text(key) = reader.item()? else { return Err(CommitError::NotAMap) };
            let value = reader.item()?;
            match (key, value) {
                (b"sig", Item::Bytes(bytes)) => {
                    signature = Some(bytes.to_vec());
                    continue;
                }
                (b"did", Item::Text(text)) => did = Some(own(text, "did")?),
                (b"rev", Item::Text(text)) => rev = Some(own(text, "rev")?),
                (b"version", Item::Uint(number)) => version = Some(number),
                (b"data", Item::Tag(CID_TAG)) => data = Some(link(&mut reader, "data")?),
                (b"prev", Item::Tag(CID_TAG)) => {
                    link(&mut reader, "prev")?;
                    has_prev = true;
                }
                (b"prev", Item::Null) => has_prev = true,
                (b"sig", _) => return Err(CommitError::Member("sig")),
                (b"did", _) => return Err(CommitError::Member("did")),
                (b"rev", _) => return Err(CommitError::Member("rev")),
                (b"data", _) => return Err(CommitError::Member("data")),
                (b"prev", _) => return Err(CommitError::Member("prev")),
                (b"version", _) => return Err(CommitError::Member("version")),
                (_, other) => reader.skip_rest_of(other)?,
            }
            unsigned.extend_from_slice(reader.since(start));
        }
        reader.finish()?;
        let version = version.ok_or(CommitError::Member("version"))?;
        if !matches!(version, 2 | 3) {
            return Err(CommitError::Version(version));
        }
        if !has_prev {
            return Err(CommitError::Member("prev"));
        }
        if version == 3 && rev.is_none() {
            return Err(CommitError::Member("rev"));
        }
        Ok(Self {
            did: did.ok_or(CommitError::Member("did"))?,
            version,
            data: data.ok_or(CommitError::Member("data"))?,
            rev,
            signature: signature.ok_or(CommitError::Member("sig"))?,
            unsigned,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), SignatureError> {
        key.verify(&self.unsigned, &self.signature)
    }
}

fn own(text: &[u8], member: &'static str) -> Result<String, CommitError> {
    String::from_utf8(text.to_vec()).map_err(|_| CommitError::Member(member))
}

fn link(reader: &mut Reader<'_>, member: &'static str) -> Result<Vec<u8>, CommitError> {
    match reader.item()? {
        Item::Bytes([0, cid @ ..]) => Ok(cid.to_vec()),
        _ => Err(CommitError::Member(member)),
    }
}

fn map_head(pairs: u64, out: &mut Vec<u8>) {
    match u8::try_from(pairs) {
        Ok(few @ 0..=23) => out.push(0xa0 | few),
        Ok(some) => out.extend([0xb8, some]),
        // More members than a byte counts: no commit has them, and no signature will match.
        Err(_) => out.extend([0xb8, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(version: u8, rev: bool, prev: bool) -> Vec<u8> {
        let members = 4 + u8::from(rev) + u8::from(prev);
        let mut out = vec![0xa0 | members];
        out.extend(b"\x63did\x69did:web:a");
        if rev {
            out.extend(b"\x63rev\x623k");
        }
        out.extend(b"\x63sig\x42\x01\x02");
        out.extend(b"\x64data\xd8\x2a\x45\x00\x01\x55\x12\x00");
        if prev {
            out.extend(b"\x64prev\xf6");
        }
        out.extend(b"\x67version");
        out.push(version);
        out
    }

    #[test]
    fn both_versions_are_read() {
        let commit = Commit::parse(&block(3, true, true)).unwrap();
        assert_eq!(
            (commit.did.as_str(), commit.rev.as_deref(), commit.version),
            ("did:web:a", Some("3k"), 3)
        );
        assert_eq!(commit.data, [1, 0x55, 0x12, 0]);
        let signed = block(3, true, true);
        assert_eq!(commit.unsigned.len(), signed.len() - 7);
        assert_eq!(commit.unsigned[0], 0xa5);
        assert_eq!(Commit::parse(&block(2, false, true)).unwrap().rev, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Commit::parse(&block(3, false, true)), Err(CommitError::Member("rev")));
        assert_eq!(Commit::parse(&block(3, true, false)), Err(CommitError::Member("prev")));
        assert_eq!(Commit::parse(&block(1, true, true)), Err(CommitError::Version(1)));
        assert_eq!(Commit::parse(b"\xa0"), Err(CommitError::Member("version")));
        assert_eq!(Commit::parse(b"\x80"), Err(CommitError::NotAMap));
        assert!(matches!(Commit::parse(b""), Err(CommitError::Cbor(_))));
    }
}
