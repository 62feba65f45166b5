//! What is not the entry's own fault is waited out, and no good entry becomes a dead letter for it; what fails by itself for a
//! reason that nobody foresaw holds up nothing else.

use rsky_testnet::servers::Redis;
use sqlx::{Connection, PgConnection};

use crate::accounts::{World, profile};
use crate::load::{like, padded_like};
use crate::process::{
    Indexer, LIVE, add, assert_no_dead_letters, count, dead_letters, length, wait_drained, wait_until,
};
use crate::support::Db;

/// Something is taken away under the running process and comes back.
fn comes_back(name: &str, away: &str, back: &str, said: &str) {
    let (redis, db) = (Redis::start().unwrap(), Db::new(name));
    let indexer = Indexer::start(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "1")]);
    add(&redis, LIVE, &(0..100).map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    db.sql(away);
    add(&redis, LIVE, &(100..300).map(like).collect::<Vec<_>>());
    wait_until("it says what is wrong, and what to do", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains(said)
    });
    assert_no_dead_letters(&redis);
    db.sql(back);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 300);
    assert_no_dead_letters(&redis);
    wait_until("ready again", || indexer.get("/readyz").0 == 200);
}

#[test]
fn a_table_that_is_renamed_away() {
    comes_back(
        "table_away",
        "ALTER TABLE \"like\" RENAME TO liked",
        "ALTER TABLE liked RENAME TO \"like\"",
        "is not what it was at the start",
    );
}

#[test]
fn a_column_that_is_renamed() {
    comes_back(
        "column_away",
        "ALTER TABLE \"like\" RENAME COLUMN subject TO about",
        "ALTER TABLE \"like\" RENAME COLUMN about TO subject",
        "is not what it was at the start",
    );
}

/// What was prepared is gone again and again: from the first time on, nothing is relied on.
#[test]
fn statements_that_are_lost() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("statements_lost"));
    db.sql(
        r#"CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END $$;
        CREATE TRIGGER forget AFTER INSERT ON "like" FOR EACH STATEMENT EXECUTE FUNCTION forget()"#,
    );
    let settings = [("INDEXER_CONCURRENCY", "2"), ("INDEXER_BATCH_SIZE", "50"), ("MAX_ATTEMPTS", "1")];
    let indexer = Indexer::start(&redis.url(), db.url(), &settings);
    add(&redis, LIVE, &(0..1000).map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 1000);
    assert_no_dead_letters(&redis);
    assert!(indexer.log().contains("a prepared statement was lost or met another"), "{}", indexer.log());
}

/// One like of five hundred fails, by what a trigger of somebody's own does: that one waits, and all others pass.
fn waits_by_itself(name: &str, does: &str, said: &str) {
    let (redis, db) = (Redis::start().unwrap(), Db::new(name));
    db.sql(&format!(
        r#"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.subject LIKE '%/217' THEN {does}; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON "like" FOR EACH ROW EXECUTE FUNCTION refuse()"#,
    ));
    let settings = [("MAX_ATTEMPTS", "2"), ("INDEXER_CONCURRENCY", "1")];
    let indexer = Indexer::start(&redis.url(), db.url(), &settings);
    add(&redis, LIVE, &(0..500).map(like).collect::<Vec<_>>());
    wait_until("all but one are done", || length(&redis, LIVE) == 1);
    add(&redis, LIVE, &(500..1000).map(like).collect::<Vec<_>>());
    wait_until("all but one are done", || length(&redis, LIVE) == 1);
    assert_eq!(count(&db, "\"like\""), 999);
    wait_until("it says which and why", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains(said) && body.contains("1 entries are set aside")
    });
    assert_no_dead_letters(&redis);
    db.sql("DROP TRIGGER refuse ON \"like\"");
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 1000);
    assert_no_dead_letters(&redis);
}

#[test]
fn what_fails_unforeseen_waits_by_itself() {
    waits_by_itself("unforeseen", "RAISE 'not this one'", "not this one");
}

