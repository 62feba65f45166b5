//! Record validation against the lexicons of the reference AppView (VALIDATION).
//!
//! The lexicons are data, one file per family; [`validate`] is the one interpreter. A further collection is a
//! [`schema::Object`] in its family's file and a line in [`RECORDS`].

pub mod cid;
pub mod decode;
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

pub use invalid::{Invalid, Reason, Segment, Undecodable};
pub use validate::validate;

use schema::{Object, Record};

/// Every collection the indexer knows, by NSID.
///
/// `chat.bsky.actor.declaration` has a lexicon, but the reference never applies it: its records only have to decode.
pub static RECORDS: &[Record] = &[
    Record::checked("app.bsky.feed.like", &feed::LIKE),
    Record::checked("app.bsky.feed.post", &feed::POST),
    Record::checked("app.bsky.feed.repost", &feed::REPOST),
    Record::checked("app.bsky.graph.follow", &graph::FOLLOW),
    Record::checked("app.bsky.graph.block", &graph::BLOCK),
    Record::checked("app.bsky.actor.profile", &actor::PROFILE),
    Record::checked("app.bsky.graph.listitem", &graph::LIST_ITEM),
    Record::checked("app.bsky.feed.threadgate", &gates::THREAD_GATE),
    Record::checked("app.bsky.feed.postgate", &gates::POST_GATE),
    Record::checked("app.bsky.graph.list", &graph::LIST),
    Record::checked("app.bsky.graph.listblock", &graph::LIST_BLOCK),
    Record::checked("app.bsky.graph.starterpack", &graph::STARTER_PACK),
    Record::checked("app.bsky.graph.verification", &graph::VERIFICATION),
    Record::checked("app.bsky.feed.generator", &feed::GENERATOR),
    Record::checked("app.bsky.labeler.service", &labels::SERVICE),
    Record::checked("app.bsky.actor.status", &actor::STATUS),
    Record::checked("app.bsky.notification.declaration", &actor::NOTIFICATION_DECLARATION),
    Record::unchecked("chat.bsky.actor.declaration"),
];

/// `com.atproto.repo.strongRef`
static STRONG_REF: Object = Object(&[
    schema::required("uri", schema::string().format(schema::Format::AtUri)),
    schema::required("cid", schema::string().format(schema::Format::Cid)),
]);
