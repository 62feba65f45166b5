//! A CAR as it comes in, piece by piece. Never more than one block and one piece are held.

use thiserror::Error;

use crate::atproto::car::{CarError, read_header, verify_block};
use crate::atproto::cid::{self, BLOCK_CID_LENGTH};

/// Largest block, in bytes. Records are at most 1 MiB on the network, tree nodes far smaller.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;

/// A CAR that cannot be a repository.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CarStreamError {
    /// The file is damaged, or a block is not what its CID says.
    #[error(transparent)]
    Car(#[from] CarError),
    /// Not exactly one root (PIPELINE 6.5).
    #[error("{0} roots instead of one")]
    Roots(usize),
    /// A block beyond [`MAX_BLOCK_BYTES`].
    #[error("a block of {0} bytes")]
    LargeBlock(u64),
    /// The end came in the middle of a block.
    #[error("the file ends inside a block")]
    Truncated,
}

/// Takes blocks out of the pieces of a CAR.
#[derive(Debug, Default)]
pub struct CarStream {
    /// The beginning of a section that no piece so far has ended.
    begun: Vec<u8>,
    /// Where that section, or else the next, begins in the file.
    at: usize,
    root: Option<Vec<u8>>,
}

/// How far a section can be read.
enum Section<'a> {
    /// Its body and all its bytes.
    Whole(&'a [u8], usize),
    /// So many bytes at least are missing.
    Lacks(usize),
}

impl CarStream {
    /// At the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The CID of the only root, as bytes; there once the header was read.
    pub fn root(&self) -> Option<&[u8]> {
        self.root.as_deref()
    }

    /// Takes the next piece and gives every block that is complete, verified, as digest and content. Only a section that
    /// the piece begins and does not end is copied.
    ///
    /// # Errors
    /// A bad CAR, or what `block` returns. Feeding on makes no sense then.
    pub fn feed<E: From<CarStreamError>>(
        &mut self,
        mut piece: &[u8],
        mut block: impl FnMut(&[u8; 32], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut begun = std::mem::take(&mut self.begun);
        while !begun.is_empty() {
            match section(&begun, self.at)? {
                Section::Whole(body, bytes) => {
                    self.section(body, &mut block)?;
                    self.at = self.at.saturating_add(bytes);
                    begun.clear();
                }
                Section::Lacks(_) if piece.is_empty() => {
                    self.begun = begun;
                    return Ok(());
                }
                Section::Lacks(bytes) => {
                    begun.reserve_exact(bytes);
                    let (taken, rest) = piece.split_at_checked(bytes).unwrap_or((piece, &[]));
                    begun.extend_from_slice(taken);
                    piece = rest;
                }
            }
        }
        while let Section::Whole(body, bytes) = section(piece, self.at)? {
            self.section(body, &mut block)?;
            self.at = self.at.saturating_add(bytes);
            piece = piece.get(bytes..).unwrap_or_default();
        }
        begun.extend_from_slice(piece);
        self.begun = begun;
        Ok(())
    }

    fn section<E: From<CarStreamError>>(
        &mut self,
        body: &[u8],
        block: &mut impl FnMut(&[u8; 32], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.root.is_none() {
            self.root = Some(read_root(body)?);
            return Ok(());
        }
        let unsupported = || CarStreamError::Car(CarError::UnsupportedCid(self.at));
        let (cid, data) = body.split_at_checked(BLOCK_CID_LENGTH).ok_or_else(unsupported)?;
        verify_block(cid, data, self.at).map_err(CarStreamError::Car)?;
        block(cid::block_digest(cid).ok_or_else(unsupported)?, data)
    }

    /// The file has ended.
    ///
    /// # Errors
    /// It ended too early.
    pub fn finish(&self) -> Result<(), CarStreamError> {
        if self.root.is_none() {
            return Err(CarError::BadHeader.into());
        }
        if self.begun.is_empty() { Ok(()) } else { Err(CarStreamError::Truncated) }
    }
}

/// The section that `bytes` begin with; it stands at `at` in the file.
fn section(bytes: &[u8], at: usize) -> Result<Section<'_>, CarStreamError> {
    let mut length = 0_u64;
    let mut shift = 0;
    let mut rest = bytes;
    loop {
        let Some((byte, after)) = rest.split_first() else { return Ok(Section::Lacks(1)) };
        rest = after;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift >= 63 {
            return Err(CarError::BadVarint(at).into());
        }
    }
    let fits = usize::try_from(length).ok().filter(|length| *length <= MAX_BLOCK_BYTES + BLOCK_CID_LENGTH);
    let length = fits.ok_or(CarStreamError::LargeBlock(length))?;
    Ok(match rest.get(..length) {
        Some(body) => Section::Whole(body, bytes.len().saturating_sub(rest.len()).saturating_add(length)),
        None => Section::Lacks(length.saturating_sub(rest.len())),
    })
}

fn read_root(header: &[u8]) -> Result<Vec<u8>, CarStreamError> {
    match read_header(header)?.as_slice() {
        [root] => Ok(root.to_vec()),
        roots => Err(CarStreamError::Roots(roots.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn block(data: &[u8]) -> Vec<u8> {
        let mut out = vec![u8::try_from(data.len() + 36).unwrap(), 1, 0x71, 0x12, 0x20];
        out.extend_from_slice(Sha256::digest(data).as_slice());
        out.extend_from_slice(data);
        out
    }

    fn header() -> Vec<u8> {
        let mut body = b"\xa2eroots\x81\xd8\x2a\x58\x25\0\x01\x71\x12\x20".to_vec();
        body.extend_from_slice(Sha256::digest(b"root").as_slice());
        body.extend_from_slice(b"gversion\x01");
        body.insert(0, u8::try_from(body.len()).unwrap());
        body
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, CarStreamError> {
        let (mut stream, mut blocks) = (CarStream::new(), Vec::new());
        for piece in pieces {
            stream.feed(piece, |_, data| -> Result<(), CarStreamError> {
                blocks.push(data.to_vec());
                Ok(())
            })?;
        }
        stream.finish()?;
        Ok(blocks)
    }

    #[test]
    fn every_cutting_gives_the_same_blocks() {
        let file = [header(), block(b"root"), block(b""), block(b"other")].concat();
        let expected = vec![b"root".to_vec(), Vec::new(), b"other".to_vec()];
        for size in [1, 2, 3, 7, 40, file.len()] {
            let pieces: Vec<&[u8]> = file.chunks(size).collect();
            assert_eq!(read(&pieces).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn damage_is_found() {
        let good = [header(), block(b"root")].concat();
        assert_eq!(read(&[&good[..good.len() - 1]]), Err(CarStreamError::Truncated));
        assert_eq!(read(&[]), Err(CarStreamError::Car(CarError::BadHeader)));
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert!(matches!(read(&[&bad]), Err(CarStreamError::Car(CarError::HashMismatch(_)))));
        assert!(matches!(read(&[&header(), &[0]]), Err(CarStreamError::Car(CarError::UnsupportedCid(_)))));
        assert!(matches!(read(&[&header(), &[0xff, 0xff, 0xff, 0x7f]]), Err(CarStreamError::LargeBlock(_))));
        assert!(matches!(read(&[b"\x11\xa2eroots\x80gversion\x01"]), Err(CarStreamError::Roots(0))));
    }
}
