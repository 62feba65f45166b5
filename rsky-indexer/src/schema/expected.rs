//! The tables and columns that the indexer writes or reads: those that must be there, and those it does without.

use std::collections::BTreeSet;

use crate::collections::ALL;

/// A column that the indexer writes or reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub table: &'static str,
    pub column: &'static str,
    /// Left out of the statements where it is absent; otherwise its table must have it.
    pub optional: bool,
}

/// Tables that may be absent as a whole. One that is there must have its columns.
pub(super) const OPTIONAL_TABLES: &[&str] =
    &["verification", "post_embed_video", "post_embed_gallery_image", "op_thread_reply", "thread_mute"];

/// What the declarations of the collections do not name.
const MANDATORY: &[(&str, &[&str])] = &[
    ("record", &["uri", "cid", "did", "json", "indexedAt"]),
    ("duplicate_record", &["uri", "cid", "duplicateOf", "indexedAt"]),
    ("post", &["hasThreadGate", "hasPostGate"]),
    ("post_embed_image", &["postUri", "position", "imageCid", "alt"]),
    ("post_embed_external", &["postUri", "uri", "title", "description", "thumbCid"]),
    ("post_embed_record", &["postUri", "embedUri", "embedCid"]),
    ("post_embed_video", &["postUri", "videoCid", "alt"]),
    ("post_embed_gallery_image", &["postUri", "position", "imageCid", "alt"]),
    ("op_thread_reply", &["rootUri", "parentUri", "uri", "deletedAt"]),
    ("quote", &["uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt"]),
    ("feed_item", &["uri", "cid", "type", "postUri", "originatorDid", "sortAt"]),
    ("notification", &["did", "recordUri", "recordCid", "author", "reason", "reasonSubject", "sortAt"]),
    // Its `createdAt` is nobody's business here, and some deployments have lost it.
    ("thread_mute", &["rootUri", "mutedByDid"]),
    ("post_agg", &["uri", "likeCount", "replyCount", "repostCount", "quoteCount"]),
    ("profile_agg", &["did", "followersCount", "followsCount", "postsCount"]),
    ("actor", &["did", "handle", "indexedAt", "upstreamStatus"]),
    ("actor_sync", &["did", "commitCid", "repoRev"]),
    ("label", &["src", "uri", "cid", "val", "neg", "cts"]),
];

/// What the declarations of the collections do not name, and some generations do not have.
const OPTIONAL: &[(&str, &[&str])] =
    &[("record", &["rev"]), ("label", &["exp", "sig"]), ("actor", &["handleResolveTries"])];

/// Tables whose rows can be taken down one by one in generation B (`"takedownRef"`).
pub(crate) const WITH_TAKEDOWNS: [&str; 4] = ["like", "repost", "follow", "actor_block"];

/// Every column, each once.
pub(super) fn columns() -> Vec<Expected> {
    let fixed = |list: &'static [(&'static str, &'static [&'static str])], optional| {
        list.iter().flat_map(move |(table, columns)| {
            columns.iter().map(move |column| Expected { table, column, optional })
        })
    };
    let declared = ALL.iter().filter_map(|collection| collection.table).flat_map(|table| {
        table.columns.iter().map(|column| Expected {
            table: table.name,
            column: column.name,
            optional: column.optional,
        })
    });
    let takedowns =
        WITH_TAKEDOWNS.iter().map(|table| Expected { table, column: "takedownRef", optional: true });
    fixed(MANDATORY, false).chain(fixed(OPTIONAL, true)).chain(takedowns).chain(declared).collect()
}

/// Every table.
pub(super) fn tables() -> BTreeSet<&'static str> {
    columns().iter().map(|expected| expected.table).collect()
}
