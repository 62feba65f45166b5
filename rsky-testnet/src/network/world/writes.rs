//! What an account writes when it is its turn.

use super::super::cbor_out::Cbor;
use super::event::Action;
use super::options::Kind;
use super::pool::{Post, Reference};
use super::records::{blob, created_at, embed, facet, record, typed, words};
use super::simulation::{Turn, World};
use rsky_common::atproto::tid;

pub(super) const POST: &str = "app.bsky.feed.post";
const LIKE: &str = "app.bsky.feed.like";
const REPOST: &str = "app.bsky.feed.repost";
const THREAD_GATE: &str = "app.bsky.feed.threadgate";
const POST_GATE: &str = "app.bsky.feed.postgate";
const GENERATOR: &str = "app.bsky.feed.generator";
const FOLLOW: &str = "app.bsky.graph.follow";
const BLOCK: &str = "app.bsky.graph.block";
const LIST: &str = "app.bsky.graph.list";
const LIST_ITEM: &str = "app.bsky.graph.listitem";
const LIST_BLOCK: &str = "app.bsky.graph.listblock";
const STARTER_PACK: &str = "app.bsky.graph.starterpack";
const VERIFICATION: &str = "app.bsky.graph.verification";

/// A record that is written: what is done, its path, and what it is.
type Write = (Action, String, Option<Cbor>);

impl World {
    /// The records of one event; `None` where there is nothing of the kind to do.
    pub(super) fn writes(&mut self, who: usize, kind: Kind) -> Option<Vec<Write>> {
        Some(match kind {
            Kind::Like => vec![self.on_post(who, LIKE)?],
            Kind::Repost => vec![self.on_post(who, REPOST)?],
            Kind::Post => self.post(who),
            Kind::Follow | Kind::Block => {
                let subject = self.pool.popular(&mut self.rng);
                let subject = Cbor::text(self.accounts[subject].did.as_str());
                let collection = if kind == Kind::Follow { FOLLOW } else { BLOCK };
                vec![self.made(who, collection, [("subject", subject)])]
            }
            Kind::List => self.list(who),
            Kind::ListItem => {
                let (owner, list) = self.some_list()?;
                vec![self.item(owner, &list)]
            }
            Kind::ListBlock => {
                let (_, list) = self.some_list()?;
                vec![self.made(who, LIST_BLOCK, [("subject", Cbor::text(list))])]
            }
            Kind::Gate => self.late_gate()?,
            Kind::StarterPack => {
                let (_, list) = self.some_list()?;
                let name = Cbor::text(words(&mut self.rng, 3));
                let write = self.made(who, STARTER_PACK, [("name", name), ("list", Cbor::text(list))]);
                self.replaceable(who, &write);
                vec![write]
            }
            Kind::Verification => {
                let subject = self.pool.popular(&mut self.rng);
                let members = [
                    ("subject", Cbor::text(self.accounts[subject].did.as_str())),
                    ("handle", Cbor::text(self.accounts[subject].handle.as_str())),
                    ("displayName", Cbor::text(words(&mut self.rng, 2))),
                ];
                vec![self.made(who, VERIFICATION, members)]
            }
            Kind::Generator => {
                let members = [
                    ("did", Cbor::text("did:web:feeds.world.test")),
                    ("displayName", Cbor::text("feed")),
                    ("description", Cbor::text(words(&mut self.rng, 6))),
                ];
                let write = self.made(who, GENERATOR, members);
                self.replaceable(who, &write);
                vec![write]
            }
            Kind::Odd => self.odd(who)?,
            Kind::Update => vec![self.replacement(who)?],
            Kind::Delete => vec![self.deletion(who)?],
            Kind::Account => return None,
        })
    }

    /// The profile of an account that signs up, or of one that writes it anew.
    pub(super) fn profile(&mut self, who: usize, action: Action) -> Write {
        let mut members = vec![("displayName", Cbor::text(words(&mut self.rng, 2)))];
        if self.rng.below(2) == 0 {
            members.push(("description", Cbor::text(words(&mut self.rng, 12))));
        }
        if self.rng.below(2) == 0 {
            members.push(("avatar", blob("image/png", &mut self.rng)));
        }
        if self.rng.below(4) == 0 {
            members.push(("banner", blob("image/png", &mut self.rng)));
        }
        if action == Action::Create && self.rng.below(4) == 0 && !self.pool.packs.is_empty() {
            let pack = self.pool.packs[self.rng.below(self.pool.packs.len())].cbor();
            members.push(("joinedViaStarterPack", pack));
        }
        let created = created_at(self.micros, &mut self.rng);
        let path = "app.bsky.actor.profile/self".to_owned();
        if action == Action::Create {
            self.pool.replaceable.push((who, path.clone()));
        }
        (action, path, Some(record("app.bsky.actor.profile", created, members)))
    }

    /// A new record under a key of this moment.
    fn made<'a>(
        &mut self,
        who: usize,
        collection: &str,
        members: impl IntoIterator<Item = (&'a str, Cbor)>,
    ) -> Write {
        let key = self.key();
        let created = created_at(self.micros, &mut self.rng);
        let path = format!("{collection}/{key}");
        self.pool.deletable(who, &path, &mut self.rng);
        (Action::Create, path, Some(record(collection, created, members)))
    }

