//! `app.bsky.richtext.facet`: annotations of a text.

use super::schema::{Array, Format, Member, Object, Type, items, member, required, string};

pub(super) static FACETS: Array = items(Type::Ref(&FACET));

static FACET: Object =
    Object(&[required("index", Type::Ref(&BYTE_SLICE)), required("features", Type::Array(&FEATURES))]);

static BYTE_SLICE: Object = Object(&[
    required("byteStart", Type::Integer { minimum: Some(0) }),
    required("byteEnd", Type::Integer { minimum: Some(0) }),
]);

static FEATURES: Array = items(Type::Union(FEATURE));

static FEATURE: &[Member] = &[
    member("app.bsky.richtext.facet#mention", &MENTION),
    member("app.bsky.richtext.facet#link", &LINK),
    member("app.bsky.richtext.facet#tag", &TAG),
];

static MENTION: Object = Object(&[required("did", string().format(Format::Did))]);

static LINK: Object = Object(&[required("uri", string().format(Format::Uri))]);

static TAG: Object = Object(&[required("tag", string().bytes(640).graphemes(64).any())]);
