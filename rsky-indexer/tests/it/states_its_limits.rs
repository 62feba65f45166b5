//! Every transaction says itself what it needs, whatever the role, the database or the session say; and no statement goes on
//! that nobody waits for.

use rsky_testnet::servers::{Redis, sql};

use crate::load::like;
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, wait_drained, wait_until};
use crate::support::Db;

/// Notes what was in force when a row came.
const WITNESS: &str = r#"CREATE TABLE witness (said text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.witness VALUES (concat_ws(' ', current_setting('transaction_isolation'),
            current_setting('lock_timeout'), current_setting('statement_timeout'),
            current_setting('idle_in_transaction_session_timeout'), current_setting('search_path')));
        RETURN NEW;
    END $$;
    CREATE TRIGGER note BEFORE INSERT ON "like" FOR EACH ROW EXECUTE FUNCTION note()"#;

#[test]
fn settings_of_the_role_do_not_matter() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("hostile_role"));
    db.sql(WITNESS);
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "lock_timeout = 0",
        "search_path = 'pg_catalog'",
    ] {
        let name = db.sql("SELECT current_database()");
        sql(db.url(), &format!("ALTER DATABASE {name} SET {setting}"))
            .or_else(|_| {
                // The one before has made this session read-only.
                sql(
                    &format!("{}?options=-cdefault_transaction_read_only%3Doff", db.url()),
                    &format!("ALTER DATABASE {name} SET {setting}"),
                )
            })
            .unwrap();
    }
    let _indexer = Indexer::start(&redis.url(), db.url(), &[("DATABASE_SCHEMA", "public")]);
    add(&redis, LIVE, &(0..200).map(like).collect::<Vec<_>>());
    wait_drained(&redis, LIVE);
    assert_no_dead_letters(&redis);
    assert_eq!(count(&db, "public.\"like\""), 200);
    assert_eq!(
        db.sql("SELECT DISTINCT said FROM public.witness"),
        "read committed 1500ms 1min 2min public, public"
    );
}

/// The process is gone in the middle of a statement that would take an hour: the server notices.
#[test]
fn no_statement_goes_on_that_nobody_waits_for() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("left_running"));
    db.sql(
        r#"CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$;
        CREATE TRIGGER dawdle BEFORE INSERT ON "like" FOR EACH ROW EXECUTE FUNCTION dawdle()"#,
    );
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_CONCURRENCY", "1")]);
    add(&redis, LIVE, &[like(0)]);
    let name = db.sql("SELECT current_database()");
    let running = format!(
        "pg_stat_activity WHERE datname = '{name}' AND state = 'active' AND application_name = 'rsky-indexer'"
    );
    wait_until("it is on its way", || count(&db, &running) == 1);
    indexer.kill();
    wait_until("nothing is left of it", || count(&db, &running) == 0);
}
