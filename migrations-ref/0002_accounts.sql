-- Accounts: identity, how far each repository has been indexed, profiles, verifications, labelers.

create table actor (
    did varchar not null,
    handle varchar,
    "indexedAt" varchar not null,
    "takedownRef" varchar,
    "upstreamStatus" varchar,
    "trustedVerifier" boolean not null default false,
    "ageAssuranceStatus" text,
    "ageAssuranceLastInitiatedAt" varchar,
    constraint actor_pkey primary key (did),
    constraint actor_handle_key unique (handle)
);

create index actor_handle_tgrm_idx on actor using gist (handle gist_trgm_ops);

create table actor_sync (
    did varchar not null,
    "commitCid" varchar not null,
    "repoRev" varchar,
    constraint actor_sync_pkey primary key (did)
);

create table did_cache (
    did varchar not null,
    doc jsonb not null,
    "updatedAt" bigint not null,
    constraint did_cache_pkey primary key (did)
);

create table profile (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "displayName" varchar,
    description varchar,
    "avatarCid" varchar,
    "bannerCid" varchar,
    "indexedAt" varchar not null,
    "joinedViaStarterPackUri" varchar,
    "createdAt" varchar not null,
    "pinnedPost" varchar,
    "pinnedPostCid" varchar,
    constraint profile_pkey primary key (uri)
);

create index profile_creator_idx on profile (creator);
create index profile_display_name_tgrm_idx on profile using gist ("displayName" gist_trgm_ops);
create index profile_starter_pack_joined_idx on profile ("joinedViaStarterPackUri", "createdAt");

create table profile_agg (
    did varchar not null,
    "followersCount" bigint not null default 0,
    "followsCount" bigint not null default 0,
    "postsCount" bigint not null default 0,
    constraint profile_agg_pkey primary key (did)
);

create table verification (
    uri varchar not null,
    cid varchar not null,
    rkey varchar not null,
    creator varchar not null,
    subject varchar not null,
    handle varchar not null,
    "displayName" varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    -- Named sortAt everywhere else.
    "sortedAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint verification_pkey primary key (uri),
    constraint verification_unique_subject_creator unique (subject, creator)
);

create table labeler (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint labeler_pkey primary key (uri)
);

create index labeler_order_by_idx on labeler ("sortAt", cid);
