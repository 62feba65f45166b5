-- Who follows, blocks and lists whom.

create table follow (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "subjectDid" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint follow_pkey primary key (uri),
    constraint follow_unique_subject unique (creator, "subjectDid")
);

create index follow_creator_cursor_idx on follow (creator, "sortAt", cid);
create index follow_subject_cursor_idx on follow ("subjectDid", "sortAt", cid);

create table actor_block (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "subjectDid" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint actor_block_pkey primary key (uri),
    constraint actor_block_unique_subject unique (creator, "subjectDid")
);

create index actor_block_subjectdid_idx on actor_block ("subjectDid");

create table list (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    name varchar not null,
    purpose varchar not null,
    description varchar,
    "descriptionFacets" varchar,
    "avatarCid" varchar,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint list_pkey primary key (uri)
);

create index list_creator_idx on list (creator);

create table list_item (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "subjectDid" varchar not null,
    "listUri" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint list_item_pkey primary key (uri),
    constraint list_item_unique_subject_in_list unique ("listUri", "subjectDid")
);

create index list_item_creator_idx on list_item (creator);
create index list_item_subject_idx on list_item ("subjectDid");

create table list_block (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "subjectUri" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint list_block_pkey primary key (uri),
    constraint list_block_unique_subject unique (creator, "subjectUri")
);

create table starter_pack (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    name varchar,
    constraint starter_pack_pkey primary key (uri)
);

create index starter_pack_creator_order_by_idx on starter_pack (creator, "sortAt", cid);
create index starter_pack_name_tgrm_idx on starter_pack using gist (name gist_trgm_ops);
