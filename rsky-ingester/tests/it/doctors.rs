//! `ingester doctor`: broken surroundings, each with the line that a tired operator needs. Nothing is changed by looking.

use std::process::Command;

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;

use crate::support::like;

struct Said {
    code: Option<i32>,
    out: String,
}

fn doctor(settings: &[(&str, &str)]) -> Said {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ingester"));
    let done = program.arg("doctor").env_clear().envs(settings.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: done.status.code(), out: format!("{}{}", text(&done.stdout), text(&done.stderr)) }
}

impl Said {
    #[track_caller]
    fn says(&self, level: &str, what: &str, todo: &str) {
        let found = self
            .out
            .lines()
            .any(|line| line.starts_with(level) && line.contains(what) && line.contains(todo));
        assert!(found, "{level} {what} {todo}:\n{}", self.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_are_held_against_what_the_relay_has() {
    let network = Network::builder().relay(Script::generated(100, 20, like)).start().await.unwrap();
    let redis = Redis::builder().maxmemory("64mb").appendonly(true).start().unwrap();
    let (url, host) = (redis.url(), network.url());
    let settings = [("REDIS_URL", url.as_str()), ("INGESTER_RELAY_HOSTS", host.as_str())];
    let look = || doctor(&settings);
    let key = format!("firehose_live:cursor:{}", network.addr());
    let said = look();
    said.says("fine", "none, so reading starts live", "");
    said.says("fine", "none, so the listing starts from its beginning", "");
    said.says("fine", "relay        127.0.0.1 answers", "");
    assert_eq!(said.code, Some(0), "{}", said.out);

    redis.command(&["SET", &key, "110"]).unwrap();
    look().says("fine", "110, and the host goes on at 111", "");
    redis.command(&["SET", &key, "rubbish"]).unwrap();
    look().says("BROKEN", "is rubbish, which is no number", "redis-cli SET");
    redis.command(&["DEL", &key]).unwrap();
    redis.command(&["SET", &format!("repo_backfill:cursor:{}", network.addr()), "!ingester-done"]).unwrap();
    look().says("fine", "the listing has ended", "");

    // At its mark, and nobody reads it.
    redis.command(&["XADD", "firehose_live", "*", "event", "{}"]).unwrap();
    let marked = [&settings[..], &[("INGESTER_HIGH_WATER_MARK", "1")]].concat();
    let said = doctor(&marked);
    said.says("look", "at its mark (1), so its writers wait", "more of them, or a higher mark");
    said.says("look", "nobody reads it: there is no group firehose_group", "indexer");
    assert_eq!(said.code, Some(3), "{}", said.out);
    // Looking has changed nothing.
    assert_eq!(redis.command(&["EXISTS", &key]).unwrap().as_int(), Some(0));
}

#[test]
fn a_relay_that_is_not_there() {
    let redis = Redis::start().unwrap();
    redis.command(&["SET", "firehose_live:cursor:127.0.0.1:1", "7"]).unwrap();
    let said = doctor(&[("REDIS_URL", &redis.url()), ("INGESTER_RELAY_HOSTS", "http://127.0.0.1:1")]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    said.says("BROKEN", "relay        127.0.0.1 does not answer", "firewall");
    said.says("BROKEN", "7; no subscription", "see whether the host is up");
    let said =
        doctor(&[("REDIS_URL", "redis://127.0.0.1:1"), ("INGESTER_RELAY_HOSTS", "no.such.host.invalid")]);
    said.says("BROKEN", "no connection to redis://127.0.0.1:1", "start it");
    said.says("BROKEN", "no.such.host.invalid does not answer", "");
    assert_eq!(doctor(&[]).code, Some(64));
}
