//! The private servers: start, stop, kill, restart, pause, and what they leave behind.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rsky_testnet::servers::{Postgres, Redis, RespClient, Value, sql};

fn text(value: &Value) -> String {
    value.as_text().unwrap()
}

fn is_alive(pid: u32) -> bool {
    // A zombie is dead: only its parent has not asked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !check() {
        assert!(Instant::now() < deadline, "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn redis_keeps_port_and_appendonly_data_over_kill_and_restart() {
    let mut redis = Redis::builder().appendonly(true).start().unwrap();
    let port = redis.port();
    redis.command(&["SET", "key", "value"]).unwrap();

    redis.kill().unwrap();
    assert!(redis.command(&["PING"]).is_err());
    redis.restart().unwrap();
    assert_eq!(redis.port(), port);
    assert_eq!(text(&redis.command(&["GET", "key"]).unwrap()), "value");

    redis.stop().unwrap();
    assert!(redis.command(&["PING"]).is_err());
    redis.restart().unwrap();
    assert_eq!(text(&redis.command(&["GET", "key"]).unwrap()), "value");
}

#[test]
fn redis_applies_its_settings() {
    let redis = Redis::builder().maxmemory("64mb").policy("allkeys-lru").start().unwrap();
    let setting = |name| text(&redis.command(&["CONFIG", "GET", name]).unwrap().items()[1]);
    assert_eq!(setting("maxmemory"), (64 << 20).to_string());
    assert_eq!(setting("maxmemory-policy"), "allkeys-lru");
    assert_eq!(setting("save"), "");
    let refused = Redis::builder().setting("no-such-setting", "1").start().unwrap_err();
    assert!(format!("{refused:#}").contains("no-such-setting"), "{refused:#}");
}

#[test]
fn redis_paused_does_not_answer_until_resumed() {
    let mut redis = Redis::start().unwrap();
    let mut client = RespClient::connect(redis.port(), Duration::from_millis(200)).unwrap();
    client.command(&["PING"]).unwrap();
    redis.pause().unwrap();
    assert!(client.command(&["PING"]).is_err());
    redis.resume().unwrap();
    assert_eq!(text(&redis.command(&["PING"]).unwrap()), "PONG");
}

#[test]
fn redis_that_is_loading_counts_as_started_only_when_asked() {
    const KEYS: i64 = 20_000;
    // 50 microseconds a key: the data takes a second to load, and commands are answered with LOADING meanwhile.
    let slow = || Redis::builder().appendonly(true).setting("key-load-delay", "50");
    for wait in [false, true] {
        let mut redis = slow().wait_for_loading(wait).start().unwrap();
        let mut client = redis.client().unwrap();
        for number in 0..KEYS {
            client.queue(&[b"SET", format!("key{number}").as_bytes(), b"some value"]);
        }
        client.flush().unwrap();
        redis.restart().unwrap();
        let first = redis.command(&["DBSIZE"]);
        if wait {
            assert_eq!(first.unwrap().as_int(), Some(KEYS));
        } else {
            assert!(format!("{:#}", first.unwrap_err()).contains("LOADING"));
            eventually("loaded", || redis.command(&["DBSIZE"]).is_ok_and(|size| size.as_int() == Some(KEYS)));
        }
    }
}

#[test]
fn nothing_is_left_after_drop() {
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let pids = [redis.pid().unwrap(), postgres.pid().unwrap()];
    let directories = [redis.directory().to_owned(), postgres.directory().to_owned()];
    assert!(pids.into_iter().all(is_alive));
    drop((redis, postgres));
    assert!(!pids.into_iter().any(is_alive));
    assert!(!directories.iter().any(|directory| directory.exists()));
}

#[test]
fn servers_outlive_the_thread_that_started_them() {
    let redis = std::thread::spawn(|| Redis::start().unwrap()).join().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    redis.command(&["PING"]).unwrap();
}

/// Runs in a process of its own, started by the next test, and waits to be killed.
#[test]
fn helper_starts_servers_and_prints_their_pids() {
    let Some(file) = std::env::var_os("RSKY_SERVERS_HELPER") else { return };
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let partial = Path::new(&file).with_extension("partial");
    std::fs::write(&partial, format!("{} {}", redis.pid().unwrap(), postgres.pid().unwrap())).unwrap();
    std::fs::rename(partial, file).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn servers_die_with_a_killed_process() {
    let file = std::env::temp_dir().join(format!("rsky-servers-helper-{}", std::process::id()));
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::helper_starts_servers_and_prints_their_pids"])
        .env("RSKY_SERVERS_HELPER", &file)
        .spawn()
        .unwrap();
    eventually("helper started its servers", || file.exists());
    let pids: Vec<u32> =
        std::fs::read_to_string(&file).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    helper.kill().unwrap();
    helper.wait().unwrap();
    eventually("servers are gone", || !pids.iter().any(|pid| is_alive(*pid)));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn postgres_keeps_port_and_data_over_kill_restart_and_stop() {
    let mut postgres = Postgres::builder().durable(true).setting("work_mem", "7MB").start().unwrap();
    let (url, port) = (postgres.url(), postgres.port());
    assert_eq!(sql(&url, "SHOW work_mem").unwrap(), "7MB");
    assert_eq!(sql(&url, "SHOW fsync").unwrap(), "on");
    assert_eq!(sql(&url, "SELECT datcollate || ' ' || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'postgres'").unwrap(), "C.UTF-8 UTF8");
    sql(&url, "CREATE TABLE t AS SELECT 42 AS answer").unwrap();

    postgres.kill().unwrap();
    assert!(sql(&url, "SELECT 1").is_err());
    postgres.restart().unwrap();
    assert_eq!(postgres.port(), port);
    assert_eq!(sql(&url, "SELECT answer FROM t").unwrap(), "42");

    postgres.stop().unwrap();
    assert!(sql(&url, "SELECT 1").is_err());
    postgres.restart().unwrap();
    assert_eq!(sql(&url, "SELECT answer FROM t").unwrap(), "42");
    assert!(sql(&url, "SELECT nonsense").is_err());
}

#[test]
fn postgres_paused_answers_after_resume_and_can_be_killed_while_paused() {
    let mut postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let started = Instant::now();
    let asker = std::thread::spawn({
        let url = url.clone();
        move || sql(&url, "SELECT pg_sleep(0.3), 7")
    });
    std::thread::sleep(Duration::from_millis(150));
    postgres.pause().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(!asker.is_finished());
    postgres.resume().unwrap();
    assert_eq!(asker.join().unwrap().unwrap(), "|7");
    assert!(started.elapsed() >= Duration::from_secs(1));

    postgres.pause().unwrap();
    postgres.kill().unwrap();
    postgres.restart().unwrap();
    assert_eq!(sql(&url, "SELECT 1").unwrap(), "1");
}

#[test]
fn connections_are_terminated() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let asker = std::thread::spawn(move || sql(&url, "SELECT pg_sleep(30)"));
    let busy =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND pid <> pg_backend_pid()";
    eventually("query runs", || sql(&postgres.url(), busy).unwrap() == "1");
    postgres.terminate_connections().unwrap();
    let error = asker.join().unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("terminat"), "{error:#}");
}

#[test]
fn a_session_is_one_connection_until_a_statement_fails() {
    let database = Postgres::shared().unwrap().create_database("session").unwrap();
    let mut session = database.session().unwrap();
    assert_eq!(session.rows("CREATE TEMP TABLE seen (a int, b text)").unwrap(), [""; 0]);
    session.rows("INSERT INTO seen VALUES (1, 'one'), (2, '')").unwrap();
    assert_eq!(session.rows("SELECT a, b FROM seen ORDER BY a").unwrap(), ["1|one", "2|"]);
    let error = session.rows("SELECT nothing FROM seen").unwrap_err();
    assert!(format!("{error:#}").contains("column \"nothing\" does not exist"), "{error:#}");
    assert!(session.rows("SELECT 1").is_err());
}

#[test]
fn databases_are_cloned_apart_and_dropped() {
    let cluster = Postgres::shared().unwrap();
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema !~ '^(pg_|information)'";
    let databases: Vec<_> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..4).map(|_| scope.spawn(|| cluster.create_database("clone"))).collect();
        creators.into_iter().map(|creator| creator.join().unwrap().unwrap()).collect()
    });
    for database in &databases {
        assert!(database.sql(tables).unwrap().parse::<u32>().unwrap() > 30, "{}", database.name);
    }
    databases[0].sql("CREATE TABLE only_here (x int)").unwrap();
    assert!(databases[1].sql("SELECT * FROM only_here").is_err());

    // FORCE: dropping does not wait for connections.
    let url = databases[0].url.clone();
    let asker = std::thread::spawn(move || sql(&url, "SELECT pg_sleep(30)"));
    let names: Vec<String> = databases.iter().map(|database| format!("'{}'", database.name)).collect();
    let left = format!("SELECT count(*) FROM pg_database WHERE datname IN ({})", names.join(","));
    assert_eq!(sql(cluster.url(), &left).unwrap(), "4");
    drop(databases);
    assert_eq!(sql(cluster.url(), &left).unwrap(), "0");
    assert!(asker.join().unwrap().is_err());
}
