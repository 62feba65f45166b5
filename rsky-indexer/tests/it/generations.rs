//! What the indexer makes of the databases it meets: the three generations of the schema, drifted ones, strangers.

use rsky_common::postgres::transaction::Preamble;
use rsky_indexer::schema::{self, Generation, RevMode, Schema, SchemaError};
use rsky_testnet::servers::{self, Redis};
use sqlx::{Connection, PgConnection};

use crate::process::{Indexer, LIVE, add, block_on, wait_drained, wait_until};
use crate::support::Db;

fn inspect(db: &Db) -> Result<Schema, SchemaError> {
    block_on(async {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        schema::inspect(&mut connection, &Preamble::default()).await
    })
}

/// Moves all tables into another schema.
fn move_tables(db: &Db, to: &str) {
    db.sql(&format!(
        "CREATE SCHEMA {to}; DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                EXECUTE format('ALTER TABLE public.%I SET SCHEMA {to}', name);
            END LOOP; END $$"
    ));
}

#[test]
fn the_three_generations_are_told_apart() {
    let d = inspect(&Db::of(servers::Generation::D, "generation_d")).unwrap();
    assert_eq!(d, Schema::reference());
    let marks = |schema: &Schema| {
        let tables = (schema.galleries(), schema.op_thread_replies(), schema.videos());
        let columns = (schema.has_column("follow", "via"), schema.handle_resolve_tries());
        (schema.generation(), schema.rev(), tables, columns, schema.notification_trigger())
    };
    assert_eq!(marks(&d), (Generation::D, RevMode::NotNull, (false, false, true), (false, false), false));
    let b = inspect(&Db::of(servers::Generation::B, "generation_b")).unwrap();
    assert_eq!(marks(&b), (Generation::B, RevMode::Nullable, (true, true, true), (true, true), true));
    let u = inspect(&Db::of(servers::Generation::U, "generation_u")).unwrap();
    assert_eq!(marks(&u), (Generation::U, RevMode::None, (true, true, true), (false, false), false));
    for schema in [&d, &b, &u] {
        assert!(schema.label_expiry() && schema.thread_mutes() && !schema.label_signatures());
        assert_eq!(schema.position_type(), "text");
    }
    assert_eq!(
        b.to_string(),
        "generation B, record.rev nullable, without label.sig, a trigger on notification"
    );
}

#[test]
fn what_has_drifted_is_seen() {
    let db = Db::of(servers::Generation::B, "drifted");
    db.sql(
        r#"ALTER TABLE "like" DROP COLUMN via; ALTER TABLE thread_mute DROP COLUMN "createdAt";
        ALTER TABLE label ADD COLUMN sig bytea, DROP COLUMN exp; DROP TABLE verification, post_embed_video;
        ALTER TABLE notification DISABLE TRIGGER notification_push_insert_notify;
        ALTER TABLE post_embed_image ALTER COLUMN position TYPE integer USING position::integer"#,
    );
    let schema = inspect(&db).unwrap();
    assert_eq!(schema.generation(), Generation::Between);
    assert!(!schema.has_column("like", "via") && schema.has_column("like", "viaCid"));
    assert!(schema.thread_mutes() && schema.label_signatures() && !schema.label_expiry());
    assert!(!schema.videos() && !schema.has_table("verification") && !schema.notification_trigger());
    assert_eq!(schema.position_type(), "integer");
}

#[test]
fn a_configured_schema_must_have_the_tables_itself() {
    let redis = Redis::start().unwrap();
    let db = Db::of(servers::Generation::B, "named_schema");
    db.sql("CREATE SCHEMA other");
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("DATABASE_SCHEMA", "other")]);
    assert_eq!(indexer.exit_code(), Some(1), "{}", indexer.log());
    assert!(indexer.log().contains("table \"like\" is missing"), "{}", indexer.log());

    move_tables(&db, "bsky");
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("DATABASE_SCHEMA", "bsky")]);
    wait_until("it is ready", || indexer.get("/readyz").0 == 200);
    assert!(indexer.log().contains("generation B"), "{}", indexer.log());
    let follow = r#"{"type":"create","seq":1,"time":"2024-02-01T00:00:00.000Z","did":"did:plc:a","commit":"c","rev":"3ra","collection":"app.bsky.graph.follow","rkey":"1","cid":"x","record":{"$type":"app.bsky.graph.follow","subject":"did:plc:b","createdAt":"2024-01-01T00:00:00.000Z"}}"#;
    add(&redis, LIVE, &[follow]);
    wait_drained(&redis, LIVE);
    assert_eq!(db.sql("SELECT count(*) FROM bsky.follow"), "1");
    assert_eq!(indexer.terminate(), Some(0));
}

/// As a user sees it: exit code 1, every difference in one message, nothing changed.
#[test]
fn a_stranger_is_refused_with_every_difference() {
    let redis = Redis::start().unwrap();
    let db = Db::of(servers::Generation::U, "stranger");
    db.sql(
        r#"ALTER TABLE post DROP COLUMN langs; ALTER TABLE notification DROP COLUMN "reasonSubject";
        ALTER TABLE post_agg DROP COLUMN "quoteCount"; ALTER TABLE op_thread_reply DROP COLUMN "deletedAt";
        ALTER TABLE follow ADD COLUMN weight integer NOT NULL; DROP TABLE quote, actor_sync"#,
    );
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[]);
    assert_eq!(indexer.exit_code(), Some(1), "{}", indexer.log());
    let log = indexer.log();
    for words in [
        "nothing is changed",
        "Check DATABASE_URL and DATABASE_SCHEMA",
        "post.\"langs\" is missing",
        "notification.\"reasonSubject\" is missing",
        "post_agg.\"quoteCount\" is missing",
        "op_thread_reply.\"deletedAt\" is missing",
        "follow.\"weight\" is unknown to this indexer and must have a value",
        "table \"quote\" is missing",
        "table \"actor_sync\" is missing",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(log.matches("is missing").count(), 6, "{log}");
    assert_eq!(db.sql("SELECT count(*) FROM pg_tables WHERE tablename IN ('quote', 'actor_sync')"), "0");

    let nothing = servers::Postgres::shared().unwrap().create_empty_database("nothing").unwrap();
    let mut indexer = Indexer::start(&redis.url(), &nothing.url, &[]);
    assert_eq!(indexer.exit_code(), Some(1));
    assert!(indexer.log().contains("table \"record\" is missing"), "{}", indexer.log());
}
