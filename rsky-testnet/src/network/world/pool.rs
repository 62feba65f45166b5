//! What there is to refer to: posts by popularity, lists, starter packs, records that may be replaced or deleted.

use cid::Cid;

use super::super::cbor_out::Cbor;
use super::super::load::draw::{Rng, Zipf};

/// Posts of an account that are still spoken of.
const SPOKEN_OF: usize = 12;
/// The newest posts, which everybody sees.
const NEWEST: usize = 256;
/// Replies that are remembered of a thread.
const REPLIES: usize = 8;

/// `uri` and `cid` of a record.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) uri: String,
    pub(super) cid: Cid,
}

impl Reference {
    pub(super) fn cbor(&self) -> Cbor {
        Cbor::map([("uri", Cbor::text(self.uri.as_str())), ("cid", Cbor::text(self.cid.to_string()))])
    }
}

/// A post that others refer to.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) author: usize,
    pub(super) reference: Reference,
    /// The root of its thread; `None` where it is one itself.
    pub(super) root: Option<Reference>,
    pub(super) deleted: bool,
    pub(super) thread_gate: bool,
    pub(super) post_gate: bool,
    /// URIs of some replies in its thread, if it is a root.
    pub(super) replies: Vec<String>,
}

/// Everything that is known.
pub(super) struct Pool {
    pub(super) posts: Vec<Post>,
    /// Of each account the numbers of its last posts.
    by_author: Vec<Vec<usize>>,
    popularity: Zipf,
    /// Reposts, for those who like through them.
    pub(super) reposts: Vec<(usize, Reference)>,
    /// Author and URI.
    pub(super) lists: Vec<(usize, Reference)>,
    pub(super) packs: Vec<Reference>,
    /// Account and path of what may be replaced.
    pub(super) replaceable: Vec<(usize, String)>,
    /// Account and path of what may be deleted.
    pub(super) deletable: Vec<(usize, String)>,
}

impl Pool {
    pub(super) fn new(accounts: usize) -> Self {
        Self {
            posts: Vec::new(),
            by_author: vec![Vec::new(); accounts],
            popularity: Zipf::new(accounts),
            reposts: Vec::new(),
            lists: Vec::new(),
            packs: Vec::new(),
            replaceable: Vec::new(),
            deletable: Vec::new(),
        }
    }

    /// An account, the popular ones more often.
    pub(super) fn popular(&self, rng: &mut Rng) -> usize {
        self.popularity.draw(rng)
    }

    pub(super) fn add_post(&mut self, post: Post) {
        let number = self.posts.len();
        if let Some(root) = &post.root
            && let Some(top) = self.posts.iter_mut().rev().find(|top| top.reference.uri == root.uri)
            && top.replies.len() < REPLIES
        {
            top.replies.push(post.reference.uri.clone());
        }
        let own = &mut self.by_author[post.author];
        if own.len() >= SPOKEN_OF {
            own.remove(0);
        }
        own.push(number);
        self.posts.push(post);
    }

    /// The number of a post, popular authors and new posts more often; seldom one that was deleted.
    pub(super) fn post(&self, rng: &mut Rng) -> Option<usize> {
        let mut drawn = None;
        for _ in 0..6 {
            let own = &self.by_author[self.popular(rng)];
            drawn = if rng.below(10) < 7 && !own.is_empty() {
                own.get(rng.below(own.len())).copied()
            } else {
                self.posts.len().checked_sub(1 + rng.below(self.posts.len().min(NEWEST)))
            };
            let deleted = drawn.and_then(|post| self.posts.get(post)).is_none_or(|post| post.deleted);
            if !deleted || rng.below(20) == 0 {
                break;
            }
        }
        drawn
    }

    /// One of the last posts of an account.
    pub(super) fn post_of(&self, author: usize, rng: &mut Rng) -> Option<usize> {
        let own = &self.by_author[author];
        own.get(rng.below(own.len())).copied()
    }

    /// Notes that a record is gone.
    pub(super) fn deleted(&mut self, uri: &str) {
        if uri.contains("/app.bsky.feed.post/")
            && let Some(post) = self.posts.iter_mut().rev().find(|post| post.reference.uri == uri)
        {
            post.deleted = true;
        }
        self.reposts.retain(|(_, reference)| reference.uri != uri);
        self.lists.retain(|(_, reference)| reference.uri != uri);
        self.packs.retain(|reference| reference.uri != uri);
    }
}
