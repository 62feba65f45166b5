//! Counters that are wrong or missing are put right, also while indexers move them.

use rsky_common::postgres::transaction::Preamble;
use rsky_indexer::engine::{self, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_indexer::recount::progress::{Figures, Progress};
use rsky_indexer::recount::selection::Selection;
use rsky_indexer::recount::{Options, Outcome, recount};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::load::events;
use crate::process::{block_on, run};
use crate::support::{Db, reference_statements};

fn works(seed: u64, count: usize) -> Vec<Work> {
    let read = events(seed, count).into_iter().filter_map(|entry| match intake::read(&entry) {
        Intake::Work(work) => Some(work),
        Intake::Nothing(_) | Intake::Rejected { .. } => None,
    });
    read.collect()
}

async fn index(url: String, works: Vec<Work>, batch: usize) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let statements = reference_statements();
    for batch in works.chunks(batch) {
        engine::apply(&mut connection, &statements, &batch.iter().collect::<Vec<_>>()).await.unwrap();
    }
}

fn filled(name: &str) -> Db {
    let db = Db::new(name);
    block_on(index(db.url().to_owned(), works(7, 1500), 500));
    db.sql(
        r#"INSERT INTO quote (uri, cid, subject, "subjectCid", "createdAt", "indexedAt")
        SELECT 'at://did:plc:q/app.bsky.feed.post/' || n, 'c' || n, 'at://did:plc:quoted/app.bsky.feed.post/1',
            CASE WHEN n = 1 THEN 'old' ELSE 'new' END, '2024-01-0' || n, '2024-02-01' FROM generate_series(1, 3) n"#,
    );
    db
}

async fn pass(url: &str, page: usize, selection: &Selection, stop: &CancellationToken) -> Outcome {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut out = std::io::sink();
    let mut progress = Progress::new(&mut out, false);
    let options = Options { persistent: true, preamble: Preamble::default(), page };
    recount(&mut connection, options, selection, stop, &mut progress).await.unwrap()
}

fn all(db: &Db) -> Outcome {
    let everything = Selection::All { resume_after: None };
    block_on(pass(db.url(), 100, &everything, &CancellationToken::new()))
}

/// Rows that differ from a count, and subjects without a row.
fn wrong(db: &Db) -> String {
    db.sql(
        r#"SELECT (SELECT count(*) FROM post_agg a WHERE
            "likeCount" <> (SELECT count(*) FROM "like" t WHERE t.subject = a.uri)
            OR "repostCount" <> (SELECT count(*) FROM repost t WHERE t.subject = a.uri)
            OR "replyCount" <> (SELECT count(*) FROM post t WHERE t."replyParent" = a.uri
                AND t."violatesThreadGate" IS NOT TRUE))
        + (SELECT count(*) FROM profile_agg a WHERE
            "followersCount" <> (SELECT count(*) FROM follow t WHERE t."subjectDid" = a.did)
            OR "followsCount" <> (SELECT count(*) FROM follow t WHERE t.creator = a.did)
            OR "postsCount" <> (SELECT count(*) FROM post t WHERE t.creator = a.did))
        + (SELECT count(*) FROM (SELECT subject FROM "like" UNION SELECT subject FROM repost UNION
            SELECT "replyParent" FROM post WHERE "violatesThreadGate" IS NOT TRUE UNION SELECT subject FROM quote) s
            WHERE subject IS NOT NULL AND NOT EXISTS (SELECT FROM post_agg WHERE uri = subject))
        + (SELECT count(*) FROM (SELECT creator FROM follow UNION SELECT "subjectDid" FROM follow UNION
            SELECT creator FROM post) s WHERE NOT EXISTS (SELECT FROM profile_agg WHERE did = creator))"#,
    )
}

