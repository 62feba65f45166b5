//! Who does what: the stream of repository operations that both kinds of load are made from.

use std::collections::HashSet;

use cid::Cid;
use rsky_common::atproto::tid;
use rsky_common::clock::iso;

use super::super::cbor_out::{Cbor, cid_of};
use super::draw::{Rng, Zipf, mix};
use super::rich::{self, Threads};

/// 2026-01-01T00:00:00Z in microseconds.
const BEGIN: u64 = 1_767_225_600_000_000;
/// Posts that subjects are drawn from, per DID.
const POSTS_PER_DID: usize = 8;
/// Records that may be updated or deleted.
const RECENT: usize = 4096;
/// Pairs of DID and subject remembered to avoid repeats.
const PAIRS: usize = 4_000_000;
/// Draws before a subject nobody used is taken.
const DRAWS: usize = 8;

const LIKE: &str = "app.bsky.feed.like";
const REPOST: &str = "app.bsky.feed.repost";
pub(super) const POST: &str = "app.bsky.feed.post";
const THREAD_GATE: &str = "app.bsky.feed.threadgate";
const POST_GATE: &str = "app.bsky.feed.postgate";
const GENERATOR: &str = "app.bsky.feed.generator";
const LIST: &str = "app.bsky.graph.list";
const LIST_ITEM: &str = "app.bsky.graph.listitem";
const CURATED: &str = "app.bsky.graph.defs#curatelist";
const FOLLOW: &str = "app.bsky.graph.follow";
const BLOCK: &str = "app.bsky.graph.block";

const WORDS: [&str; 24] = [
    "morning", "coffee", "the", "of", "light", "river", "a", "quiet", "train", "garden", "and", "winter",
    "blue", "bird", "song", "under", "small", "bridge", "with", "paper", "lantern", "north", "wind", "today",
];

/// Weights of the operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    pub(super) likes: usize,
    pub(super) reposts: usize,
    pub(super) follows: usize,
    pub(super) posts: usize,
    pub(super) blocks: usize,
    /// Lists and their items, gates, feed generators.
    pub(super) others: usize,
    /// Of a hundred posts, how many are replies.
    pub(super) replies: usize,
    /// Whether posts have embeds and mentions, and whether likes, replies and quotes are of posts of this load.
    pub(super) rich: bool,
    pub(super) updates: usize,
    pub(super) deletes: usize,
}

/// What happens to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One operation in a commit of its own.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) action: Action,
    pub(super) did: String,
    pub(super) collection: &'static str,
    pub(super) rkey: String,
    /// The record, its block and its CID; `None` for a delete.
    pub(super) record: Option<(Cbor, Vec<u8>, Cid)>,
    /// CID of the version before, for updates and deletes.
    pub(super) prev: Option<Cid>,
    pub(super) rev: String,
    /// The rev of the repository before.
    pub(super) since: Option<String>,
    /// When the relay saw it.
    pub(super) time: String,
}

struct Recent {
    did: usize,
    collection: &'static str,
    rkey: String,
    record: Cbor,
    cid: Cid,
}

/// An endless seeded stream of operations.
pub(super) struct Activity {
    rng: Rng,
    seed: u64,
    mix: Mix,
    dids: Vec<String>,
    revs: Vec<Option<String>>,
    posts: Zipf,
    actors: Zipf,
    fresh: usize,
    micros: u64,
    recent: Vec<Recent>,
    pairs: HashSet<u64>,
    threads: Threads,
}

