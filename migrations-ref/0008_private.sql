-- What an account keeps with the AppView rather than in its repository. The indexer only reads thread_mute.

create table mute (
    "subjectDid" varchar not null,
    "mutedByDid" varchar not null,
    "createdAt" varchar not null,
    constraint mute_pkey primary key ("mutedByDid", "subjectDid")
);

create table list_mute (
    "listUri" varchar not null,
    "mutedByDid" varchar not null,
    "createdAt" varchar not null,
    constraint list_mute_pkey primary key ("mutedByDid", "listUri")
);

create table thread_mute (
    "rootUri" varchar not null,
    "mutedByDid" varchar not null,
    "createdAt" varchar not null,
    constraint thread_mute_pkey primary key ("rootUri", "mutedByDid")
);

create table bookmark (
    creator varchar not null,
    key varchar not null,
    "subjectUri" varchar not null,
    "subjectCid" varchar not null,
    "indexedAt" varchar not null,
    constraint bookmark_pkey primary key (creator, key),
    constraint bookmark_unique_uri_creator unique ("subjectUri", creator)
);

create table private_data (
    "actorDid" varchar not null,
    namespace varchar not null,
    key varchar not null,
    payload text not null,
    "indexedAt" varchar not null,
    "updatedAt" varchar not null,
    constraint private_data_pkey primary key ("actorDid", namespace, key)
);
