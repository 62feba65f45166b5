//! A directory that hangs slows down handles and nothing else; and no death of the process loses one.

use std::time::Duration;

use rsky_testnet::servers::Redis;

use crate::accounts::{T0, World, account, document, identity, profile};
use crate::load::{Moments, like};
use crate::process::{
    LIVE, add, assert_no_dead_letters, count, length, pending, pending_of, wait_drained, wait_until,
};
use crate::support::Db;

/// Peak of resident memory, in MiB.
const BOUND: u64 = 200;

fn did(number: usize) -> String {
    format!("did:plc:w{number}")
}

fn add_accounts(world: &World, count: usize) {
    for number in 0..count {
        world.account(&did(number), &format!("w{number}.test"));
    }
}

fn right(db: &Db) -> i64 {
    count(db, "actor WHERE handle = substr(did, 9) || '.test'")
}

#[test]
fn twenty_thousand_likes_pass_while_it_hangs() {
    const ACCOUNTS: usize = 3000;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("hangs"), World::new());
    add_accounts(&world, ACCOUNTS);
    world.directory.hang(true);
    let settings = [("INDEXER_HANDLE_QUEUE", "200"), ("INDEXER_CONCURRENCY", "3")];
    let indexer = world.indexer(&redis.url(), db.url(), &settings);
    let likes: Vec<String> = (0..20_000).map(like).collect();
    let mut waiting = 0;
    for (part, likes) in likes.chunks(200).enumerate() {
        let numbers = part * ACCOUNTS / 100..(part + 1) * ACCOUNTS / 100;
        // What comes last counts, however often it is read again.
        let events: Vec<String> = numbers
            .flat_map(|number| {
                let (first, last) = match number % 3 {
                    0 => (Some("suspended"), None),
                    1 => (None, Some("takendown")),
                    _ => (Some("deactivated"), Some("suspended")),
                };
                let did = did(number);
                [account(&did, T0, first), profile(&did), account(&did, T0, last)]
            })
            .collect();
        waiting += i64::try_from(events.len()).unwrap();
        add(&redis, LIVE, &events);
        add(&redis, LIVE, likes);
    }
    // An event may be done with at once when the row is there already, made by one that waits.
    let waiting = waiting - 10..=waiting;
    wait_until("all likes are indexed and gone from the stream", || waiting.contains(&length(&redis, LIVE)));
    assert_eq!(count(&db, "\"like\""), 20_000);
    assert_eq!(count(&db, "profile"), i64::try_from(ACCOUNTS).unwrap());
    assert_eq!(right(&db), 0);
    wait_until("it is known", || !indexer.get("/status").1.contains("\"directory\":\"answers\""));
    assert_eq!(indexer.get("/readyz").0, 200, "{}", indexer.get("/readyz").1);
    assert_eq!(pending(&redis, LIVE), Some(length(&redis, LIVE)));
    assert!(indexer.metric("indexer_handle_deferred_total", &[]) >= 8000);
    let asked = world.directory.total_lookups();
    std::thread::sleep(Duration::from_secs(5));
    let more = world.directory.total_lookups() - asked;
    assert!(more <= 5, "{more} look-ups in five seconds at a directory that hangs");
    // New likes pass, too.
    add(&redis, LIVE, &(20_000..21_000).map(like).collect::<Vec<_>>());
    wait_until("they are indexed", || waiting.contains(&length(&redis, LIVE)));
    assert_eq!(indexer.log().lines().filter(|line| line.contains("does not answer")).count(), 1);
    world.directory.hang(false);
    wait_drained(&redis, LIVE);
    assert_eq!(right(&db), i64::try_from(ACCOUNTS).unwrap());
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" IS NULL"), 1000);
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" = 'takendown'"), 1000);
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" = 'suspended'"), 1000);
    assert_no_dead_letters(&redis);
    assert!(indexer.peak_mib() < BOUND, "{} MiB", indexer.peak_mib());
    assert!(indexer.log().contains("answers again"));
    indexer.assert_metric("indexer_handle_entries", &[], 0);
    indexer.assert_metric("stream_indexer_messages_running_count", &[], 0);
}