impl Activity {
    pub(super) fn new(seed: u64, dids: usize, mix: Mix) -> Self {
        let mut rng = Rng::new(seed);
        let dids: Vec<String> = (0..dids.max(2)).map(|_| did(&mut rng)).collect();
        Self {
            seed: rng.next(),
            mix,
            revs: vec![None; dids.len()],
            posts: Zipf::new(dids.len() * POSTS_PER_DID),
            actors: Zipf::new(dids.len()),
            dids,
            fresh: 0,
            micros: BEGIN,
            recent: Vec::new(),
            pairs: HashSet::new(),
            threads: Threads::default(),
            rng,
        }
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub(super) fn next(&mut self) -> Act {
        self.micros += 50 + self.rng.below(100) as u64;
        let mix = self.mix;
        let weights = [
            mix.likes,
            mix.reposts,
            mix.follows,
            mix.posts,
            mix.blocks,
            mix.updates,
            mix.deletes,
            mix.others,
        ];
        let mut at = self.rng.below(weights.iter().sum());
        let choice = weights.iter().position(|weight| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        match choice.unwrap_or(0) {
            1 => self.on_post(REPOST),
            2 => self.on_actor(FOLLOW),
            3 => self.post(),
            4 => self.on_actor(BLOCK),
            5 if !self.recent.is_empty() => self.update(),
            6 if !self.recent.is_empty() => self.delete(),
            7 => self.other(),
            _ => self.on_post(LIKE),
        }
    }

    fn on_post(&mut self, collection: &'static str) -> Act {
        let did = self.rng.below(self.dids.len());
        if self.mix.rich
            && self.rng.below(2) == 0
            && let Some(post) = self.threads.draw(&mut self.rng)
        {
            let (number, subject) = (post.number, post.strong_ref.clone());
            if self.first_time(collection, did, number) {
                let record = self.record(collection, [("subject", subject)]);
                return self.create(did, collection, record);
            }
        }
        let drawn = (0..DRAWS).find_map(|_| {
            let post = self.posts.draw(&mut self.rng);
            self.first_time(collection, did, post).then_some(post)
        });
        let post = drawn.unwrap_or_else(|| {
            self.fresh += 1;
            self.posts.ranks() + self.fresh
        });
        let record = self.record(collection, [("subject", self.strong_ref(post))]);
        self.create(did, collection, record)
    }

    fn on_actor(&mut self, collection: &'static str) -> Act {
        let did = self.rng.below(self.dids.len());
        let mut subject = self.actors.draw(&mut self.rng);
        for draw in 0..DRAWS * 2 {
            if subject != did && self.first_time(collection, did, subject) {
                break;
            }
            // The popular ones are soon followed by everyone; then anyone will do.
            subject = if draw < DRAWS / 2 {
                self.actors.draw(&mut self.rng)
            } else {
                self.rng.below(self.dids.len())
            };
        }
        let record = self.record(collection, [("subject", Cbor::text(self.dids[subject].as_str()))]);
        self.create(did, collection, record)
    }

    fn post(&mut self) -> Act {
        let did = self.rng.below(self.dids.len());
        let words = 8 + self.rng.below(20);
        let text: Vec<&str> = (0..words).map(|_| WORDS[self.rng.below(WORDS.len())]).collect();
        let mut fields =
            vec![("text", Cbor::text(text.join(" "))), ("langs", Cbor::List(vec![Cbor::text("en")]))];
        let mut root = None;
        if self.rng.below(100) < self.mix.replies {
            let known =
                if self.mix.rich && self.rng.below(10) < 7 { self.threads.draw(&mut self.rng) } else { None };
            let (top, parent) = match known {
                Some(parent) => (parent.root.clone(), parent.strong_ref.clone()),
                None => {
                    let parent = self.posts.draw(&mut self.rng);
                    let parent = self.strong_ref(parent);
                    (parent.clone(), parent)
                }
            };
            fields.push(("reply", Cbor::map([("root", top.clone()), ("parent", parent)])));
            root = Some(top);
        }
        if self.mix.rich {
            let mentioned = self.dids[self.rng.below(self.dids.len())].clone();
            fields.extend(rich::embed(&mut self.rng, &self.threads).map(|embed| ("embed", embed)));
            fields.extend(rich::facets(&mut self.rng, mentioned).map(|facets| ("facets", facets)));
        }
        let record = self.record(POST, fields);
        let act = self.create(did, POST, record);
        if self.mix.rich {
            self.threads.add(&act, did, root);
        }
        act
    }

    /// A gate of a post of this load, a list or an item of one, a feed generator.
    fn other(&mut self) -> Act {
        let did = self.rng.below(self.dids.len());
        let subject = self.dids[self.actors.draw(&mut self.rng)].clone();
        let Some(post) = self.threads.draw(&mut self.rng) else { return self.on_actor(BLOCK) };
        let (author, uri, number) = (post.author, post.uri.clone(), post.number);
        match self.rng.below(10) {
            kind @ 0..=3 => {
                let collection = if kind == 0 { POST_GATE } else { THREAD_GATE };
                if !self.first_time(collection, author, number) {
                    return self.on_actor(BLOCK);
                }
                let rules = if kind == 0 { rich::quotes_forbidden() } else { rich::replies_allowed(kind) };
                let record = self.record(collection, [("post", Cbor::text(uri.as_str())), rules]);
                let rkey = uri.rsplit('/').next().unwrap_or_default().to_owned();
                self.create_at(author, collection, rkey, record)
            }
            4 => {
                let fields = [("name", Cbor::text("people")), ("purpose", Cbor::text(CURATED))];
                let record = self.record(LIST, fields);
                self.create(did, LIST, record)
            }
            5 => {
                let fields = [("did", Cbor::text("did:web:feeds.test")), ("displayName", Cbor::text("feed"))];
                let record = self.record(GENERATOR, fields);
                self.create(did, GENERATOR, record)
            }
            _ => {
                let list = format!("at://{}/{LIST}/people{}", self.dids[did], self.rng.below(20));
                let record =
                    self.record(LIST_ITEM, [("subject", Cbor::text(subject)), ("list", Cbor::text(list))]);
                self.create(did, LIST_ITEM, record)
            }
        }
    }

    fn update(&mut self) -> Act {
        let index = self.rng.below(self.recent.len());
        let created_at = Cbor::text(iso(self.micros / 1000));
        let recent = &mut self.recent[index];
        if let Cbor::Map(fields) = &mut recent.record {
            fields
                .iter_mut()
                .filter(|(key, _)| key == "createdAt")
                .for_each(|(_, value)| *value = created_at.clone());
        }
        let (did, collection, rkey, prev) = (recent.did, recent.collection, recent.rkey.clone(), recent.cid);
        let record = with_cid(recent.record.clone());
        recent.cid = record.2;
        self.act(Action::Update, did, collection, rkey, Some(record), Some(prev))
    }

    fn delete(&mut self) -> Act {
        let index = self.rng.below(self.recent.len());
        let Recent { did, collection, rkey, cid, .. } = self.recent.swap_remove(index);
        self.act(Action::Delete, did, collection, rkey, None, Some(cid))
    }

    fn create(&mut self, did: usize, collection: &'static str, record: Cbor) -> Act {
        let rkey = tid::of_time(self.micros, did as u64);
        self.create_at(did, collection, rkey, record)
    }

    fn create_at(&mut self, did: usize, collection: &'static str, rkey: String, record: Cbor) -> Act {
        let record = with_cid(record);
        let recent = Recent { did, collection, rkey: rkey.clone(), record: record.0.clone(), cid: record.2 };
        if self.recent.len() < RECENT {
            self.recent.push(recent);
        } else {
            let index = self.rng.below(RECENT);
            self.recent[index] = recent;
        }
        self.act(Action::Create, did, collection, rkey, Some(record), None)
    }

    fn act(
        &mut self,
        action: Action,
        did: usize,
        collection: &'static str,
        rkey: String,
        record: Option<(Cbor, Vec<u8>, Cid)>,
        prev: Option<Cid>,
    ) -> Act {
        // A commit is made just after its record; operations are at least 50 microseconds apart.
        let rev = tid::of_time(self.micros + 20, did as u64);
        let since = self.revs[did].replace(rev.clone());
        let time = iso(self.micros / 1000 + 30);
        Act { action, did: self.dids[did].clone(), collection, rkey, record, prev, rev, since, time }
    }

    fn record<'a>(&self, collection: &str, fields: impl IntoIterator<Item = (&'a str, Cbor)>) -> Cbor {
        let own = [("$type", Cbor::text(collection)), ("createdAt", Cbor::text(iso(self.micros / 1000)))];
        Cbor::map(own.into_iter().chain(fields))
    }

