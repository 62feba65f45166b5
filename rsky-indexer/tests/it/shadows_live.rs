//! `indexer shadow` beside an indexer at work, and beside servers that come and go.

use rsky_testnet::servers::{Generation, Postgres, Redis, Signal};

use crate::load::events;
use crate::process::{Indexer, LIVE, add, add_field, length, read_and_vanish, wait_drained, wait_until};
use crate::shadows::{Finished, Shadow, groups, reader, state};
use crate::support::Db;

/// What the summary says of the live stream: entries read, and deleted before they were seen.
fn watched(said: &str) -> (u64, u64) {
    let line = said.lines().find_map(|line| {
        line.strip_prefix("firehose_live: ")?.strip_suffix(" deleted before they were seen")
    });
    let (read, missed) = line.unwrap_or_else(|| panic!("{said}")).split_once(" entries read, ").unwrap();
    (read.parse().unwrap(), missed.parse().unwrap())
}

/// Whether a line of progress says that something was compared.
fn has_compared(said: &str) -> bool {
    let compared =
        said.lines().filter_map(|line| line.split_once(" entries read, ")?.1.split_once(" compared"));
    compared.filter_map(|(count, _)| count.parse::<u64>().ok()).any(|count| count > 0)
}

/// It watches while the indexer works; with every entry it sees, what is written is what ours would write.
#[test]
fn an_indexer_at_work_is_watched() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("shadow_live"));
    groups(&redis);
    let payloads = events(41, 1500);
    let arguments = ["--entries", "1500", "--settle", "1", "--from", "0"];
    let shadow = Shadow::start("shadow_live", &redis.url(), &reader(&db), &arguments);
    add(&redis, LIVE, &payloads);
    shadow.wait_for("1500 entries read, no more are");
    let _indexer = Indexer::start(&redis.url(), db.url(), &[]);
    wait_drained(&redis, LIVE);
    let (code, said) = shadow.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 0 differ, ") && said.contains("; 0 not decided"), "{said}");
    assert!(said.contains("firehose_live: 1500 entries read, 0 deleted"), "{said}");
}

/// A full window stops the reading; nothing is dropped, nothing is changed, SIGTERM ends it with a summary, and where it
/// stopped it goes on.
#[test]
fn a_full_window_waits_and_a_signal_ends_it() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("shadow_full"));
    groups(&redis);
    let payloads = events(42, 600);
    add(&redis, LIVE, &payloads);
    let (before, reader) = (state(&redis), reader(&db));
    let arguments = ["--from", "0", "--window", "64KiB", "--entries", "600"];
    let mut shadow = Shadow::start("shadow_full", &redis.url(), &reader, &arguments);
    shadow.wait_for("firehose_live: no more is read until firehose_group has finished some");
    shadow.process.signal(Signal::Term).unwrap();
    let (code, said) = shadow.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(before == state(&redis), "looking changes nothing");
    assert!(
        said.contains("nothing was compared") && said.contains("\n0 as ours would write them, 0 differ"),
        "{said}"
    );
    let (read, missed) = watched(&said);
    assert!((1..600).contains(&read) && missed == 0, "{said}");
    let place = said.split("--from '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();

    // What it read before, it reads again: nothing of it was decided.
    let arguments = ["--from", &place, "--window", "64KiB", "--entries", "600", "--settle", "1"];
    let mut shadow = Shadow::start("shadow_full_again", &redis.url(), &reader, &arguments);
    shadow.wait_for("firehose_live: no more is read until");
    let indexer =
        Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "5"), ("INDEXER_CONCURRENCY", "1")]);
    wait_drained(&redis, LIVE);
    drop(indexer);
    // It may have read all of them by then, and have ended by itself.
    let has_ended = |said: &str| said.contains(" as ours would write them, ");
    wait_until("some are compared", || has_compared(&shadow.said()) || has_ended(&shadow.said()));
    shadow.process.signal(Signal::Int).unwrap();
    let (code, said) = shadow.end();
    assert_eq!(code, Some(0), "{said}");
    // The indexer deletes what it has done: what was not read before is counted.
    let (read, missed) = watched(&said);
    assert!(said.contains(" 0 differ, ") && read + missed <= 600, "{said}");
}

/// Redis and Postgres go away and come back; it waits, says so, and goes on.
#[test]
fn servers_that_go_and_come_back_are_waited_for() {
    let mut redis = Redis::builder().appendonly(true).start().unwrap();
    let mut postgres = Postgres::builder().durable(true).start().unwrap();
    let database = postgres.create_database("shadow_outage").unwrap();
    groups(&redis);
    let payloads = events(43, 400);
    let mut indexer = Indexer::start(&redis.url(), &database.url, &[]);
    add(&redis, LIVE, &payloads[..200]);
    wait_drained(&redis, LIVE);
    assert_eq!(indexer.terminate(), Some(0));
    let arguments = ["--entries", "400", "--settle", "0"];
    let shadow = Shadow::start("shadow_outage", &redis.url(), &database.url, &arguments);
    shadow.wait_for("0 entries read, 0 compared");
    postgres.stop_fast().unwrap();
    add(&redis, LIVE, &payloads[..200]);
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "$"]).unwrap();
    shadow.wait_for("200 entries read, 0 compared");
    shadow.wait_for("Postgres cannot be reached");
    redis.kill().unwrap();
    shadow.wait_for("no connection to Redis");
    postgres.restart().unwrap();
    redis.restart().unwrap();
    add(&redis, LIVE, &payloads[200..]);
    shadow.wait_for("400 entries read, no more are");
    let indexer = Indexer::start(&redis.url(), &database.url, &[]);
    let (code, said) = shadow.end();
    drop(indexer);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 0 differ, ") && said.contains("; 0 not decided"), "{said}");
}