/// Answers of 500 and 429 are the directory's trouble for as long as they last.
#[test]
fn a_directory_that_fails_costs_no_entry() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("fails"), World::new());
    add_accounts(&world, 50);
    world.directory.fail_with(Some(500));
    let mut indexer = world.indexer(&redis.url(), db.url(), &[("MAX_ATTEMPTS", "1")]);
    add(&redis, LIVE, &(0..50).map(|number| identity(&did(number), T0)).collect::<Vec<_>>());
    wait_until("it was asked", || world.directory.total_lookups() > 5);
    std::thread::sleep(Duration::from_secs(2));
    world.directory.fail_with(Some(429));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(length(&redis, LIVE), 50);
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
    assert_eq!(pending(&redis, LIVE), Some(50));
    indexer.restart();
    world.directory.fail_with(None);
    wait_drained(&redis, LIVE);
    assert_eq!(right(&db), 50);
    assert_no_dead_letters(&redis);
    assert_eq!(indexer.get("/readyz").0, 200);
}

/// Entries that wait here are not taken for forgotten by the other indexers.
#[test]
fn nobody_takes_over_what_waits() {
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("holds"), World::new());
    add_accounts(&world, 100);
    world.directory.hang(true);
    let idle = ("INDEXER_CLAIM_IDLE_MS", "4000");
    let mut first = world.indexer(&redis.url(), db.url(), &[idle]);
    add(&redis, LIVE, &(0..100).map(|number| identity(&did(number), T0)).collect::<Vec<_>>());
    wait_until("they wait", || pending(&redis, LIVE) == Some(100));
    let second = world.indexer(&redis.url(), db.url(), &[idle, ("INDEXER_CONSUMER", "b")]);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(pending_of(&redis, LIVE, "a").len(), 100);
    // Nobody holds them once their holder is dead.
    first.kill();
    wait_until("they are taken over", || pending_of(&redis, LIVE, "b").len() == 100);
    world.directory.hang(false);
    wait_drained(&redis, LIVE);
    assert_eq!(right(&db), 100);
    second.assert_metric("indexer_claimed_total", &[], 100);
}

/// The shared cache of documents cannot be written then; handles can.
#[test]
fn a_full_redis_stops_no_handle() {
    let redis = Redis::builder().policy("noeviction").start().unwrap();
    let (db, world) = (Db::new("full_handles"), World::new());
    add_accounts(&world, 100);
    add(&redis, LIVE, &[identity(&did(0), T0)]);
    let indexer = world.indexer(&redis.url(), db.url(), &[("INDEXER_STREAMS", LIVE)]);
    wait_drained(&redis, LIVE);
    add(&redis, LIVE, &[like(0)]);
    world.directory.hang(true);
    add(&redis, LIVE, &(1..100).map(|number| profile(&did(number))).collect::<Vec<_>>());
    redis.command(&["CONFIG", "SET", "maxmemory", "100kb"]).unwrap();
    assert!(redis.command(&["SET", "probe", "x"]).is_err(), "the server is not full");
    world.directory.hang(false);
    wait_drained(&redis, LIVE);
    assert_eq!(right(&db), 100);
    assert_eq!(indexer.get("/readyz").0, 200);
    assert_eq!(redis.command(&["EXISTS", "identity:did:plc:w0"]).unwrap().as_int(), Some(1));
    let said = indexer.log().lines().filter(|line| line.contains("shared cache of DID documents")).count();
    assert_eq!(said, 1, "{}", indexer.log());
}

