//! `indexer doctor`: broken surroundings, each with the line that a tired operator needs.

use rsky_testnet::servers::{Generation, PgBouncer, Postgres, Redis, sql};

use crate::process::{Ran, add, read_and_vanish, run, wait_until};
use crate::support::Db;

const LIVE: &str = "firehose_live";

/// Runs it, with nobody asked about handles.
fn doctor(redis_url: &str, database_url: &str, settings: &[(&str, &str)]) -> Ran {
    let fixed =
        [("REDIS_URL", redis_url), ("DATABASE_URL", database_url), ("INDEXER_HANDLE_CONCURRENCY", "0")];
    run(&["doctor"], &[&fixed[..], settings].concat(), "")
}

#[track_caller]
fn says(ran: &Ran, level: &str, says: &str, todo: &str) {
    let found =
        ran.out.lines().any(|line| line.starts_with(level) && line.contains(says) && line.contains(todo));
    assert!(found, "{level} {says} {todo}:\n{}{}", ran.out, ran.err);
}

/// A Redis as it should be.
fn good_redis() -> Redis {
    Redis::builder().maxmemory("64mb").appendonly(true).start().unwrap()
}

#[test]
fn what_is_fine_is_said_to_be_for_every_generation() {
    let redis = good_redis();
    for generation in [Generation::D, Generation::B, Generation::U] {
        let db = Db::of(generation, "doctor_fine");
        let ran = doctor(&redis.url(), db.url(), &[]);
        assert_eq!(ran.code, Some(0), "{generation:?}\n{}{}", ran.out, ran.err);
        for about in [
            "redis",
            "eviction",
            "room",
            "persistence",
            "postgres",
            "schema",
            "rights",
            "indexes",
            "clock",
            "memory",
        ] {
            says(&ran, "fine", about, "");
        }
        says(&ran, "fine", "it is not there yet", "");
        assert!(ran.out.trim_end().ends_with(" fine"), "{}", ran.out);
    }
}

#[test]
fn settings_that_are_not_usable_end_it() {
    let ran = run(&["doctor"], &[("REDIS_URL", "redis://r")], "");
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("DATABASE_URL"), "{}", ran.err);
}

#[test]
fn nothing_that_answers() {
    let ran = doctor("redis://u:secret@127.0.0.1:1", "postgres://u:secret@127.0.0.1:1/d", &[]);
    assert_eq!(ran.code, Some(1));
    says(&ran, "BROKEN", "redis        no connection", "start it, or correct REDIS_URL");
    says(&ran, "BROKEN", "postgres     no connection", "start it, or correct DATABASE_URL");
    assert!(!ran.out.contains("secret"), "{}", ran.out);
    let ran = doctor("redis://no.such.host.invalid", "postgres://u@no.such.host.invalid/d", &[]);
    says(&ran, "BROKEN", "the name no.such.host.invalid", "name servers");
}

#[test]
fn a_redis_that_will_not_do() {
    let db = Db::new("doctor_redis");
    let redis = Redis::builder().policy("allkeys-lru").start().unwrap();
    let ran = doctor(&redis.url(), db.url(), &[]);
    assert_eq!(ran.code, Some(1));
    says(&ran, "BROKEN", "maxmemory-policy is allkeys-lru", "CONFIG SET maxmemory-policy noeviction");
    says(&ran, "look", "without a limit", "set maxmemory");
    says(&ran, "look", "appendonly no", "CONFIG SET appendonly yes");
    says(&doctor(&redis.url(), db.url(), &[("REDIS_ALLOW_EVICTION", "true")]), "look", "allkeys-lru", "");

    let used = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    used.unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "100kb"]).unwrap();
    says(&doctor(&redis.url(), db.url(), &[]), "BROKEN", "full, writers wait", "raise maxmemory");

    // A user without rights: what cannot be looked at is said, and everything else goes on.
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    add(&redis, LIVE, &["{}"]);
    redis.command(&["ACL", "SETUSER", "narrow", "on", ">p", "~*", "+ping", "+xreadgroup"]).unwrap();
    let ran = doctor(&redis.url().replace("redis://", "redis://narrow:p@"), db.url(), &[]);
    assert_eq!(ran.code, Some(3), "{}", ran.out);
    says(&ran, "look", "may not be looked at", "+info");
    says(&ran, "look", "firehose_live", "+xinfo");
    says(&ran, "fine", "schema", "");
}

