//! CAR version 1 out of a slice: nothing is copied, every block's hash is checked (PIPELINE 4.3).

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::cid::{self, BLOCK_CID_LENGTH};
use crate::cbor::{CID_TAG, CborError, Item, Mode, Reader};

/// Above this many blocks a lookup uses an index; below, comparing one by one is quicker than building it.
const LINEAR_LOOKUP_BLOCKS: usize = 24;

/// Most roots of a CAR; those of the protocol have one.
const MAX_ROOTS: u64 = 64;

/// A CAR that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CarError {
    /// The header is missing, or no map of `roots` and `version`.
    #[error("bad CAR header")]
    BadHeader,
    /// The header is not CBOR.
    #[error("bad CAR header: {0}")]
    HeaderCbor(#[from] CborError),
    /// A version other than 1.
    #[error("CAR version {0} is not supported")]
    Version(u64),
    /// A length that is no varint of at most 63 bits.
    #[error("bad varint at byte {0}")]
    BadVarint(usize),
    /// A section that reaches beyond the end.
    #[error("section at byte {0} is truncated")]
    Truncated(usize),
    /// A block under a CID other than CIDv1, raw or dag-cbor, sha2-256.
    #[error("block at byte {0} has an unsupported CID")]
    UnsupportedCid(usize),
    /// A block whose bytes are not those that its CID names.
    #[error("block {0} does not match its hash")]
    HashMismatch(String),
}

/// One verified block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The CID as bytes.
    pub cid: &'a [u8],
    /// The content.
    pub data: &'a [u8],
}

/// Checks a block against its CID.
///
/// # Errors
/// A CID that may not name a block (`at` says where it was), or a hash that differs.
pub fn verify_block(cid: &[u8], data: &[u8], at: usize) -> Result<(), CarError> {
    let digest = cid::block_digest(cid).ok_or(CarError::UnsupportedCid(at))?;
    if Sha256::digest(data).as_slice() == digest {
        return Ok(());
    }
    Err(CarError::HashMismatch(cid::to_text(cid).unwrap_or_default()))
}

/// Reads the sections of a CAR in turn.
#[derive(Debug)]
pub struct CarReader<'a> {
    bytes: &'a [u8],
    at: usize,
    roots: Vec<&'a [u8]>,
}

impl<'a> CarReader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// A header that is missing or of another version.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CarError> {
        let mut reader = Self { bytes, at: 0, roots: Vec::new() };
        let header = reader.section()?.ok_or(CarError::BadHeader)?;
        reader.roots = read_header(header)?;
        Ok(reader)
    }

    /// The roots of the header, as CID bytes.
    pub fn roots(&self) -> &[&'a [u8]] {
        &self.roots
    }

    /// The next block, verified; `None` at the end.
    ///
    /// # Errors
    /// A section that cannot be read or is not what its CID says. Reading on makes no sense then.
    pub fn next_block(&mut self) -> Result<Option<Block<'a>>, CarError> {
        let start = self.at;
        let Some(section) = self.section()? else { return Ok(None) };
        let (cid, data) =
            section.split_at_checked(BLOCK_CID_LENGTH).ok_or(CarError::UnsupportedCid(start))?;
        verify_block(cid, data, start)?;
        Ok(Some(Block { cid, data }))
    }

    /// A length as unsigned varint, then so many bytes.
    fn section(&mut self) -> Result<Option<&'a [u8]>, CarError> {
        let start = self.at;
        let mut length = 0_u64;
        let mut shift = 0;
        loop {
            let Some(byte) = self.bytes.get(self.at) else {
                return if self.at == start { Ok(None) } else { Err(CarError::Truncated(start)) };
            };
            self.at += 1;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift >= 63 {
                return Err(CarError::BadVarint(start));
            }
        }
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let section = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(CarError::Truncated(start))?;
        self.at += section.len();
        Ok(Some(section))
    }
}

/// The roots that the header of a CAR names, given without its length.
///
/// # Errors
/// Not the header of version 1.
pub(crate) fn read_header(header: &[u8]) -> Result<Vec<&[u8]>, CarError> {
    let mut reader = Reader::new(header, Mode::Strict);
    let Item::Map(Some(pairs)) = reader.item()? else { return Err(CarError::BadHeader) };
    let mut roots = None;
    let mut version = None;
    for _ in 0..pairs {
        match (reader.item()?, reader.item()?) {
            (Item::Text(b"version"), Item::Uint(number)) => version = Some(number),
            (Item::Text(b"roots"), Item::Array(Some(count))) => roots = Some(read_roots(&mut reader, count)?),
            (Item::Text(_), other) => reader.skip_rest_of(other)?,
            _ => return Err(CarError::BadHeader),
        }
    }
    reader.finish()?;
    match version {
        // Version 2 has no roots here: its header only announces an embedded version 1.
        Some(1) => roots.ok_or(CarError::BadHeader),
        Some(other) => Err(CarError::Version(other)),
        None => Err(CarError::BadHeader),
    }
}

