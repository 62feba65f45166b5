//! `app.bsky.actor.*`, the labeler service and the declarations.

use super::{
    CID, CREATED_AT, CREATOR, Collection, Column, INDEXED_AT, Notifies, RkeyRule, Source, Table, URI, column,
    place, record_only, with_table,
};

const PROFILE_COLUMNS: &[Column] = &[
    URI,
    CID,
    CREATOR,
    column("displayName", Source::Text(&["displayName"])),
    column("description", Source::Text(&["description"])),
    column("avatarCid", Source::BlobCid("avatar")),
    column("bannerCid", Source::BlobCid("banner")),
    INDEXED_AT,
    column("joinedViaStarterPackUri", Source::Text(&["joinedViaStarterPack", "uri"])),
    column("createdAt", Source::CreatedAtRaw),
];

/// `"joinedViaStarterPackUri"` in the table of profiles.
pub const JOINED_VIA: usize = place(PROFILE_COLUMNS, "joinedViaStarterPackUri");

static PROFILE_TABLE: Table = Table { name: "profile", columns: PROFILE_COLUMNS, duplicate_key: &[] };

/// `pinnedPost` is in the record and in the table, and no generation of the reference fills it (INDEXING §4).
pub(super) static PROFILE: Collection = Collection {
    notifies: Notifies::Profile,
    ..with_table("app.bsky.actor.profile", RkeyRule::SelfOnly, &PROFILE_TABLE)
};

pub(super) static STATUS: Collection = record_only("app.bsky.actor.status", RkeyRule::SelfOnly);

static LABELER_TABLE: Table =
    Table { name: "labeler", columns: &[URI, CID, CREATOR, CREATED_AT, INDEXED_AT], duplicate_key: &[] };

pub(super) static LABELER: Collection =
    with_table("app.bsky.labeler.service", RkeyRule::SelfOnly, &LABELER_TABLE);

pub(super) static NOTIFICATION_DECLARATION: Collection =
    record_only("app.bsky.notification.declaration", RkeyRule::SelfOnly);

/// The reference has a lexicon for it and does not apply it: any record that decodes is kept. Later editions apply it.
pub(super) static CHAT_DECLARATION: Collection =
    Collection { validated: false, ..record_only("chat.bsky.actor.declaration", RkeyRule::SelfOnly) };

pub(super) static GERM_DECLARATION: Collection =
    Collection { later: true, ..record_only("com.germnetwork.declaration", RkeyRule::SelfOnly) };
