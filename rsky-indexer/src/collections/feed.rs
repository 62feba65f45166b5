//! `app.bsky.feed.*`.

use super::{
    Aggregate, CID, CREATED_AT, CREATOR, Collection, Column, Counter, FeedItem, Flag, INDEXED_AT, Notifies,
    Ownership, PartsKind, RkeyRule, Source, Table, URI, column, counted, optional_column, place, with_table,
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

/// Columns of `like` and `repost`, for the rules that look at them.
pub mod subject_columns {
    use super::{SUBJECT_COLUMNS, place};

    /// `creator`
    pub const CREATOR: usize = place(SUBJECT_COLUMNS, "creator");
    /// `subject`
    pub const SUBJECT: usize = place(SUBJECT_COLUMNS, "subject");
    /// `"createdAt"`
    pub const CREATED_AT: usize = place(SUBJECT_COLUMNS, "createdAt");
    /// `via`
    pub const VIA: usize = place(SUBJECT_COLUMNS, "via");
}

static LIKE_TABLE: Table = Table {
    name: "like",
    columns: SUBJECT_COLUMNS,
    duplicate_key: &[subject_columns::SUBJECT, subject_columns::CREATOR],
};

pub(super) static LIKE: Collection = Collection {
    aggregates: &[counted(Counter::Likes, subject_columns::SUBJECT)],
    notifies: Notifies::Subject { reason: "like", via: "like-via-repost" },
    ..with_table("app.bsky.feed.like", RkeyRule::Any, &LIKE_TABLE)
};

static REPOST_TABLE: Table = Table {
    name: "repost",
    columns: SUBJECT_COLUMNS,
    duplicate_key: &[subject_columns::CREATOR, subject_columns::SUBJECT],
};

pub(super) static REPOST: Collection = Collection {
    feed_item: Some(FeedItem {
        kind: "repost",
        post: subject_columns::SUBJECT,
        created_at: subject_columns::CREATED_AT,
    }),
    aggregates: &[counted(Counter::Reposts, subject_columns::SUBJECT)],
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

const fn cast(name: &'static str, source: Source, to: &'static str) -> Column {
    Column { name, source, cast: Some(to), optional: false }
}

const POST_COLUMNS: &[Column] = &[
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
];

/// Columns of `post`, for the rules that look at them.
pub mod post_columns {
    use super::{POST_COLUMNS, place};

    /// `uri`
    pub const URI: usize = place(POST_COLUMNS, "uri");
    /// `creator`
    pub const CREATOR: usize = place(POST_COLUMNS, "creator");
    /// `"replyRoot"`
    pub const REPLY_ROOT: usize = place(POST_COLUMNS, "replyRoot");
    /// `"replyParent"`
    pub const REPLY_PARENT: usize = place(POST_COLUMNS, "replyParent");
    /// `"createdAt"`
    pub const CREATED_AT: usize = place(POST_COLUMNS, "createdAt");
    /// `"violatesThreadGate"`
    pub const VIOLATES_THREAD_GATE: usize = place(POST_COLUMNS, "violatesThreadGate");
}

static POST_TABLE: Table = Table { name: "post", columns: POST_COLUMNS, duplicate_key: &[] };

pub(super) static POST: Collection = Collection {
    feed_item: Some(FeedItem { kind: "post", post: post_columns::URI, created_at: post_columns::CREATED_AT }),
    aggregates: &[
        Aggregate {
            counter: Counter::Replies,
            by: post_columns::REPLY_PARENT,
            unless: Some(post_columns::VIOLATES_THREAD_GATE),
        },
        counted(Counter::Posts, post_columns::CREATOR),
    ],
    parts: PartsKind::Post,
    notifies: Notifies::Post,
    ..with_table("app.bsky.feed.post", RkeyRule::Any, &POST_TABLE)
};

/// A thread gate and a post gate say to which post they belong.
const GATE_COLUMNS: &[Column] =
    &[URI, CID, CREATOR, column("postUri", Source::Text(&["post"])), CREATED_AT, INDEXED_AT];

/// `"postUri"` in the tables of both gates.
pub const GATED_POST: usize = place(GATE_COLUMNS, "postUri");

static THREAD_GATE_TABLE: Table =
    Table { name: "thread_gate", columns: GATE_COLUMNS, duplicate_key: &[GATED_POST] };

pub(super) static THREAD_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    parts: PartsKind::ThreadGate,
    ..with_table("app.bsky.feed.threadgate", RkeyRule::Any, &THREAD_GATE_TABLE)
};

static POST_GATE_TABLE: Table =
    Table { name: "post_gate", columns: GATE_COLUMNS, duplicate_key: &[GATED_POST] };

pub(super) static POST_GATE: Collection = Collection {
    ownership: Ownership::SameAuthorAndRkey("post"),
    parts: PartsKind::PostGate,
    ..with_table("app.bsky.feed.postgate", RkeyRule::Any, &POST_GATE_TABLE)
};