    /// A post somebody wrote before the load began.
    fn strong_ref(&self, post: usize) -> Cbor {
        let hash = mix(self.seed ^ post as u64);
        let author = hash as usize % self.dids.len();
        // One post a second, going back in time.
        let rkey = tid::of_time(BEGIN.saturating_sub(1_000_000 * (1 + post as u64)), author as u64);
        let cid = cid_of(&hash.to_be_bytes());
        Cbor::map([
            ("cid", Cbor::text(cid.to_string())),
            ("uri", Cbor::text(format!("at://{}/{POST}/{rkey}", self.dids[author]))),
        ])
    }

    fn first_time(&mut self, collection: &str, did: usize, subject: usize) -> bool {
        if self.pairs.len() >= PAIRS {
            self.pairs.clear();
        }
        let kind = collection.bytes().fold(0, |kind, byte| mix(kind ^ u64::from(byte)));
        self.pairs.insert(mix(mix((did as u64) << 32 | subject as u64) ^ kind))
    }
}

fn with_cid(record: Cbor) -> (Cbor, Vec<u8>, Cid) {
    let block = record.encode();
    let cid = cid_of(&block);
    (record, block, cid)
}

fn did(rng: &mut Rng) -> String {
    const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut did = "did:plc:".to_owned();
    did.extend(rng.bytes::<24>().map(|byte| char::from(BASE32[usize::from(byte & 31)])));
    did
}
