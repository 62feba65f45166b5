//! Posts: their row, what hangs on it, and what they are judged by (INDEXING 4.1, 4.2, 4.5, 4.6).

use crate::network::cbor_out::Cbor;
use crate::servers::Generation;

use super::model::At;
use super::rules::{Typed, allowed, mentions};
use super::state::{FeedItem, Post, Quote, State};
use super::value::{host, inner, items, kind, member, normalised, parts, text};

/// The embeds of a post in the order they are looked at: of a record with media the record comes first.
pub(super) fn embeds(record: &Cbor) -> Vec<(&str, &Cbor)> {
    let Some(embed) = member(record, "embed") else { return Vec::new() };
    if kind(embed) != "app.bsky.embed.recordWithMedia" {
        return vec![(kind(embed), embed)];
    }
    let quoted = member(embed, "record").map(|quoted| ("app.bsky.embed.record", quoted));
    let media = member(embed, "media").map(|media| (kind(media), media));
    quoted.into_iter().chain(media).collect()
}

/// Uri and cid of a reference.
fn reference(value: Option<&Cbor>) -> Option<(String, String)> {
    let value = value?;
    Some((text(value, &["uri"])?.to_owned(), text(value, &["cid"])?.to_owned()))
}

impl State {
    pub(super) fn insert_post(&mut self, at: &At, uri: &str, cid: &str, record: &Cbor, tell: bool) -> bool {
        if self.posts.contains_key(uri) {
            return false;
        }
        let root = reference(inner(record, &["reply", "root"]));
        let parent = reference(inner(record, &["reply", "parent"]));
        let quoted = embeds(record).into_iter().find(|(kind, _)| *kind == "app.bsky.embed.record");
        let post = Post {
            cid: cid.to_owned(),
            creator: at.did.clone(),
            created: normalised(text(record, &["createdAt"]).unwrap_or_default()),
            indexed: at.time.clone(),
            record: record.clone(),
            reply: root.zip(parent).map(|(root, parent)| [root, parent]),
            embedded: quoted.and_then(|(_, embed)| reference(member(embed, "record"))),
            invalid: false,
            gated: false,
            judged_by: None,
            gate_came_later: false,
            detached: false,
            thread_gate: None,
            post_gate: None,
            told: tell,
        };
        let item = FeedItem {
            cid: cid.to_owned(),
            kind: "post",
            post: uri.to_owned(),
            originator: at.did.clone(),
            sorted: post.sorted().to_owned(),
        };
        self.items.entry(uri.to_owned()).or_insert(item);
        for (index, of) in [(&mut self.by_parent, post.parent()), (&mut self.by_root, post.root())] {
            if let Some(of) = of {
                index.entry(of.to_owned()).or_default().insert(uri.to_owned());
            }
        }
        if let Some((subject, _)) = post.quoted() {
            self.by_quoted.entry(subject.clone()).or_default().insert(uri.to_owned());
        }
        if let (Some(root), Some(parent)) = (post.root(), post.parent())
            && self.generation != Generation::D
            && host(root) == at.did
        {
            // One that was deleted before keeps its mark.
            let key = (root.to_owned(), uri.to_owned());
            self.own_threads.entry(key).or_insert_with(|| (parent.to_owned(), false));
        }
        let quoted = post.quoted().cloned();
        self.posts.insert(uri.to_owned(), post);
        self.profiles.insert(at.did.clone());
        self.judge_reply(uri);
        if let Some((subject, subject_cid)) = quoted {
            let quote = Quote { subject: subject.clone(), subject_cid: subject_cid.clone() };
            self.quotes.insert(uri.to_owned(), quote);
            self.count_quotes(&subject, &subject_cid);
            self.judge_quote(uri);
        }
        if tell {
            self.tell_of_post(uri);
        }
        self.post_came(uri);
        true
    }

    /// A reply is about to go, or to be replaced: where it continued its author's thread, it is marked (SCHEMA-VARIANTS 5).
    pub(super) fn leave_own_thread(&mut self, uri: &str) {
        let root = self.posts.get(uri).and_then(Post::root).map(str::to_owned);
        if let Some((_, deleted)) = root.and_then(|root| self.own_threads.get_mut(&(root, uri.to_owned()))) {
            *deleted = true;
        }
    }

    pub(super) fn delete_post(&mut self, uri: &str) -> Option<Post> {
        let post = self.posts.remove(uri)?;
        self.items.retain(|_, item| item.post != uri);
        self.quotes.retain(|_, quote| quote.subject != uri);
        for (index, of) in [(&mut self.by_parent, post.parent()), (&mut self.by_root, post.root())] {
            if let Some(of) = of
                && let Some(those) = index.get_mut(of)
            {
                those.remove(uri);
            }
        }
        if let Some((subject, cid)) = post.quoted() {
            self.by_quoted.entry(subject.clone()).or_default().remove(uri);
            self.quotes.remove(uri);
            self.count_quotes(subject, cid);
        }
        if let Some(parent) = post.parent() {
            self.touch(parent);
        }
        self.profiles.insert(post.creator.clone());
        Some(post)
    }

