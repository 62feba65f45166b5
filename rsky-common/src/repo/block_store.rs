//! The blocks of one repository, by digest: in memory while they fit, in temporary files above that.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use super::block_index::{BlockFile, BlockIndex, IndexBuilder};
use super::disk_budget::{DiskBudget, DiskShare};

/// What a block takes in memory beside its bytes: 45 in the table, of which there are three times as many at the moment
/// when it has just doubled, seven eighths full, and the former is not gone yet.
const BLOCK_COST: u64 = 45 * 3 * 8 / 7 + 1;
/// Smallest and largest piece that memory is taken in.
const FIRST_SEGMENT: usize = 16 << 10;
const SEGMENT: usize = 1 << 20;

/// How much memory a repository may take, and where the rest goes.
#[derive(Debug, Clone)]
pub struct StoreLimits {
    /// Bytes of blocks and their table held in memory; above that everything goes to files.
    pub memory: u64,
    /// Directory of the temporary files (they have no name there, and vanish with the process).
    pub directory: PathBuf,
    /// What the files of all repositories may take together.
    pub disk: DiskBudget,
}

/// The blocks of one repository.
pub struct BlockStore {
    limits: StoreLimits,
    /// Before `disk`: files go first, then what they were charged.
    kept: Kept,
    disk: DiskShare,
    blocks: u64,
    /// Bytes of memory.
    cost: u64,
}

enum Kept {
    Memory(Memory),
    Filling {
        blocks: BlockFile,
        index: IndexBuilder,
    },
    File {
        blocks: BlockFile,
        index: BlockIndex,
    },
    /// A file failed.
    Nothing,
}

#[derive(Default)]
struct Memory {
    segments: Vec<Vec<u8>>,
    /// Segment, start, length.
    places: HashMap<[u8; 32], (u32, u32, u32)>,
}

impl Memory {
    /// Bytes of the segment that a block of `length` bytes needs; `None` if it fits into the last.
    fn next_segment(&self, length: usize) -> Option<usize> {
        let Some(last) = self.segments.last() else { return Some(FIRST_SEGMENT.max(length)) };
        let room = last.capacity().saturating_sub(last.len());
        (room < length).then(|| last.capacity().saturating_mul(2).min(SEGMENT).max(length))
    }

    /// Bytes of memory that a block of `length` bytes adds.
    fn cost_of(&self, length: usize) -> u64 {
        BLOCK_COST.saturating_add(self.next_segment(length).unwrap_or(0) as u64)
    }

