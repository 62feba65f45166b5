//! Who may reply to a post or quote it: `app.bsky.feed.threadgate` and `app.bsky.feed.postgate`.

use super::schema::{
    Array, Format, Member, Object, Property, Type, member, optional, required, string, up_to,
};

/// `app.bsky.feed.threadgate`
pub(super) static THREAD_GATE: Object = Object(&thread_gate(&POST_URIS));

/// Its properties; editions differ in how many replies are hidden.
pub(super) const fn thread_gate(hidden: &'static Array) -> [Property; 4] {
    [
        required("post", string().format(Format::AtUri)),
        optional("allow", Type::Array(&ALLOW)),
        required("createdAt", string().format(Format::Datetime)),
        optional("hiddenReplies", Type::Array(hidden)),
    ]
}

static ALLOW: Array = up_to(5, Type::Union(ALLOW_RULE));

static ALLOW_RULE: &[Member] = &[
    member("app.bsky.feed.threadgate#mentionRule", &EMPTY),
    member("app.bsky.feed.threadgate#followerRule", &EMPTY),
    member("app.bsky.feed.threadgate#followingRule", &EMPTY),
    member("app.bsky.feed.threadgate#listRule", &LIST_RULE),
];

static EMPTY: Object = Object(&[]);

static LIST_RULE: Object = Object(&[required("list", string().format(Format::AtUri))]);

/// `app.bsky.feed.postgate`
pub(super) static POST_GATE: Object = Object(&[
    required("createdAt", string().format(Format::Datetime)),
    required("post", string().format(Format::AtUri)),
    optional("detachedEmbeddingUris", Type::Array(&POST_URIS)),
    optional("embeddingRules", Type::Array(&EMBEDDING_RULES)),
]);

static EMBEDDING_RULES: Array = up_to(5, Type::Union(EMBEDDING_RULE));

static EMBEDDING_RULE: &[Member] = &[member("app.bsky.feed.postgate#disableRule", &EMPTY)];

static POST_URIS: Array = up_to(50, string().format(Format::AtUri));
