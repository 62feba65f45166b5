//! What an entry claims: everything that it may read or write and another account's entry may write or read.
//!
//! | key | claimed by |
//! |---|---|
//! | `account` of a DID | every entry of it: the events of one repository take effect in order |
//! | `record` of a uri | whoever writes it; read by replies (parent, root, gate), quotes, and who may have to be told |
//! | `thread` of a root | the posts of the thread and its gate: a post decides about the replies to it, a gate about all |
//! | `quoted` of a post | the quotes of it, the post and its post gate |
//! | `reposted` of a post | its reposts; the post when it is replaced or deleted, since the items in feeds go with it |
//! | `follow` of two DIDs, `listed` of a DID | follows and list items; read by replies in somebody else's thread |
//! | `rules` | all follows and list items; read by who judges replies of authors that are not known beforehand |
//!
//! Duplicate keys need no key of their own: all records that can share one are of one account. Counters need none either:
//! they are moved by differences.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::collections::{Parts, PartsKind, subject_columns};
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{Action, Change, Notifications, Work};

/// What an entry does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It decides something by what is there.
    Read,
    /// It writes, as others may at the same time.
    Add,
    /// It writes what only one at a time may write.
    Own,
}

/// The claims of one entry.
#[derive(Debug, Clone, Default)]
pub struct Claims(Vec<(u64, Touch)>);

impl Claims {
    /// These.
    pub fn of(claims: Vec<(u64, Touch)>) -> Self {
        Self(claims)
    }

    /// One more.
    pub fn push(&mut self, key: u64, touch: Touch) {
        self.0.push((key, touch));
    }

    /// Those of another entry, too.
    pub fn extend(&mut self, other: &[(u64, Touch)]) {
        self.0.extend_from_slice(other);
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, (u64, Touch)> {
        self.0.iter()
    }
}

/// Makes keys. Equal things have equal keys within one process; a collision costs a wait, never a wrong row.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    hasher: RandomState,
}

impl Keys {
    /// All that belongs to an account.
    pub fn account(&self, did: &str) -> u64 {
        self.hasher.hash_one(("account", did))
    }

    /// A record and whether it is there.
    pub fn record(&self, uri: &str) -> u64 {
        self.hasher.hash_one(("record", uri))
    }

    /// The posts of a thread and its gate, by the thread's root.
    pub fn thread(&self, root: &str) -> u64 {
        self.hasher.hash_one(("thread", root))
    }

    /// The quotes of a post.
    pub fn quoted(&self, post: &str) -> u64 {
        self.hasher.hash_one(("quoted", post))
    }

    /// The reposts of a post.
    pub fn reposted(&self, post: &str) -> u64 {
        self.hasher.hash_one(("reposted", post))
    }

    /// Whether one account follows another.
    pub fn follow(&self, creator: &str, subject: &str) -> u64 {
        self.hasher.hash_one(("follow", creator, subject))
    }

    /// The lists that an account is on.
    pub fn listed(&self, subject: &str) -> u64 {
        self.hasher.hash_one(("listed", subject))
    }

    /// All follows and list items.
    pub fn rules(&self) -> u64 {
        self.hasher.hash_one("rules")
    }

    /// What an entry claims by what it says itself.
    pub fn of_work(&self, work: &Work, mode: Notifications) -> Claims {
        let mut claims = Claims::default();
        if let Some(did) = work.did() {
            claims.push(self.account(did), Touch::Own);
        }
        if let Some(change) = &work.change {
            claims.push(self.record(&change.uri), Touch::Own);
            match change.collection.parts {
                PartsKind::Post => self.add_post(change, &mut claims),
                PartsKind::ThreadGate | PartsKind::PostGate => self.add_gate(change, &mut claims),
                PartsKind::None => self.add_other(change, mode, &mut claims),
            }
        }
        claims
    }

