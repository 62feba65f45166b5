//! `backfiller doctor`: broken surroundings, each with the line that a tired operator needs.

use std::process::Command;

use rsky_testnet::network::Network;
use rsky_testnet::servers::{Postgres, Redis};

fn doctor(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_backfiller"));
    let done = program.arg("doctor").env_clear().envs(settings.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), format!("{}{}", text(&done.stdout), text(&done.stderr)))
}

#[track_caller]
fn says(out: &str, level: &str, what: &str, todo: &str) {
    let found = out.lines().any(|line| line.starts_with(level) && line.contains(what) && line.contains(todo));
    assert!(found, "{level} {what} {todo}:\n{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fine_and_what_is_not() {
    let network = Network::builder().start().await.unwrap();
    let redis = Redis::builder().maxmemory("64mb").appendonly(true).start().unwrap();
    let database = Postgres::shared().unwrap().create_database("backfiller_doctor").unwrap();
    let (url, plc) = (redis.url(), network.url());
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("PLC_URL", plc.as_str()),
        ("ALLOW_PRIVATE_ADDRESSES", "true"),
        ("DATABASE_URL", database.url.as_str()),
    ];
    let look = |more: &[(&str, &str)]| {
        let settings = [&settings[..], more].concat();
        doctor(&settings)
    };
    let (code, out) = look(&[]);
    assert_eq!(code, Some(0), "{out}");
    for about in ["plc", "files", "postgres", "redis", "persistence", "repo_backfill_priority"] {
        says(&out, "fine", about, "");
    }

    redis.command(&["XADD", "repo_backfill", "*", "repo", "{}"]).unwrap();
    redis.command(&["XADD", "repo_backfill_dlq", "*", "repo", "{}"]).unwrap();
    let missing = ("BACKFILLER_TEMP_DIR", "/no/such/directory");
    let (code, out) = look(&[missing, ("BACKFILLER_CONCURENCY", "1"), ("BACKFILLER_FIREHOSE_STREAM", "s")]);
    assert_eq!(code, Some(1), "{out}");
    says(&out, "look", "nobody reads it: there is no group repo_backfill_group", "start a backfiller");
    says(&out, "look", "repo_backfill_dlq", "backfiller dead-letters list");
    says(&out, "BROKEN", "/no/such/directory", "BACKFILLER_TEMP_DIR");
    says(&out, "look", "did you mean BACKFILLER_CONCURRENCY?", "");

    database.sql("ALTER TABLE record RENAME TO records").unwrap();
    says(&look(&[]).1, "BROKEN", "postgres", "DATABASE_URL");
    let (code, out) = doctor(&settings[..1]);
    says(&out, "look", "DATABASE_URL is not set", "set it");
    assert!(code != Some(0), "{out}");
}