/// What is not there, or is not what it should be, is told at the start; what nobody can compare keeps nothing from being
/// compared; what is trimmed before the indexer has it is missed.
#[test]
fn what_is_missing_hostile_or_trimmed() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("shadow_hostile"));
    let reader = reader(&db);
    let ends = |name: &str, redis_url: &str, database_url: &str, arguments: &[&str]| {
        Shadow::start(name, redis_url, database_url, arguments).end()
    };
    let payloads = events(44, 20);
    add(&redis, LIVE, &payloads);
    let (code, said) = ends("shadow_no_group", &redis.url(), &reader, &[]);
    assert!(code == Some(1) && said.contains("firehose_live has no group firehose_group"), "{said}");
    let (code, said) = ends("shadow_no_stream", &redis.url(), &reader, &["--streams", "other"]);
    assert!(code == Some(1) && said.contains("other is no stream of the indexer"), "{said}");
    let (code, said) = ends("shadow_no_redis", "redis://127.0.0.1:1", &reader, &[]);
    assert!(code == Some(1) && said.contains("connect to Redis"), "{said}");
    let (code, said) = ends("shadow_no_postgres", &redis.url(), "postgres://u:secret@127.0.0.1:1/x", &[]);
    assert!(
        code == Some(1) && said.contains("connect to the database") && !said.contains("secret"),
        "{said}"
    );

    // Ours would have written those that were trimmed before anybody had them; the others as well, but are pending.
    read_and_vanish(&redis, LIVE, "dead", 5);
    let arguments = ["--from", "0", "--settle", "0", "--patience", "1", "--entries", "27", "--streams", LIVE];
    let shadow = Shadow::start("shadow_trimmed", &redis.url(), &reader, &arguments);
    shadow.wait_for(" entries read, 0 compared, 0 differ, ");
    add_field(&redis, LIVE, "event", &[b"\xff\xfe".as_slice(), b"", b"{", b"[[[[[[", b"{\"type\":\"new\"}"]);
    add_field(&redis, LIVE, "other", &["{}"]);
    let nul = payloads[0].replacen("did:plc:", "did:plc:\\u0000", 1);
    add(&redis, LIVE, &[nul]);
    shadow.wait_for("27 entries read, no more are");
    redis.command(&["XTRIM", LIVE, "MAXLEN", "0"]).unwrap();
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "$"]).unwrap();
    let (code, said) = shadow.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("were still pending after --patience") && said.contains("record missing"),
        "{said}"
    );
    for reason in ["not_utf8", "malformed_entry", "unknown_type", "missing_field"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    assert_eq!(length(&redis, LIVE), 0);
}

/// A stream that begins anew under it: what waited says nothing any more, and what comes is compared.
#[test]
fn a_stream_that_begins_anew() {
    let payloads = events(45, 50);
    let world = Finished::new("shadow_anew", Generation::D, &[(LIVE, payloads.clone())]);
    let redis = &world.redis;
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "0"]).unwrap();
    let shadow = Shadow::start(
        "shadow_anew",
        &redis.url(),
        world.db.url(),
        &["--from", "0", "--settle", "0", "--entries", "100"],
    );
    shadow.wait_for("50 entries read, 0 compared");
    redis.command(&["DEL", LIVE]).unwrap();
    shadow.wait_for("firehose_live began anew; ");
    redis.command(&["XGROUP", "CREATE", LIVE, "firehose_group", "0", "MKSTREAM"]).unwrap();
    add(redis, LIVE, &payloads);
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "$"]).unwrap();
    let (code, said) = shadow.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0 differ") && !said.contains(" 0 lost with their stream"), "{said}");
}

/// The group is taken away under it and comes back: it says what is missing, and goes on.
#[test]
fn a_group_that_is_destroyed() {
    let payloads = events(46, 50);
    let world = Finished::new("shadow_group", Generation::D, &[(LIVE, payloads)]);
    let redis = &world.redis;
    redis.command(&["XGROUP", "SETID", LIVE, "firehose_group", "0"]).unwrap();
    let arguments = ["--from", "0", "--settle", "0", "--entries", "51"];
    let shadow = Shadow::start("shadow_group", &redis.url(), world.db.url(), &arguments);
    shadow.wait_for("50 entries read, 0 compared");
    redis.command(&["XGROUP", "DESTROY", LIVE, "firehose_group"]).unwrap();
    shadow.wait_for("firehose_live has no group firehose_group");
    redis.command(&["XGROUP", "CREATE", LIVE, "firehose_group", "$"]).unwrap();
    add(redis, LIVE, &["{}"]);
    let (code, said) = shadow.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 0 differ, ") && said.contains("1 malformed_entry"), "{said}");
}