    fn key(&mut self) -> String {
        self.micros += 1;
        tid::of_time(self.micros, 0)
    }

    fn replaceable(&mut self, who: usize, write: &Write) {
        self.pool.replaceable.push((who, write.1.clone()));
    }

    fn on_post(&mut self, who: usize, collection: &str) -> Option<Write> {
        let post = self.pool.post(&mut self.rng)?;
        let mut members = vec![("subject", self.pool.posts[post].reference.cbor())];
        if self.rng.below(12) == 0 && !self.pool.reposts.is_empty() {
            let (_, via) = &self.pool.reposts[self.rng.below(self.pool.reposts.len())];
            members.push(("via", via.cbor()));
        }
        Some(self.made(who, collection, members))
    }

    fn post(&mut self, who: usize) -> Vec<Write> {
        let mut members = vec![("text", Cbor::text(words(&mut self.rng, 14)))];
        match self.rng.below(4) {
            0 => members.push(("langs", Cbor::List(vec![Cbor::text("en"), Cbor::text("pt-BR")]))),
            1 => members.push(("langs", Cbor::List(Vec::new()))),
            _ => {}
        }
        if self.rng.below(10) == 0 {
            members.push(("tags", Cbor::List(vec![Cbor::text("tag"), Cbor::text("été")])));
        }
        let mut root = None;
        let own = self.rng.below(5) == 0;
        let parent = if own { self.pool.post_of(who, &mut self.rng) } else { self.pool.post(&mut self.rng) };
        if self.rng.below(100) < 45
            && let Some(parent) = parent.map(|parent| self.pool.posts[parent].clone())
        {
            let top = parent.root.clone().unwrap_or_else(|| parent.reference.clone());
            // Some clients are wrong about the root.
            let said = if self.rng.below(40) == 0 { parent.reference.clone() } else { top };
            let reply = Cbor::map([("root", said.cbor()), ("parent", parent.reference.cbor())]);
            members.push(("reply", reply));
            root = Some(said);
        }
        let mut facets = Vec::new();
        for _ in 0..self.rng.below(20).saturating_sub(17) {
            let mentioned = self.pool.popular(&mut self.rng);
            facets.push(facet("mention", "did", &self.accounts[mentioned].did));
        }
        if self.rng.below(12) == 0 {
            facets.push(facet("link", "uri", "https://example.test/page"));
        }
        if !facets.is_empty() {
            members.push(("facets", Cbor::List(facets)));
        }
        let quotes = self.rng.below(100) < 12;
        let quoted = if quotes { self.pool.post(&mut self.rng) } else { None };
        let quoted = match quoted {
            // Not only posts are quoted.
            Some(_) if self.rng.below(15) == 0 && !self.pool.lists.is_empty() => {
                Some(self.pool.lists[self.rng.below(self.pool.lists.len())].1.cbor())
            }
            post => post.map(|post| self.pool.posts[post].reference.cbor()),
        };
        members.extend(embed(&mut self.rng, quoted).map(|embed| ("embed", embed)));
        let write = self.made(who, POST, members);
        let key = write.1.rsplit('/').next().unwrap_or_default().to_owned();
        let reference = self.reference(who, &write);
        let mut post = Post {
            author: who,
            reference,
            deleted: false,
            thread_gate: false,
            post_gate: false,
            replies: Vec::new(),
            root,
        };
        if self.rng.below(60) == 0 {
            self.replaceable(who, &write);
        }
        let mut writes = vec![write];
        // As the official client does: a post and its gates in one commit.
        let gates = self.gate_share();
        if post.root.is_none() && self.rng.below(1000) < gates {
            let uri = post.reference.uri.clone();
            writes.push(self.thread_gate(who, &key, &uri, &[], Action::Create));
            post.thread_gate = true;
        }
        if self.rng.below(2000) < gates {
            let uri = post.reference.uri.clone();
            writes.push(self.post_gate(who, &key, &uri));
            post.post_gate = true;
        }
        self.pool.add_post(post);
        writes
    }

    /// A gate for a post that has been there for a while.
    fn late_gate(&mut self) -> Option<Vec<Write>> {
        let number = self.pool.post(&mut self.rng)?;
        let post = self.pool.posts[number].clone();
        if post.deleted {
            return None;
        }
        let key = post.reference.uri.rsplit('/').next().unwrap_or_default().to_owned();
        self.turn = Some(Turn { who: post.author });
        if post.root.is_none() && !post.thread_gate {
            self.pool.posts[number].thread_gate = true;
            let (uri, replies) = (post.reference.uri, post.replies);
            Some(vec![self.thread_gate(post.author, &key, &uri, &replies, Action::Create)])
        } else if !post.post_gate {
            self.pool.posts[number].post_gate = true;
            Some(vec![self.post_gate(post.author, &key, &post.reference.uri)])
        } else {
            None
        }
    }

