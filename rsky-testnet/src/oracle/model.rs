//! What becomes of one record: the generic processor (INDEXING 2, DECISIONS 11, 12, 14), one event at a time.

use crate::network::cbor_out::Cbor;
use crate::network::world::{Action, Operation};
use crate::servers::Generation;

use super::rules::{self, Typed, Verdict};
use super::state::{Duplicate, State, Stored, TypedRow};

/// When and whence a change comes.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) did: String,
    pub(super) rev: String,
    /// Time of the event; becomes `indexedAt`.
    pub(super) time: String,
    /// Whether it is a part of a backfill.
    pub(super) backfilled: bool,
    /// Whether creates tell those whom they concern.
    pub(super) creates_tell: bool,
    /// Whether anything is told at all.
    pub(super) tells: bool,
}

impl State {
    /// Applies an operation; whether it counts for `actor_sync`.
    pub(super) fn apply(&mut self, at: &At, operation: &Operation) -> bool {
        let uri = format!("at://{}/{}", at.did, operation.path);
        match &operation.record {
            None => {
                self.delete(at, &uri, &operation.path);
                true
            }
            Some((record, cid)) => {
                let update = operation.action == Action::Update;
                self.write(at, &uri, &operation.path, record, &cid.to_string(), update)
            }
        }
    }

    /// A create or an update.
    fn write(&mut self, at: &At, uri: &str, path: &str, record: &Cbor, cid: &str, update: bool) -> bool {
        let verdict = rules::verdict(&at.did, path, record);
        match verdict {
            Verdict::Unknown => return true,
            Verdict::Refused => return false,
            _ => {}
        }
        let before = self.records.get(uri).cloned();
        if before.as_ref().is_some_and(|stored| self.is_late(at, stored)) {
            return true;
        }
        let exists = before.as_ref().is_some_and(|stored| stored.record.is_some());
        let same = exists && before.as_ref().is_some_and(|stored| stored.cid == cid);
        if same && self.generation == Generation::U {
            // Without revisions it cannot be told from the same once more.
            return true;
        }
        if same && (!update || before.as_ref().is_some_and(|stored| stored.rev == at.rev)) {
            // Only the revision moves on, and a row that is missing is made.
            if let Some(stored) = self.records.get_mut(uri) {
                at.rev.clone_into(&mut stored.rev);
            }
            self.insert(at, uri, cid, record, &verdict, false);
            return true;
        }
        let stored = Stored {
            did: at.did.clone(),
            cid: cid.to_owned(),
            record: Some(record.clone()),
            rev: at.rev.clone(),
            indexed: at.time.clone(),
        };
        self.records.insert(uri.to_owned(), stored);
        if exists || update {
            let tells = at.tells && update;
            self.replace(at, uri, cid, record, &verdict, tells);
        } else {
            self.insert(at, uri, cid, record, &verdict, at.creates_tell);
        }
        true
    }

    /// Whether something newer than a change is stored already (SCHEMA-VARIANTS 4).
    fn is_late(&self, at: &At, stored: &Stored) -> bool {
        match self.generation {
            Generation::D | Generation::B => stored.rev > at.rev,
            Generation::U => at.backfilled && self.synced.get(&at.did).is_some_and(|(_, rev)| *rev > at.rev),
        }
    }

    /// The row of a record that has none.
    fn insert(&mut self, at: &At, uri: &str, cid: &str, record: &Cbor, verdict: &Verdict, tell: bool) {
        let inserted = match verdict {
            Verdict::Post => self.insert_post(at, uri, cid, record, tell),
            Verdict::Row(typed) => self.insert_new_row(at, uri, cid, typed, tell),
            _ => true,
        };
        if !inserted && let Verdict::Row(typed) = verdict {
            self.note_duplicate(uri, cid, &at.time, typed);
        }
    }

    /// A record that stands behind another one.
    fn note_duplicate(&mut self, uri: &str, cid: &str, time: &str, typed: &Typed) {
        let Some(holder) = self.holder(typed).filter(|holder| holder != uri) else { return };
        let duplicate = Duplicate { cid: cid.to_owned(), of: holder, indexed: time.to_owned() };
        self.duplicates.entry(uri.to_owned()).or_insert(duplicate);
    }

    fn holder(&self, typed: &Typed) -> Option<String> {
        self.keys.get(&(typed.table, typed.key.clone()?)).cloned()
    }

    /// Another version takes the place of a row (INDEXING 2.2).
    fn replace(&mut self, at: &At, uri: &str, cid: &str, record: &Cbor, verdict: &Verdict, tell: bool) {
        match verdict {
            Verdict::Post => {
                self.leave_own_thread(uri);
                let existed = self.delete_post(uri).is_some();
                if existed && at.tells {
                    self.notices.retain(|notice| notice.uri != uri);
                }
                self.insert_post(at, uri, cid, record, tell);
            }
            Verdict::Row(typed) => {
                match self.holder(typed) {
                    Some(holder) => {
                        if let Some(duplicate) = self.duplicates.get_mut(uri) {
                            let (cid, indexed) = (cid.to_owned(), at.time.clone());
                            *duplicate = Duplicate { cid, of: holder, indexed };
                        }
                    }
                    None => drop(self.duplicates.remove(uri)),
                }
                let old = self.delete_row(uri);
                let existed = old.is_some();
                if at.tells && existed && typed.table == "verification" {
                    self.tell_unverified(old.as_ref(), uri);
                }
                let inserted = if existed {
                    self.insert_row(&at.did, uri, cid, &at.time, typed, false)
                } else {
                    self.insert_new_row(at, uri, cid, typed, tell)
                };
                if !inserted {
                    self.note_duplicate(uri, cid, &at.time, typed);
                }
            }
            _ => {}
        }
    }

