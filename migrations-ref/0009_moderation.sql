-- Labels and takedowns, then the moderation tables that the AppView once used itself.

create table label (
    src varchar not null,
    uri varchar not null,
    cid varchar not null,
    val varchar not null,
    neg boolean not null,
    cts varchar not null,
    exp varchar,
    constraint label_pkey primary key (src, uri, cid, val)
);

create index label_cts_idx on label (cts);
create index label_uri_index on label (uri);

create table blob_takedown (
    did varchar not null,
    cid varchar not null,
    "takedownRef" varchar not null,
    constraint blob_takedown_pkey primary key (did, cid)
);

-- From here on: created by the reference, neither written nor read by the pipeline.

create table subscription (
    service varchar not null,
    method varchar not null,
    state varchar not null,
    constraint subscription_pkey primary key (service, method)
);

create table moderation_action (
    id serial,
    action varchar not null,
    "subjectType" varchar not null,
    "subjectDid" varchar not null,
    "subjectUri" varchar,
    "subjectCid" varchar,
    reason text not null,
    "createdAt" varchar not null,
    "createdBy" varchar not null,
    "reversedAt" varchar,
    "reversedBy" varchar,
    "reversedReason" text,
    "createLabelVals" varchar,
    "negateLabelVals" varchar,
    "durationInHours" integer,
    "expiresAt" varchar,
    constraint moderation_action_pkey primary key (id)
);

create table moderation_action_subject_blob (
    "actionId" integer not null,
    cid varchar not null,
    constraint moderation_action_subject_blob_pkey primary key ("actionId", cid),
    constraint "moderation_action_subject_blob_actionId_fkey"
        foreign key ("actionId") references moderation_action (id)
);

create index moderation_action_subject_blob_cid_idx on moderation_action_subject_blob (cid);

create table moderation_report (
    id serial,
    "subjectType" varchar not null,
    "subjectDid" varchar not null,
    "subjectUri" varchar,
    "subjectCid" varchar,
    "reasonType" varchar not null,
    reason text,
    "reportedByDid" varchar not null,
    "createdAt" varchar not null,
    constraint moderation_report_pkey primary key (id)
);

create table moderation_report_resolution (
    "reportId" integer not null,
    "actionId" integer not null,
    "createdBy" varchar not null,
    "createdAt" varchar not null,
    constraint moderation_report_resolution_pkey primary key ("reportId", "actionId"),
    constraint "moderation_report_resolution_actionId_fkey"
        foreign key ("actionId") references moderation_action (id),
    constraint "moderation_report_resolution_reportId_fkey"
        foreign key ("reportId") references moderation_report (id)
);

create index moderation_report_resolution_action_id_idx on moderation_report_resolution ("actionId");

create table moderation_event (
    id serial,
    action varchar not null,
    "subjectType" varchar not null,
    "subjectDid" varchar not null,
    "subjectUri" varchar,
    "subjectCid" varchar,
    comment text,
    meta jsonb,
    "createdAt" varchar not null,
    "createdBy" varchar not null,
    "reversedAt" varchar,
    "reversedBy" varchar,
    "durationInHours" integer,
    "expiresAt" varchar,
    "reversedReason" text,
    "createLabelVals" varchar,
    "negateLabelVals" varchar,
    "legacyRefId" integer,
    constraint moderation_event_pkey primary key (id)
);

create table moderation_subject_status (
    id serial,
    did varchar not null,
    "recordPath" varchar not null default '',
    "blobCids" jsonb,
    "recordCid" varchar,
    "reviewState" varchar not null,
    comment varchar,
    "muteUntil" varchar,
    "lastReviewedAt" varchar,
    "lastReviewedBy" varchar,
    "lastReportedAt" varchar,
    takendown boolean not null default false,
    "suspendUntil" varchar,
    "createdAt" varchar not null,
    "updatedAt" varchar not null,
    constraint moderation_subject_status_pkey primary key (id),
    constraint moderation_status_unique_idx unique (did, "recordPath")
);

create index moderation_subject_status_blob_cids_idx on moderation_subject_status using gin ("blobCids");
