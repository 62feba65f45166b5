//! Posts, reactions to them, and feed generators: `app.bsky.feed.*`.

use super::STRONG_REF;
use super::embeds::{EMBED, ENTITIES};
use super::labels::SELF_LABELS;
use super::richtext::FACETS;
use super::schema::{Array, Format, Member, Object, Property, Type, optional, required, string, up_to};

/// `app.bsky.feed.post`
pub(super) static POST: Object = Object(&post(EMBED));

/// Its properties; editions differ in the embeds.
pub(super) const fn post(embed: &'static [Member]) -> [Property; 9] {
    [
        required("text", string().bytes(3000).graphemes(300).any()),
        optional("entities", Type::Array(&ENTITIES)),
        optional("facets", Type::Array(&FACETS)),
        optional("reply", Type::Ref(&REPLY)),
        optional("embed", Type::Union(embed)),
        optional("langs", Type::Array(&LANGUAGES)),
        optional("labels", Type::Union(SELF_LABELS)),
        optional("tags", Type::Array(&TAGS)),
        required("createdAt", string().format(Format::Datetime)),
    ]
}

static REPLY: Object =
    Object(&[required("root", Type::Ref(&STRONG_REF)), required("parent", Type::Ref(&STRONG_REF))]);

static LANGUAGES: Array = up_to(3, string().format(Format::Language));

static TAGS: Array = up_to(8, string().bytes(640).graphemes(64).any());

/// `app.bsky.feed.like`
pub(super) static LIKE: Object = Object(&[
    required("subject", Type::Ref(&STRONG_REF)),
    required("createdAt", string().format(Format::Datetime)),
    optional("via", Type::Ref(&STRONG_REF)),
]);

/// `app.bsky.feed.repost`
pub(super) static REPOST: Object = Object(&[
    required("subject", Type::Ref(&STRONG_REF)),
    required("createdAt", string().format(Format::Datetime)),
    optional("via", Type::Ref(&STRONG_REF)),
]);

/// `app.bsky.feed.generator`
pub(super) static GENERATOR: Object = Object(&[
    required("did", string().format(Format::Did)),
    required("displayName", string().bytes(240).graphemes(24).any()),
    optional("description", string().bytes(3000).graphemes(300).any()),
    optional("descriptionFacets", Type::Array(&FACETS)),
    optional("avatar", Type::Blob),
    optional("acceptsInteractions", Type::Boolean),
    optional("labels", Type::Union(SELF_LABELS)),
    optional("contentMode", string().any()),
    required("createdAt", string().format(Format::Datetime)),
]);
