//! `app.bsky.embed.*`: what a post shows beside its text.

use super::STRONG_REF;
use super::schema::{
    Array, Format, Member, Object, Property, Text, Type, items, member, optional, required, string, up_to,
};

/// The embeds of a post.
pub(super) static EMBED: &[Member] = &[
    member("app.bsky.embed.images", &IMAGES),
    member("app.bsky.embed.video", &VIDEO),
    member("app.bsky.embed.external", &EXTERNAL),
    member("app.bsky.embed.record", &RECORD),
    member("app.bsky.embed.recordWithMedia", &RECORD_WITH_MEDIA),
];

/// As upstream has them: with videos that are described at any length.
pub(super) static EMBED_UPSTREAM: &[Member] = &[
    member("app.bsky.embed.images", &IMAGES),
    member("app.bsky.embed.video", &VIDEO_UPSTREAM),
    member("app.bsky.embed.external", &EXTERNAL),
    member("app.bsky.embed.record", &RECORD),
    member("app.bsky.embed.recordWithMedia", &RECORD_WITH_MEDIA_UPSTREAM),
];

/// The embeds that can stand beside an embedded record.
static MEDIA: &[Member] = &[
    member("app.bsky.embed.images", &IMAGES),
    member("app.bsky.embed.video", &VIDEO),
    member("app.bsky.embed.external", &EXTERNAL),
];

static MEDIA_UPSTREAM: &[Member] = &[
    member("app.bsky.embed.images", &IMAGES),
    member("app.bsky.embed.video", &VIDEO_UPSTREAM),
    member("app.bsky.embed.external", &EXTERNAL),
];

/// The embed of a live status.
pub(super) static STATUS_EMBED: &[Member] = &[member("app.bsky.embed.external", &EXTERNAL)];

static IMAGES: Object = Object(&[required("images", Type::Array(&IMAGE_LIST))]);

static IMAGE_LIST: Array = up_to(4, Type::Ref(&IMAGE));

static IMAGE: Object = Object(&[
    required("image", Type::Blob),
    required("alt", string().any()),
    optional("aspectRatio", Type::Ref(&ASPECT_RATIO)),
]);

static VIDEO: Object = Object(&video(string().bytes(10_000).graphemes(1000)));

static VIDEO_UPSTREAM: Object = Object(&video(string()));

const fn video(alt: Text) -> [Property; 4] {
    [
        required("video", Type::Blob),
        optional("captions", Type::Array(&CAPTIONS)),
        optional("alt", alt.any()),
        optional("aspectRatio", Type::Ref(&ASPECT_RATIO)),
    ]
}

static CAPTIONS: Array = up_to(20, Type::Ref(&CAPTION));

static CAPTION: Object =
    Object(&[required("lang", string().format(Format::Language)), required("file", Type::Blob)]);

static ASPECT_RATIO: Object = Object(&[
    required("width", Type::Integer { minimum: Some(1) }),
    required("height", Type::Integer { minimum: Some(1) }),
]);

static EXTERNAL: Object = Object(&[required("external", Type::Ref(&EXTERNAL_CARD))]);

static EXTERNAL_CARD: Object = Object(&[
    required("uri", string().format(Format::Uri)),
    required("title", string().any()),
    required("description", string().any()),
    optional("thumb", Type::Blob),
]);

static RECORD: Object = Object(&[required("record", Type::Ref(&STRONG_REF))]);

static RECORD_WITH_MEDIA: Object = Object(&record_with(MEDIA));

static RECORD_WITH_MEDIA_UPSTREAM: Object = Object(&record_with(MEDIA_UPSTREAM));

const fn record_with(media: &'static [Member]) -> [Property; 2] {
    [required("record", Type::Ref(&RECORD)), required("media", Type::Union(media))]
}

/// `app.bsky.feed.post#entity`, the annotations that came before facets.
pub(super) static ENTITIES: Array = items(Type::Ref(&ENTITY));

static ENTITY: Object = Object(&[
    required("index", Type::Ref(&TEXT_SLICE)),
    required("type", string().any()),
    required("value", string().any()),
]);

static TEXT_SLICE: Object = Object(&[
    required("start", Type::Integer { minimum: Some(0) }),
    required("end", Type::Integer { minimum: Some(0) }),
]);
