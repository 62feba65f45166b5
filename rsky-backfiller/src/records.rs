//! The records of a repository as entries. A large one that several keys name is read and converted once, and its text is
//! shared, as long as it is remembered; what is converted again and again all the same is counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rsky_common::atproto::cid;
use rsky_common::cbor::{RecordError, Scratch};
use rsky_common::repo::{BlockStore, Leaf, MstError};
use rsky_common::wire::{BackfilledRepo, Entry};

use crate::outcome::{Class, Failure};
use crate::sizes::MAX_ENTRY_BYTES;

/// Blocks of this many bytes are remembered. Converting a smaller one costs no more than looking for it.
const REMEMBERED_FROM: usize = 4 << 10;
/// Bytes of text that are remembered, the record used last not counted. Keys that name one record are usually neighbours;
/// a repository that is made to forget is refused for its work.
const REMEMBERED: usize = 1 << 20;
/// Bytes that remembering a record takes beside its text, about.
const REMEMBERED_COST: usize = 256;
/// Bytes of blocks that may be converted: so much, and so many times the repository's size. Each record once is less than
/// its size.
const WORK_BYTES: u64 = 16 << 20;
const WORK_BYTES_PER_BYTE: u64 = 32;

type Digest = [u8; 32];

/// Makes entries of records, in any order.
#[derive(Debug)]
pub(crate) struct Records {
    scratch: Scratch,
    block: Vec<u8>,
    /// The entry being written, or a record to be remembered.
    text: String,
    known: HashMap<Digest, Result<Arc<str>, RecordError>>,
    /// Oldest first.
    order: VecDeque<Digest>,
    remembered: usize,
    /// Bytes of blocks that may still be converted.
    work: u64,
    /// Bytes of the repository.
    size: u64,
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Made {
    /// Its entry.
    Entry(Entry),
    /// It has none.
    Bad(RecordError),
}

impl Records {
    /// For a repository of so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self {
            scratch: Scratch::default(),
            block: Vec::new(),
            text: String::new(),
            known: HashMap::new(),
            order: VecDeque::new(),
            remembered: 0,
            work: size.saturating_mul(WORK_BYTES_PER_BYTE).saturating_add(WORK_BYTES),
            size,
        }
    }

    /// The entry of a record.
    ///
    /// # Errors
    /// The block is not there, or records are converted far more often than there are.
    pub(crate) fn make(
        &mut self,
        store: &mut BlockStore,
        leaf: &Leaf,
        repo: &BackfilledRepo<'_>,
    ) -> Result<Made, Failure> {
        if let Some(known) = self.known.get(&leaf.digest) {
            return Ok(match known.clone() {
                Ok(record) => self.around(record, leaf, repo),
                Err(error) => Made::Bad(error),
            });
        }
        self.read(store, leaf)?;
        self.spend()?;
        if self.block.len() < REMEMBERED_FROM {
            return Ok(self.direct(leaf, repo));
        }
        self.text.clear();
        let written = self.scratch.write_record(&self.block, &mut self.text, MAX_ENTRY_BYTES);
        let record = written.map(|()| Arc::<str>::from(self.text.as_str()));
        self.remember(leaf.digest, record.clone());
        Ok(match record {
            Ok(record) => self.around(record, leaf, repo),
            Err(error) => Made::Bad(error),
        })
    }

    /// The block of a record, for people to look at.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn read(&mut self, store: &mut BlockStore, leaf: &Leaf) -> Result<&[u8], Failure> {
        if !store.read(&leaf.digest, &mut self.block)? {
            return Err(MstError::MissingRecord(leaf.path.clone()).into());
        }
        Ok(&self.block)
    }

    fn spend(&mut self) -> Result<(), Failure> {
        let left = self.work.checked_sub(self.block.len() as u64);
        self.work = left.ok_or_else(|| {
            let error = format!("in {} bytes the same large records are named again and again", self.size);
            Failure::new(Class::TooLarge, error)
        })?;
        Ok(())
    }

    fn direct(&mut self, leaf: &Leaf, repo: &BackfilledRepo<'_>) -> Made {
        let Self { scratch, block, text, .. } = self;
        let write = |out: &mut String| scratch.write_record(block, out, MAX_ENTRY_BYTES);
        match push(text, leaf, repo, write) {
            Ok(()) => finished(text.as_str().into()),
            Err(error) => Made::Bad(error),
        }
    }

    fn around(&mut self, record: Arc<str>, leaf: &Leaf, repo: &BackfilledRepo<'_>) -> Made {
        let mut at = 0;
        let write = |out: &mut String| {
            at = out.len();
            Ok(())
        };
        match push(&mut self.text, leaf, repo, write) {
            Ok(()) => finished(Entry::around(&self.text, at, record)),
            Err(error) => Made::Bad(error),
        }
    }

    fn remember(&mut self, digest: Digest, record: Result<Arc<str>, RecordError>) {
        while self.remembered > REMEMBERED {
            let oldest = self.order.pop_front().and_then(|digest| self.known.remove(&digest));
            let Some(oldest) = oldest else { break };
            self.remembered = self.remembered.saturating_sub(cost(&oldest));
        }
        self.remembered = self.remembered.saturating_add(cost(&record));
        self.order.push_back(digest);
        self.known.insert(digest, record);
    }
}

