//! One frame of a relay becomes the stream entries that the reference writes for it (PIPELINE 3.1, 4.2, 4.3).
//!
//! Input are the bytes of a frame, output finished JSON; nothing downstream encodes again. What cannot be converted is
//! reported beside the entries and never stops the frames after it (DECISIONS 5).

use super::car::{CarBlocks, CarError};
use super::cid;
use super::collection_filter::CollectionFilter;
use super::commit_records::{Named, Records};
use super::frame::{Account, Commit, Frame, FrameError, Identity, Op, decode_frame};
use super::frame_parts::{repos_type, shown};
use super::path::split_path;
use super::reject::{FrameKind, MAX_ENTRY_BYTES, MAX_LISTED, Rejected, TooLarge, reason};
use crate::cbor::RecordError;
use crate::wire::{
    Entry, LiveCommit, LiveCommitWriter, RecordAction, heap_bytes, push_account, push_identity,
};

/// What became of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// What the frame is.
    pub kind: FrameKind,
    /// Its sequence number, if it has one that can be read.
    pub seq: Option<i64>,
    /// The account, if it can be read.
    pub did: Option<String>,
    /// The revision of a commit or sync.
    pub rev: Option<String>,
    /// Values of the `event` field, in order.
    pub entries: Vec<Entry>,
    /// Bytes of the records that entries share.
    pub shared_bytes: usize,
    /// What was not written although it should have been: the first [`MAX_LISTED`].
    pub rejected: Vec<Rejected>,
    /// How many more were rejected.
    pub rejected_unlisted: u32,
    /// An account whose repository must be fetched, because the frame does not tell what changed (DECISIONS 24).
    pub resync: Option<String>,
    /// Whether the cursor moves to `seq` once the entries are written. `#sync`, `#info` and unknown frames do not move
    /// it, as in the reference.
    pub counted: bool,
    /// What happened to the operations of a commit.
    pub ops: OpCounts,
}

/// Operations of one commit by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Written as `create`.
    pub creates: u32,
    /// Written as `update`.
    pub updates: u32,
    /// Written as `delete`.
    pub deletes: u32,
    /// Of a collection that the filter holds back.
    pub filtered: u32,
    /// Without a CID, or whose block is not in the CAR: skipped as in the reference.
    pub missing: u32,
    /// With an action that is not known: skipped as in the reference.
    pub unknown: u32,
}

impl Converted {
    pub(super) fn new(kind: FrameKind) -> Self {
        Self {
            kind,
            seq: None,
            did: None,
            rev: None,
            entries: Vec::new(),
            shared_bytes: 0,
            rejected: Vec::new(),
            rejected_unlisted: 0,
            resync: None,
            counted: false,
            ops: OpCounts::default(),
        }
    }

    pub(super) fn reject(&mut self, reason: &'static str, error: &dyn std::error::Error, path: Option<&str>) {
        if self.rejected.len() >= MAX_LISTED {
            self.rejected_unlisted = self.rejected_unlisted.saturating_add(1);
            return;
        }
        let did = self.did.clone();
        self.rejected.push(Rejected { reason, error: error.to_string(), did, path: path.map(shown) });
    }

