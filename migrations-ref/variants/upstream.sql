-- From the schema of ../*.sql to that of upstream's `main` (August 2026): generation U, as far as an indexer sees it.
-- For tests. Left out: draft, which no indexer writes.

-- The other branch's: records have no revision.
alter table record drop column rev;

alter table actor add column "ageAssuranceAccess" text;
alter table actor add column "ageAssuranceCountryCode" text;
alter table actor add column "ageAssuranceRegionCode" text;

create table post_embed_gallery_image (
    "postUri" varchar not null,
    -- The image's place in the list as it was written, as text: items of other kinds leave gaps.
    "position" varchar not null,
    "imageCid" varchar not null,
    alt varchar not null,
    constraint post_embed_gallery_image_pkey primary key ("postUri", "position")
);

-- The replies by which the author of a thread continues it; a deleted one keeps its place.
create table op_thread_reply (
    "rootUri" varchar not null,
    "parentUri" varchar not null,
    uri varchar not null,
    "deletedAt" varchar,
    constraint op_thread_reply_pkey primary key ("rootUri", uri)
);

alter table mute add column "onlyReposts" boolean not null default false;
alter table mute add column "onlyQuoteposts" boolean not null default false;

create index like_subject_cursor_idx on "like" (subject, "sortAt" desc) include (creator);

-- The names of ../0010_kysely.sql are another generation's, and not all of this one's are known here: without the
-- tables no migrator takes this database for its own.
drop table kysely_migration, kysely_migration_lock;
