//! The repository beside the database's rows, both in the order of the tree: what is to be created, updated, deleted.

use std::collections::HashSet;
use std::iter::Peekable;
use std::vec;

use anyhow::bail;
use rsky_common::atproto::cid;
use rsky_common::cbor::write_record_json;
use rsky_common::clock::now_iso;
use rsky_common::repo::{Leaf, MstError, Walk};
use rsky_common::wire::{LiveCommit, LiveCommitWriter, RecordAction, names};
use tokio::sync::mpsc;

use super::report::{Outcome, Tally};
use super::repository::Repository;
use super::stored::{Guard, Pages, Stored};
use crate::collections::ALL;
use crate::engine::{Statements, Work};
use crate::intake::{self, Intake};
use crate::lexicon::Edition;

/// Changes of one transaction at most, and the bytes of their records.
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 4 << 20;
/// Largest record as text, as in the backfill: more comes only of a block that is made to grow.
const MAX_RECORD: usize = 2 << 20;

/// A change for the engine.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) outcome: Outcome,
    /// `collection/rkey`
    pub(super) path: String,
    pub(super) work: Work,
}

/// Differences that are applied together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) changes: Vec<Difference>,
    /// Records that cannot be indexed: path and reason.
    pub(super) skipped: Vec<(String, String)>,
    bytes: usize,
}

/// What is compared, and what the database knows better.
#[derive(Debug)]
pub(super) struct Rules {
    collections: HashSet<&'static str>,
    edition: Edition,
    guard: Guard,
    /// Records that are written again though the tables have them: their typed row is missing.
    again: HashSet<String>,
}

impl Rules {
    /// The collections that have a rule and a place in the database.
    pub(super) fn new(statements: &Statements, guard: Guard) -> Self {
        let edition = statements.schema().lexicons();
        let ruled = ALL.iter().filter(|collection| collection.is_in(edition));
        let ruled = ruled.filter(|collection| statements.has_place_for(collection));
        Self {
            collections: ruled.map(|collection| collection.nsid).collect(),
            edition,
            guard,
            again: HashSet::new(),
        }
    }

    /// With records that are written again where the tables have them.
    pub(super) fn with_again(mut self, again: HashSet<String>) -> Self {
        self.again = again;
        self
    }
}

/// Compares a verified repository with the database's rows and sends what differs; returns what needs nothing done. Stops
/// early when nobody listens any more.
///
/// # Errors
/// The rows or a temporary file cannot be read.
pub(super) fn compare(
    repository: Repository,
    pages: Pages,
    rules: &Rules,
    out: &mpsc::Sender<Chunk>,
) -> anyhow::Result<Tally> {
    let Repository { mut store, commit, cid: commit_cid, rev, .. } = repository;
    let time = now_iso();
    let commit_data = LiveCommit {
        seq: names::SEQ_BACKFILL,
        time: &time,
        did: &commit.did,
        commit: &commit_cid,
        rev: &rev,
    };
    let mut comparison = Comparison {
        rules,
        rev: &rev,
        writer: LiveCommitWriter::new(&commit_data),
        chunk: Chunk::default(),
        out,
        tally: Tally::default(),
    };
    let mut rows = Rows { pages, page: Vec::new().into_iter().peekable(), last: String::new() };
    let mut walk = Walk::new(&mut store, &commit.data, false)?;
    let mut block = Vec::new();
    while let Some(leaf) = walk.next(&mut store)? {
        while let Some(row) = rows.before(Some(&leaf.path))? {
            if !comparison.gone(row) {
                return Ok(comparison.tally);
            }
        }
        let row = rows.at(&leaf.path)?;
        let Some(outcome) = comparison.judge(&leaf, row.as_ref()) else { continue };
        if !store.read(&leaf.digest, &mut block)? {
            return Err(MstError::MissingRecord(leaf.path).into());
        }
        if !comparison.record(outcome, leaf, &block) {
            return Ok(comparison.tally);
        }
    }
    while let Some(row) = rows.before(None)? {
        if !comparison.gone(row) {
            return Ok(comparison.tally);
        }
    }
    comparison.flush();
    Ok(comparison.tally)
}

/// The database's rows, one by one.
struct Rows {
    pages: Pages,
    page: Peekable<vec::IntoIter<Stored>>,
    last: String,
}

impl Rows {
    /// The next row, if it comes before `path`, or any if there is no path.
    fn before(&mut self, path: Option<&str>) -> anyhow::Result<Option<Stored>> {
        self.take_if(|row| path.is_none_or(|path| *row.path < *path))
    }

    /// The next row, if it is that of `path`.
    fn at(&mut self, path: &str) -> anyhow::Result<Option<Stored>> {
        self.take_if(|row| row.path == path)
    }

    fn take_if(&mut self, wanted: impl Fn(&Stored) -> bool) -> anyhow::Result<Option<Stored>> {
        while self.page.peek().is_none() {
            match self.pages.blocking_recv() {
                None => return Ok(None),
                Some(Ok(page)) => self.page = page.into_iter().peekable(),
                Some(Err(error)) => bail!(error),
            }
        }
        let Some(row) = self.page.next_if(wanted) else { return Ok(None) };
        // Rows in another order would make records look as if they were gone.
        if row.path <= self.last && !self.last.is_empty() {
            bail!("the database gives the account's records in a wrong order");
        }
        self.last.clone_from(&row.path);
        Ok(Some(row))
    }
}

struct Comparison<'a> {
    rules: &'a Rules,
    rev: &'a str,
    writer: LiveCommitWriter,
    chunk: Chunk,
    out: &'a mpsc::Sender<Chunk>,
    tally: Tally,
}

