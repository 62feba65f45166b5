-- Notifications, what has been seen of them, where they are pushed to, which accounts one asked to hear about.

-- No unique key over recipient and record: a writer that must not notify twice sees to it itself.
create table notification (
    id bigserial,
    did varchar not null,
    "recordUri" varchar not null,
    "recordCid" varchar not null,
    author varchar not null,
    reason varchar not null,
    "reasonSubject" varchar,
    "sortAt" varchar not null,
    constraint notification_pkey primary key (id)
);

create index notification_author_idx on notification (author);
create index notification_did_sortat_idx on notification (did, "sortAt");
create index notification_record_idx on notification ("recordUri");

create table notification_push_token (
    did varchar not null,
    platform varchar not null,
    token varchar not null,
    "appId" varchar not null,
    constraint notification_push_token_pkey primary key (did, token)
);

create table actor_state (
    did varchar not null,
    "lastSeenNotifs" varchar not null,
    "priorityNotifs" boolean not null default false,
    "lastSeenPriorityNotifs" varchar,
    constraint actor_state_pkey primary key (did)
);

create table activity_subscription (
    creator varchar not null,
    "subjectDid" varchar not null,
    key varchar not null,
    "indexedAt" varchar not null,
    post boolean not null,
    reply boolean not null,
    constraint activity_subscription_pkey primary key (creator, key),
    constraint activity_subscription_unique_creator_subject_did unique (creator, "subjectDid")
);