/// A migration beside the running process adds what no statement of ours fills: good entries wait, others go on.
#[test]
fn a_column_that_must_have_a_value_buries_nothing() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("must_have"));
    let settings = [("MAX_ATTEMPTS", "1"), ("INDEXER_CONCURRENCY", "1")];
    let indexer = Indexer::start(&redis.url(), db.url(), &settings);
    add(&redis, LIVE, &[like(0)]);
    wait_drained(&redis, LIVE);
    // The row that is there gets one.
    db.sql("ALTER TABLE \"like\" ADD COLUMN weight integer NOT NULL DEFAULT 0");
    db.sql("ALTER TABLE \"like\" ALTER COLUMN weight DROP DEFAULT");
    add(&redis, LIVE, &(1..50).map(like).collect::<Vec<_>>());
    wait_until("it says what is wrong, and what to do", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains("a column that was not there at the start")
    });
    add(&redis, LIVE, &[profile("did:plc:other")]);
    wait_until("others go on", || count(&db, "profile") == 1);
    assert_eq!((count(&db, "\"like\""), length(&redis, LIVE) >= 49), (1, true));
    assert_no_dead_letters(&redis);
    db.sql("ALTER TABLE \"like\" DROP COLUMN weight");
    wait_until("the likes are there", || count(&db, "\"like\"") == 50);
    assert_no_dead_letters(&redis);
}

/// As a statement whose time is over: it is halved, and one that is too slow by itself holds up nothing.
#[test]
fn what_is_cancelled_waits_by_itself() {
    let cancel = "PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60)";
    waits_by_itself("cancelled", cancel, "canceling statement");
}

/// No two accounts can have a row, whatever is done: that repeats itself, is told of, and buries nothing.
#[test]
fn what_repeats_itself_without_end_is_told_of() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("endless"), World::new());
    db.sql("CREATE UNIQUE INDEX only_one ON actor ((true))");
    for number in 0..3 {
        world.account(&format!("did:plc:e{number}"), &format!("e{number}.test"));
    }
    let indexer = world.indexer(&redis.url(), db.url(), &[]);
    add(&redis, LIVE, &(0..3).map(|number| profile(&format!("did:plc:e{number}"))).collect::<Vec<_>>());
    wait_until("it says so", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains("times over")
    });
    add(&redis, LIVE, &(0..100).map(like).collect::<Vec<_>>());
    wait_until("others go on", || count(&db, "\"like\"") == 100);
    assert_no_dead_letters(&redis);
}

/// A subject that no index can hold, one that Postgres compresses into it, and many that are no trouble.
#[test]
fn what_is_too_long_for_an_index_costs_the_others_nothing() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("too_long"));
    let mut payloads: Vec<String> = (0..2000).map(like).collect();
    let mut number: u64 = 7;
    let mut noise = |length: usize| -> String {
        let letter = |_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((number >> 40) % 26).unwrap())
        };
        (0..length).map(letter).collect()
    };
    let longer = |payload: &str, by: &str| {
        payload.replace("/app.bsky.feed.post/", &format!("/app.bsky.feed.post/{by}"))
    };
    let (mut refused, mut taken) = (0, 0);
    for at in (0..2000).step_by(65) {
        if at % 2 == 0 {
            payloads[at] = longer(&payloads[at], &noise(6000));
            refused += 1;
        } else {
            payloads[at] = longer(&payloads[at], &"ab".repeat(3000));
            taken += 1;
        }
    }
    assert!(refused >= 15 && taken >= 15);
    add(&redis, LIVE, &payloads);
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONCURRENCY", "1")]);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 2000 - refused);
    assert_eq!(count(&db, "\"like\" WHERE length(subject) > 6000"), taken);
    let letters = dead_letters(&redis, LIVE);
    assert_eq!(letters.len(), usize::try_from(refused).unwrap());
    for letter in &letters {
        assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("refused_by_postgres", "1"));
    }
    indexer.assert_metric("indexer_batch_retries_total", &["cause=\"split\""], 0);
}

/// Somebody holds the row of one account: its handle waits, those of others do not.
#[test]
fn a_handle_whose_row_is_held_holds_up_no_other() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("held_actor"), World::new());
    let dids: Vec<String> = (0..20).map(|number| format!("did:plc:h{number}")).collect();
    for (number, did) in dids.iter().enumerate() {
        world.account(did, &format!("h{number}.test"));
    }
    db.sql("INSERT INTO actor (did, \"indexedAt\") VALUES ('did:plc:h0', '2020-01-01T00:00:00.000Z')");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut holder = runtime.block_on(PgConnection::connect(db.url())).unwrap();
    let lock = sqlx::raw_sql("BEGIN; SELECT 1 FROM actor WHERE did = 'did:plc:h0' FOR UPDATE");
    runtime.block_on(lock.execute(&mut holder)).unwrap();
    let _indexer = world.indexer(&redis.url(), db.url(), &[]);
    for did in &dids {
        add(&redis, LIVE, &[profile(did)]);
    }
    let resolved = "actor WHERE handle IS NOT NULL";
    wait_until("all others have their handles", || count(&db, resolved) == 19 && length(&redis, LIVE) == 1);
    runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut holder)).unwrap();
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, resolved), 20);
    assert_no_dead_letters(&redis);
}

