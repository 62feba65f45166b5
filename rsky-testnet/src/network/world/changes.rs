//! Records that are replaced or deleted.

use super::super::cbor_in::decode;
use super::super::cbor_out::Cbor;
use super::event::Action;
use super::pool::Pool;
use super::records::words;
use super::simulation::{Turn, World};
use crate::network::load::draw::Rng;

/// Records that may be deleted; when there are more, a new one takes the place of any.
const DELETABLE: usize = 65_536;
/// Draws before it is given up to find a record that is still there.
const DRAWS: usize = 8;

impl Pool {
    /// Notes a record that may be deleted later.
    pub(super) fn deletable(&mut self, who: usize, path: &str, rng: &mut Rng) {
        let one = (who, path.to_owned());
        if self.deletable.len() < DELETABLE {
            self.deletable.push(one);
        } else {
            let at = rng.below(DELETABLE);
            self.deletable[at] = one;
        }
    }
}

impl World {
    /// The deletion of some record, by its owner.
    pub(super) fn deletion(&mut self, _who: usize) -> Option<(Action, String, Option<Cbor>)> {
        for _ in 0..DRAWS {
            let count = self.pool.deletable.len();
            if count == 0 {
                return None;
            }
            let (who, path) = self.pool.deletable.swap_remove(self.rng.below(count));
            let account = &self.accounts[who];
            if account.gone || account.repository.cid(&path).is_none() {
                continue;
            }
            self.turn = Some(Turn { who });
            let uri = format!("at://{}/{path}", account.did);
            self.pool.deleted(&uri);
            return Some((Action::Delete, path, None));
        }
        None
    }

    /// Another version of some record, by its owner.
    pub(super) fn replacement(&mut self, _who: usize) -> Option<(Action, String, Option<Cbor>)> {
        for _ in 0..DRAWS {
            let count = self.pool.replaceable.len();
            if count == 0 {
                return None;
            }
            let at = self.rng.below(count);
            let (who, path) = self.pool.replaceable[at].clone();
            let account = &self.accounts[who];
            let (false, Some(block)) = (account.gone, account.repository.block(&path)) else {
                self.pool.replaceable.swap_remove(at);
                continue;
            };
            let record = decode(block);
            self.turn = Some(Turn { who });
            return Some(self.replaced(who, path, record));
        }
        None
    }

    fn replaced(&mut self, who: usize, path: String, record: Cbor) -> (Action, String, Option<Cbor>) {
        let (collection, key) = path.split_once('/').unwrap_or((&path, ""));
        let member = match collection {
            "app.bsky.actor.profile" => return self.profile(who, Action::Update),
            "app.bsky.feed.threadgate" => {
                let did = &self.accounts[who].did;
                let uri = format!("at://{did}/app.bsky.feed.post/{key}");
                let post = self.pool.posts.iter().rev().find(|post| post.reference.uri == uri);
                let replies = post.map(|post| post.replies.clone()).unwrap_or_default();
                let key = key.to_owned();
                return self.thread_gate(who, &key, &uri, &replies, Action::Update);
            }
            "app.bsky.feed.post" => "text",
            "app.bsky.feed.generator" => "description",
            _ => "name",
        };
        let text = Cbor::text(words(&mut self.rng, 4));
        let Cbor::Map(mut members) = record else { return (Action::Update, path, Some(record)) };
        members.retain(|(name, _)| name != member);
        members.push((member.to_owned(), text));
        (Action::Update, path, Some(Cbor::Map(members)))
    }
}
