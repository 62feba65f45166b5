//! `app.bsky.feed.*`.

use super::{
    Aggregate, CID, CREATED_AT, CREATOR, Collection, Column, Counter, FeedItem, INDEXED_AT, Ownership,
    RkeyRule, Source, Table, URI, column, record_only, with_table,
};

/// A like and a repost say the same of their subject.
const SUBJECT_COLUMNS: &[Column] = &[
    URI,
    CID,
    CREATOR,
    column("subject", Source::Text(&["subject", "uri"])),
    column("subjectCid", Source::Text(&["subject", "cid"])),
    CREATED_AT,
    INDEXED_AT,
    column("via", Source::Text(&["via", "uri"])),
    column("viaCid", Source::Text(&["via", "cid"])),
];

static LIKE_TABLE: Table = Table { name: "like", columns: SUBJECT_COLUMNS, duplicate_key: &[3, 2] };

pub(super) static LIKE: Collection = Collection {
    aggregates: &[Aggregate { counter: Counter::Likes, by: 3 }],
    ..with_table("app.bsky.feed.like", RkeyRule::Any, &LIKE_TABLE)
};

static REPOST_TABLE: Table = Table { name: "repost", columns: SUBJECT_COLUMNS, duplicate_key: &[2, 3] };

pub(super) static REPOST: Collection = Collection {
    feed_item: Some(FeedItem { kind: "repost", post: 3, created_at: 5 }),
    aggregates: &[Aggregate { counter: Counter::Reposts, by: 3 }],
    ..with_table("app.bsky.feed.repost", RkeyRule::Any, &REPOST_TABLE)
};

static GENERATOR_TABLE: Table = Table {
    name: "feed_generator",
    columns: &[
        URI,
        CID,
        CREATOR,
        column("feedDid", Source::Text(&["did"])),
        column("displayName", Source::Text(&["displayName"])),
        column("description", Source::Text(&["description"])),
        column("descriptionFacets", Source::JsonText("descriptionFacets")),
        column("avatarCid", Source::BlobCid("avatar")),
        CREATED_AT,
        INDEXED_AT,
    ],
    duplicate_key: &[],
};

pub(super) static GENERATOR: Collection =
    with_table("app.bsky.feed.generator", RkeyRule::Any, &GENERATOR_TABLE);

/// Posts and gates: their rules are not built yet; validation and ownership already hold.
pub(super) static POST: Collection =
    Collection { supported: false, ..record_only("app.bsky.feed.post", RkeyRule::Any) };

pub(super) static THREAD_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    supported: false,
    ..record_only("app.bsky.feed.threadgate", RkeyRule::Any)
};

pub(super) static POST_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    supported: false,
    ..record_only("app.bsky.feed.postgate", RkeyRule::Any)
};
