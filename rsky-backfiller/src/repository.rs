//! One repository, from the pieces of its CAR to entries. Blocking code: it hashes, and large repositories are in files.

use bytes::Bytes;
use rsky_common::atproto::CollectionFilter;
use rsky_common::redis::DeadLetter;
use rsky_common::repo::{BlockStore, Leaf, ReceivedCar, StoreLimits, Walk};
use rsky_common::wire::{BackfilledRepo, Entry, LiveCommit, LiveCommitWriter, names};
use tokio::sync::mpsc;

use crate::outcome::{Class, Failure};
use crate::reconcile::Paths;
use crate::records::{Made, Records};

/// Bytes of entries a repository may make: so much, and so many times its size. Keys may share a record, and a large one
/// under very many keys would fill the output stream, where entries are counted and not weighed.
const ENTRY_BYTES: u64 = 16 << 20;
const ENTRY_BYTES_PER_BYTE: u64 = 64;
/// Dead letters of one repository, and their bytes (a letter more may begin below that); further bad records are only
/// counted. A repository whose keys all name one large bad record is not to push the letters of others out.
const MOST_LETTERS: u64 = 100;
const MOST_LETTER_BYTES: usize = 4 << 20;

/// A repository that was received.
pub type Received = ReceivedCar;

/// Takes the pieces of a CAR until the sender hangs up.
///
/// # Errors
/// A CAR or a commit that is not as it should be, or larger than `most` bytes.
pub fn receive(
    pieces: &mut mpsc::Receiver<Bytes>,
    limits: StoreLimits,
    most: u64,
) -> Result<Received, Failure> {
    Ok(ReceivedCar::receive(|| pieces.blocking_recv(), limits, most)?)
}

/// Entries of a repository that are written together.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In tree order.
    pub entries: Vec<Entry>,
    /// Records that cannot be converted.
    pub letters: Vec<DeadLetter>,
    /// Whether the repository ends with it.
    pub last: bool,
}

/// What was made of a repository.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Records queued.
    pub queued: u64,
    /// Records of collections that are not queued.
    pub filtered: u64,
    /// Records that could not be converted.
    pub bad: u64,
    /// Records that are no longer there.
    pub deleted: u64,
}

/// How entries are made.
#[derive(Debug, Clone)]
pub struct Making {
    /// Collections that are queued.
    pub filter: CollectionFilter,
    /// Entries of a chunk.
    pub entries: usize,
    /// Bytes of a chunk.
    pub bytes: usize,
    /// The `time` of all entries.
    pub time: String,
}

/// Writes the records of a checked repository as entries into `out`, chunk by chunk; the `repo` entry is the last of the
/// last chunk (DECISIONS 2). With `known`, what the AppView has and the repository has not is deleted on the way. Stops
/// early when nobody listens any more.
///
/// # Errors
/// The files, or the AppView's records, cannot be read; or few records make very many bytes.
pub fn make_entries(
    mut received: Received,
    making: &Making,
    known: Option<Paths>,
    out: &mpsc::Sender<Chunk>,
) -> Result<Summary, Failure> {
    let mut walk = Walk::new(&mut received.store, &received.commit.data, false)?;
    let repo = BackfilledRepo {
        did: &received.commit.did,
        commit: &received.cid,
        rev: &received.rev,
        time: &making.time,
    };
    let records = Records::new(received.bytes);
    let mut maker = Maker {
        repo,
        making,
        out,
        records,
        chunk: Chunk::default(),
        bytes: 0,
        made: 0,
        letter_bytes: 0,
        summary: Summary::default(),
    };
    let most = received.bytes.saturating_mul(ENTRY_BYTES_PER_BYTE).saturating_add(ENTRY_BYTES);
    let mut known = Known { paths: known, next: None };
    while let Some(leaf) = walk.next(&mut received.store)? {
        while let Some(path) = known.before(&leaf.path)? {
            if !maker.delete(&path) {
                return Ok(maker.summary);
            }
        }
        let (collection, _) = leaf.split();
        if !making.filter.allows(collection) {
            maker.summary.filtered += 1;
            continue;
        }
        if !maker.create(&mut received.store, &leaf)? {
            return Ok(maker.summary);
        }
        if maker.made > most {
            let error = format!("{} bytes make more than {most} bytes of entries", received.bytes);
            return Err(Failure::new(Class::TooLarge, error));
        }
    }
    while let Some(path) = known.rest()? {
        if !maker.delete(&path) {
            return Ok(maker.summary);
        }
    }
    Ok(maker.finish())
}

