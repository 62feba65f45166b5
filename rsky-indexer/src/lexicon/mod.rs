//! Record validation against the lexicons of the reference AppView (VALIDATION).
//!
//! The lexicons are data, one file per family; [`validate`] is the one interpreter. A further collection is a
//! [`schema::Object`] in its family's file and a line in [`RECORDS`], or in [`edition`] if the reference does not have it.

pub mod decode;
pub mod edition;
pub mod schema;

mod actor;
mod embeds;
mod feed;
mod formats;
mod gates;
mod graph;
mod graphemes;
mod invalid;
mod labels;
mod language;
mod richtext;
mod strings;
mod validate;

#[cfg(test)]
mod vectors;

pub use decode::check_decodable;
pub use edition::Edition;
pub use invalid::{Invalid, Reason, Segment, Undecodable};
pub use validate::{validate, validate_in};

use schema::{Object, Record};

/// Every collection the reference knows, by NSID; later editions have more ([`edition`]).
pub static RECORDS: &[Record] = &[
    Record::new("app.bsky.feed.like", &feed::LIKE),
    Record::new("app.bsky.feed.post", &feed::POST),
    Record::new("app.bsky.feed.repost", &feed::REPOST),
    Record::new("app.bsky.graph.follow", &graph::FOLLOW),
    Record::new("app.bsky.graph.block", &graph::BLOCK),
    Record::new("app.bsky.actor.profile", &actor::PROFILE),
    Record::new("app.bsky.graph.listitem", &graph::LIST_ITEM),
    Record::new("app.bsky.feed.threadgate", &gates::THREAD_GATE),
    Record::new("app.bsky.feed.postgate", &gates::POST_GATE),
    Record::new("app.bsky.graph.list", &graph::LIST),
    Record::new("app.bsky.graph.listblock", &graph::LIST_BLOCK),
    Record::new("app.bsky.graph.starterpack", &graph::STARTER_PACK),
    Record::new("app.bsky.graph.verification", &graph::VERIFICATION),
    Record::new("app.bsky.feed.generator", &feed::GENERATOR),
    Record::new("app.bsky.labeler.service", &labels::SERVICE),
    Record::new("app.bsky.actor.status", &actor::STATUS),
    Record::new("app.bsky.notification.declaration", &actor::NOTIFICATION_DECLARATION),
    Record::new("chat.bsky.actor.declaration", &actor::CHAT_DECLARATION),
];

/// `com.atproto.repo.strongRef`
static STRONG_REF: Object = Object(&[
    schema::required("uri", schema::string().format(schema::Format::AtUri)),
    schema::required("cid", schema::string().format(schema::Format::Cid)),
]);
