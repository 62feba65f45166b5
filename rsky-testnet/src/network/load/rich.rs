//! What makes posts more than text: threads, embeds, mentions, gates.

use super::super::cbor_out::{Cbor, cid_of};
use super::activity::{Act, POST};
use super::draw::Rng;

/// Posts of the load that others refer to.
const REMEMBERED: usize = 16_384;

/// A post of the load.
#[derive(Debug)]
pub(super) struct Post {
    /// Counts all posts of the load; far from the numbers of posts written before it.
    pub(super) number: usize,
    pub(super) author: usize,
    pub(super) uri: String,
    pub(super) strong_ref: Cbor,
    /// The root of its thread: itself where it is one.
    pub(super) root: Cbor,
}

/// The newest posts of the load.
#[derive(Debug, Default)]
pub(super) struct Threads {
    posts: Vec<Post>,
    written: usize,
}

impl Threads {
    pub(super) fn add(&mut self, act: &Act, author: usize, root: Option<Cbor>) {
        let Some((_, _, cid)) = &act.record else { return };
        let uri = format!("at://{}/{POST}/{}", act.did, act.rkey);
        let strong_ref = Cbor::map([("cid", Cbor::text(cid.to_string())), ("uri", Cbor::text(uri.as_str()))]);
        let root = root.unwrap_or_else(|| strong_ref.clone());
        let post = Post { number: (1 << 40) + self.written, author, uri, strong_ref, root };
        if self.posts.len() < REMEMBERED {
            self.posts.push(post);
        } else {
            self.posts[self.written % REMEMBERED] = post;
        }
        self.written += 1;
    }

    /// One of them, mostly one of the last few hundred.
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<&Post> {
        let far = 1 + rng.below(self.posts.len().min(REMEMBERED));
        let back = 1 + rng.below(far).min(rng.below(far));
        self.posts.get((self.written.checked_sub(back)?) % REMEMBERED)
    }
}

/// The embed of a post; most have none.
pub(super) fn embed(rng: &mut Rng, threads: &Threads) -> Option<Cbor> {
    let picture = |rng: &mut Rng| {
        let cid = cid_of(&rng.bytes::<8>());
        Cbor::map([("cid", Cbor::text(cid.to_string())), ("mimeType", Cbor::text("image/jpeg"))])
    };
    match rng.below(100) {
        0..20 => {
            let images = (0..=rng.below(3))
                .map(|_| Cbor::map([("alt", Cbor::text("a picture")), ("image", picture(rng))]))
                .collect();
            Some(Cbor::map([("$type", Cbor::text("app.bsky.embed.images")), ("images", Cbor::List(images))]))
        }
        20..30 => {
            let card = [
                ("uri", Cbor::text("https://news.test/story")),
                ("title", Cbor::text("A story")),
                ("description", Cbor::text("What happened, and to whom")),
            ];
            let kind = Cbor::text("app.bsky.embed.external");
            Some(Cbor::map([("$type", kind), ("external", Cbor::map(card))]))
        }
        30..40 => {
            let record = threads.draw(rng)?.strong_ref.clone();
            Some(Cbor::map([("$type", Cbor::text("app.bsky.embed.record")), ("record", record)]))
        }
        40..43 => Some(Cbor::map([("$type", Cbor::text("app.bsky.embed.video")), ("video", picture(rng))])),
        _ => None,
    }
}

/// A mention, in one post of twenty.
pub(super) fn facets(rng: &mut Rng, mentioned: String) -> Option<Cbor> {
    (rng.below(20) == 0).then(|| {
        let kind = Cbor::text("app.bsky.richtext.facet#mention");
        let feature = Cbor::map([("$type", kind), ("did", Cbor::text(mentioned))]);
        let index = Cbor::map([("byteStart", Cbor::Int(0)), ("byteEnd", Cbor::Int(1))]);
        let facet = Cbor::map([("index", index), ("features", Cbor::List(vec![feature]))]);
        Cbor::List(vec![facet])
    })
}

/// The rule of a post gate that forbids quotes.
pub(super) fn quotes_forbidden() -> (&'static str, Cbor) {
    let rule = Cbor::map([("$type", Cbor::text("app.bsky.feed.postgate#disableRule"))]);
    ("embeddingRules", Cbor::List(vec![rule]))
}

/// The rules of a thread gate: nobody, whom the owner follows, or whom the root mentions.
pub(super) fn replies_allowed(kind: usize) -> (&'static str, Cbor) {
    let rule = |name: &str| Cbor::map([("$type", Cbor::text(format!("app.bsky.feed.threadgate#{name}")))]);
    let rules = match kind {
        1 => Vec::new(),
        2 => vec![rule("followingRule")],
        _ => vec![rule("mentionRule")],
    };
    ("allow", Cbor::List(rules))
}
