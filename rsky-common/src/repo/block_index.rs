//! Where the blocks of a large repository lie in its file: sorted runs while it comes in, merged into one sorted file.
//!
//! Digests are evenly spread, so where a digest stands in the file can be guessed well: a look-up reads one or two
//! pages. A sender who makes them uneven only makes it bisect.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk_budget::DiskShare;

/// Bytes of an entry: digest, offset, length.
const ENTRY: usize = 32 + 8 + 4;
/// Entries of a run: 4 MiB in memory.
const RUN: usize = (4 << 20) / 48;
/// Bytes read ahead while runs are merged: of all together, and the least and the most of one.
const READ_AHEAD: usize = 2 << 20;
const READ_AHEAD_OF_ONE: (usize, usize) = (16 * ENTRY, 8 << 10);
/// Bytes written at once.
const WRITE: usize = 256 << 10;
/// Entries read by one step of a look-up.
const WINDOW: u64 = 64;
/// Steps that guess by value; the next ones bisect.
const GUESSES: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    digest: [u8; 32],
    offset: u64,
    length: u32,
}

impl Entry {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.digest)?;
        out.write_all(&self.offset.to_be_bytes())?;
        out.write_all(&self.length.to_be_bytes())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let length = rest.first_chunk::<4>()?;
        Some(Self {
            digest: *digest,
            offset: u64::from_be_bytes(*offset),
            length: u32::from_be_bytes(*length),
        })
    }
}

/// The index while blocks are added.
pub(super) struct IndexBuilder {
    run: Vec<Entry>,
    file: File,
    /// Entries of each run in the file.
    runs: Vec<u64>,
}

impl IndexBuilder {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { run: Vec::with_capacity(RUN), file: tempfile::tempfile_in(directory)?, runs: Vec::new() })
    }

    pub(super) fn add(
        &mut self,
        digest: [u8; 32],
        offset: u64,
        length: u32,
        disk: &mut DiskShare,
    ) -> io::Result<()> {
        self.run.push(Entry { digest, offset, length });
        if self.run.len() >= RUN { self.end_run(disk) } else { Ok(()) }
    }

    fn end_run(&mut self, disk: &mut DiskShare) -> io::Result<()> {
        disk.take(bytes_of(self.run.len() as u64))?;
        self.run.sort_unstable();
        let mut out = BufWriter::with_capacity(WRITE, &self.file);
        self.run.iter().try_for_each(|entry| entry.write(&mut out))?;
        out.flush()?;
        drop(out);
        self.runs.push(self.run.len() as u64);
        self.run.clear();
        Ok(())
    }

    /// Merges the runs; of two entries of one digest the first added stays.
    pub(super) fn finish(mut self, directory: &Path, disk: &mut DiskShare) -> io::Result<BlockIndex> {
        self.end_run(disk)?;
        self.run = Vec::new();
        let in_runs = bytes_of(self.runs.iter().fold(0, |sum, run| sum.saturating_add(*run)));
        disk.take(in_runs)?;
        let merged = self.merge(directory)?;
        drop(self);
        // The runs are gone; equal digests made the merged file smaller.
        let kept = bytes_of(merged.entries);
        disk.give_back(in_runs.saturating_mul(2).saturating_sub(kept));
        Ok(merged)
    }

    fn merge(&self, directory: &Path) -> io::Result<BlockIndex> {
        let (least, most) = READ_AHEAD_OF_ONE;
        let ahead = (READ_AHEAD / self.runs.len().max(1)).clamp(least, most);
        let mut readers = Vec::with_capacity(self.runs.len());
        let mut start = 0;
        for entries in &self.runs {
            let end = bytes_of(*entries).saturating_add(start);
            readers.push(BufReader::with_capacity(ahead, Part { file: &self.file, at: start, end }));
            start = end;
        }
        let mut heads = BinaryHeap::new();
        for (number, reader) in readers.iter_mut().enumerate() {
            heads.extend(next(reader)?.map(|entry| Reverse((entry, number))));
        }
        let merged = tempfile::tempfile_in(directory)?;
        let mut out = BufWriter::with_capacity(WRITE, &merged);
        let (mut last, mut entries) = (None, 0_u64);
        while let Some(Reverse((entry, number))) = heads.pop() {
            if last != Some(entry.digest) {
                entry.write(&mut out)?;
                last = Some(entry.digest);
                entries += 1;
            }
            if let Some(reader) = readers.get_mut(number) {
                heads.extend(next(reader)?.map(|entry| Reverse((entry, number))));
            }
        }
        out.flush()?;
        drop(out);
        Ok(BlockIndex { file: merged, entries, window: Vec::new() })
    }
}

