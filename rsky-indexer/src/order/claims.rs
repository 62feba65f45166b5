//! What an entry claims: everything that it may read or write and another entry may write or read.
//!
//! | key | claimed by |
//! |---|---|
//! | `record` of a uri | whoever writes it; read by replies (parent, root, gate), quotes, gates, and who may have to be told |
//! | `key` of what a record says (who likes what) | the records that say it: the second is a duplicate of the first |
//! | `scope` of an author's collection | all its records that can say the same; alone by those that replace or delete one, since another may move up. One that comes does so beside others that come where the stored version is looked up ([`look`]), or when it is set aside and all of them are new |
//! | `thread` of a root | the posts of the thread, replaced and deleted ones, too; alone by its gate, and by a post that earlier replies wait for |
//! | `quoted` of a post | the quotes of it, the post and its post gate |
//! | `reposted` of a post | its reposts; alone by the post, since the items in feeds go with it when it is replaced, deleted, or comes again |
//! | `follow` of two DIDs, `listed` of a DID | follows and list items; read by replies in somebody else's thread |
//! | `rules` of a DID | the follows by it and of it, and the items of its lists; read by who judges earlier replies, of authors that are not known beforehand, where the thread's gate asks for them |
//! | `status` of a DID | all its records; alone by account and identity events and profiles, since a deletion takes what was written before, and by the end of a repository |
//! | `sync` of a DID, where records have no revs | live commits; read by backfilled changes, which may be late |
//!
//! Counters and `actor_sync` need no key: they move by differences, and to the newest.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::collections::{PartsKind, subject_columns};
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{Action, Change, News, Notifications, Work};
use crate::schema::RevMode;

/// What an entry does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It decides something by what is there.
    Read,
    /// It writes, as others may at the same time.
    Add,
    /// It writes what only one at a time may write.
    Own,
    /// It is one of several that may be written in any order if they are new, which nobody has looked up. So they are written
    /// one after the other; but where one is set aside, it is looked up, and new ones pass a new one.
    OneByOne,
}

/// Most claims of an entry that are told apart. Mostly there are a dozen; what needs more (a post of which very many versions
/// are on their way, an answer to such) claims everything, so that claims take memory and time by the number of entries.
pub const MOST: usize = 256;

/// The claims of one entry.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    keys: Vec<(u64, Touch)>,
    is_everything: bool,
    /// Whether it may be written only if it is new, since it passes what is set aside.
    must_be_new: bool,
}

impl Claims {
    /// These.
    pub fn of(claims: Vec<(u64, Touch)>) -> Self {
        Self { keys: claims, ..Self::default() }
    }

    /// None yet, with room for some.
    fn with_room(room: usize) -> Self {
        Self::of(Vec::with_capacity(room))
    }

    /// One more; everything, if that is one too many.
    pub fn push(&mut self, key: u64, touch: Touch) {
        if self.keys.len() < MOST {
            self.keys.push((key, touch));
        } else if !self.keys.contains(&(key, touch)) {
            self.is_everything = true;
        }
    }

    /// Those of another entry, too.
    pub fn extend(&mut self, other: impl IntoIterator<Item = (u64, Touch)>) {
        for (key, touch) in other {
            self.push(key, touch);
        }
    }

    /// What another entry claims, too.
    pub fn join(&mut self, other: &Self) {
        self.extend(other.keys.iter().copied());
        self.is_everything |= other.is_everything;
    }

    /// Whatever there is.
    pub fn push_everything(&mut self) {
        self.is_everything = true;
    }

    /// Whether no other entry may be written at the same time.
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Those of an entry that is set aside. `is_new`: it replaces no version of its record, so other new ones may pass it. One
    /// that claims everything keeps back what it has said itself, so that it does not stop all others.
    #[must_use]
    pub fn of_set_aside(&self, is_new: bool) -> Self {
        let one_by_one = if is_new { Touch::Add } else { Touch::Own };
        Self::of(self.keys.iter().map(|claim| instead_of_one_by_one(*claim, one_by_one)).collect())
    }

