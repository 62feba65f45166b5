//! The entries of a commit's operations. A block that several operations name is converted once, and its text shared.

use std::collections::HashMap;
use std::sync::Arc;

use super::cid;
use super::reject::MAX_ENTRY_BYTES;
use crate::cbor::{MAX_TEXT_BYTES, RecordError, Scratch};
use crate::wire::{Entry, LiveCommitWriter, RecordAction};

// What is refused for its length as an entry need not be refused as a record.
const _: () = assert!(MAX_TEXT_BYTES <= MAX_ENTRY_BYTES);

/// A record that an operation makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) action: RecordAction,
    pub(super) collection: &'a str,
    pub(super) rkey: &'a str,
    pub(super) cid: &'a [u8],
    pub(super) block: &'a [u8],
}

/// Makes entries out of the blocks of one commit.
pub(super) struct Records<'a, 'w> {
    writer: &'w LiveCommitWriter,
    /// Blocks that more than one operation names, by their CID, once converted.
    repeated: HashMap<&'a [u8], Option<Result<Arc<str>, RecordError>>>,
    scratch: Scratch,
    /// The entry being written, and a record to be shared.
    text: String,
    /// Bytes of the shared texts.
    shared: usize,
}

impl<'a, 'w> Records<'a, 'w> {
    /// For operations that name these CIDs.
    pub(super) fn new(writer: &'w LiveCommitWriter, mut named: Vec<&'a [u8]>) -> Self {
        named.sort_unstable();
        let again = named.windows(2).filter_map(|pair| match pair {
            [one, other] if one == other => Some((*one, None)),
            _ => None,
        });
        Self {
            writer,
            repeated: again.collect(),
            scratch: Scratch::default(),
            text: String::new(),
            shared: 0,
        }
    }

    /// Bytes of the texts that entries share.
    pub(super) fn shared_bytes(&self) -> usize {
        self.shared
    }

    /// The entry that deletes a record.
    pub(super) fn delete(&mut self, collection: &str, rkey: &str) -> Entry {
        self.text.clear();
        self.writer.delete(&mut self.text, collection, rkey);
        self.text.as_str().into()
    }

    /// The entry of a record.
    ///
    /// # Errors
    /// The block is no record.
    pub(super) fn create(&mut self, named: Named<'a>) -> Result<Entry, RecordError> {
        let cid = cid::to_text(named.cid).map_err(|_| RecordError::BadLink)?;
        let shared = self.shared_text(&named)?;
        self.text.clear();
        // JSON of a record is about a fifth longer than its CBOR: quotes, and links as text.
        self.text.reserve(self.writer.overhead() + named.block.len() + named.block.len() / 4);
        let (scratch, mut at) = (&mut self.scratch, 0);
        let write = |out: &mut String| {
            at = out.len();
            match &shared {
                Some(_) => Ok(()),
                None => scratch.write_record(named.block, out, MAX_TEXT_BYTES),
            }
        };
        let Named { action, collection, rkey, .. } = named;
        self.writer.record(&mut self.text, action, collection, rkey, &cid, write)?;
        Ok(match shared {
            Some(record) => Entry::around(&self.text, at, record),
            None => self.text.as_str().into(),
        })
    }

    /// The text of a block that is named again; `None`: nobody else needs it.
    fn shared_text(&mut self, named: &Named<'a>) -> Result<Option<Arc<str>>, RecordError> {
        let Some(known) = self.repeated.get_mut(named.cid) else { return Ok(None) };
        if let Some(known) = known {
            return known.clone().map(Some);
        }
        self.text.clear();
        let written = self.scratch.write_record(named.block, &mut self.text, MAX_TEXT_BYTES);
        let made = written.map(|()| Arc::<str>::from(self.text.as_str()));
        self.shared = self.shared.saturating_add(made.as_ref().map_or(0, |text| text.len()));
        *known = Some(made.clone());
        made.map(Some)
    }
}
