-- Posts, what they embed and quote, who may reply to or quote them, their counts.

create table post (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    text varchar not null,
    "replyRoot" varchar,
    "replyRootCid" varchar,
    "replyParent" varchar,
    "replyParentCid" varchar,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    langs jsonb,
    "invalidReplyRoot" boolean,
    "violatesThreadGate" boolean,
    tags jsonb,
    "violatesEmbeddingRules" boolean,
    "hasThreadGate" boolean,
    "hasPostGate" boolean,
    constraint post_pkey primary key (uri)
);

create index post_creator_cursor_idx on post (creator, "sortAt", cid);
create index post_order_by_idx on post ("sortAt", cid);
create index post_replyparent_idx on post ("replyParent") include (uri);

create table post_embed_image (
    "postUri" varchar not null,
    -- The image's place in the post, as text.
    "position" varchar not null,
    "imageCid" varchar not null,
    alt varchar not null,
    constraint post_embed_image_pkey primary key ("postUri", "position")
);

create table post_embed_external (
    "postUri" varchar not null,
    uri varchar not null,
    title varchar not null,
    description varchar not null,
    "thumbCid" varchar,
    constraint post_embed_external_pkey primary key ("postUri")
);

create table post_embed_record (
    "postUri" varchar not null,
    "embedUri" varchar not null,
    "embedCid" varchar not null,
    constraint post_embed_record_pkey primary key ("postUri", "embedUri")
);

create table post_embed_video (
    "postUri" varchar not null,
    "videoCid" varchar not null,
    alt varchar,
    constraint post_embed_video_pkey primary key ("postUri")
);

create table quote (
    uri varchar not null,
    cid varchar not null,
    subject varchar not null,
    "subjectCid" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint quote_pkey primary key (uri)
);

create index quote_subject_cursor_idx on quote (subject, "sortAt", cid);

create table thread_gate (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "postUri" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    constraint thread_gate_pkey primary key (uri),
    constraint "thread_gate_postUri_key" unique ("postUri")
);

create table post_gate (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "postUri" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    constraint post_gate_pkey primary key (uri),
    constraint "post_gate_postUri_key" unique ("postUri")
);

create table post_agg (
    uri varchar not null,
    "likeCount" bigint not null default 0,
    "replyCount" bigint not null default 0,
    "repostCount" bigint not null default 0,
    "quoteCount" bigint not null default 0,
    "bookmarkCount" bigint not null default 0,
    constraint post_agg_pkey primary key (uri)
);
