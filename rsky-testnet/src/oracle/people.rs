//! Accounts: handles, status, sync state, deletion; and labels (IDENTITY, INDEXING 7 and 8, DECISIONS 17 and 18).

use std::collections::BTreeSet;

use super::state::{Actor, Post, State};
use super::value::millis;
use crate::network::world::Label;

/// A handle is looked at again after a day, a missing one after an hour.
const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

impl State {
    pub(super) fn sync(&mut self, did: &str, commit: &str, rev: &str) {
        let later = self.synced.get(did).is_none_or(|(_, stored)| stored.as_str() < rev);
        if later {
            self.synced.insert(did.to_owned(), (commit.to_owned(), rev.to_owned()));
        }
    }

    /// The handle of an account is looked at, if it is time; `has_handle` says whether it leads back to the account.
    pub(super) fn look_at_handle(&mut self, did: &str, time: &str, force: bool, has_handle: bool) {
        let due = |actor: &Actor| {
            // Times of the clock are later than any of the world.
            let age = millis(time).zip(millis(&actor.indexed)).map_or(0, |(now, then)| now - then);
            !actor.resolved || age > DAY || (!actor.found && age > HOUR)
        };
        match self.actors.get_mut(did) {
            Some(actor) if force || due(actor) => {
                time.clone_into(&mut actor.indexed);
                (actor.resolved, actor.found) = (true, has_handle);
            }
            Some(_) => {}
            None => {
                let actor =
                    Actor { indexed: time.to_owned(), status: None, resolved: true, found: has_handle };
                self.actors.insert(did.to_owned(), actor);
            }
        }
    }

    /// What a host says of an account.
    pub(super) fn set_status(&mut self, did: &str, time: &str, active: bool, status: Option<&str>) {
        if active {
            if let Some(actor) = self.actors.get_mut(did) {
                actor.status = None;
            }
            return;
        }
        let Some(status @ ("deactivated" | "suspended" | "takendown")) = status else { return };
        let new = || Actor { indexed: time.to_owned(), status: None, resolved: false, found: false };
        self.actors.entry(did.to_owned()).or_insert_with(new).status = Some(status.to_owned());
    }

    /// An account that its host has no more: everything it wrote goes, the counters of others follow.
    pub(super) fn delete_account(&mut self, did: &str) {
        self.actors.remove(did);
        self.synced.remove(did);
        self.looks.remove(did);
        let own = format!("at://{did}/");
        let had = self.own_subjects(did, &own);
        for (_, row) in self.typed.extract_if(.., |_, row| row.creator == did) {
            if let Some(key) = row.typed.key {
                self.keys.remove(&(row.typed.table, key));
            }
        }
        let posts: Vec<String> = self.posts.range(own.clone()..).map(|(uri, _)| uri.clone()).collect();
        for uri in posts.into_iter().take_while(|uri| uri.starts_with(&own)) {
            // Quotes are counted again where one goes; it may have gone before, with what it quoted.
            let counts = self.counted.clone();
            let stale = !self.quotes.contains_key(&uri);
            let post = self.delete_post(&uri);
            if let Some((quoted, _)) = post.as_ref().and_then(Post::quoted).filter(|_| stale) {
                let count = counts.get(quoted).copied().unwrap_or(0);
                self.counted.insert(quoted.clone(), count);
            }
        }
        self.items.retain(|_, item| item.originator != did);
        self.duplicates.retain(|uri, duplicate| !uri.starts_with(&own) && !duplicate.of.starts_with(&own));
        self.records.retain(|_, stored| stored.did != did);
        self.notices.retain(|notice| notice.author != did && notice.to != did);
        // What others wrote about it is still counted; a row without any of that goes. One about a post that it never had, and
        // about which it wrote nothing, is not looked at: nothing of the account leads there.
        let posts: Vec<String> = self.counted.keys().filter(|uri| had.contains(*uri)).cloned().collect();
        for uri in posts {
            // Quotes have gone with what they quoted, if it was there.
            if self.quotes.values().all(|quote| quote.subject != uri) {
                self.counted.insert(uri.clone(), 0);
            }
            if self.counters(&uri).iter().all(|count| *count == 0) {
                self.counted.remove(&uri);
            }
        }
        if self.profile_counters(did).iter().all(|count| *count == 0) {
            self.profiles.remove(did);
        }
    }

    /// What an account has a record of, deleted ones too where these leave one, and what of its own it wrote about.
    fn own_subjects(&self, did: &str, own: &str) -> BTreeSet<String> {
        let records =
            self.records.iter().filter(|(_, stored)| stored.did == did).map(|(uri, _)| uri.as_str());
        let rows = self.typed.values().filter(|row| row.creator == did);
        let about = rows.map(|row| row.typed.subject.as_str());
        let parents = self.posts.values().filter(|post| post.creator == did).filter_map(Post::parent);
        let quotes = self.quotes.iter().filter(|(uri, _)| uri.starts_with(own));
        let quoted = quotes.map(|(_, quote)| quote.subject.as_str());
        let all = records.chain(about).chain(parents).chain(quoted);
        all.filter(|subject| subject.starts_with(own)).map(str::to_owned).collect()
    }

    /// The last word on a key is the newest.
    pub(super) fn label(&mut self, label: &Label) {
        let cid = label.cid.clone().unwrap_or_default();
        let key = [label.src.to_owned(), label.uri.clone(), cid, label.val.to_owned()];
        let newer = self.labels.get(&key).is_none_or(|stored| stored.cts < label.cts);
        if newer {
            self.labels.insert(key, label.clone());
        }
    }

    /// Likes, replies that are shown, reposts and quotes of a uri.
    pub(super) fn counters(&self, uri: &str) -> [usize; 4] {
        let of = |table: &str| {
            let rows = self.typed.values();
            rows.filter(|row| row.typed.table == table && row.typed.subject == uri).count()
        };
        let replies = self.by_parent.get(uri).into_iter().flatten();
        let shown = replies.filter(|reply| self.posts.get(*reply).is_some_and(|post| !post.gated)).count();
        [of("like"), shown, of("repost"), self.counted.get(uri).copied().unwrap_or(0)]
    }

    /// Followers, follows and posts of an account.
    pub(super) fn profile_counters(&self, did: &str) -> [usize; 3] {
        let follows = || self.typed.values().filter(|row| row.typed.table == "follow");
        [
            follows().filter(|row| row.typed.subject == did).count(),
            follows().filter(|row| row.creator == did).count(),
            self.posts.values().filter(|post| post.creator == did).count(),
        ]
    }
}