#[test]
fn groups_that_nobody_reads_or_that_lose() {
    let (redis, db) = (good_redis(), Db::new("doctor_groups"));
    let look = || doctor(&redis.url(), db.url(), &[]);
    let command = |words: &[&str]| redis.command(words).unwrap();
    add(&redis, LIVE, &["{}", "{}", "{}", "{}"]);
    says(&look(), "look", "nobody reads it: there is no group firehose_group", "start an indexer");

    // Read, and never acknowledged, by one who is gone.
    let ids = read_and_vanish(&redis, LIVE, "gone", 3);
    let long_ago = |id: &str| {
        command(&["XCLAIM", LIVE, "firehose_group", "gone", "0", id, "IDLE", "900000", "JUSTID"]);
    };
    ids.iter().for_each(|id| long_ago(id));
    wait_until("it has not been heard of for a while", || {
        let consumers = command(&["XINFO", "CONSUMERS", LIVE, "firehose_group"]);
        consumers.items()[0].items()[5].as_int() > Some(200)
    });
    let ran = doctor(&redis.url(), db.url(), &[("INDEXER_CLAIM_IDLE_MS", "100")]);
    says(&ran, "BROKEN", "nobody of firehose_live firehose_group has been heard of", "start an indexer");
    says(&ran, "look", "gone has 3 entries and has not been heard of", "do not delete gone");

    // Bodies that are gone, and entries that are with nobody.
    command(&["XDEL", LIVE, &ids[1]]);
    says(&look(), "look", "of the first 3 pending entries 1 have no body", "it acknowledges them");
    command(&["XACK", LIVE, "firehose_group", &ids[0]]);
    let ran = look();
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    says(&ran, "BROKEN", "were delivered and are with nobody", "XGROUP SETID firehose_live firehose_group 0");

    // A group beside ours: one that is read, and one that is not.
    command(&["XGROUP", "CREATE", LIVE, "other", "0"]);
    says(&look(), "look", "the group other is read by nobody", "XGROUP DESTROY firehose_live other");
    command(&["XREADGROUP", "GROUP", "other", "o", "COUNT", "1", "STREAMS", LIVE, ">"]);
    says(&look(), "BROKEN", "a second group, other, reads it as well", "then redis-cli XGROUP DESTROY");

    // Trimmed before it was read.
    command(&["XTRIM", LIVE, "MAXLEN", "0"]);
    says(&look(), "look", "entries were deleted that firehose_group had not read", "verify --sample");

    // Made anew, with smaller numbers.
    command(&["DEL", LIVE]);
    command(&["XADD", LIVE, "5-0", "event", "{}"]);
    command(&["XGROUP", "CREATE", LIVE, "firehose_group", "9-0"]);
    says(
        &look(),
        "BROKEN",
        "stands at 9-0, behind the end of the stream",
        "XGROUP SETID firehose_live firehose_group 0",
    );

    command(&["DEL", LIVE]);
    command(&["SET", LIVE, "x"]);
    says(&look(), "BROKEN", "a key of that name is a string", "correct the name");
    command(&["XADD", "label_live", "*", "event", "{}"]);
    command(&["XADD", "label_live_dlq", "*", "event", "{}"]);
    says(&look(), "look", "label_live_dlq", "indexer dead-letters list");
}

#[test]
fn a_postgres_that_will_not_do() {
    let (redis, db) = (good_redis(), Db::new("doctor_postgres"));
    let look = |settings: &[(&str, &str)]| doctor(&redis.url(), db.url(), settings);
    db.sql(r#"DROP INDEX post_replyparent_idx; DROP INDEX feed_item_post_uri_idx"#);
    let ran = look(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    says(
        &ran,
        "BROKEN",
        "post has none on replyParent",
        r#"CREATE INDEX CONCURRENTLY ON "post" ("replyParent")"#,
    );
    says(&ran, "BROKEN", "feed_item has none on postUri", "");
    says(
        &look(&[("DATABASE_SCHEMA", "nowhere")]),
        "BROKEN",
        "there is no schema \"nowhere\"",
        "DATABASE_SCHEMA",
    );
    db.sql("ALTER TABLE \"like\" RENAME TO likes");
    says(&look(&[]), "BROKEN", "table \"like\" is missing", "migrations");
    db.sql("ALTER TABLE likes RENAME TO \"like\"");

    db.sql("DO $$ BEGIN CREATE ROLE doctor_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctor_reader; GRANT INSERT, UPDATE, DELETE ON post TO doctor_reader");
    let (scheme, rest) = db.url().split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let ran = doctor(&redis.url(), &format!("{scheme}://doctor_reader@{host}"), &[]);
    says(&ran, "BROKEN", "the role lacks DELETE, INSERT, UPDATE on actor, actor_block, ", "GRANT them");
}

#[test]
fn a_pooler_in_between_is_told() {
    let (redis, db) = (good_redis(), Db::new("doctor_pooler"));
    let pooler = PgBouncer::start(Postgres::shared().unwrap()).unwrap();
    let url = pooler.url(db.database());
    assert_eq!(sql(&url, "SELECT 1").unwrap(), "1");
    let ran = doctor(&redis.url(), &url, &[]);
    says(&ran, "fine", "gives out servers per transaction", "");
    says(&ran, "fine", "indexes", "");
}

#[test]
fn memory_that_does_not_suffice_is_said() {
    let (redis, db) = (good_redis(), Db::new("doctor_memory"));
    let ran = doctor(&redis.url(), db.url(), &[("INDEXER_MEMORY", "16GiB"), ("INDEXER_CONCURENCY", "2")]);
    says(&ran, "look", "INDEXER_MEMORY set by hand", "raise the limit");
    says(&ran, "look", "did you mean INDEXER_CONCURRENCY?", "correct or remove it");
}