    fn insert(&mut self, digest: [u8; 32], data: &[u8]) {
        if let Some(bytes) = self.next_segment(data.len()) {
            self.segments.push(Vec::with_capacity(bytes));
        }
        let number = u32::try_from(self.segments.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(segment) = self.segments.last_mut() {
            let start = u32::try_from(segment.len()).unwrap_or(u32::MAX);
            segment.extend_from_slice(data);
            self.places.insert(digest, (number, start, u32::try_from(data.len()).unwrap_or(u32::MAX)));
        }
    }

    fn slice(&self, (segment, start, length): (u32, u32, u32)) -> Option<&[u8]> {
        let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
        self.segments.get(usize::try_from(segment).ok()?)?.get(start..start.checked_add(length)?)
    }
}

impl BlockStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        let disk = limits.disk.share();
        Self { limits, kept: Kept::Memory(Memory::default()), disk, blocks: 0, cost: 0 }
    }

    /// Blocks added, repeated ones included.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether the blocks are in a file.
    pub fn is_on_disk(&self) -> bool {
        !matches!(self.kept, Kept::Memory(_))
    }

    /// Adds a block whose digest was checked.
    ///
    /// # Errors
    /// A temporary file cannot be made or written, or all of them take too much ([`super::NoDisk`]).
    pub fn insert(&mut self, digest: &[u8; 32], data: &[u8]) -> io::Result<()> {
        self.blocks = self.blocks.saturating_add(1);
        if let Kept::Memory(memory) = &mut self.kept {
            if memory.places.contains_key(digest) {
                return Ok(());
            }
            let cost = self.cost.saturating_add(memory.cost_of(data.len()));
            if cost <= self.limits.memory {
                self.cost = cost;
                memory.insert(*digest, data);
                return Ok(());
            }
            self.spill()?;
        }
        match &mut self.kept {
            Kept::Filling { blocks, index } => {
                let offset = blocks.append(data, &mut self.disk)?;
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                index.add(*digest, offset, length, &mut self.disk)?;
            }
            Kept::Memory(_) | Kept::File { .. } | Kept::Nothing => {
                return Err(io::Error::other("the block store is finished"));
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let Kept::Memory(memory) = std::mem::replace(&mut self.kept, Kept::Nothing) else { return Ok(()) };
        let mut blocks = BlockFile::new(&self.limits.directory)?;
        let mut index = IndexBuilder::new(&self.limits.directory)?;
        for (digest, place) in &memory.places {
            let data = memory.slice(*place).unwrap_or_default();
            let offset = blocks.append(data, &mut self.disk)?;
            index.add(*digest, offset, place.2, &mut self.disk)?;
        }
        self.kept = Kept::Filling { blocks, index };
        Ok(())
    }

    /// No more blocks come; they can be read now.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.kept = match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Filling { mut blocks, index } => {
                blocks.flush(&mut self.disk)?;
                Kept::File { blocks, index: index.finish(&self.limits.directory, &mut self.disk)? }
            }
            other => other,
        };
        Ok(())
    }

    /// Whether there is a block.
    ///
    /// # Errors
    /// A temporary file cannot be read, or [`BlockStore::finish`] was not called.
    pub fn contains(&mut self, digest: &[u8; 32]) -> io::Result<bool> {
        match &mut self.kept {
            Kept::Memory(memory) => Ok(memory.places.contains_key(digest)),
            Kept::File { index, .. } => Ok(index.find(digest)?.is_some()),
            Kept::Filling { .. } | Kept::Nothing => Err(io::Error::other("the block store is not finished")),
        }
    }

    /// Copies a block into `out`; `false` if there is none.
    ///
    /// # Errors
    /// As [`BlockStore::contains`].
    pub fn read(&mut self, digest: &[u8; 32], out: &mut Vec<u8>) -> io::Result<bool> {
        out.clear();
        match &mut self.kept {
            Kept::Memory(memory) => match memory.places.get(digest).and_then(|place| memory.slice(*place)) {
                Some(data) => {
                    out.reserve_exact(data.len());
                    out.extend_from_slice(data);
                    Ok(true)
                }
                None => Ok(false),
            },
            Kept::File { blocks, index } => match index.find(digest)? {
                Some((offset, length)) => blocks.read(offset, length, out).map(|()| true),
                None => Ok(false),
            },
            Kept::Filling { .. } | Kept::Nothing => Err(io::Error::other("the block store is not finished")),
        }
    }
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockStore")
            .field("blocks", &self.blocks)
            .field("on_disk", &self.is_on_disk())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::NoDisk;
    use sha2::{Digest as _, Sha256};

    fn digest(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).as_slice().try_into().unwrap()
    }

    fn limits(memory: u64, disk: &DiskBudget) -> StoreLimits {
        StoreLimits { memory, directory: std::env::temp_dir(), disk: disk.clone() }
    }

    fn filled(memory: u64, count: u32) -> BlockStore {
        let mut store = BlockStore::new(limits(memory, &DiskBudget::unlimited()));
        for number in 0..count {
            let data = number.to_be_bytes().repeat(usize::try_from(number % 50).unwrap());
            store.insert(&digest(&data), &data).unwrap();
        }
        store.finish().unwrap();
        store
    }

    #[test]
    fn memory_and_file_give_back_the_same() {
        // The second takes three runs.
        for (memory, count) in [(u64::MAX, 2000), (1000, 200_000)] {
            let mut store = filled(memory, count);
            assert_eq!(store.is_on_disk(), memory == 1000);
            let mut out = Vec::new();
            for number in (0..count).step_by(97) {
                let data = number.to_be_bytes().repeat(usize::try_from(number % 50).unwrap());
                assert!(store.read(&digest(&data), &mut out).unwrap() && out == data, "{number}");
                assert!(store.contains(&digest(&data)).unwrap());
                assert!(!store.contains(&digest(&[&data[..], b"x"].concat())).unwrap());
            }
        }
    }

    #[test]
    fn uneven_digests_are_found_as_well() {
        let mut store = BlockStore::new(limits(0, &DiskBudget::unlimited()));
        let crooked = |number: u32| {
            let mut digest = [0xab; 32];
            digest[28..].copy_from_slice(&number.to_be_bytes());
            digest
        };
        for number in 0..5000_u32 {
            store.insert(&crooked(number), &number.to_be_bytes()).unwrap();
        }
        store.finish().unwrap();
        let mut out = Vec::new();
        for number in 0..5000_u32 {
            assert!(store.read(&crooked(number), &mut out).unwrap());
            assert_eq!(out, number.to_be_bytes());
        }
        assert!(!store.contains(&crooked(5000)).unwrap());
        assert!(!store.contains(&[0; 32]).unwrap());
        assert!(!store.contains(&[255; 32]).unwrap());
    }

    #[test]
    fn files_are_charged_with_what_they_hold() {
        let disk = DiskBudget::new(1 << 30);
        let mut store = BlockStore::new(limits(0, &disk));
        let data = [7; 1000];
        for number in 0..5000_u32 {
            store.insert(&digest(&number.to_be_bytes()), &data).unwrap();
        }
        store.finish().unwrap();
        assert_eq!(disk.used(), 5000 * (1000 + 44));
        drop(store);
        assert_eq!(disk.used(), 0);
        // One repository too many gives up what it took; the others are not touched.
        let disk = DiskBudget::new(3_000_000);
        let mut stores = [(); 2].map(|()| BlockStore::new(limits(0, &disk)));
        let mut refused = 0;
        for number in 0..2_500_u32 {
            for store in &mut stores {
                let inserted = store.insert(&digest(&number.to_be_bytes()), &data);
                refused += u32::from(inserted.is_err_and(|error| NoDisk::behind(&error).is_some()));
            }
        }
        assert!(refused > 0 && disk.used() <= 3_000_000);
        drop(stores);
        assert_eq!(disk.used(), 0);
    }
}
