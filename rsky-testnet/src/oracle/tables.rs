//! The rows that every table must hold.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::notices::CLOCK;
use super::posts::embeds;
use super::rules;
use super::state::{Post, State};
use super::value::{blob, inner, items, json as stored_json, member, text};
use crate::servers::Generation;

/// Rows as JSON objects, by table. Columns that are not named are NULL. A text that begins with `~` stands for any time.
pub type Tables = BTreeMap<&'static str, Vec<Value>>;

/// Every table, and the columns that tell its rows apart; a notification is all of its columns.
pub const TABLES: [(&str, &[&str]); 29] = [
    ("record", &["uri"]),
    ("duplicate_record", &["uri"]),
    ("actor", &["did"]),
    ("actor_sync", &["did"]),
    ("profile", &["uri"]),
    ("profile_agg", &["did"]),
    ("verification", &["uri"]),
    ("labeler", &["uri"]),
    ("post", &["uri"]),
    ("post_embed_image", &["postUri", "position"]),
    ("post_embed_external", &["postUri"]),
    ("post_embed_record", &["postUri", "embedUri"]),
    ("post_embed_video", &["postUri"]),
    ("quote", &["uri"]),
    ("thread_gate", &["uri"]),
    ("post_gate", &["uri"]),
    ("post_agg", &["uri"]),
    ("like", &["uri"]),
    ("repost", &["uri"]),
    ("feed_item", &["uri"]),
    ("follow", &["uri"]),
    ("actor_block", &["uri"]),
    ("list", &["uri"]),
    ("list_item", &["uri"]),
    ("list_block", &["uri"]),
    ("starter_pack", &["uri"]),
    ("feed_generator", &["uri"]),
    ("label", &["src", "uri", "cid", "val"]),
    ("notification", &["did", "recordUri", "recordCid", "author", "reason", "reasonSubject"]),
];

/// Those that only the later generations (B and U) have.
pub const LATER_TABLES: [(&str, &[&str]); 2] =
    [("post_embed_gallery_image", &["postUri", "position"]), ("op_thread_reply", &["rootUri", "uri"])];

impl State {
    /// All rows; `handle` tells the handle of an account that leads back to it.
    pub(super) fn tables(&self, handle: impl Fn(&str) -> Option<String>) -> Tables {
        let later = if self.generation == Generation::D { &[][..] } else { &LATER_TABLES[..] };
        let mut tables: Tables = TABLES.iter().chain(later).map(|(table, _)| (*table, Vec::new())).collect();
        let mut add = |table: &'static str, row: Value| tables.entry(table).or_default().push(row);
        for (uri, stored) in &self.records {
            let json = stored.record.as_ref().map(stored_json).unwrap_or_default();
            let (cid, did) = (&stored.cid, &stored.did);
            let mut row =
                json!({"uri": uri, "cid": cid, "did": did, "json": json, "indexedAt": stored.indexed});
            if self.generation != Generation::U {
                row["rev"] = stored.rev.as_str().into();
            }
            add("record", row);
        }
        for (uri, duplicate) in &self.duplicates {
            let (cid, of, indexed) = (&duplicate.cid, &duplicate.of, &duplicate.indexed);
            add("duplicate_record", json!({"uri": uri, "cid": cid, "duplicateOf": of, "indexedAt": indexed}));
        }
        for (uri, row) in &self.typed {
            add(row.typed.table, rules::row(uri, &row.cid, &row.creator, &row.indexed, &row.typed));
        }
        for (uri, post) in &self.posts {
            add("post", post_row(uri, post));
            embed_rows(uri, post, &mut add);
        }
        for (uri, quote) in &self.quotes {
            let Some(post) = self.posts.get(uri) else { continue };
            add(
                "quote",
                json!({
                    "uri": uri, "cid": post.cid, "subject": quote.subject, "subjectCid": quote.subject_cid,
                    "createdAt": post.created, "indexedAt": post.indexed, "sortAt": post.sorted(),
                }),
            );
        }
        for (uri, item) in &self.items {
            add(
                "feed_item",
                json!({
                    "uri": uri, "cid": item.cid, "type": item.kind, "postUri": item.post,
                    "originatorDid": item.originator, "sortAt": item.sorted,
                }),
            );
        }
        self.counter_rows(&mut add);
        for (did, actor) in &self.actors {
            let handle = handle(did).filter(|_| actor.resolved && actor.found);
            let mut row = json!({
                "did": did, "handle": handle, "indexedAt": actor.indexed, "upstreamStatus": actor.status,
                "trustedVerifier": false,
            });
            if self.generation == Generation::B {
                row["handleResolveTries"] = 0.into();
            }
            add("actor", row);
        }
        for (did, (commit, rev)) in &self.synced {
            add("actor_sync", json!({"did": did, "commitCid": commit, "repoRev": rev}));
        }
        for ([src, uri, cid, val], label) in &self.labels {
            let (neg, cts, exp) = (label.neg, &label.cts, &label.exp);
            add(
                "label",
                json!({"src": src, "uri": uri, "cid": cid, "val": val, "neg": neg, "cts": cts, "exp": exp}),
            );
        }
        for ((root, uri), (parent, deleted)) in &self.own_threads {
            let deleted = deleted.then_some(CLOCK);
            add(
                "op_thread_reply",
                json!({"rootUri": root, "parentUri": parent, "uri": uri, "deletedAt": deleted}),
            );
        }
        for notice in &self.notices {
            add(
                "notification",
                json!({
                    "did": notice.to, "recordUri": notice.uri, "recordCid": notice.cid, "author": notice.author,
                    "reason": notice.reason, "reasonSubject": notice.subject, "sortAt": notice.sorted,
                }),
            );
        }
        tables
    }

