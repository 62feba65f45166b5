//! What a change reads and writes, as hashes: two changes that share none are independent of each other.
//!
//! A collision of hashes costs a wave, never a wrong row.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::change::Change;
use super::load::Known;
use super::posts::refs::{self, ThreadRefs, Threads};
use crate::collections::{Notifies, PartsKind, subject_columns};
use crate::text::at_uri::AtUri;

/// Most keys of a change that are told apart. What touches more (a record that a batch replaces again and again with always
/// another content, an answer to such) is a barrier: everything before it runs before it, everything after it after it. So
/// the keys of a batch are no more than so many times its changes.
pub(super) const MOST_TOLD_APART: usize = 256;

/// What a change does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// It decides something by what is there.
    Read,
    /// It decides something by rows, and so by nothing that its own wave writes before it.
    ReadRows,
    /// It adds to what is there, as others may at the same time.
    Add,
    /// It adds, replaces or takes away one of many, which none of the others minds, but who reads them all does.
    OneOf,
    /// It writes what only one at a time may write.
    Own,
}

/// A key and what is done to it.
pub(super) type Key = (u64, Touch);

/// Makes keys. Equal keys have equal hashes within one plan only.
#[derive(Default)]
pub(super) struct Keys {
    hasher: RandomState,
}

impl Keys {
    pub(super) fn uri(&self, uri: &str) -> u64 {
        self.hasher.hash_one(("uri", uri))
    }

    /// An author's records of one collection.
    pub(super) fn scope(&self, change: &Change) -> u64 {
        self.hasher.hash_one(("scope", &change.did, change.collection.nsid))
    }

    /// Adds everything that a change touches by what it says itself; `uri` is the key of its record, `fresh` as in
    /// [`super::plan`].
    pub(super) fn of_change(
        &self,
        change: &Change,
        uri: u64,
        fresh: bool,
        threads: &Threads<'_>,
        keys: &mut Vec<Key>,
    ) {
        keys.push((uri, Touch::Own));
        if let Some(values) = change.duplicate_key() {
            self.add_values(change.collection.nsid, &values, keys);
        }
        match change.collection.parts {
            PartsKind::Post => self.add_post(change, fresh, threads, keys),
            PartsKind::ThreadGate | PartsKind::PostGate => self.add_gate(change, fresh, threads, keys),
            PartsKind::None => {}
        }
        if let Notifies::Subject { .. } = change.collection.notifies {
            self.add_subject(change, keys);
        }
    }

    /// A repost's item goes with its post; whether a thread is muted is told by the post.
    fn add_subject(&self, change: &Change, keys: &mut Vec<Key>) {
        let Some(content) = change.content() else { return };
        let Some(row) = &content.row else { return };
        let context = change.context(content);
        for uri in [subject_columns::SUBJECT, subject_columns::VIA]
            .iter()
            .filter_map(|column| row.value(*column, &context))
        {
            keys.push((self.uri(uri), Touch::Read));
        }
    }

    /// Everything that a change touches by what the database holds of its record.
    pub(super) fn of_known(&self, change: &Change, known: &Known<'_>, threads: &Threads<'_>) -> Vec<Key> {
        let mut keys = Vec::new();
        for values in known.duplicate_key(&change.uri).into_iter().chain(known.keys_behind(&change.uri)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            self.add_values(change.collection.nsid, &values, &mut keys);
        }
        if let Some(root) = threads.of(&change.uri) {
            keys.push((self.thread(root), Touch::OneOf));
        }
        // A quote goes with the post it is of.
        if let Some(shown) = threads.shown_by(&change.uri) {
            keys.extend([(self.uri(shown), Touch::Read), (self.quoted(shown), Touch::Add)]);
        }
        keys
    }

    /// A duplicate key, with the facts that go with it.
    fn add_values(&self, nsid: &str, values: &[&str], keys: &mut Vec<Key>) {
        keys.push((self.values(nsid, values), Touch::Own));
        match (nsid, values) {
            // A list item belongs to who made the list.
            (refs::LIST_ITEM, [list, subject]) => {
                keys.push((self.listed(subject), Touch::OneOf));
                keys.extend(AtUri::parse(list).map(|list| (self.rules(list.host()), Touch::OneOf)));
            }
            (refs::FOLLOW, [creator, subject]) => {
                keys.extend([(self.rules(creator), Touch::OneOf), (self.rules(subject), Touch::OneOf)]);
            }
            // A duplicate that moves up gets its item in the feed anew.
            ("app.bsky.feed.repost", [_, post])
            | ("app.bsky.feed.threadgate" | "app.bsky.feed.postgate", [post]) => {
                keys.push((self.uri(post), Touch::Read));
            }
            _ => {}
        }
    }