    /// Bytes of memory it takes, beside itself.
    pub fn held_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| heap_bytes(text.capacity()));
        let unused = self.entries.capacity().saturating_sub(self.entries.len());
        let entries = self.entries.iter().map(Entry::own_bytes).fold(0, usize::saturating_add);
        let rejected = self
            .rejected
            .iter()
            .map(|one| heap_bytes(one.error.capacity()) + text(&one.did) + text(&one.path));
        [
            entries,
            unused.saturating_mul(size_of::<Entry>()),
            self.shared_bytes,
            self.rejected.capacity().saturating_mul(size_of::<Rejected>()),
            rejected.fold(0, usize::saturating_add),
            text(&self.did),
            text(&self.rev),
            text(&self.resync),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

/// Converts one frame of `com.atproto.sync.subscribeRepos`.
pub fn convert(bytes: &[u8], filter: &CollectionFilter) -> Converted {
    match decode_frame(bytes) {
        Ok(Frame::Commit(commit)) => convert_commit(&commit, filter),
        Ok(Frame::Account(account)) => convert_account(&account),
        Ok(Frame::Identity(identity)) => convert_identity(&identity),
        Ok(Frame::Sync(sync)) => Converted {
            seq: Some(sync.seq),
            did: Some(sync.did.to_owned()),
            rev: sync.rev.map(str::to_owned),
            resync: Some(sync.did.to_owned()),
            ..Converted::new(FrameKind::Sync)
        },
        Ok(Frame::Info { name, message }) => {
            Converted::new(FrameKind::Info { name: shown(name), message: message.map(shown) })
        }
        Ok(Frame::Error { error, message }) => {
            Converted::new(FrameKind::Error { error: shown(error), message: message.map(shown) })
        }
        Ok(Frame::Other { t }) => Converted::new(FrameKind::Other { t: shown(t) }),
        Err(error) => undecodable(error, repos_type, &["#commit", "#account", "#identity"]),
    }
}

/// A broken frame moves the cursor like a good one of its type, so that it is not read again for ever.
pub(super) fn undecodable(error: FrameError, short: fn(&str) -> &str, moving: &[&str]) -> Converted {
    let moves = error.t.as_deref().is_some_and(|t| moving.contains(&short(t)));
    let mut converted = Converted {
        seq: error.seq,
        did: error.did.clone(),
        counted: moves && error.seq.is_some(),
        ..Converted::new(FrameKind::Undecodable)
    };
    converted.reject(reason::BAD_FRAME, &error, None);
    converted
}

fn convert_account(account: &Account<'_>) -> Converted {
    let mut entry = String::with_capacity(192);
    push_account(&mut entry, account.seq, account.time, account.did, account.active, account.status);
    actor(FrameKind::Account, account.seq, account.did, entry)
}

fn convert_identity(identity: &Identity<'_>) -> Converted {
    let mut entry = String::with_capacity(192);
    push_identity(&mut entry, identity.seq, identity.time, identity.did, identity.handle);
    actor(FrameKind::Identity, identity.seq, identity.did, entry)
}

fn actor(kind: FrameKind, seq: i64, did: &str, entry: String) -> Converted {
    Converted {
        seq: Some(seq),
        did: Some(did.to_owned()),
        entries: vec![entry.into()],
        counted: true,
        ..Converted::new(kind)
    }
}

fn convert_commit(commit: &Commit<'_>, filter: &CollectionFilter) -> Converted {
    let mut converted = Converted {
        seq: Some(commit.seq),
        did: Some(commit.did.to_owned()),
        rev: Some(commit.rev.to_owned()),
        resync: commit.too_big.then(|| commit.did.to_owned()),
        counted: true,
        ..Converted::new(FrameKind::Commit)
    };
    // A commit that was too big for its frame may come without a CAR; the repository is fetched instead.
    if commit.too_big && commit.blocks.is_empty() && commit.ops.is_empty() {
        return converted;
    }
    let mut selected = Vec::with_capacity(commit.ops.len());
    for op in &commit.ops {
        match split_path(commit.did, op.path) {
            Ok((collection, _)) if !filter.allows(collection) => converted.ops.filtered += 1,
            Ok((collection, rkey)) => selected.push((op, collection, rkey)),
            Err(error) => {
                converted.ops = OpCounts::default();
                converted.reject(reason::BAD_PATH, &error, Some(op.path));
                return converted;
            }
        }
    }
    // Nothing of the CAR is used when every operation is held back, so it is not worth its hashes.
    if selected.is_empty() && !commit.ops.is_empty() {
        return converted;
    }
    write_ops(commit, &selected, &mut converted);
    converted
}

fn write_ops<'a>(commit: &Commit<'a>, selected: &[(&Op<'a>, &'a str, &'a str)], converted: &mut Converted) {
    let blocks = match CarBlocks::parse(commit.blocks) {
        Ok(blocks) => blocks,
        Err(error) => {
            let reason = if matches!(error, CarError::HashMismatch(_)) {
                reason::HASH_MISMATCH
            } else {
                reason::BAD_CAR
            };
            return converted.reject(reason, &error, None);
        }
    };
    let commit_cid = match cid::to_text(commit.commit) {
        Ok(text) => text,
        Err(error) => return converted.reject(reason::BAD_CID, &error, None),
    };
    let writer = LiveCommitWriter::new(&LiveCommit {
        seq: commit.seq,
        time: commit.time,
        did: commit.did,
        commit: &commit_cid,
        rev: commit.rev,
    });
    let named = selected.iter().filter_map(|(op, ..)| action_of(op).and(op.cid));
    let mut records = Records::new(&writer, named.collect());
    converted.entries.reserve_exact(selected.len());
    let mut entry_bytes = 0_usize;
    for (op, collection, rkey) in selected {
        match write_op(&mut records, &blocks, op, collection, rkey, &mut converted.ops) {
            Ok(entry) => {
                entry_bytes = entry_bytes.saturating_add(entry.as_ref().map_or(0, Entry::len));
                converted.entries.extend(entry);
            }
            Err(error) => converted.reject(reason::BAD_RECORD, &error, Some(op.path)),
        }
        if entry_bytes > MAX_ENTRY_BYTES {
            converted.entries = Vec::new();
            converted.ops = OpCounts::default();
            return converted.reject(reason::TOO_LARGE, &TooLarge, None);
        }
    }
    converted.entries.shrink_to_fit();
    converted.shared_bytes = records.shared_bytes();
}

/// What an operation that makes a record does.
fn action_of(op: &Op<'_>) -> Option<RecordAction> {
    match op.action {
        "create" => Some(RecordAction::Create),
        "update" => Some(RecordAction::Update),
        _ => None,
    }
}

/// The entry of one operation; `None` for those that the reference skips.
fn write_op<'a>(
    records: &mut Records<'a, '_>,
    blocks: &CarBlocks<'a>,
    op: &Op<'a>,
    collection: &'a str,
    rkey: &'a str,
    counts: &mut OpCounts,
) -> Result<Option<Entry>, RecordError> {
    let Some(action) = action_of(op) else {
        let is_delete = op.action == "delete";
        *if is_delete { &mut counts.deletes } else { &mut counts.unknown } += 1;
        return Ok(is_delete.then(|| records.delete(collection, rkey)));
    };
    let Some((cid, block)) = op.cid.and_then(|cid| Some((cid, blocks.get(cid)?))) else {
        counts.missing += 1;
        return Ok(None);
    };
    let entry = records.create(Named { action, collection, rkey, cid, block })?;
    match action {
        RecordAction::Create => counts.creates += 1,
        RecordAction::Update => counts.updates += 1,
    }
    Ok(Some(entry))
}

#[cfg(test)]
#[path = "commit_entries_tests.rs"]
mod tests;