/// A row that cannot be read, for what a policy of somebody's own does: the question what is stored fails because of it.
#[test]
fn what_cannot_be_asked_about_holds_up_nothing_else() {
    // The stored version of a repost is looked at before it is written.
    let repost = |number: usize| like(number).replace("app.bsky.feed.like", "app.bsky.feed.repost");
    let (redis, db) = (Redis::start().unwrap(), Db::new("unreadable"));
    let role = db.sql("SELECT 'r_' || current_database()");
    db.sql(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"));
    db.sql(&format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"));
    let url = db.url().replacen("postgres@", &format!("{role}@"), 1);
    let settings = [("MAX_ATTEMPTS", "2"), ("INDEXER_CONCURRENCY", "1")];
    let indexer = Indexer::start(&redis.url(), &url, &settings);
    add(&redis, LIVE, &(0..300).map(repost).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    db.sql(
        r#"CREATE FUNCTION readable(uri text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            IF uri LIKE '%/r217' THEN RAISE 'not this row'; END IF; RETURN true; END $$;
        CREATE POLICY all_of_them ON repost USING (readable(uri)) WITH CHECK (true);
        ALTER TABLE repost ENABLE ROW LEVEL SECURITY"#,
    );
    let delete = |number: usize| {
        let mut event: serde_json::Value = serde_json::from_str(&repost(number)).unwrap();
        event["type"] = "delete".into();
        // Later than what it deletes.
        event["rev"] = format!("3l{number:011}").into();
        event.to_string()
    };
    let payloads: Vec<String> = (200..230).map(delete).chain((300..500).map(repost)).collect();
    add(&redis, LIVE, &payloads);
    // With what the same account says later.
    wait_until("all others are done", || length(&redis, LIVE) == 1 + 4);
    assert_eq!(db.sql("SELECT count(*) FROM record WHERE json <> ''"), (500 - 29 - 4).to_string());
    wait_until("it says which and why", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains("not this row") && body.contains("entries are set aside")
    });
    assert_no_dead_letters(&redis);
    db.sql("ALTER TABLE repost DISABLE ROW LEVEL SECURITY");
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "repost"), 500 - 30);
    assert_no_dead_letters(&redis);
    wait_until("ready again", || indexer.get("/readyz").0 == 200);
    drop(indexer);
    db.sql(&format!("DROP OWNED BY {role}"));
    db.sql(&format!("DROP ROLE {role}"));
}

/// More entries fail by themselves than may wait: they are left pending in the stream, and reading goes on.
#[test]
fn more_that_fails_than_may_wait_holds_up_nothing_else() {
    const FAILING: usize = 40;
    let (redis, db) = (Redis::start().unwrap(), Db::new("many_fail"));
    db.sql(
        r#"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.subject LIKE '%/900___' THEN RAISE 'not these'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON "like" FOR EACH ROW EXECUTE FUNCTION refuse()"#,
    );
    let settings = [("MAX_ATTEMPTS", "1"), ("INDEXER_MEMORY", "1MiB"), ("INDEXER_CLAIM_IDLE_MS", "15000")];
    let indexer = Indexer::start(&redis.url(), db.url(), &settings);
    // A few of them take all the memory there is.
    let failing = (900_000..900_000 + FAILING).map(|number| padded_like(number, 20_000));
    add(&redis, LIVE, &failing.collect::<Vec<_>>());
    add(&redis, LIVE, &(0..200).map(like).collect::<Vec<_>>());
    wait_until("the others are done", || count(&db, "\"like\"") == 200);
    wait_until("it says so", || {
        let (status, body) = indexer.get("/readyz");
        status == 503 && body.contains("not these") && body.contains("left pending")
    });
    assert!(indexer.get("/status").1.contains("left pending, read again after"));
    assert!(indexer.metric("indexer_entries_total", &["outcome=\"put_back\""]) > 0);
    assert_no_dead_letters(&redis);
    db.sql("DROP TRIGGER refuse ON \"like\"");
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "\"like\""), 200 + i64::try_from(FAILING).unwrap());
    assert_no_dead_letters(&redis);
}