    /// Those of an entry that was found to replace a version of its record: nothing of its author's collection passes it, nor
    /// does it pass anything of that.
    #[must_use]
    pub fn of_replacing(&self) -> Self {
        let keys = self.keys.iter().map(|claim| instead_of_one_by_one(*claim, Touch::Own)).collect();
        Self { keys, is_everything: self.is_everything, must_be_new: false }
    }

    /// Whether it is one of several that may pass each other if they are new.
    pub fn is_one_by_one(&self) -> bool {
        self.keys.iter().any(|(_, touch)| *touch == Touch::OneByOne)
    }

    /// It passes what is set aside, which it may do only if it is new.
    pub fn set_must_be_new(&mut self) {
        self.must_be_new = true;
    }

    /// Whether it may be written only if it replaces no version of its record.
    pub fn must_be_new(&self) -> bool {
        self.must_be_new
    }

    /// All of them that are told apart.
    pub fn iter(&self) -> std::slice::Iter<'_, (u64, Touch)> {
        self.keys.iter()
    }
}

fn instead_of_one_by_one((key, touch): (u64, Touch), instead: Touch) -> (u64, Touch) {
    (key, if touch == Touch::OneByOne { instead } else { touch })
}

/// What decides beside an entry which claims it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// When creates notify.
    pub notifications: Notifications,
    /// Whether records have revs.
    pub rev: RevMode,
}

/// Makes keys. Equal things have equal keys within one process; a collision costs a wait, never a wrong row.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    hasher: RandomState,
}

impl Keys {
    /// The status of an account.
    pub fn status(&self, did: &str) -> u64 {
        self.hasher.hash_one(("status", did))
    }

    /// How far a repository is indexed.
    pub fn sync(&self, did: &str) -> u64 {
        self.hasher.hash_one(("sync", did))
    }

    /// An author's records of one collection.
    pub fn scope(&self, change: &Change) -> u64 {
        self.hasher.hash_one(("scope", &change.did, change.collection.nsid))
    }

    /// What a record says, where another that says the same is its duplicate.
    pub fn key(&self, nsid: &str, values: &[&str]) -> u64 {
        self.hasher.hash_one(("key", nsid, values))
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

    /// The follows by an account and of it, and the items of its lists.
    pub fn rules(&self, did: &str) -> u64 {
        self.hasher.hash_one(("rules", did))
    }

    /// What an entry claims by what it says itself.
    pub fn of_work(&self, work: &Work, rules: Rules) -> Claims {
        let is_post = |change: &Change| change.collection.parts == PartsKind::Post;
        let mut claims = Claims::with_room(if work.change.as_ref().is_some_and(is_post) { 14 } else { 5 });
        if let Some(account) = &work.account
            && account.what != News::Commit
        {
            claims.push(self.status(&account.did), Touch::Own);
        }
        if rules.rev == RevMode::None {
            match (&work.seen, &work.change) {
                (Some(seen), _) => claims.push(self.sync(&seen.did), Touch::Add),
                (None, Some(change)) => claims.push(self.sync(&change.did), Touch::Read),
                (None, None) => {}
            }
        }
        if let (None, Some(seen)) = (&work.change, &work.seen) {
            // The end of a repository: what was before it is to be there when it is said to be.
            claims.push(self.status(&seen.did), Touch::Own);
        }
        if let Some(change) = &work.change {
            claims.push(self.status(&change.did), Touch::Add);
            claims.push(self.record(&change.uri), Touch::Own);
            if change.collection.has_key() {
                self.add_key(change, &mut claims);
            }
            match change.collection.parts {
                PartsKind::Post => self.add_post(change, &mut claims),
                PartsKind::ThreadGate | PartsKind::PostGate => self.add_gate(change, &mut claims),
                PartsKind::None => self.add_other(change, rules.notifications, &mut claims),
            }
        }
        claims
    }

    fn add_key(&self, change: &Change, claims: &mut Claims) {
        let adds = matches!(change.action, Action::Create(_));
        claims.push(
            self.scope(change),
            match (adds, is_looked_at(change)) {
                (false, _) => Touch::Own,
                (true, true) => Touch::Add,
                (true, false) => Touch::OneByOne,
            },
        );
        // Only its author says the same as a record whose key names the author.
        if (adds || !change.collection.has_key_of_author())
            && let Some(values) = change.duplicate_key()
        {
            claims.push(self.key(change.collection.nsid, &values), Touch::Own);
        }
    }

    fn add_post(&self, change: &Change, claims: &mut Claims) {
        claims.push(self.quoted(&change.uri), Touch::Own);
        // One that comes again after it was deleted takes them along, too.
        claims.push(self.reposted(&change.uri), Touch::Own);
        let Some(content) = change.content() else { return };
        claims.push(self.thread(refs::root_of(change, content)), Touch::Add);
        if let Some(ThreadRefs { root, parent }) = ThreadRefs::of(change, content) {
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
        }
        if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref()) {
            claims.push(self.quoted(&quoted.uri), Touch::Own);
            claims.push(self.record(&quoted.uri), Touch::Read);
            if let Some((_, gate)) = refs::gate(&quoted.uri, refs::POST_GATE) {
                claims.push(self.record(&gate), Touch::Read);
            }
        }
    }

