//! A recount that is told to stop: between two steps, with the place where it goes on, and at once when told twice.

use std::path::{Path, PathBuf};

use rsky_testnet::servers::{Process, Signal, command};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::process::{PATIENCE, count, run, wait_until};
use crate::support::Db;

/// Three steps of posts, all of them wrong, and an account without its row.
fn wrong(name: &str) -> Db {
    let db = Db::new(name);
    db.sql(
        r#"INSERT INTO post_agg (uri, "likeCount")
        SELECT 'at://did:plc:n/app.bsky.feed.post/' || lpad(n::text, 4, '0'), 9 FROM generate_series(1, 2500) n"#,
    );
    db.sql(
        r#"INSERT INTO follow (uri, cid, creator, "subjectDid", "createdAt", "indexedAt")
        VALUES ('at://did:plc:a/app.bsky.graph.follow/1', 'c', 'did:plc:a', 'did:plc:b', '2024-01-01', '2024-01-01')"#,
    );
    db
}

fn still_wrong(db: &Db) -> i64 {
    count(db, r#"post_agg WHERE "likeCount" <> 0"#)
}

/// A row of the second step that somebody else holds.
struct Held {
    runtime: Runtime,
    connection: PgConnection,
}

impl Held {
    fn new(db: &Db) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sql = "BEGIN; SELECT FROM post_agg WHERE uri LIKE '%/1500' FOR UPDATE";
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(db.url()).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection
        });
        Self { runtime, connection }
    }

    fn release(mut self) {
        self.runtime.block_on(async {
            sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.unwrap();
            self.connection.close().await.unwrap();
        });
    }
}

struct Recount {
    process: Process,
    log: PathBuf,
}

impl Recount {
    /// Starts one of everything, and waits until its second step waits for the row.
    fn start(db: &Db, name: &str) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.log", std::process::id()));
        drop(std::fs::remove_file(&log));
        let mut program = command(env!("CARGO_BIN_EXE_indexer"), None);
        program.args(["recount", "--all"]).env_clear().env("DATABASE_URL", db.url());
        let process = Process::spawn(program, &log).unwrap();
        let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("the step waits", || count(db, waiting) == 1);
        assert_eq!(still_wrong(db), 1500);
        Self { process, log }
    }

    /// Its exit code and what it printed.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.process.wait(PATIENCE).unwrap().expect("it ends").code();
        let text = std::fs::read_to_string(&self.log).unwrap();
        drop(std::fs::remove_file(&self.log));
        (code, text)
    }
}

/// Takes what was printed at its word.
#[track_caller]
fn goes_on(db: &Db, printed: &str, after: &str) {
    let place = printed.split("go on with: indexer recount --all --resume-after '").nth(1).unwrap();
    let place = place.split('\'').next().unwrap();
    assert_eq!(place, format!("post_agg:at://did:plc:n/app.bsky.feed.post/{after}"));
    let left = still_wrong(db);
    let ran = run(&["recount", "--all", "--resume-after", place], &[("DATABASE_URL", db.url())], "");
    // The posts, and a row for each side of the follow.
    assert_eq!(
        (ran.code, ran.out),
        (Some(0), format!("{0} rows looked at, {0} wrong and put right\n", left + 2)),
        "{}",
        ran.err
    );
    assert_eq!(still_wrong(db), 0);
    assert_eq!(count(db, "profile_agg"), 2);
}

#[test]
fn a_signal_stops_it_after_its_step() {
    for (signal, name) in [(Signal::Term, "recount_term"), (Signal::Int, "recount_int")] {
        let db = wrong(name);
        let held = Held::new(&db);
        let mut recount = Recount::start(&db, name);
        recount.process.signal(signal).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(recount.process.exited().unwrap().is_none(), "its step is not done");
        held.release();
        let (code, printed) = recount.end();
        assert_eq!(code, Some(130), "{printed}");
        assert!(printed.contains("2000 rows looked at, 2000 wrong and put right\n"), "{printed}");
        assert_eq!((still_wrong(&db), count(&db, "profile_agg")), (500, 0));
        goes_on(&db, &printed, "2000");
    }
}

#[test]
fn a_second_signal_stops_it_at_once() {
    let db = wrong("recount_at_once");
    let held = Held::new(&db);
    let mut recount = Recount::start(&db, "recount_at_once");
    recount.process.signal(Signal::Int).unwrap();
    // Two of a kind at one moment would be one.
    std::thread::sleep(std::time::Duration::from_millis(300));
    recount.process.signal(Signal::Term).unwrap();
    let (code, printed) = recount.end();
    assert_eq!(code, Some(130), "{printed}");
    assert!(printed.contains("1000 rows looked at, 1000 wrong and put right\n"), "{printed}");
    held.release();
    // Nobody is there to commit its second step.
    let others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    wait_until("its backend is gone", || count(&db, others) == 0);
    assert_eq!(still_wrong(&db), 1500);
    goes_on(&db, &printed, "1000");
}

/// The code tells an error from a stop, and the message where to go on.
#[test]
fn an_error_says_where_to_go_on() {
    let db = wrong("recount_error");
    let held = Held::new(&db);
    let recount = Recount::start(&db, "recount_error");
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    db.sql(&format!("SELECT pg_terminate_backend(pid) FROM {waiting}"));
    let (code, printed) = recount.end();
    held.release();
    assert_eq!(code, Some(1), "{printed}");
    let place = "--resume-after 'post_agg:at://did:plc:n/app.bsky.feed.post/1000'";
    assert!(printed.contains("everything before is done") && printed.contains(place), "{printed}");
    assert_eq!(still_wrong(&db), 1500);
}
