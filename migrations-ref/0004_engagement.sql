-- Likes and reposts, and the items (posts and reposts) that author feeds are read from.

create table "like" (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    subject varchar not null,
    "subjectCid" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    via varchar,
    "viaCid" varchar,
    constraint like_pkey primary key (uri),
    constraint like_unique_subject unique (subject, creator)
);

create index like_creator_cursor_idx on "like" (creator, "sortAt", cid);

create table repost (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    subject varchar not null,
    "subjectCid" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    via varchar,
    "viaCid" varchar,
    constraint repost_pkey primary key (uri),
    constraint repost_unique_subject unique (creator, subject)
);

create index repost_order_by_idx on repost ("sortAt", cid);
create index repost_subject_idx on repost (subject);

-- sortAt is written here, not generated: the table has no createdAt.
create table feed_item (
    uri varchar not null,
    cid varchar not null,
    type varchar not null,
    "postUri" varchar not null,
    "originatorDid" varchar not null,
    "sortAt" varchar not null,
    constraint feed_item_pkey primary key (uri)
);

create index feed_item_cursor_idx on feed_item ("sortAt", cid);
create index feed_item_originator_cursor_idx on feed_item ("originatorDid", "sortAt", cid);
create index feed_item_post_uri_idx on feed_item ("postUri");