/// What the AppView has, in the order of the tree.
struct Known {
    paths: Option<Paths>,
    next: Option<String>,
}

impl Known {
    /// The next path that comes before `path`; one that equals it is passed over.
    fn before(&mut self, path: &str) -> Result<Option<String>, Failure> {
        while let Some(next) = self.peek()? {
            if next > path {
                return Ok(None);
            }
            let is_same = next == path;
            let taken = self.next.take();
            if !is_same {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    fn rest(&mut self) -> Result<Option<String>, Failure> {
        self.peek()?;
        Ok(self.next.take())
    }

    fn peek(&mut self) -> Result<Option<&str>, Failure> {
        if self.next.is_none()
            && let Some(paths) = &mut self.paths
        {
            self.next =
                paths.blocking_recv().transpose().map_err(|error| Failure::new(Class::Database, error))?;
        }
        Ok(self.next.as_deref())
    }
}

struct Maker<'a> {
    repo: BackfilledRepo<'a>,
    making: &'a Making,
    out: &'a mpsc::Sender<Chunk>,
    records: Records,
    chunk: Chunk,
    /// Of the chunk, dead letters included.
    bytes: usize,
    /// Bytes of all entries so far.
    made: u64,
    /// Bytes of all dead letters so far.
    letter_bytes: usize,
    summary: Summary,
}

impl Maker<'_> {
    /// `false`: nobody listens any more.
    fn create(&mut self, store: &mut BlockStore, leaf: &Leaf) -> Result<bool, Failure> {
        match self.records.make(store, leaf, &self.repo)? {
            Made::Entry(entry) => {
                self.summary.queued += 1;
                Ok(self.add(entry))
            }
            Made::Bad(error) => {
                self.summary.bad += 1;
                if self.summary.bad > MOST_LETTERS || self.letter_bytes >= MOST_LETTER_BYTES {
                    return Ok(true);
                }
                let block = self.records.read(store, leaf)?;
                let letter = letter(leaf, &self.repo, block, &error.to_string());
                self.bytes = self.bytes.saturating_add(letter.size());
                self.letter_bytes = self.letter_bytes.saturating_add(letter.size());
                self.chunk.letters.push(letter);
                Ok(self.send_if_full())
            }
        }
    }

    fn delete(&mut self, path: &str) -> bool {
        let Some((collection, rkey)) =
            path.split_once('/').filter(|(name, _)| self.making.filter.allows(name))
        else {
            return true;
        };
        let BackfilledRepo { did, commit, rev, time } = self.repo;
        let writer = LiveCommitWriter::new(&LiveCommit { seq: names::SEQ_BACKFILL, time, did, commit, rev });
        let mut entry = String::with_capacity(writer.overhead());
        writer.delete(&mut entry, collection, rkey);
        self.summary.deleted += 1;
        self.add(entry.into())
    }

    fn add(&mut self, entry: Entry) -> bool {
        self.bytes = self.bytes.saturating_add(entry.len());
        self.made = self.made.saturating_add(entry.len() as u64);
        self.chunk.entries.push(entry);
        self.send_if_full()
    }

    fn send_if_full(&mut self) -> bool {
        if self.chunk.entries.len() < self.making.entries && self.bytes < self.making.bytes {
            return true;
        }
        self.bytes = 0;
        self.out.blocking_send(std::mem::take(&mut self.chunk)).is_ok()
    }

    fn finish(mut self) -> Summary {
        let mut entry = String::with_capacity(256);
        self.repo.push_repo(&mut entry);
        self.chunk.entries.push(entry.into());
        self.chunk.last = true;
        // A listener that is gone has given the repository up: there is nobody to tell.
        drop(self.out.blocking_send(self.chunk));
        self.summary
    }
}

fn letter(leaf: &Leaf, repo: &BackfilledRepo<'_>, block: &[u8], error: &str) -> DeadLetter {
    let source = format!("at://{}/{}@{}", repo.did, leaf.path, repo.rev);
    DeadLetter::binary(names::FIELD_EVENT, block, "bad_record", error, &source)
}

#[cfg(test)]
#[path = "repository_meter_tests.rs"]
mod meter;

#[cfg(test)]
mod tests {
    use rsky_common::repo::DiskBudget;
    use rsky_testnet::network::repos::{Tree, block_cid, block_section, commit, header, key, path, record};

