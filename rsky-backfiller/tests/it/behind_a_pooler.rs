//! The AppView's database behind PgBouncer in transaction mode, read while nothing is taken from the output.

use bytes::Bytes;
use rsky_testnet::servers::{PgBouncer, Postgres, Redis};

use crate::hosts::{Host, Hosts, did};
use crate::support::{Backfiller, left, length, queue_in, wait_until};
use crate::synthetic;

/// More than a page, and than what is on its way.
const GONE: usize = 6000;

/// Tables of the same names in `public`, and another server connection for every transaction: whatever relies on a session
/// would read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comparisons_rely_on_no_session_and_keep_no_snapshot_open() {
    let (hosts, redis) = (Hosts::start().await, Redis::start().unwrap());
    let account = hosts.add(1, Host::Car(Bytes::from(synthetic::car(&did(1), 3, 5, &synthetic::key(1)))), 1);
    let postgres = Postgres::shared().unwrap();
    let database = postgres.create_database("backfiller").unwrap();
    let moved = ["record", "actor_sync"].map(|table| {
        format!("ALTER TABLE {table} SET SCHEMA bsky; CREATE TABLE public.{table} (LIKE bsky.{table} INCLUDING ALL);")
    });
    database.sql(&format!("CREATE SCHEMA bsky; {}", moved.concat())).unwrap();
    let gone = format!(
        "INSERT INTO bsky.record (uri, cid, did, json, rev, \"indexedAt\")
         SELECT 'at://{account}/app.bsky.feed.like/' || number, 'c', '{account}', '{{}}', '3jzfcijpj2z2a', '2025-01-01T00:00:00.000Z'
         FROM generate_series(1, {GONE}) number"
    );
    database.sql(&gone).unwrap();
    let pooler = PgBouncer::builder(postgres).unwrap();
    let pooler = pooler.setting("server_round_robin", "1").setting("default_pool_size", "4").start().unwrap();
    let url = pooler.url(&database);
    queue_in("repo_backfill_priority", &redis, &hosts.url(), [&account]);
    let own = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_SCHEMA", "bsky"),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "100"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("the output is full", || length(&redis, "firehose_backfill") >= 100);
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
    wait_until("no transaction is open", || database.sql(open).unwrap().trim() == "0");
    assert_eq!(left(&redis), 1, "most of it has not been read");
    wait_until("it is compared", || {
        redis.command(&["DEL", "firehose_backfill"]).unwrap();
        left(&redis) == 0
    });
    assert_eq!(backfiller.metric("backfiller_records_deleted_total", ""), Some(GONE as f64));
}