    fn delete(&mut self, at: &At, uri: &str, path: &str) {
        let collection = path.split('/').next().unwrap_or_default();
        if !rules::has_rule(collection) {
            return;
        }
        let tombstone = Stored {
            did: at.did.clone(),
            cid: String::new(),
            record: None,
            rev: at.rev.clone(),
            indexed: at.time.clone(),
        };
        let stored = self.records.get(uri).cloned();
        if stored.as_ref().is_some_and(|stored| self.is_late(at, stored)) {
            return;
        }
        match (self.generation, stored) {
            (Generation::D, stored) => {
                let indexed = stored.map_or_else(|| at.time.clone(), |stored| stored.indexed);
                self.records.insert(uri.to_owned(), Stored { indexed, ..tombstone });
            }
            // Readers of the others take a tombstone for a record: nothing is left, and of nothing nothing.
            (Generation::B | Generation::U, Some(_)) => drop(self.records.remove(uri)),
            (Generation::B | Generation::U, None) => return,
        }
        self.duplicates.remove(uri);
        if collection == "app.bsky.feed.post" {
            self.leave_own_thread(uri);
            if self.delete_post(uri).is_some() && at.tells {
                self.notices.retain(|notice| notice.uri != uri);
            }
            return;
        }
        if collection == "app.bsky.feed.repost" {
            self.items.remove(uri);
        }
        let Some(row) = self.delete_row(uri) else { return };
        let promoted = self.promote(uri);
        if !at.tells {
            return;
        }
        match row.typed.table {
            "like" | "repost" | "follow" if !promoted => self.notices.retain(|notice| notice.uri != uri),
            "verification" => self.tell_unverified(Some(&row), uri),
            _ => {}
        }
    }

    /// The oldest duplicate takes the place of a row that is gone (INDEXING 2.3); whether there was one.
    fn promote(&mut self, gone: &str) -> bool {
        let waiting = self.duplicates.iter().filter(|(uri, duplicate)| {
            duplicate.of == gone && self.records.get(*uri).is_some_and(|stored| stored.record.is_some())
        });
        let oldest = waiting.min_by_key(|(_, duplicate)| duplicate.indexed.clone());
        let Some(uri) = oldest.map(|(uri, _)| uri.clone()) else { return false };
        let Some(stored) = self.records.get(&uri).cloned() else { return false };
        let Some(record) = stored.record else { return false };
        let path = uri.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        if let Verdict::Row(typed) = rules::verdict(&stored.did, &path, &record) {
            self.insert_row(&stored.did, &uri, &stored.cid, &stored.indexed, &typed, false);
        }
        true
    }

    /// The row of a record that had none. A gate that takes the place of another one changes nothing about what was judged.
    fn insert_new_row(&mut self, at: &At, uri: &str, cid: &str, typed: &Typed, tell: bool) -> bool {
        let inserted = self.insert_row(&at.did, uri, cid, &at.time, typed, tell);
        match typed.table {
            "thread_gate" if inserted => self.thread_gate_came(uri, &typed.subject),
            "post_gate" if inserted => self.post_gate_came(uri, &typed.subject),
            _ => {}
        }
        inserted
    }

    /// A row and all that goes with it; whether there was room for it.
    fn insert_row(&mut self, did: &str, uri: &str, cid: &str, time: &str, typed: &Typed, tell: bool) -> bool {
        if typed.table == "repost" {
            self.repost_item(did, uri, cid, time, typed);
        }
        // Gates mark their post whether or not there is room for their row.
        self.mark_gated(typed, true);
        let taken = typed.key.as_ref().is_some_and(|key| self.keys.contains_key(&(typed.table, key.clone())));
        if taken || self.typed.contains_key(uri) {
            return false;
        }
        if let Some(key) = &typed.key {
            self.keys.insert((typed.table, key.clone()), uri.to_owned());
        }
        let row = TypedRow {
            cid: cid.to_owned(),
            creator: did.to_owned(),
            indexed: time.to_owned(),
            typed: typed.clone(),
        };
        self.typed.insert(uri.to_owned(), row.clone());
        self.touch_counters(&row);
        if tell {
            self.tell_of_row(uri, &row);
        }
        true
    }

    fn delete_row(&mut self, uri: &str) -> Option<TypedRow> {
        let row = self.typed.remove(uri)?;
        if let Some(key) = &row.typed.key {
            self.keys.remove(&(row.typed.table, key.clone()));
        }
        if row.typed.table == "repost" {
            self.items.remove(uri);
        }
        self.touch_counters(&row);
        if let Some(post) = matches!(row.typed.table, "thread_gate" | "post_gate").then_some(&row.typed) {
            self.mark_gated(post, false);
        }
        Some(row)
    }

    fn touch_counters(&mut self, row: &TypedRow) {
        match row.typed.table {
            "like" | "repost" => self.touch(&row.typed.subject),
            "follow" => {
                self.profiles.insert(row.typed.subject.clone());
                self.profiles.insert(row.creator.clone());
            }
            _ => {}
        }
    }

    fn mark_gated(&mut self, typed: &Typed, gated: bool) {
        let Some(post) = self.posts.get_mut(&typed.subject) else { return };
        match typed.table {
            "thread_gate" => post.thread_gate = Some(gated),
            "post_gate" => post.post_gate = Some(gated),
            _ => {}
        }
    }
}
