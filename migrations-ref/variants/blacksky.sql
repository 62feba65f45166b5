-- From the schema of ../*.sql to that of Blacksky's fork (August 2026): generation B, as far as an indexer sees it.
-- For tests. Left out: draft, community_post, peer_mod_label, actor_badge and notification_push_outbox, which no indexer
-- writes, and label.sig, which no migration adds and not every deployment has.

-- Rows older than the column have none.
alter table record alter column rev drop not null;

alter table follow add column via varchar;
alter table follow add column "viaCid" varchar;

-- Set by moderators; an indexer leaves them alone.
alter table "like" add column "takedownRef" varchar;
alter table repost add column "takedownRef" varchar;
alter table follow add column "takedownRef" varchar;
alter table actor_block add column "takedownRef" varchar;

-- Failed resolutions, for a scheduler outside of the AppView.
alter table actor add column "handleResolveTries" smallint not null default 0;

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

-- Every notification is pushed; a payload above 8000 bytes would abort the insertion.
create function notification_push_insert_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('notification_push_inserted', json_build_object(
        'id', new.id,
        'did', new.did,
        'recordUri', new."recordUri",
        'reason', new.reason,
        'reasonSubject', new."reasonSubject"
    )::text);
    return new;
end
$$;

create trigger notification_push_insert_notify after insert on notification
    for each row execute function notification_push_insert_notify();

-- See upstream.sql.
drop table kysely_migration, kysely_migration_lock;