fn corrupt(db: &Db) {
    db.sql(r#"UPDATE post_agg SET "likeCount" = 999, "replyCount" = 999, "bookmarkCount" = 5"#);
    db.sql(r#"UPDATE profile_agg SET "followersCount" = 999, "postsCount" = -1"#);
    db.sql("DELETE FROM post_agg WHERE hashtext(uri) % 3 = 0");
    db.sql("DELETE FROM profile_agg WHERE hashtext(did) % 3 = 0");
}

#[test]
fn everything_is_put_right_once() {
    let db = filled("recount_all");
    corrupt(&db);
    let kept = db.sql("SELECT count(*) FROM post_agg");
    assert_ne!(wrong(&db), "0");
    let outcome = all(&db);
    assert_eq!(wrong(&db), "0");
    assert!(!outcome.stopped && outcome.figures.wrong > 0);
    let rows = db.sql("SELECT (SELECT count(*) FROM post_agg) + (SELECT count(*) FROM profile_agg)");
    assert_eq!(outcome.figures.looked_at.to_string(), rows);
    // Of the version that was quoted last; bookmarks stay.
    assert_eq!(db.sql(r#"SELECT "quoteCount" FROM post_agg WHERE uri LIKE '%:quoted/%'"#), "2");
    assert_eq!(db.sql(r#"SELECT count(*) FROM post_agg WHERE "bookmarkCount" = 5"#), kept);
    assert_eq!(all(&db).figures, Figures { wrong: 0, ..outcome.figures });
}

#[test]
fn only_what_is_named_is_touched() {
    let db = filled("recount_some");
    db.sql(r#"UPDATE post_agg SET "likeCount" = 999; UPDATE profile_agg SET "followsCount" = 999"#);
    let did = db.sql("SELECT min(creator) FROM follow");
    let uri = db.sql(r#"SELECT min(subject) FROM "like""#);
    db.sql(&format!("DELETE FROM post_agg WHERE uri = '{uri}'"));
    let before = db.sql("SELECT count(*) FROM post_agg");
    let unknown = "at://did:plc:nobody/app.bsky.feed.post/1";
    let ran =
        run(&["recount", "--did", &did, "--uri", &uri, "--uri", unknown], &[("DATABASE_URL", db.url())], "");
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "2 rows looked at, 2 wrong and put right\n"),
        "{}",
        ran.err
    );
    assert_eq!(db.sql(r#"SELECT count(*) FROM profile_agg WHERE "followsCount" <> 999"#), "1");
    assert_eq!(db.sql(r#"SELECT uri FROM post_agg WHERE "likeCount" <> 999"#), uri);
    assert_eq!(db.sql("SELECT count(*) - 1 FROM post_agg"), before);
}

#[test]
fn nothing_selected_or_no_database_is_said() {
    let ran = run(&["recount"], &[], "");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--did") && ran.err.contains("--all"), "{}", ran.err);
    let ran = run(&["recount", "--all"], &[], "");
    assert!(
        ran.code == Some(1) && ran.err.contains("DATABASE_URL (or DB_POSTGRES_URL) is missing"),
        "{}",
        ran.err
    );
}

#[test]
fn a_stopped_recount_goes_on_where_it_was() {
    let db = filled("recount_resume");
    corrupt(&db);
    block_on(async {
        let (mut resume_after, mut stops, mut looked_at) = (None, 0, 0);
        loop {
            let stop = CancellationToken::new();
            let selection = Selection::All { resume_after };
            // It sees the token before each step. It is given more time after each stop: no machine is too slow or too fast.
            let patience = std::time::Duration::from_millis(5 + 15 * stops);
            let told = async {
                tokio::time::sleep(patience).await;
                stop.cancel();
                std::future::pending::<()>().await;
            };
            let outcome = tokio::select! { outcome = pass(db.url(), 20, &selection, &stop) => outcome, () = told => unreachable!() };
            looked_at += outcome.figures.looked_at;
            if !outcome.stopped {
                break assert!(stops > 0 && looked_at > 0);
            }
            // As the command line has it.
            resume_after = Some(outcome.resume_after.unwrap().to_string().parse().unwrap());
            stops += 1;
            assert!(stops < 1000, "no way forward");
        }
    });
    assert_eq!(wrong(&db), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn indexers_that_run_meanwhile_are_not_miscounted() {
    let db = Db::new("recount_live");
    let indexing = tokio::spawn(index(db.url().to_owned(), works(11, 2500), 50));
    let everything = Selection::All { resume_after: None };
    let mut passes = 0;
    while !indexing.is_finished() {
        pass(db.url(), 50, &everything, &CancellationToken::new()).await;
        passes += 1;
    }
    indexing.await.unwrap();
    assert!(passes > 1, "{passes}");
    assert_eq!(wrong(&db), "0");
}