fn read_roots<'a>(reader: &mut Reader<'a>, count: u64) -> Result<Vec<&'a [u8]>, CarError> {
    if count > MAX_ROOTS {
        return Err(CarError::BadHeader);
    }
    let mut roots = Vec::new();
    for _ in 0..count {
        match (reader.item()?, reader.item()?) {
            (Item::Tag(CID_TAG), Item::Bytes([0, cid @ ..])) => roots.push(cid),
            _ => return Err(CarError::BadHeader),
        }
    }
    Ok(roots)
}

/// All blocks of a small CAR (a commit's), for looking them up.
#[derive(Debug)]
pub struct CarBlocks<'a> {
    roots: Vec<&'a [u8]>,
    blocks: Vec<Block<'a>>,
}

impl<'a> CarBlocks<'a> {
    /// Reads and verifies a whole CAR.
    ///
    /// # Errors
    /// As [`CarReader`]; one bad block makes the CAR bad.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CarError> {
        let mut reader = CarReader::new(bytes)?;
        let mut blocks = Vec::with_capacity(16);
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
        if blocks.len() > LINEAR_LOOKUP_BLOCKS {
            blocks.sort_unstable_by_key(|block| block.cid);
        }
        Ok(Self { roots: reader.roots, blocks })
    }

    /// The roots of the header, as CID bytes.
    pub fn roots(&self) -> &[&'a [u8]] {
        &self.roots
    }

    /// How many blocks there are, duplicates included.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The content of a block.
    pub fn get(&self, cid: &[u8]) -> Option<&'a [u8]> {
        let found = if self.blocks.len() > LINEAR_LOOKUP_BLOCKS {
            let at = self.blocks.binary_search_by_key(&cid, |block| block.cid).ok()?;
            self.blocks.get(at)
        } else {
            self.blocks.iter().find(|block| block.cid == cid)
        };
        found.map(|block| block.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }

    fn cid_of(data: &[u8]) -> Vec<u8> {
        [&[1, 0x71, 0x12, 0x20], Sha256::digest(data).as_slice()].concat()
    }

    fn section(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [varint(body.len()), body].concat()
    }

    fn header(version: u8) -> Vec<u8> {
        section(&[b"\xa2eroots\x80gversion", &[version]])
    }

    #[test]
    fn blocks_are_found_by_cid_in_small_and_large_cars() {
        for count in [0_u32, 1, 24, 25, 300] {
            let contents: Vec<Vec<u8>> = (0..count).map(|number| number.to_be_bytes().to_vec()).collect();
            let mut car = header(1);
            for data in &contents {
                car.extend(section(&[&cid_of(data), data]));
            }
            let blocks = CarBlocks::parse(&car).unwrap();
            assert_eq!(blocks.len(), contents.len());
            assert_eq!(blocks.is_empty(), count == 0);
            for data in &contents {
                assert_eq!(blocks.get(&cid_of(data)), Some(data.as_slice()));
            }
            assert_eq!(blocks.get(&cid_of(b"absent")), None);
        }
    }

    #[test]
    fn roots_are_read() {
        let root = cid_of(b"root");
        let car = section(&[b"\xa2eroots\x81\xd8\x2a\x58\x25\0", &root, b"gversion\x01"]);
        assert_eq!(CarReader::new(&car).unwrap().roots(), [root.as_slice()]);
    }

    #[test]
    fn every_kind_of_damage_has_its_error() {
        let data = b"content";
        let good = section(&[&cid_of(data), data]);
        let parse =
            |tail: &[u8]| CarBlocks::parse(&[header(1).as_slice(), tail].concat()).map(|blocks| blocks.len());
        let at = header(1).len();
        assert_eq!(parse(&good), Ok(1));
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(parse(&changed), Err(CarError::HashMismatch(cid::to_text(&cid_of(data)).unwrap())));
        assert_eq!(parse(good.get(..good.len() - 1).unwrap()), Err(CarError::Truncated(at)));
        assert_eq!(parse(&[0x80]), Err(CarError::Truncated(at)));
        assert_eq!(parse(&[0xff; 9]), Err(CarError::BadVarint(at)));
        assert_eq!(parse(&[0]), Err(CarError::UnsupportedCid(at)));
        let mut other_codec = cid_of(data);
        *other_codec.get_mut(1).unwrap() = 0x70;
        assert_eq!(parse(&section(&[&other_codec, data])), Err(CarError::UnsupportedCid(at)));
    }

    #[test]
    fn header_must_be_of_version_one() {
        assert_eq!(CarReader::new(&[]).map(|_| ()), Err(CarError::BadHeader));
        assert_eq!(CarReader::new(&header(2)).map(|_| ()), Err(CarError::Version(2)));
        assert_eq!(CarReader::new(b"\x0a\xa1gversion\x02").map(|_| ()), Err(CarError::Version(2)));
        assert_eq!(CarReader::new(b"\x0a\xa1gversion\x01").map(|_| ()), Err(CarError::BadHeader));
        assert_eq!(CarReader::new(&[1, 2, 3]).map(|_| ()), Err(CarError::BadHeader));
        let roots = b"\xd8\x2a\x41\x00".repeat(65);
        let many = section(&[b"\xa2eroots\x98\x41", &roots, b"gversion\x01"]);
        assert_eq!(CarReader::new(&many).map(|_| ()), Err(CarError::BadHeader));
    }
}
