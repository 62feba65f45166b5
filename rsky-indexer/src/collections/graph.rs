//! `app.bsky.graph.*`.

use super::{
    CID, CREATED_AT, CREATOR, Collection, Column, Counter, INDEXED_AT, Notifies, Ownership, RkeyRule, Source,
    Table, URI, column, counted, optional_column, place, with_table,
};

const FOLLOW_COLUMNS: &[Column] = &[
    URI,
    CID,
    CREATOR,
    column("subjectDid", Source::Text(&["subject"])),
    CREATED_AT,
    INDEXED_AT,
    optional_column("via", Source::Text(&["via", "uri"])),
    optional_column("viaCid", Source::Text(&["via", "cid"])),
];

/// Columns of `follow`, for the rules that look at them.
pub mod follow_columns {
    use super::{FOLLOW_COLUMNS, place};

    /// `creator`
    pub const CREATOR: usize = place(FOLLOW_COLUMNS, "creator");
    /// `"subjectDid"`
    pub const SUBJECT: usize = place(FOLLOW_COLUMNS, "subjectDid");
    /// `"createdAt"`
    pub const CREATED_AT: usize = place(FOLLOW_COLUMNS, "createdAt");
}

static FOLLOW_TABLE: Table = Table {
    name: "follow",
    columns: FOLLOW_COLUMNS,
    duplicate_key: &[follow_columns::CREATOR, follow_columns::SUBJECT],
};

pub(super) static FOLLOW: Collection = Collection {
    aggregates: &[
        counted(Counter::Followers, follow_columns::SUBJECT),
        counted(Counter::Follows, follow_columns::CREATOR),
    ],
    notifies: Notifies::Follow,
    ..with_table("app.bsky.graph.follow", RkeyRule::Any, &FOLLOW_TABLE)
};

const BLOCK_COLUMNS: &[Column] =
    &[URI, CID, CREATOR, column("subjectDid", Source::Text(&["subject"])), CREATED_AT, INDEXED_AT];

static BLOCK_TABLE: Table = Table {
    name: "actor_block",
    columns: BLOCK_COLUMNS,
    duplicate_key: &[place(BLOCK_COLUMNS, "creator"), place(BLOCK_COLUMNS, "subjectDid")],
};

pub(super) static BLOCK: Collection = with_table("app.bsky.graph.block", RkeyRule::Any, &BLOCK_TABLE);

static LIST_TABLE: Table = Table {
    name: "list",
    columns: &[
        URI,
        CID,
        CREATOR,
        column("name", Source::Text(&["name"])),
        column("purpose", Source::Text(&["purpose"])),
        column("description", Source::Text(&["description"])),
        column("descriptionFacets", Source::JsonText("descriptionFacets")),
        column("avatarCid", Source::BlobCid("avatar")),
        CREATED_AT,
        INDEXED_AT,
    ],
    duplicate_key: &[],
};

pub(super) static LIST: Collection = with_table("app.bsky.graph.list", RkeyRule::Any, &LIST_TABLE);

const LIST_ITEM_COLUMNS: &[Column] = &[
    URI,
    CID,
    CREATOR,
    column("subjectDid", Source::Text(&["subject"])),
    column("listUri", Source::Text(&["list"])),
    CREATED_AT,
    INDEXED_AT,
];

static LIST_ITEM_TABLE: Table = Table {
    name: "list_item",
    columns: LIST_ITEM_COLUMNS,
    // Not by creator: but only the owner of a list may put items on it, so the key is the owner's all the same.
    duplicate_key: &[place(LIST_ITEM_COLUMNS, "listUri"), place(LIST_ITEM_COLUMNS, "subjectDid")],
};

pub(super) static LIST_ITEM: Collection = Collection {
    ownership: Ownership::SameAuthor("list"),
    ..with_table("app.bsky.graph.listitem", RkeyRule::Any, &LIST_ITEM_TABLE)
};

const LIST_BLOCK_COLUMNS: &[Column] =
    &[URI, CID, CREATOR, column("subjectUri", Source::Text(&["subject"])), CREATED_AT, INDEXED_AT];

static LIST_BLOCK_TABLE: Table = Table {
    name: "list_block",
    columns: LIST_BLOCK_COLUMNS,
    duplicate_key: &[place(LIST_BLOCK_COLUMNS, "creator"), place(LIST_BLOCK_COLUMNS, "subjectUri")],
};

pub(super) static LIST_BLOCK: Collection =
    with_table("app.bsky.graph.listblock", RkeyRule::Any, &LIST_BLOCK_TABLE);

static STARTER_PACK_TABLE: Table = Table {
    name: "starter_pack",
    columns: &[URI, CID, CREATOR, CREATED_AT, INDEXED_AT, optional_column("name", Source::Text(&["name"]))],
    duplicate_key: &[],
};

pub(super) static STARTER_PACK: Collection =
    with_table("app.bsky.graph.starterpack", RkeyRule::Any, &STARTER_PACK_TABLE);

const VERIFICATION_COLUMNS: &[Column] = &[
    URI,
    CID,
    column("rkey", Source::Rkey),
    CREATOR,
    column("subject", Source::Text(&["subject"])),
    column("handle", Source::Text(&["handle"])),
    column("displayName", Source::Text(&["displayName"])),
    CREATED_AT,
    INDEXED_AT,
];

/// Columns of `verification`, for the rules that look at them.
pub mod verification_columns {
    use super::{VERIFICATION_COLUMNS, place};

    /// `creator`
    pub const CREATOR: usize = place(VERIFICATION_COLUMNS, "creator");
    /// `subject`
    pub const SUBJECT: usize = place(VERIFICATION_COLUMNS, "subject");
    /// `"createdAt"`
    pub const CREATED_AT: usize = place(VERIFICATION_COLUMNS, "createdAt");
}

static VERIFICATION_TABLE: Table = Table {
    name: "verification",
    columns: VERIFICATION_COLUMNS,
    duplicate_key: &[verification_columns::SUBJECT, verification_columns::CREATOR],
};

pub(super) static VERIFICATION: Collection = Collection {
    notifies: Notifies::Verification,
    ..with_table("app.bsky.graph.verification", RkeyRule::Any, &VERIFICATION_TABLE)
};