    fn add_gate(&self, change: &Change, claims: &mut Claims) {
        let post = refs::post_of_gate(change);
        match change.collection.parts {
            PartsKind::ThreadGate => claims.push(self.thread(&post), Touch::Own),
            _ => claims.push(self.quoted(&post), Touch::Own),
        }
        // It marks the post, which may be a reply in another thread, and the one that it names, if that is another.
        claims.push(self.record(&post), Touch::Read);
        if let Some([named]) = change.duplicate_key().as_deref()
            && *named != post
        {
            claims.push(self.record(named), Touch::Read);
        }
    }

    fn add_other(&self, change: &Change, mode: Notifications, claims: &mut Claims) {
        match change.collection.nsid {
            refs::FOLLOW | refs::LIST_ITEM => {
                // A list item belongs to who made the list.
                claims.push(self.rules(&change.did), Touch::Add);
                if let Some([first, second]) = change.duplicate_key().as_deref() {
                    // Of a follow: author and subject; of a list item: list and subject.
                    if change.collection.nsid == refs::FOLLOW {
                        claims.extend(self.of_follow(first, second));
                    } else {
                        claims.push(self.listed(second), Touch::Own);
                    }
                }
            }
            refs::LIKE | refs::REPOST => self.add_subject(change, mode, claims),
            _ => {}
        }
    }

    /// A follow that comes or goes.
    pub fn of_follow(&self, creator: &str, subject: &str) -> [(u64, Touch); 2] {
        [(self.follow(creator, subject), Touch::Own), (self.rules(subject), Touch::Add)]
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

/// Whether the stored version of a change's record makes it claim more than its author's collection, so that it has to be
/// known. Of likes and blocks it does not.
pub fn is_looked_at(change: &Change) -> bool {
    change.collection.parts == PartsKind::Post
        || matches!(change.collection.nsid, refs::FOLLOW | refs::LIST_ITEM | refs::REPOST)
}

/// Whether a change's new row may tell somebody, whatever is stored.
pub fn may_tell(mode: Notifications, change: &Change) -> bool {
    match (mode, &change.action) {
        (Notifications::Off, _) | (_, Action::Delete) => false,
        (Notifications::Reference, Action::Create(_)) => false,
        (Notifications::Live, Action::Create(_)) | (_, Action::Update(_)) => true,
    }
}
