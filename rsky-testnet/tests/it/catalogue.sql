-- The catalogue of the connection's first schema, as one JSON value in the shape of testdata/golden/schema.json.gz.
with relation as (
    select c.oid, c.relname as name, c.relkind as kind
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace
),
column_facts as (
    select
        a.attrelid as relation,
        json_agg(json_build_object(
            'name', a.attname,
            'type', format_type(a.atttypid, a.atttypmod),
            'nullable', not a.attnotnull,
            'default', pg_get_expr(d.adbin, d.adrelid),
            'identity', a.attidentity,
            'generated', a.attgenerated,
            'collation', case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end
        ) order by a.attnum) as columns
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    group by a.attrelid
),
constraint_facts as (
    select
        conrelid as relation,
        contype as kind,
        json_build_object('name', conname, 'definition', pg_get_constraintdef(oid)) as facts
    from pg_constraint
),
index_facts as (
    select
        i.indrelid as relation,
        json_agg(json_build_object('name', c.relname, 'definition', pg_get_indexdef(i.indexrelid))) as indexes
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    group by i.indrelid
)
select json_build_object(
    'schema', current_schema(),
    'extensions', (
        select json_agg(json_build_object('extname', extname, 'schema', extnamespace::regnamespace::text))
        from pg_extension
    ),
    'tables', (
        select json_object_agg(r.name, json_build_object(
            'columns', c.columns,
            'primaryKey', (select facts from constraint_facts k where k.relation = r.oid and k.kind = 'p'),
            'uniqueConstraints', (
                select json_agg(facts) from constraint_facts k where k.relation = r.oid and k.kind = 'u'
            ),
            'foreignKeys', (
                select json_agg(facts) from constraint_facts k where k.relation = r.oid and k.kind = 'f'
            ),
            -- Exclusion constraints are listed here too; the reference has neither. Not listed: 'n' (not null, since
            -- Postgres 18 a constraint, before and after a property of the column) and 't' (triggers).
            'checks', (
                select json_agg(facts) from constraint_facts k where k.relation = r.oid and k.kind in ('c', 'x')
            ),
            'indexes', i.indexes
        ))
        from relation r
        left join column_facts c on c.relation = r.oid
        left join index_facts i on i.relation = r.oid
        where r.kind in ('r', 'p', 'f')
    ),
    'materializedViews', (
        select json_object_agg(r.name, json_build_object(
            'columns', c.columns,
            'definition', pg_get_viewdef(r.oid, true),
            'indexes', i.indexes
        ))
        from relation r
        left join column_facts c on c.relation = r.oid
        left join index_facts i on i.relation = r.oid
        where r.kind = 'm'
    ),
    'views', (
        select json_object_agg(name, json_build_object('definition', pg_get_viewdef(oid, true)))
        from relation
        where kind = 'v'
    ),
    'functions', (
        select json_agg(json_build_object('name', p.oid::regprocedure::text))
        from pg_proc p
        where
            p.pronamespace = current_schema()::regnamespace
            and not exists (
                select from pg_depend d
                where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
            )
    ),
    'sequences', (
        select json_agg(json_build_object(
            'name', sequencename,
            'data_type', data_type::text,
            'start_value', start_value::text,
            'increment_by', increment_by::text
        ))
        from pg_sequences
        where schemaname = current_schema()
    ),
    'enums', (
        select json_agg(json_build_object('name', typname))
        from pg_type
        where typnamespace = current_schema()::regnamespace and typtype = 'e'
    )
);