    pub(super) fn thread_gate(
        &mut self,
        who: usize,
        key: &str,
        uri: &str,
        replies: &[String],
        action: Action,
    ) -> Write {
        let rule = |name: &str| typed(&format!("app.bsky.feed.threadgate#{name}"), []);
        let mut rules = Vec::new();
        for name in ["mentionRule", "followerRule", "followingRule", "somethingElse"] {
            if self.rng.below(3) == 0 {
                rules.push(rule(name));
            }
        }
        if let Some((_, list)) = self.pool.lists.iter().find(|(owner, _)| *owner == who)
            && self.rng.below(2) == 0
        {
            let list = Cbor::text(list.uri.as_str());
            rules.push(typed("app.bsky.feed.threadgate#listRule", [("list", list)]));
        }
        let mut members = vec![("post", Cbor::text(uri))];
        if self.rng.below(5) > 0 {
            members.push(("allow", Cbor::List(rules)));
        }
        let hidden: Vec<Cbor> =
            replies.iter().filter(|_| self.rng.below(2) == 0).map(|uri| Cbor::text(uri.as_str())).collect();
        if !hidden.is_empty() {
            members.push(("hiddenReplies", Cbor::List(hidden)));
        }
        let created = created_at(self.micros, &mut self.rng);
        let path = format!("{THREAD_GATE}/{key}");
        if action == Action::Create {
            self.pool.replaceable.push((who, path.clone()));
            self.pool.deletable(who, &path, &mut self.rng);
        }
        (action, path, Some(record(THREAD_GATE, created, members)))
    }

    fn post_gate(&mut self, who: usize, key: &str, uri: &str) -> Write {
        let mut members = vec![("post", Cbor::text(uri))];
        if self.rng.below(5) > 0 {
            let rule = typed("app.bsky.feed.postgate#disableRule", []);
            members.push(("embeddingRules", Cbor::List(vec![rule])));
        }
        let created = created_at(self.micros, &mut self.rng);
        let path = format!("{POST_GATE}/{key}");
        self.pool.deletable(who, &path, &mut self.rng);
        (Action::Create, path, Some(record(POST_GATE, created, members)))
    }

    fn list(&mut self, who: usize) -> Vec<Write> {
        let purpose = if self.rng.below(2) == 0 {
            "app.bsky.graph.defs#modlist"
        } else {
            "app.bsky.graph.defs#curatelist"
        };
        let mut members =
            vec![("name", Cbor::text(words(&mut self.rng, 2))), ("purpose", Cbor::text(purpose))];
        if self.rng.below(2) == 0 {
            members.push(("description", Cbor::text(words(&mut self.rng, 6))));
            members.push(("descriptionFacets", Cbor::List(vec![facet("tag", "tag", "t")])));
        }
        let write = self.made(who, LIST, members);
        self.replaceable(who, &write);
        let list = self.reference(who, &write).uri;
        let mut writes = vec![write];
        for _ in 0..self.rng.below(4) {
            let item = self.item(who, &list);
            writes.push(item);
        }
        writes
    }

    fn item(&mut self, owner: usize, list: &str) -> Write {
        self.turn = Some(Turn { who: owner });
        let subject = self.pool.popular(&mut self.rng);
        let subject = Cbor::text(self.accounts[subject].did.as_str());
        self.made(owner, LIST_ITEM, [("subject", subject), ("list", Cbor::text(list))])
    }

    fn some_list(&mut self) -> Option<(usize, String)> {
        let (owner, list) = self.pool.lists.get(self.rng.below(self.pool.lists.len()))?;
        Some((*owner, list.uri.clone()))
    }

    /// What the rules refuse, or have no rule for.
    fn odd(&mut self, who: usize) -> Option<Vec<Write>> {
        let (owner, list) = self.some_list()?;
        Some(match self.rng.below(5) {
            0 if owner != who => {
                let subject = Cbor::text(self.accounts[owner].did.as_str());
                vec![self.made(who, LIST_ITEM, [("subject", subject), ("list", Cbor::text(list))])]
            }
            1 => {
                let post = self.pool.post(&mut self.rng)?;
                let uri = self.pool.posts[post].reference.uri.clone();
                let key = self.key();
                vec![self.post_gate(who, &key, &uri)]
            }
            2 => vec![self.made(who, "com.example.note", [("text", Cbor::text("of another kind"))])],
            3 => vec![self.made(who, LIKE, [("subject", Cbor::text("not a reference"))])],
            _ => {
                let key = self.key();
                let path = format!("app.bsky.actor.status/{key}");
                let status = [("status", Cbor::text("app.bsky.actor.status#live"))];
                let created = created_at(self.micros, &mut self.rng);
                vec![(Action::Create, path, Some(record("app.bsky.actor.status", created, status)))]
            }
        })
    }

    /// What a write will be known as.
    pub(super) fn reference(&self, who: usize, write: &Write) -> Reference {
        let block = write.2.as_ref().map(Cbor::encode).unwrap_or_default();
        let uri = format!("at://{}/{}", self.accounts[who].did, write.1);
        Reference { uri, cid: super::super::cbor_out::cid_of(&block) }
    }
}