fn cost(record: &Result<Arc<str>, RecordError>) -> usize {
    record.as_ref().map_or(0, |text| text.len()).saturating_add(REMEMBERED_COST)
}

fn push(
    text: &mut String,
    leaf: &Leaf,
    repo: &BackfilledRepo<'_>,
    record: impl FnOnce(&mut String) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let (collection, rkey) = leaf.split();
    let record_cid = cid::to_text(&leaf.cid).map_err(|_| RecordError::BadLink)?;
    text.clear();
    repo.push_create(text, collection, rkey, &record_cid, record)
}

fn finished(entry: Entry) -> Made {
    if entry.len() > MAX_ENTRY_BYTES {
        return Made::Bad(RecordError::TooLong(MAX_ENTRY_BYTES));
    }
    Made::Entry(entry)
}

#[cfg(test)]
mod tests {
    use rsky_common::repo::{DiskBudget, StoreLimits};
    use rsky_testnet::network::repos::block_cid;

    use super::*;

    const REPO: BackfilledRepo<'_> = BackfilledRepo { did: "did:plc:a", commit: "c", rev: "r", time: "T" };

    fn stored(blocks: &[Vec<u8>]) -> (BlockStore, Vec<Leaf>) {
        let disk = DiskBudget::unlimited();
        let limits = StoreLimits { memory: 1 << 30, directory: std::env::temp_dir(), disk };
        let mut store = BlockStore::new(limits);
        let mut leaf = |(number, block): (usize, &Vec<u8>)| {
            let cid = block_cid(block);
            let digest: Digest = cid[4..].try_into().unwrap();
            store.insert(&digest, block).unwrap();
            Leaf { path: format!("a.b.c/{number}"), digest, cid }
        };
        let leaves = blocks.iter().enumerate().map(&mut leaf).collect();
        store.finish().unwrap();
        (store, leaves)
    }

    /// `{"v": <text>}`
    fn block(first: u8, length: u16) -> Vec<u8> {
        let mut block = b"\xa1\x61v\x79".to_vec();
        block.extend(length.to_be_bytes());
        block.push(first);
        block.resize(usize::from(length) + 6, b'x');
        block
    }

    #[test]
    fn large_and_small_records_become_the_same_entries() {
        let (mut store, leaves) = stored(&[block(b'a', 300), block(b'b', 60_000)]);
        let mut records = Records::new(1 << 20);
        for _ in 0..3 {
            for (leaf, length) in leaves.iter().zip([300, 60_000]) {
                let Made::Entry(entry) = records.make(&mut store, leaf, &REPO).unwrap() else { panic!() };
                let text = entry.to_string();
                let event: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(event["record"]["v"].as_str().unwrap().len(), length);
                assert!(text.ends_with(r#","commit":"c","rev":"r","seq":-2,"time":"T"}"#), "{text}");
            }
        }
    }

    #[test]
    fn what_is_remembered_is_not_made_again_and_what_is_too_much_is_refused() {
        let (mut store, leaves) = stored(&[block(b'a', 60_000), block(b'b', 4000)]);
        let mut records = Records::new(1000);
        for _ in 0..100_000 {
            records.make(&mut store, &leaves[0], &REPO).unwrap();
        }
        let made = (0..).take_while(|_| records.make(&mut store, &leaves[1], &REPO).is_ok()).count();
        assert!((4000..4500).contains(&made), "{made}");
        let refused = records.make(&mut store, &leaves[1], &REPO).unwrap_err();
        assert_eq!(refused.class, Class::TooLarge);
    }

    #[test]
    fn little_is_remembered() {
        let blocks: Vec<Vec<u8>> = (0..200).map(|number| block(number, 60_000)).collect();
        let (mut store, leaves) = stored(&blocks);
        let mut records = Records::new(1 << 30);
        for leaf in &leaves {
            records.make(&mut store, leaf, &REPO).unwrap();
            let texts = records.known.values().map(cost).sum::<usize>();
            assert_eq!(texts, records.remembered);
            assert!(texts <= REMEMBERED + 70_000 && records.known.len() == records.order.len());
        }
    }
}