    fn counter_rows(&self, add: &mut dyn FnMut(&'static str, Value)) {
        // Counted once for all rows: asking for each would be slow.
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for row in self.typed.values() {
            *counts.entry((row.typed.table, row.typed.subject.as_str())).or_default() += 1;
            if row.typed.table == "follow" {
                *counts.entry(("follows", row.creator.as_str())).or_default() += 1;
            }
        }
        for post in self.posts.values() {
            *counts.entry(("posts", post.creator.as_str())).or_default() += 1;
            if let Some(parent) = post.parent().filter(|_| !post.gated) {
                *counts.entry(("replies", parent)).or_default() += 1;
            }
        }
        let count = |of: &'static str, whom: &str| counts.get(&(of, whom)).copied().unwrap_or(0);
        for (uri, quotes) in &self.counted {
            add(
                "post_agg",
                json!({
                    "uri": uri, "likeCount": count("like", uri), "replyCount": count("replies", uri),
                    "repostCount": count("repost", uri), "quoteCount": quotes, "bookmarkCount": 0,
                }),
            );
        }
        for did in &self.profiles {
            add(
                "profile_agg",
                json!({
                    "did": did, "followersCount": count("follow", did), "followsCount": count("follows", did),
                    "postsCount": count("posts", did),
                }),
            );
        }
    }
}

fn post_row(uri: &str, post: &Post) -> Value {
    let flagged = post.invalid || post.gated;
    let flag = |flag: bool| flagged.then_some(flag);
    let list = |name: &str| {
        let texts: Vec<Value> = items(&post.record, &[name])
            .iter()
            .filter_map(|item| serde_json::from_str(&stored_json(item)).ok())
            .collect();
        if texts.is_empty() { Value::Null } else { texts.into() }
    };
    let [root, parent] = match &post.reply {
        Some([root, parent]) => [Some(root), Some(parent)],
        None => [None, None],
    };
    json!({
        "uri": uri, "cid": post.cid, "creator": post.creator,
        "text": text(&post.record, &["text"]).unwrap_or_default(),
        "replyRoot": root.map(|root| &root.0), "replyRootCid": root.map(|root| &root.1),
        "replyParent": parent.map(|parent| &parent.0), "replyParentCid": parent.map(|parent| &parent.1),
        "createdAt": post.created, "indexedAt": post.indexed, "sortAt": post.sorted(),
        "langs": list("langs"), "tags": list("tags"),
        "invalidReplyRoot": flag(post.invalid), "violatesThreadGate": flag(post.gated),
        "violatesEmbeddingRules": post.detached.then_some(true),
        "hasThreadGate": post.thread_gate, "hasPostGate": post.post_gate,
    })
}

fn embed_rows(uri: &str, post: &Post, add: &mut dyn FnMut(&'static str, Value)) {
    for (kind, embed) in embeds(&post.record) {
        match kind {
            "app.bsky.embed.images" => {
                for (position, image) in items(embed, &["images"]).iter().enumerate() {
                    let (cid, alt) = (blob(member(image, "image")), text(image, &["alt"]));
                    let position = position.to_string();
                    add(
                        "post_embed_image",
                        json!({"postUri": uri, "position": position, "imageCid": cid, "alt": alt}),
                    );
                }
            }
            "app.bsky.embed.external" => {
                let of = |name: &str| text(embed, &["external", name]);
                let thumb = blob(inner(embed, &["external", "thumb"]));
                let (title, description) = (of("title"), of("description"));
                add(
                    "post_embed_external",
                    json!({
                        "postUri": uri, "uri": of("uri"), "title": title, "description": description, "thumbCid": thumb,
                    }),
                );
            }
            "app.bsky.embed.record" => {
                let (of, cid) = (text(embed, &["record", "uri"]), text(embed, &["record", "cid"]));
                add("post_embed_record", json!({"postUri": uri, "embedUri": of, "embedCid": cid}));
            }
            "app.bsky.embed.video" => {
                let (cid, alt) = (blob(member(embed, "video")), text(embed, &["alt"]));
                add("post_embed_video", json!({"postUri": uri, "videoCid": cid, "alt": alt}));
            }
            _ => {}
        }
    }
}