/// Bytes of so many entries.
fn bytes_of(entries: u64) -> u64 {
    entries.saturating_mul(ENTRY as u64)
}

fn next(reader: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut bytes = [0; ENTRY];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Entry::read(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A part of a file, read by position: the runs share one file.
struct Part<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

/// The finished index.
pub(super) struct BlockIndex {
    file: File,
    entries: u64,
    window: Vec<u8>,
}

impl BlockIndex {
    /// Offset and length of a block.
    pub(super) fn find(&mut self, digest: &[u8; 32]) -> io::Result<Option<(u64, u32)>> {
        let (mut low, mut high) = (0_u64, self.entries);
        let mut step = 0;
        while low < high {
            let guess = if step < GUESSES { self.guess(digest) } else { low + (high - low) / 2 };
            step += 1;
            let start = guess.saturating_sub(WINDOW / 2).clamp(low, high - 1);
            let end = (start + WINDOW).min(high);
            self.load(start, end)?;
            let (Some(first), Some(last)) = (self.entry(0), self.entry(end - start - 1)) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if *digest < first.digest {
                high = start;
            } else if *digest > last.digest {
                low = end;
            } else {
                let found =
                    (0..end - start).filter_map(|at| self.entry(at)).find(|entry| entry.digest == *digest);
                return Ok(found.map(|entry| (entry.offset, entry.length)));
            }
        }
        Ok(None)
    }

    /// Where the digest would stand if all were evenly spread.
    fn guess(&self, digest: &[u8; 32]) -> u64 {
        let head = digest.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
        u64::try_from((u128::from(head) * u128::from(self.entries)) >> 64).unwrap_or(0)
    }

    fn load(&mut self, start: u64, end: u64) -> io::Result<()> {
        let bytes = usize::try_from(end.saturating_sub(start)).unwrap_or(0).saturating_mul(ENTRY);
        self.window.resize(bytes, 0);
        self.file.read_exact_at(&mut self.window, start.saturating_mul(ENTRY as u64))
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        let start = usize::try_from(at).ok()?.checked_mul(ENTRY)?;
        Entry::read(self.window.get(start..start.checked_add(ENTRY)?)?)
    }
}

/// Blocks one after the other in a file.
pub(super) struct BlockFile {
    file: File,
    pending: Vec<u8>,
    written: u64,
}

impl BlockFile {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, pending: Vec::with_capacity(WRITE), written: 0 })
    }

    /// Appends a block and says where it lies.
    pub(super) fn append(&mut self, data: &[u8], disk: &mut DiskShare) -> io::Result<u64> {
        if self.pending.len().saturating_add(data.len()) > WRITE {
            self.flush(disk)?;
        }
        let offset = self.written.saturating_add(self.pending.len() as u64);
        if data.len() > WRITE {
            self.write(data, disk)?;
        } else {
            self.pending.extend_from_slice(data);
        }
        Ok(offset)
    }

    pub(super) fn flush(&mut self, disk: &mut DiskShare) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        self.write(&pending, disk)?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    fn write(&mut self, data: &[u8], disk: &mut DiskShare) -> io::Result<()> {
        disk.take(data.len() as u64)?;
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(data)?;
        self.written = self.written.saturating_add(data.len() as u64);
        Ok(())
    }

    pub(super) fn read(&self, offset: u64, length: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        out.clear();
        out.reserve_exact(length);
        out.resize(length, 0);
        self.file.read_exact_at(out, offset)
    }
}
