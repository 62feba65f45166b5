//! Who is told of what (INDEXING 5).

use super::rules::mentions;
use super::state::{Notice, State, TypedRow};
use super::value::{host, items};
use crate::network::cbor_out::Cbor;

/// How far above a reply its authors are told of it.
const HEIGHT: usize = 4;
/// Stands for the time of the clock.
pub(super) const CLOCK: &str = "~";

impl State {
    pub(super) fn tell_of_post(&mut self, uri: &str) {
        let Some(post) = self.posts.get(uri) else { return };
        let mut told = vec![post.creator.clone()];
        let mut notices = Vec::new();
        let mut tell = |to: &str, reason: &'static str, subject: Option<&str>| {
            if !told.iter().any(|one| one == to) {
                told.push(to.to_owned());
                notices.push(Notice {
                    to: to.to_owned(),
                    uri: uri.to_owned(),
                    cid: post.cid.clone(),
                    author: post.creator.clone(),
                    reason,
                    subject: subject.map(str::to_owned),
                    sorted: post.sorted().to_owned(),
                });
            }
        };
        for mentioned in mentions(&post.record) {
            tell(mentioned, "mention", None);
        }
        if let Some((quoted, _)) = post.quoted().filter(|_| !post.detached) {
            tell(host(quoted), "quote", Some(quoted));
        }
        if !post.gated {
            let top = post.root().unwrap_or(uri);
            let gate = top.replace("/app.bsky.feed.post/", "/app.bsky.feed.threadgate/");
            let hidden = self.record(&gate).map(|gate| items(gate, &["hiddenReplies"])).unwrap_or_default();
            let mut above = post.parent();
            for _ in 0..HEIGHT {
                let Some(uri) = above else { break };
                let Some(post) = self.posts.get(uri) else { break };
                tell(host(uri), "reply", Some(uri));
                if hidden.iter().any(|one| matches!(one, Cbor::Text(text) if text == uri)) {
                    break;
                }
                above = post.parent();
            }
        }
        self.notices.extend(notices);
    }

    pub(super) fn tell_of_row(&mut self, uri: &str, row: &TypedRow) {
        let subject = row.typed.subject.as_str();
        let sorted = row.typed.created.as_str().min(&row.indexed).to_owned();
        let notice = |to: &str, reason: &'static str, about: Option<&str>, sorted: String| Notice {
            to: to.to_owned(),
            uri: uri.to_owned(),
            cid: row.cid.clone(),
            author: row.creator.clone(),
            reason,
            subject: about.map(str::to_owned),
            sorted,
        };
        let mut notices = Vec::new();
        match row.typed.table {
            "like" | "repost" if host(subject) != row.creator => {
                let like = row.typed.table == "like";
                notices.push(notice(host(subject), row.typed.table, Some(subject), sorted.clone()));
                let via = row.typed.columns.iter().find(|(column, _)| *column == "via");
                if let Some(via) =
                    via.and_then(|(_, via)| via.as_str()).filter(|via| host(via) != row.creator)
                {
                    let reason = if like { "like-via-repost" } else { "repost-via-repost" };
                    notices.push(notice(host(via), reason, Some(via), sorted));
                }
            }
            "follow" => notices.push(notice(subject, "follow", None, sorted)),
            "verification" => notices.push(notice(subject, "verified", None, sorted)),
            "profile" if !subject.is_empty() => {
                let time = row.indexed.clone();
                notices.push(notice(host(subject), "starterpack-joined", Some(subject), time));
            }
            _ => {}
        }
        self.notices.extend(notices);
    }

    pub(super) fn tell_unverified(&mut self, row: Option<&TypedRow>, uri: &str) {
        let Some(row) = row else { return };
        self.notices.push(Notice {
            to: row.typed.subject.clone(),
            uri: uri.to_owned(),
            cid: row.cid.clone(),
            author: row.creator.clone(),
            reason: "unverified",
            subject: None,
            sorted: CLOCK.to_owned(),
        });
    }
}
