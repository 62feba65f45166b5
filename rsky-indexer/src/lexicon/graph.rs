//! Relations between accounts and the lists of them: `app.bsky.graph.*`.

use super::labels::SELF_LABELS;
use super::richtext::FACETS;
use super::schema::{Array, Format, Object, Type, optional, required, string, up_to};

/// `app.bsky.graph.follow`
pub(super) static FOLLOW: Object = Object(&[
    required("subject", string().format(Format::Did)),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.graph.block`
pub(super) static BLOCK: Object = Object(&[
    required("subject", string().format(Format::Did)),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.graph.list`
pub(super) static LIST: Object = Object(&[
    required("purpose", string().any()),
    required("name", string().at_least(1).bytes(64).any()),
    optional("description", string().bytes(3000).graphemes(300).any()),
    optional("descriptionFacets", Type::Array(&FACETS)),
    optional("avatar", Type::Blob),
    optional("labels", Type::Union(SELF_LABELS)),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.graph.listitem`
pub(super) static LIST_ITEM: Object = Object(&[
    required("subject", string().format(Format::Did)),
    required("list", string().format(Format::AtUri)),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.graph.listblock`
pub(super) static LIST_BLOCK: Object = Object(&[
    required("subject", string().format(Format::AtUri)),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.graph.starterpack`
pub(super) static STARTER_PACK: Object = Object(&[
    required("name", string().at_least(1).bytes(500).graphemes(50).any()),
    optional("description", string().bytes(3000).graphemes(300).any()),
    optional("descriptionFacets", Type::Array(&FACETS)),
    required("list", string().format(Format::AtUri)),
    optional("feeds", Type::Array(&FEEDS)),
    required("createdAt", string().format(Format::Datetime)),
]);

static FEEDS: Array = up_to(3, Type::Ref(&FEED_ITEM));

static FEED_ITEM: Object = Object(&[required("uri", string().format(Format::AtUri))]);

/// `app.bsky.graph.verification`
pub(super) static VERIFICATION: Object = Object(&[
    required("subject", string().format(Format::Did)),
    required("handle", string().format(Format::Handle)),
    required("displayName", string().any()),
    required("createdAt", string().format(Format::Datetime)),
]);