    fn add_post(&self, change: &Change, claims: &mut Claims) {
        claims.push(self.quoted(&change.uri), Touch::Own);
        if !matches!(change.action, Action::Create(_)) {
            claims.push(self.reposted(&change.uri), Touch::Own);
        }
        let Some(content) = change.content() else { return };
        if let Some(ThreadRefs { root, parent }) = ThreadRefs::of(change, content) {
            claims.push(self.thread(root), Touch::Own);
            claims.push(self.record(root), Touch::Read);
            claims.push(self.record(parent), Touch::Read);
            if let Some((owner, gate)) = refs::gate(root, refs::THREAD_GATE) {
                claims.push(self.record(&gate), Touch::Read);
                if owner != change.did {
                    claims.push(self.follow(owner, &change.did), Touch::Read);
                    claims.push(self.follow(&change.did, owner), Touch::Read);
                    claims.push(self.listed(&change.did), Touch::Read);
                }
            }
        } else {
            claims.push(self.thread(&change.uri), Touch::Own);
        }
        if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref()) {
            claims.push(self.quoted(&quoted.uri), Touch::Own);
            claims.push(self.record(&quoted.uri), Touch::Read);
            if let Some((_, gate)) = refs::gate(&quoted.uri, refs::POST_GATE) {
                claims.push(self.record(&gate), Touch::Read);
            }
        }
    }

    /// A gate is the gate of the post with its record key, whatever it says itself (INDEXING §4.5).
    fn add_gate(&self, change: &Change, claims: &mut Claims) {
        let post = ["at://", &change.did, "/", refs::POST, "/", &change.rkey].concat();
        match change.collection.parts {
            PartsKind::ThreadGate => {
                claims.push(self.thread(&post), Touch::Own);
                if change.content().is_some_and(|content| asks_for_relations(&content.parts)) {
                    // It may judge replies that are stored, by anybody.
                    claims.push(self.rules(), Touch::Read);
                }
            }
            _ => claims.push(self.quoted(&post), Touch::Own),
        }
    }

    fn add_other(&self, change: &Change, mode: Notifications, claims: &mut Claims) {
        match change.collection.nsid {
            refs::FOLLOW | refs::LIST_ITEM => {
                claims.push(self.rules(), Touch::Add);
                if let Some([first, second]) = change.duplicate_key().as_deref() {
                    // Of a follow: author and subject; of a list item: list and subject.
                    let (key, touch) = match change.collection.nsid {
                        refs::FOLLOW => (self.follow(first, second), Touch::Own),
                        _ => (self.listed(second), Touch::Own),
                    };
                    claims.push(key, touch);
                }
            }
            refs::LIKE | refs::REPOST => self.add_subject(change, mode, claims),
            _ => {}
        }
    }

    /// A repost's item goes with its post; whether a thread is muted is told by the post.
    fn add_subject(&self, change: &Change, mode: Notifications, claims: &mut Claims) {
        let Some(content) = change.content() else { return };
        let Some(row) = &content.row else { return };
        let context = change.context(content);
        let subject = row.value(subject_columns::SUBJECT, &context);
        if change.collection.nsid == refs::REPOST
            && let Some(subject) = subject
        {
            claims.push(self.reposted(subject), Touch::Add);
        }
        if may_tell(mode, change) {
            for uri in [subject, row.value(subject_columns::VIA, &context)].into_iter().flatten() {
                claims.push(self.record(uri), Touch::Read);
            }
        }
    }
}

/// Whether a change's new row may tell somebody, whatever is stored.
pub fn may_tell(mode: Notifications, change: &Change) -> bool {
    match (mode, &change.action) {
        (Notifications::Off, _) | (_, Action::Delete) => false,
        (Notifications::Reference, Action::Create(_)) => false,
        (Notifications::Live, Action::Create(_)) | (_, Action::Update(_)) => true,
    }
}

/// Whether a thread gate looks at follows or lists.
fn asks_for_relations(parts: &Parts) -> bool {
    match parts {
        Parts::ThreadGate(gate) => gate
            .allow
            .as_ref()
            .is_some_and(|allow| allow.followers || allow.following || !allow.lists.is_empty()),
        _ => false,
    }
}