    fn add_post(&self, change: &Change, fresh: bool, threads: &Threads<'_>, keys: &mut Vec<Key>) {
        let Some(content) = change.content() else { return };
        keys.push((self.quoted(&change.uri), Touch::Add));
        let reply = ThreadRefs::of(change, content);
        let root = reply.map_or(change.uri.as_str(), |reply| reply.root);
        keys.push((self.thread(root), Touch::OneOf));
        self.add_quoting(&change.uri, fresh, threads, keys);
        // What waits for it is judged when it comes, whoever wrote that.
        if threads.is_answered(&change.uri) {
            keys.push((self.thread(root), if fresh { Touch::Read } else { Touch::Own }));
            keys.extend(threads.related(root).iter().map(|did| (self.rules(did), Touch::Read)));
        }
        if let Some(ThreadRefs { root, parent }) = reply {
            keys.push((self.uri(parent), Touch::Read));
            keys.push((self.uri(root), Touch::Read));
            if let Some((owner, gate)) = refs::gate(root, refs::THREAD_GATE) {
                // The owner's posts, too: what they make sound is judged by it, and it says whom they tell.
                keys.push((self.uri(&gate), Touch::Read));
                if owner != change.did {
                    keys.push((self.values(refs::FOLLOW, &[owner, &change.did]), Touch::Read));
                    keys.push((self.values(refs::FOLLOW, &[&change.did, owner]), Touch::Read));
                    keys.push((self.listed(&change.did), Touch::Read));
                }
            }
        }
        if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref())
            && let Some((_, gate)) = refs::gate(&quoted.uri, refs::POST_GATE)
        {
            keys.push((self.uri(&quoted.uri), Touch::Read));
            keys.push((self.uri(&gate), Touch::Read));
            keys.push((self.quoted(&quoted.uri), Touch::Add));
        }
    }

    /// A gate judges what came before its post: a replaced or deleted post or quote must be in another wave.
    fn add_gate(&self, change: &Change, fresh: bool, threads: &Threads<'_>, keys: &mut Vec<Key>) {
        let post = refs::post_of_gate(change);
        match change.collection.parts {
            // Which replies it judges is found by a walk down the thread, from row to row.
            PartsKind::ThreadGate if threads.has_replies(&post) => {
                keys.push((self.thread(&post), if fresh { Touch::ReadRows } else { Touch::Own }));
                let related = refs::gate_by_relations(change).into_iter().flat_map(|(_, accounts)| accounts);
                keys.extend(related.map(|did| (self.rules(&did), Touch::Read)));
            }
            PartsKind::ThreadGate => {}
            _ => {
                keys.push((self.quoted(&post), Touch::Add));
                self.add_quoting(&post, fresh, threads, keys);
            }
        }
        keys.push((self.uri(&post), Touch::Read));
    }

    /// What judges the quotes of a post says also whom these tell, as what judges them as answers does.
    fn add_quoting(&self, post: &str, fresh: bool, threads: &Threads<'_>, keys: &mut Vec<Key>) {
        let touch = if fresh { Touch::OneOf } else { Touch::Own };
        keys.extend(threads.quoting(post).map(|root| (self.thread(root), touch)));
    }

    /// All posts of a thread: read by what judges those that came before it. Whether a post is a valid reply depends on
    /// its parent and root only, and those are read by their uris.
    fn thread(&self, root: &str) -> u64 {
        self.hasher.hash_one(("thread", root))
    }

    /// The quotes of a post.
    fn quoted(&self, post: &str) -> u64 {
        self.hasher.hash_one(("quoted", post))
    }

    /// The follows of an account, by it and of it, and the items of its lists: read by who judges authors that are not
    /// known beforehand.
    fn rules(&self, did: &str) -> u64 {
        self.hasher.hash_one(("rules", did))
    }

    /// All list items of one subject.
    fn listed(&self, subject: &str) -> u64 {
        self.hasher.hash_one(("listed", subject))
    }

    fn values(&self, nsid: &str, values: &[&str]) -> u64 {
        self.hasher.hash_one(("key", nsid, values))
    }
}
