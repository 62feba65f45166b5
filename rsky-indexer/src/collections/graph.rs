//! `app.bsky.graph.*`.

use super::{
    CID, CREATED_AT, CREATOR, Collection, Counter, INDEXED_AT, Notifies, Ownership, RkeyRule, Source, Table,
    URI, column, counted, optional_column, with_table,
};

static FOLLOW_TABLE: Table = Table {
    name: "follow",
    columns: &[
        URI,
        CID,
        CREATOR,
        column("subjectDid", Source::Text(&["subject"])),
        CREATED_AT,
        INDEXED_AT,
        optional_column("via", Source::Text(&["via", "uri"])),
        optional_column("viaCid", Source::Text(&["via", "cid"])),
    ],
    duplicate_key: &[2, 3],
};

pub(super) static FOLLOW: Collection = Collection {
    aggregates: &[counted(Counter::Followers, 3), counted(Counter::Follows, 2)],
    notifies: Notifies::Follow,
    ..with_table("app.bsky.graph.follow", RkeyRule::Any, &FOLLOW_TABLE)
};

static BLOCK_TABLE: Table = Table {
    name: "actor_block",
    columns: &[URI, CID, CREATOR, column("subjectDid", Source::Text(&["subject"])), CREATED_AT, INDEXED_AT],
    duplicate_key: &[2, 3],
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

static LIST_ITEM_TABLE: Table = Table {
    name: "list_item",
    columns: &[
        URI,
        CID,
        CREATOR,
        column("subjectDid", Source::Text(&["subject"])),
        column("listUri", Source::Text(&["list"])),
        CREATED_AT,
        INDEXED_AT,
    ],
    // Not by creator: but only the owner of a list may put items on it, so the key is the owner's all the same.
    duplicate_key: &[4, 3],
};

pub(super) static LIST_ITEM: Collection = Collection {
    ownership: Ownership::SameAuthor("list"),
    ..with_table("app.bsky.graph.listitem", RkeyRule::Any, &LIST_ITEM_TABLE)
};

static LIST_BLOCK_TABLE: Table = Table {
    name: "list_block",
    columns: &[URI, CID, CREATOR, column("subjectUri", Source::Text(&["subject"])), CREATED_AT, INDEXED_AT],
    duplicate_key: &[2, 3],
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

static VERIFICATION_TABLE: Table = Table {
    name: "verification",
    columns: &[
        URI,
        CID,
        column("rkey", Source::Rkey),
        CREATOR,
        column("subject", Source::Text(&["subject"])),
        column("handle", Source::Text(&["handle"])),
        column("displayName", Source::Text(&["displayName"])),
        CREATED_AT,
        INDEXED_AT,
    ],
    duplicate_key: &[4, 3],
};

pub(super) static VERIFICATION: Collection = Collection {
    notifies: Notifies::Verification,
    ..with_table("app.bsky.graph.verification", RkeyRule::Any, &VERIFICATION_TABLE)
};
