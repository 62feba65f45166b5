-- Feed generators, suggestions, and the view behind the feed of popular posts.

create table feed_generator (
    uri varchar not null,
    cid varchar not null,
    creator varchar not null,
    "feedDid" varchar not null,
    "displayName" varchar,
    description varchar,
    "descriptionFacets" varchar,
    "avatarCid" varchar,
    "createdAt" varchar not null,
    "indexedAt" varchar not null,
    "sortAt" varchar not null generated always as (least("createdAt", "indexedAt")) stored,
    constraint feed_generator_pkey primary key (uri)
);

create index feed_generator_creator_index on feed_generator (creator);

create table suggested_feed (
    uri varchar not null,
    "order" integer not null,
    constraint suggested_feed_pkey primary key (uri)
);

create table suggested_follow (
    did varchar not null,
    "order" integer not null,
    constraint suggested_follow_pkey primary key (did)
);

create table tagged_suggestion (
    tag varchar not null,
    subject varchar not null,
    "subjectType" varchar not null,
    constraint tagged_suggestion_pkey primary key (tag, subject)
);

-- Settings of the view below, read at each refresh.
create table view_param (
    name varchar not null,
    value varchar,
    constraint view_param_pkey primary key (name)
);

insert into view_param (name, value) values
    ('whats_hot_interval', '1day'),
    ('whats_hot_like_threshold', '2');

-- Root posts indexed within the interval that have more likes than the threshold; the score falls with their age in
-- hours.
create materialized view algo_whats_hot_view as
select
    post.uri,
    post.cid,
    round(
        1000000 * (
            post_agg."likeCount"
            / (extract(epoch from age(now(), post."indexedAt"::timestamp)) / 3600 + 2) ^ 1.8
        )
    ) as score
from post
join post_agg on post_agg.uri = post.uri
where
    post."indexedAt" > (
        select to_char(now() - value::interval, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as val
        from view_param
        where name = 'whats_hot_interval'
    )
    and post."replyParent" is null
    and post_agg."likeCount" > (
        select value::integer as val
        from view_param
        where name = 'whats_hot_like_threshold'
    );

-- Unique, as a concurrent refresh requires.
create unique index algo_whats_hot_view_uri_idx on algo_whats_hot_view (uri);
create index algo_whats_hot_view_cursor_idx on algo_whats_hot_view (score, cid);
