-- Every record as it was received, and the records that lost against an older one with the same meaning.

-- Trigram search over names and handles. It lives in "public" whatever schema holds the tables, as an extension
-- exists once in a database.
create extension if not exists pg_trgm with schema public;

-- A deleted record keeps its row with an empty cid and json, so that rev can refuse what arrives late.
create table record (
    uri varchar not null,
    cid varchar not null,
    did varchar not null,
    json text not null,
    "indexedAt" varchar not null,
    "takedownRef" varchar,
    tags jsonb,
    rev varchar not null,
    constraint record_pkey primary key (uri)
);

create index record_did_idx on record (did);

create table duplicate_record (
    uri varchar not null,
    cid varchar not null,
    "duplicateOf" varchar not null,
    "indexedAt" varchar not null,
    constraint duplicate_record_pkey primary key (uri)
);

create index duplicate_record_duplicate_of_idx on duplicate_record ("duplicateOf");