impl Comparison<'_> {
    fn is_indexed(&self, path: &str) -> bool {
        path.split_once('/').is_some_and(|(collection, _)| self.rules.collections.contains(collection))
    }

    /// What is to be done with a record of the repository; `None`: nothing.
    fn judge(&mut self, leaf: &Leaf, row: Option<&Stored>) -> Option<Outcome> {
        if !self.is_indexed(&leaf.path) {
            self.tally.without_rule += 1;
            return None;
        }
        let outcome = match row {
            None => return Some(Outcome::Created),
            Some(row) if row.live && is_same(&row.cid, &leaf.cid) => {
                if self.rules.again.contains(&leaf.path) {
                    // Without revs the engine takes a create of what is stored for a re-delivery: it has to go first.
                    let by_deletion = matches!(self.rules.guard, Guard::Account(_));
                    return Some(if by_deletion { Outcome::Deleted } else { Outcome::Completed });
                }
                Outcome::Unchanged
            }
            Some(row) if self.rules.guard.is_newer(row, self.rev) => Outcome::Newer,
            Some(row) if row.live => return Some(Outcome::Updated),
            Some(_) => return Some(Outcome::Created),
        };
        self.tally.count(&leaf.path, outcome);
        None
    }

    /// `false`: nobody listens any more.
    fn record(&mut self, outcome: Outcome, leaf: Leaf, block: &[u8]) -> bool {
        if outcome == Outcome::Deleted {
            return self.delete(leaf.path);
        }
        let action = if outcome == Outcome::Updated { RecordAction::Update } else { RecordAction::Create };
        let (collection, rkey) = leaf.split();
        let record_cid = cid::to_text(&leaf.cid).unwrap_or_default();
        let mut event = String::with_capacity(self.writer.overhead() + block.len() + block.len() / 4);
        let written = self
            .writer
            .record(&mut event, action, collection, rkey, &record_cid, |out| write_record_json(block, out));
        match written {
            Err(error) => self.skip(leaf.path, error.to_string()),
            Ok(()) if event.len() > MAX_RECORD => {
                self.skip(leaf.path, format!("it has {} bytes as text", event.len()))
            }
            Ok(()) => self.change(outcome, leaf.path, &event),
        }
    }

    /// A row of a record that the repository does not have. `false`: nobody listens any more.
    fn gone(&mut self, row: Stored) -> bool {
        if !row.live || !self.is_indexed(&row.path) {
            return true;
        }
        if self.rules.guard.is_newer(&row, self.rev) {
            self.tally.count(&row.path, Outcome::Newer);
            return true;
        }
        self.delete(row.path)
    }

    fn delete(&mut self, path: String) -> bool {
        let mut event = String::with_capacity(self.writer.overhead());
        if let Some((collection, rkey)) = path.split_once('/') {
            self.writer.delete(&mut event, collection, rkey);
        }
        self.change(Outcome::Deleted, path, &event)
    }

    fn change(&mut self, outcome: Outcome, path: String, event: &str) -> bool {
        match intake::read_in(self.rules.edition, event) {
            Intake::Work(work) => {
                self.chunk.bytes = self.chunk.bytes.saturating_add(event.len());
                self.chunk.changes.push(Difference { outcome, path, work });
                self.flush_if_full()
            }
            Intake::Nothing(reason) => self.skip(path, reason.to_owned()),
            Intake::Rejected { reason, error } => self.skip(path, format!("{reason}: {error}")),
        }
    }

    fn skip(&mut self, path: String, reason: String) -> bool {
        self.chunk.skipped.push((path, reason));
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> bool {
        let full = |items: usize| items >= CHUNK;
        if full(self.chunk.changes.len()) || full(self.chunk.skipped.len()) || self.chunk.bytes >= CHUNK_BYTES
        {
            return self.flush();
        }
        true
    }

    fn flush(&mut self) -> bool {
        self.out.blocking_send(std::mem::take(&mut self.chunk)).is_ok()
    }
}

/// Whether a stored CID is the record's, in whatever base it is written; one that cannot be read is not.
fn is_same(stored: &str, record: &[u8]) -> bool {
    let by_text = cid::to_text(record).is_ok_and(|text| text == stored);
    by_text || ::cid::Cid::try_from(stored).is_ok_and(|parsed| *parsed.to_bytes() == *record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cids_are_compared_as_what_they_say() {
        let record = [&[1_u8, 0x71, 0x12, 0x20][..], &[7; 32]].concat();
        let text = cid::to_text(&record).unwrap();
        let base58 = ::cid::multibase::encode(::cid::multibase::Base::Base58Btc, &record);
        assert!(is_same(&text, &record) && is_same(&base58, &record));
        assert!(!is_same("", &record) && !is_same("nonsense", &record));
    }

    #[test]
    fn rows_in_a_wrong_order_are_refused() {
        let row = |path: &str| Stored { path: path.to_owned(), cid: String::new(), live: true, rev: None };
        let (sender, pages) = mpsc::channel(1);
        sender.try_send(Ok(vec![row("a/1"), row("a/3"), row("a/2")])).unwrap();
        let mut rows = Rows { pages, page: Vec::new().into_iter().peekable(), last: String::new() };
        assert_eq!(rows.before(Some("a/1")).unwrap(), None);
        assert_eq!(rows.at("a/1").unwrap(), Some(row("a/1")));
        assert_eq!(rows.before(None).unwrap(), Some(row("a/3")));
        assert!(rows.before(None).is_err());
    }
}
