//! `migrations-ref/` makes the schema that was recorded from the TypeScript reference (`testdata/golden/schema.json.gz`).
//!
//! Both catalogues are flattened into lines of one kind, *thing → facts*, and the lines compared. Not compared: the
//! numbers of columns (only their order; dropped columns left gaps in the reference) and versions of extensions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rsky_testnet::servers::{Database, Postgres};
use serde_json::Value;

/// What a catalogue says, by thing: `column post.uri`, `index post_pkey`, …
type Facts = BTreeMap<String, String>;

#[test]
fn the_catalogue_equals_the_recorded_one() {
    let database = create_database("reference_schema");
    let found = differences(&recorded(), &catalogue(&database));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_kind_of_difference_is_reported() {
    let database = create_database("reference_schema_altered");
    let alterations = r#"
        alter table post alter column text type text;
        alter table post alter column cid drop not null;
        alter table post add column extra integer;
        alter table actor alter column "trustedVerifier" set default true;
        alter table verification alter column "sortedAt" drop expression;
        alter table "like" drop constraint like_unique_subject;
        alter table quote add constraint quote_check check (uri <> cid);
        alter table moderation_report_resolution drop constraint "moderation_report_resolution_reportId_fkey";
        alter table label drop constraint label_pkey, add constraint label_pkey primary key (uri, src, cid, val);
        drop index post_replyparent_idx;
        create index post_replyparent_idx on post ("replyParent");
        alter sequence notification_id_seq increment by 2;
        drop materialized view algo_whats_hot_view;
        drop table list_mute;
        create table unknown (id integer);
        create view extra_view as select 1 as one;
        create function extra_function() returns integer language sql as 'select 1';
        create type extra_enum as enum ('a');
        "#;
    database.sql(alterations).unwrap();
    let altered: BTreeSet<String> = differences(&recorded(), &catalogue(&database))
        .iter()
        .map(|line| line.split(": ").next().unwrap().to_owned())
        .collect();
    let expected = [
        "differs column actor.trustedVerifier",
        "differs column post.cid",
        "differs column post.text",
        "differs column verification.sortedAt",
        "differs columns of post",
        "differs index label_pkey",
        "differs index post_replyparent_idx",
        "differs primary key label.label_pkey",
        "differs sequence notification_id_seq",
        "missing column algo_whats_hot_view.cid",
        "missing column algo_whats_hot_view.score",
        "missing column algo_whats_hot_view.uri",
        "missing column list_mute.createdAt",
        "missing column list_mute.listUri",
        "missing column list_mute.mutedByDid",
        "missing columns of algo_whats_hot_view",
        "missing columns of list_mute",
        "missing foreign key moderation_report_resolution.moderation_report_resolution_reportId_fkey",
        "missing index algo_whats_hot_view_cursor_idx",
        "missing index algo_whats_hot_view_uri_idx",
        "missing index like_unique_subject",
        "missing index list_mute_pkey",
        "missing materialized view algo_whats_hot_view",
        "missing primary key list_mute.list_mute_pkey",
        "missing unique constraint like.like_unique_subject",
        "surplus check quote.quote_check",
        "surplus column post.extra",
        "surplus column unknown.id",
        "surplus columns of unknown",
        "surplus enum extra_enum",
        "surplus function extra_function()",
        "surplus view extra_view",
    ];
    assert_eq!(altered, expected.map(str::to_owned).into());
}

#[test]
fn the_rows_of_a_new_database_are_the_recorded_ones() {
    let database = create_database("reference_schema_rows");

    let golden = read_testdata("golden/tables/view_param.jsonl.gz");
    let expected: Vec<Value> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let have = query_json(&database, "select json_agg(to_json(v) order by name) from view_param v");
    assert_eq!(have, Value::Array(expected), "view_param");

    // In the order in which the TypeScript migrator reads them, which must be the order it ran them in.
    let have = query_json(
        &database,
        "select json_agg(json_build_object('name', name) order by timestamp, name) from kysely_migration",
    );
    assert_eq!(have, recorded_json()["kyselyMigrations"], "kysely_migration");
}

#[test]
fn the_search_path_decides_the_schema() {
    let cluster = Postgres::shared().unwrap();
    let mut database = cluster.create_empty_database("reference_schema_named").unwrap();
    database.sql("create schema named").unwrap();
    let separator = if database.url.contains('?') { '&' } else { '?' };
    database.url.push_str(&format!("{separator}options=-csearch_path%3Dnamed,public"));
    for file in migrations() {
        database.sql(&fs::read_to_string(file).unwrap()).unwrap();
    }

    assert_eq!(catalogue_json(&database)["schema"], "named");
    let found = differences(&recorded(), &flatten(&catalogue_json(&database)));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// One line for every fact of `expected` that `found` lacks or has otherwise, and for every one it has beyond them.
fn differences(expected: &Facts, found: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for (thing, facts) in expected {
        match found.get(thing) {
            None => lines.push(format!("missing {thing}: {facts}")),
            Some(other) if other != facts => {
                lines.push(format!("differs {thing}: expected {facts}, found {other}"));
            }
            Some(_) => {}
        }
    }
    for (thing, facts) in found {
        if !expected.contains_key(thing) {
            lines.push(format!("surplus {thing}: {facts}"));
        }
    }
    lines
}

fn recorded() -> Facts {
    flatten(&recorded_json())
}

fn recorded_json() -> Value {
    serde_json::from_str(&read_testdata("golden/schema.json.gz")).unwrap()
}

fn catalogue(database: &Database) -> Facts {
    flatten(&catalogue_json(database))
}

fn catalogue_json(database: &Database) -> Value {
    query_json(database, include_str!("catalogue.sql"))
}

fn create_database(prefix: &str) -> Database {
    Postgres::shared().unwrap().create_database(prefix).unwrap()
}

fn query_json(database: &Database, sql: &str) -> Value {
    serde_json::from_str(&database.sql(sql).unwrap()).unwrap()
}

fn migrations() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations-ref");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}

/// A catalogue as lines, with the name of its schema taken out and white space made uniform.
fn flatten(catalogue: &Value) -> Facts {
    let schema = text(catalogue, "schema");
    let mut facts = Facts::new();
    let mut add = |thing: String, value: &str| {
        let value = without_schema(value, schema).split_whitespace().collect::<Vec<_>>().join(" ");
        let earlier = facts.insert(thing.clone(), value);
        assert_eq!(earlier, None, "two facts about {thing}");
    };

    for (table, it) in entries(catalogue, "tables").chain(entries(catalogue, "materializedViews")) {
        let names: Vec<&str> = items(it, "columns").map(|column| text(column, "name")).collect();
        add(format!("columns of {table}"), &names.join(", "));
        for column in items(it, "columns") {
            add(format!("column {table}.{}", text(column, "name")), &column_facts(column));
        }
        for index in items(it, "indexes") {
            add(format!("index {}", text(index, "name")), text(index, "definition"));
        }
        if let Some(key) = it.get("primaryKey").filter(|key| key.is_object()) {
            add(format!("primary key {table}.{}", text(key, "name")), text(key, "definition"));
        }
        for (kind, list) in
            [("unique constraint", "uniqueConstraints"), ("foreign key", "foreignKeys"), ("check", "checks")]
        {
            for constraint in items(it, list) {
                add(format!("{kind} {table}.{}", text(constraint, "name")), text(constraint, "definition"));
            }
        }
    }
    for (kind, map) in [("materialized view", "materializedViews"), ("view", "views")] {
        for (name, view) in entries(catalogue, map) {
            add(format!("{kind} {name}"), text(view, "definition"));
        }
    }
    for (kind, list) in [("function", "functions"), ("enum", "enums")] {
        for item in items(catalogue, list) {
            add(format!("{kind} {}", text(item, "name")), "");
        }
    }
    for sequence in items(catalogue, "sequences") {
        let [kind, start, step] = ["data_type", "start_value", "increment_by"].map(|key| text(sequence, key));
        add(
            format!("sequence {}", text(sequence, "name")),
            &format!("{kind} start {start} increment {step}"),
        );
    }
    for extension in items(catalogue, "extensions") {
        add(
            format!("extension {}", text(extension, "extname")),
            &format!("in {}", text(extension, "schema")),
        );
    }
    facts
}

fn column_facts(column: &Value) -> String {
    let mut facts = text(column, "type").to_owned();
    facts.push_str(if column["nullable"].as_bool().unwrap() { " null" } else { " not null" });
    for key in ["default", "identity", "generated", "collation"] {
        match column[key].as_str() {
            None | Some("") => {}
            Some(value) => facts.push_str(&format!(" {key} {value}")),
        }
    }
    facts
}

/// `sql` without `schema.` before names; `app.schema.name` is another thing and stays.
fn without_schema(sql: &str, schema: &str) -> String {
    let prefix = format!("{schema}.");
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(&prefix) {
        out.push_str(before);
        if out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
            out.push_str(&prefix);
        }
        rest = after;
    }
    out + rest
}

/// The members of an object; none if it is absent or null.
fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value[key].as_object().into_iter().flatten()
}

/// The elements of an array; none if it is absent or null.
fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn read_testdata(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path);
    let file = File::open(&path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}