    /// The feed item of a repost, which is there even where the repost is a duplicate.
    pub(super) fn repost_item(&mut self, did: &str, uri: &str, cid: &str, time: &str, typed: &Typed) {
        let item = FeedItem {
            cid: cid.to_owned(),
            kind: "repost",
            post: typed.subject.clone(),
            originator: did.to_owned(),
            sorted: typed.created.as_str().min(time).to_owned(),
        };
        self.items.entry(uri.to_owned()).or_insert(item);
    }

    /// Judges a reply by what it answers and by the gate of its thread.
    pub(super) fn judge_reply(&mut self, uri: &str) {
        let Some(post) = self.posts.get(uri) else { return };
        let (Some(root), Some(parent)) = (post.root(), post.parent()) else { return };
        let (invalid, parent) = (self.is_invalid(root, parent), parent.to_owned());
        self.judge_by_gate(uri);
        if let Some(post) = self.posts.get_mut(uri) {
            post.invalid = invalid;
        }
        self.touch(&parent);
    }

    /// Judges a reply by the gate of its thread as it is now; whether it is kept out.
    pub(super) fn judge_by_gate(&mut self, uri: &str) -> bool {
        let Some(post) = self.posts.get(uri) else { return false };
        let Some(root) = post.root() else { return false };
        let gate = root.replace("/app.bsky.feed.post/", "/app.bsky.feed.threadgate/");
        let gate = self.record(&gate).cloned();
        let gated = self.is_gated(gate.as_ref(), &post.creator, root);
        if let Some(post) = self.posts.get_mut(uri) {
            (post.gated, post.judged_by) = (gated, gate);
        }
        gated
    }

    /// Replies that an indexer which is killed before it has looked a second time may judge anew: the same gate would judge
    /// them otherwise now, since a follow or a list item came or went after them, or a gate came after them.
    pub(super) fn open(&self) -> Vec<String> {
        let otherwise = |post: &Post, root: &str| {
            self.is_gated(post.judged_by.as_ref(), &post.creator, root) != post.gated
        };
        let open =
            |post: &&Post| post.root().is_some_and(|root| post.gate_came_later || otherwise(post, root));
        self.posts.iter().filter(|(_, post)| open(post)).map(|(uri, _)| uri.clone()).collect()
    }

    /// Whether a reply would be flagged if it came now.
    pub(super) fn is_still_invalid(&self, uri: &str) -> bool {
        let reply = self.posts.get(uri).and_then(|post| post.root().zip(post.parent()));
        reply.is_some_and(|(root, parent)| self.is_invalid(root, parent))
    }

    fn is_invalid(&self, root: &str, parent: &str) -> bool {
        let Some(answered) = self.record(parent) else { return true };
        if self.posts.get(parent).is_some_and(|post| post.invalid) {
            return true;
        }
        if parent == root {
            return member(answered, "reply").is_some();
        }
        text(answered, &["reply", "root", "uri"]) != Some(root)
    }

    /// Whether a gate keeps somebody out of a thread.
    fn is_gated(&self, gate: Option<&Cbor>, replier: &str, root: &str) -> bool {
        let owner = host(root);
        if replier == owner {
            return false;
        }
        let Some(rules) = gate.and_then(allowed) else { return false };
        let rules_of = |name: &str| {
            let kind_of = format!("app.bsky.feed.threadgate#{name}");
            rules.iter().filter(|rule| kind(rule) == kind_of).collect::<Vec<_>>()
        };
        let mentioned = self.record(root).is_some_and(|root| mentions(root).contains(&replier));
        if mentioned && !rules_of("mentionRule").is_empty() {
            return false;
        }
        let has = |table: &'static str, key: String| self.keys.contains_key(&(table, key));
        if !rules_of("followingRule").is_empty() && has("follow", format!("{owner} {replier}")) {
            return false;
        }
        if !rules_of("followerRule").is_empty() && has("follow", format!("{replier} {owner}")) {
            return false;
        }
        let lists = rules_of("listRule").into_iter().filter_map(|rule| text(rule, &["list"]));
        !lists.into_iter().any(|list| has("list_item", format!("{list} {replier}")))
    }

    /// Judges a quote by the gate of what it quotes.
    pub(super) fn judge_quote(&mut self, uri: &str) {
        let Some(post) = self.posts.get(uri) else { return };
        let Some((quoted, _)) = post.quoted() else { return };
        let (did, _, key) = parts(quoted);
        let gate = self.record(&format!("at://{did}/app.bsky.feed.postgate/{key}"));
        let forbids = |gate: &Cbor| {
            let rules = items(gate, &["embeddingRules"]);
            rules.iter().any(|rule| kind(rule) == "app.bsky.feed.postgate#disableRule")
        };
        let detached = post.creator != did && gate.is_some_and(forbids);
        if let Some(post) = self.posts.get_mut(uri) {
            post.detached = detached;
        }
    }
}