#[test]
fn kills_while_handles_are_resolved_lose_none() {
    const ACCOUNTS: usize = 1200;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("kill_handles"), World::new());
    add_accounts(&world, ACCOUNTS);
    let settings = [("INDEXER_HANDLE_QUEUE", "50"), ("INDEXER_HANDLE_CONCURRENCY", "4")];
    let mut indexer = world.indexer(&redis.url(), db.url(), &settings);
    let mut moments = Moments::new(6);
    let mut hit = 0;
    for round in 0..12 {
        world.directory.hang(round % 4 == 3);
        let numbers = round * ACCOUNTS / 12..(round + 1) * ACCOUNTS / 12;
        let events: Vec<String> = numbers
            .flat_map(|number| {
                let did = did(number);
                [account(&did, T0, Some("suspended")), profile(&did), account(&did, T0, None)]
            })
            .collect();
        add(&redis, LIVE, &events);
        wait_until("entries are on their way", || {
            pending(&redis, LIVE) > Some(0) || length(&redis, LIVE) == 0
        });
        moments.pause(Duration::from_millis(120));
        indexer.kill();
        hit += usize::from(pending(&redis, LIVE) > Some(0));
        indexer.restart();
    }
    world.directory.hang(false);
    wait_drained(&redis, LIVE);
    assert!(hit >= 4, "only {hit} kills hit while entries were pending");
    assert_eq!(right(&db), i64::try_from(ACCOUNTS).unwrap());
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" IS NOT NULL"), 0);
    assert_no_dead_letters(&redis);
}

/// Statuses are written when their entries are read, and again when these are read again because their domain had its share.
#[test]
fn statuses_end_in_their_order_however_often_they_are_put_off() {
    const ACCOUNTS: usize = 150;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("statuses"), World::new());
    add_accounts(&world, ACCOUNTS);
    let statuses = |number: usize| match number % 2 {
        0 => [Some("suspended"), Some("takendown"), None],
        _ => [None, Some("suspended"), Some("deactivated")],
    };
    // Of neighbours in turn, so that a batch has one entry of each.
    let rounds = (0..ACCOUNTS / 30).flat_map(|part| (0..3).map(move |nth| (part, nth)));
    let events: Vec<String> = rounds
        .flat_map(|(part, nth)| (part * 30..(part + 1) * 30).map(move |number| (number, nth)))
        .map(|(number, nth)| account(&did(number), T0, statuses(number)[nth]))
        .collect();
    add(&redis, LIVE, &events);
    let settings =
        [("INDEXER_HANDLE_QUEUE", "20"), ("INDEXER_HANDLE_CONCURRENCY", "4"), ("INDEXER_BATCH_SIZE", "10")];
    let indexer = world.indexer(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    assert!(indexer.metric("indexer_handle_deferred_total", &[]) > 30);
    assert_eq!(right(&db), i64::try_from(ACCOUNTS).unwrap());
    let half = i64::try_from(ACCOUNTS / 2).unwrap();
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" IS NULL"), half);
    assert_eq!(count(&db, "actor WHERE \"upstreamStatus\" = 'deactivated'"), half);
    assert_no_dead_letters(&redis);
}

/// Accounts of did:web whose hosts take a question and never answer it, before accounts of the directory in the stream.
#[test]
fn a_hundred_and_fifty_silent_hosts_hold_up_no_handle_of_the_directory() {
    const SILENT: usize = 150;
    const ACCOUNTS: usize = 300;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("silent"), World::new());
    add_accounts(&world, ACCOUNTS);
    // All of 127.0.0.0/8 is this machine: as many hosts as are wanted behind one port that nobody serves.
    let silent = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let hosts = (0..SILENT).map(|number| format!("did:web:127.1.0.{}%3A{port}", number + 1));
    add(&redis, LIVE, &hosts.map(|did| identity(&did, T0)).collect::<Vec<_>>());
    add(&redis, LIVE, &(0..ACCOUNTS).map(|number| identity(&did(number), T0)).collect::<Vec<_>>());
    // Fewer places for entries than there are silent hosts.
    let settings = [("INDEXER_HANDLE_QUEUE", "100"), ("MAX_ATTEMPTS", "100")];
    let indexer = world.indexer(&redis.url(), db.url(), &settings);
    wait_until("all others have their handles", || right(&db) == i64::try_from(ACCOUNTS).unwrap());
    let failed = indexer.metric("indexer_handles_total", &["outcome=\"failed\""]);
    assert!(failed < SILENT as u64, "each of the silent hosts had been waited for, {failed} times in all");
    assert_eq!(length(&redis, LIVE), i64::try_from(SILENT).unwrap());
    assert!(indexer.get("/status").1.contains("\"directory\":\"answers\""));
    assert_no_dead_letters(&redis);
}

