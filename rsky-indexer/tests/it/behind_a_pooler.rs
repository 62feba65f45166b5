//! Behind PgBouncer in transaction mode: nothing of the session is relied on, and nothing is left on it for others.

use rsky_testnet::servers::{PgBouncer, PgBouncerBuilder, Postgres, Redis, sql};
use serde_json::json;

use crate::accounts::{World, profile};
use crate::load::{events, like};
use crate::process::{
    Indexer, LABELS, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, count, run, wait_drained,
    wait_until,
};
use crate::support::{Db, TABLES};

fn pooler() -> PgBouncerBuilder {
    PgBouncer::builder(Postgres::shared().unwrap()).unwrap()
}

/// Moves the AppView's tables into a schema, and leaves empty ones of the same names in `public`.
fn with_decoys(db: &Db, schema: &str) {
    let sql = format!(
        "CREATE SCHEMA {schema};
        DO $$ DECLARE t text; BEGIN
            FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                EXECUTE format('ALTER TABLE public.%I SET SCHEMA {schema}', t);
                EXECUTE format('CREATE TABLE public.%I (LIKE {schema}.%I INCLUDING ALL)', t, t);
            END LOOP;
        END $$"
    );
    db.sql(&sql);
}

fn label(number: usize) -> String {
    let uri = format!("did:plc:labelled{number}");
    let label = json!({"src": "did:plc:l", "uri": uri, "val": "spam", "cts": "2024-01-01T00:00:00.000Z"});
    json!({"type": "label", "seq": number, "label": label}).to_string()
}

/// A pooler that gives out another server for every transaction, and tables of the same names in `public`: whatever is
/// sent outside of a transaction, or relies on what an earlier one has set or prepared, goes wrong.
#[test]
fn every_row_goes_into_the_configured_schema() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("pooler_schema"), World::new());
    with_decoys(&db, "bsky");
    let pooler =
        pooler().setting("server_round_robin", "1").setting("default_pool_size", "5").start().unwrap();
    let url = pooler.url(db.database());
    let payloads = events(4711, 3000);
    let handles: Vec<String> = (0..50).map(|number| format!("did:plc:handled{number}")).collect();
    for (number, did) in handles.iter().enumerate() {
        world.account(did, &format!("handled{number}.test"));
    }
    let indexer = world.indexer(
        &redis.url(),
        &url,
        &[("DATABASE_SCHEMA", "bsky"), ("INDEXER_CONCURRENCY", "4"), ("INDEXER_BATCH_SIZE", "100")],
    );
    add(&redis, LIVE, &payloads);
    wait_drained(&redis, LIVE);
    let direct = format!("{}?options=-csearch_path%3Dbsky", db.url());
    assert_as_undisturbed(&direct, &payloads);
    add(&redis, LABELS, &(0..300).map(label).collect::<Vec<_>>());
    add(&redis, LIVE, &handles.iter().map(|did| profile(did)).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    wait_drained(&redis, LABELS);
    assert_eq!(count(&db, "bsky.label"), 300);
    assert_eq!(count(&db, "bsky.actor WHERE handle IS NOT NULL"), 50);
    assert_no_dead_letters(&redis);
    for table in TABLES.iter().chain(&["actor"]) {
        assert_eq!(count(&db, &format!("public.\"{table}\"")), 0, "{table}");
    }
    // Whoever comes next on one of these servers finds it as the role's settings have it.
    for _ in 0..10 {
        assert_eq!(sql(&url, "SHOW search_path").unwrap(), "\"$user\", public");
    }
    assert!(indexer.log().contains("no statement stays prepared"), "{}", indexer.log());
}

/// As the package comes: with idle servers, each client mostly finds the one that was used last.
#[test]
fn a_pooler_is_noticed_and_nothing_is_lost_to_it() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("pooler_stock"));
    let pooler = pooler().start().unwrap();
    let indexer = Indexer::start(
        &redis.url(),
        &pooler.url(db.database()),
        &[("INDEXER_CONCURRENCY", "6"), ("INDEXER_BATCH_SIZE", "50")],
    );
    add(&redis, LIVE, &(0..3000).map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 3000);
    assert_no_dead_letters(&redis);
    assert!(indexer.log().contains("no statement stays prepared"), "{}", indexer.log());
    indexer.assert_metric("indexer_batch_retries_total", &["cause=\"transient\""], 0);
}

#[test]
fn a_server_keeps_its_statements() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("no_pooler"));
    let indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_until("ready", || indexer.get("/readyz").0 == 200);
    assert!(!indexer.log().contains("no statement stays prepared"), "{}", indexer.log());
}

/// What a pooler refuses at the door does not get better by waiting.
#[test]
fn a_refused_start_up_parameter_is_named() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("pooler_refuses"));
    let pooler = pooler().start().unwrap();
    let url = format!("{}?options=-cgeqo%3Doff", pooler.url(db.database()));
    let mut indexer = Indexer::start(&redis.url(), &url, &[]);
    assert_eq!(indexer.exit_code(), Some(1));
    let said = indexer.log();
    for word in ["options", "ignore_startup_parameters", "DATABASE_URL"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// `recount` and `index-repo` are on the same footing; the first can be tried without a network.
#[test]
fn a_recount_finds_the_configured_schema() {
    let db = Db::new("pooler_recount");
    with_decoys(&db, "bsky");
    let pooler = pooler().setting("server_round_robin", "1").start().unwrap();
    db.sql("INSERT INTO bsky.profile_agg (did, \"followersCount\") VALUES ('did:plc:a', 5)");
    db.sql("INSERT INTO public.profile_agg (did, \"followersCount\") VALUES ('did:plc:a', 7)");
    let url = pooler.url(db.database());
    let ran = run(&["recount", "--all"], &[("DATABASE_URL", &url), ("DATABASE_SCHEMA", "bsky")], "");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(db.sql("SELECT \"followersCount\" FROM bsky.profile_agg"), "0");
    assert_eq!(db.sql("SELECT \"followersCount\" FROM public.profile_agg"), "7");
}
