//! `app.bsky.feed.*`.

use super::{
    Aggregate, CID, CREATED_AT, CREATOR, Collection, Column, Counter, FeedItem, Flag, INDEXED_AT, Notifies,
    Ownership, PartsKind, RkeyRule, Source, Table, URI, column, counted, optional_column, with_table,
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
    optional_column("via", Source::Text(&["via", "uri"])),
    optional_column("viaCid", Source::Text(&["via", "cid"])),
];

/// Columns of `like` and `repost` by index, for the rules that look at them.
pub mod subject_columns {
    /// `subject`
    pub const SUBJECT: usize = 3;
    /// `"createdAt"`
    pub const CREATED_AT: usize = 5;
    /// `via`
    pub const VIA: usize = 7;
}

static LIKE_TABLE: Table = Table { name: "like", columns: SUBJECT_COLUMNS, duplicate_key: &[3, 2] };

pub(super) static LIKE: Collection = Collection {
    aggregates: &[counted(Counter::Likes, 3)],
    notifies: Notifies::Subject { reason: "like", via: "like-via-repost" },
    ..with_table("app.bsky.feed.like", RkeyRule::Any, &LIKE_TABLE)
};

static REPOST_TABLE: Table = Table { name: "repost", columns: SUBJECT_COLUMNS, duplicate_key: &[2, 3] };

pub(super) static REPOST: Collection = Collection {
    feed_item: Some(FeedItem { kind: "repost", post: 3, created_at: 5 }),
    aggregates: &[counted(Counter::Reposts, 3)],
    notifies: Notifies::Subject { reason: "repost", via: "repost-via-repost" },
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

/// Columns of `post` by index, for the rules that look at them.
pub mod post_columns {
    /// `"replyRoot"`
    pub const REPLY_ROOT: usize = 4;
    /// `"replyParent"`
    pub const REPLY_PARENT: usize = 6;
    /// `"createdAt"`
    pub const CREATED_AT: usize = 8;
    /// `"violatesThreadGate"`
    pub const VIOLATES_THREAD_GATE: usize = 13;
}

const fn cast(name: &'static str, source: Source, to: &'static str) -> Column {
    Column { name, source, cast: Some(to), optional: false }
}

static POST_TABLE: Table = Table {
    name: "post",
    columns: &[
        URI,
        CID,
        CREATOR,
        column("text", Source::Text(&["text"])),
        column("replyRoot", Source::Text(&["reply", "root", "uri"])),
        column("replyRootCid", Source::Text(&["reply", "root", "cid"])),
        column("replyParent", Source::Text(&["reply", "parent", "uri"])),
        column("replyParentCid", Source::Text(&["reply", "parent", "cid"])),
        CREATED_AT,
        INDEXED_AT,
        cast("langs", Source::Strings("langs"), "jsonb"),
        cast("tags", Source::Strings("tags"), "jsonb"),
        cast("invalidReplyRoot", Source::Flag(Flag::InvalidReplyRoot), "boolean"),
        cast("violatesThreadGate", Source::Flag(Flag::ViolatesThreadGate), "boolean"),
        cast("violatesEmbeddingRules", Source::Flag(Flag::ViolatesEmbeddingRules), "boolean"),
    ],
    duplicate_key: &[],
};

pub(super) static POST: Collection = Collection {
    feed_item: Some(FeedItem { kind: "post", post: 0, created_at: post_columns::CREATED_AT }),
    aggregates: &[
        Aggregate {
            counter: Counter::Replies,
            by: post_columns::REPLY_PARENT,
            unless: Some(post_columns::VIOLATES_THREAD_GATE),
        },
        counted(Counter::Posts, 2),
    ],
    parts: PartsKind::Post,
    notifies: Notifies::Post,
    ..with_table("app.bsky.feed.post", RkeyRule::Any, &POST_TABLE)
};

/// Index of `"postUri"` in the tables of both gates.
pub const GATED_POST: usize = 3;

/// A thread gate and a post gate say to which post they belong.
const GATE_COLUMNS: &[Column] =
    &[URI, CID, CREATOR, column("postUri", Source::Text(&["post"])), CREATED_AT, INDEXED_AT];

static THREAD_GATE_TABLE: Table = Table { name: "thread_gate", columns: GATE_COLUMNS, duplicate_key: &[3] };

pub(super) static THREAD_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    parts: PartsKind::ThreadGate,
    ..with_table("app.bsky.feed.threadgate", RkeyRule::Any, &THREAD_GATE_TABLE)
};

static POST_GATE_TABLE: Table = Table { name: "post_gate", columns: GATE_COLUMNS, duplicate_key: &[3] };

pub(super) static POST_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    parts: PartsKind::PostGate,
    ..with_table("app.bsky.feed.postgate", RkeyRule::Any, &POST_GATE_TABLE)
};