    use super::*;

    const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

    /// A repository whose keys all lead to the same record.
    fn repeating(records: usize, padding: usize) -> Received {
        repeating_block(records, record(0, padding))
    }

    fn repeating_block(records: usize, repeated: Vec<u8>) -> Received {
        let (mut blocks, mut tree) = (Vec::new(), Tree::default());
        let value = block_cid(&repeated);
        block_section(&value, &repeated, &mut blocks);
        let mut add = |cid: &[u8; 36], node: &[u8]| block_section(cid, node, &mut blocks);
        (0..records).for_each(|number| tree.add(path(number), value, &mut add));
        let root = tree.finish(&mut add);
        let commit = commit(DID, &root, &key(1));
        let mut car = Vec::new();
        header(&block_cid(&commit), &mut car);
        block_section(&block_cid(&commit), &commit, &mut car);
        car.extend(blocks);
        let (sender, mut pieces) = mpsc::channel(1);
        sender.try_send(car.into()).unwrap();
        drop(sender);
        let disk = DiskBudget::unlimited();
        let limits = StoreLimits { memory: 1 << 24, directory: std::env::temp_dir(), disk };
        receive(&mut pieces, limits, 1 << 24).unwrap()
    }

    /// What is made of it, how many bytes of entries, of dead letters, and how many of these.
    fn made(mut received: Received) -> (Result<Summary, Failure>, [usize; 3]) {
        received.check_tree().unwrap();
        let (sender, mut chunks) = mpsc::channel::<Chunk>(1);
        let counting = std::thread::spawn(move || {
            let mut bytes = [0; 3];
            while let Some(chunk) = chunks.blocking_recv() {
                bytes[0] += chunk.entries.iter().map(Entry::len).sum::<usize>();
                bytes[1] += chunk.letters.iter().map(DeadLetter::size).sum::<usize>();
                bytes[2] += chunk.letters.len();
            }
            bytes
        });
        let making = Making {
            filter: CollectionFilter::all(),
            entries: 100,
            bytes: 1 << 20,
            time: "2025-01-01T00:00:00.000Z".to_owned(),
        };
        let outcome = make_entries(received, &making, None, &sender);
        drop(sender);
        (outcome, counting.join().unwrap())
    }

    #[test]
    fn a_record_that_is_there_very_many_times_makes_no_flood() {
        let (outcome, [bytes, ..]) = made(repeating(2000, 100_000));
        assert_eq!(outcome.unwrap_err().class, Class::TooLarge);
        assert!(bytes < 64 << 20, "{bytes}");
        // The same short post again and again is only foolish.
        let (outcome, _) = made(repeating(20_000, 100));
        assert_eq!(outcome.unwrap().queued, 20_000);
    }

    #[test]
    fn a_bad_record_that_is_there_many_times_makes_few_letters() {
        let bad = b"\xa1\x61a\x1b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
        let (outcome, [entries, _, letters]) = made(repeating_block(300, bad.clone()));
        assert_eq!((outcome.unwrap().bad, letters), (300, 100));
        assert!(entries < 1000, "{entries}");
        let (outcome, [_, bytes, letters]) = made(repeating_block(300, [bad, vec![0; 700_000]].concat()));
        assert_eq!((outcome.unwrap().bad, letters), (300, bytes.div_ceil(1 << 20)), "{bytes}");
        assert!((MOST_LETTER_BYTES..MOST_LETTER_BYTES + (2 << 20)).contains(&bytes), "{bytes}");
    }
}