/// More accounts of did:web in one silent domain than there are places for entries, before accounts of the directory.
#[test]
fn a_domain_of_very_many_silent_accounts_holds_up_itself_alone() {
    const SILENT: usize = 500;
    const ACCOUNTS: usize = 100;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("one_domain"), World::new());
    add_accounts(&world, ACCOUNTS);
    let silent = std::net::TcpListener::bind("127.1.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    // The same port, written in so many ways: as many DIDs of one host.
    let dids = (0..SILENT).map(|number| {
        let (colon, zeros) = (if number % 2 == 0 { "%3A" } else { "%3a" }, "0".repeat(number / 2));
        format!("did:web:127.1.0.1{colon}{zeros}{port}")
    });
    add(&redis, LIVE, &dids.map(|did| identity(&did, T0)).collect::<Vec<_>>());
    add(&redis, LIVE, &(0..ACCOUNTS).map(|number| identity(&did(number), T0)).collect::<Vec<_>>());
    // Nine times as many entries may be in hand, if all but a ninth wait: 360.
    let indexer =
        world.indexer(&redis.url(), db.url(), &[("INDEXER_HANDLE_QUEUE", "40"), ("MAX_ATTEMPTS", "1")]);
    wait_until("all others have their handles", || right(&db) == i64::try_from(ACCOUNTS).unwrap());
    assert!(length(&redis, LIVE) > i64::try_from(SILENT / 2).unwrap(), "{}", length(&redis, LIVE));
    // Those of the domain have their turn when it answers at once: here, by refusing them.
    drop(silent);
    wait_drained(&redis, LIVE);
    let letters = i64::try_from(SILENT).unwrap();
    assert_eq!(length(&redis, "firehose_live_dlq"), letters);
    indexer.assert_metric("indexer_handle_entries", &[], 0);
}

/// More accounts of the directory than there are places for entries, whose handles all lie in one silent domain, before
/// others whose handles lie in a domain that answers at once.
#[test]
fn handles_of_very_many_accounts_in_one_silent_domain_hold_up_themselves_alone() {
    const SILENT: usize = 500;
    const ACCOUNTS: usize = 100;
    let (redis, db, world) = (Redis::start().unwrap(), Db::new("one_handle_domain"), World::new());
    let silent = std::net::TcpListener::bind("127.1.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.2.0.2:0").unwrap().local_addr().unwrap();
    let handle = silent.local_addr().unwrap().to_string();
    let slow: Vec<String> = (0..SILENT).map(|number| format!("did:plc:s{number}")).collect();
    slow.iter().for_each(|did| world.directory.set_document(document(did, &handle)));
    (0..ACCOUNTS)
        .for_each(|number| world.directory.set_document(document(&did(number), &closed.to_string())));
    add(&redis, LIVE, &slow.iter().map(|did| identity(did, T0)).collect::<Vec<_>>());
    add(&redis, LIVE, &(0..ACCOUNTS).map(|number| identity(&did(number), T0)).collect::<Vec<_>>());
    // Nobody stands in for DNS and HTTPS.
    let settings = [("INDEXER_HANDLE_QUEUE", "40"), ("HANDLE_RESOLVER_URL", "")];
    let indexer = world.indexer(&redis.url(), db.url(), &settings);
    // Their handles lead nowhere, which is an answer.
    let others = || count(&db, "actor WHERE did LIKE 'did:plc:w%'");
    wait_until("all others have their rows", || others() == i64::try_from(ACCOUNTS).unwrap());
    assert!(length(&redis, LIVE) > i64::try_from(SILENT / 2).unwrap(), "{}", length(&redis, LIVE));
    assert!(indexer.metric("indexer_handle_deferred_total", &[]) > 0);
    // Those of the domain have their turn when it answers at once: here, by refusing them.
    drop(silent);
    wait_drained(&redis, LIVE);
    assert_eq!(count(&db, "actor WHERE did LIKE 'did:plc:s%'"), i64::try_from(SILENT).unwrap());
    assert_no_dead_letters(&redis);
    indexer.assert_metric("indexer_handle_entries", &[], 0);
}
