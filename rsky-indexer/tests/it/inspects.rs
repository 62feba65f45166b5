//! `indexer inspect`: a zoo of records and accounts that are not where somebody looks for them, each with the verdict that
//! a tired operator needs. The Redis, the Postgres and the PDS are real; nothing is changed by looking.

use rsky_testnet::servers::{Generation, Redis};
use serde_json::{Value, json};

use crate::process::{add, add_field, count, read_and_vanish};
use crate::repositories::{
    AT, CID, DID, NEW, OLD, Records, World, apply, creates, event, post, record, rows, some,
};
use crate::support::{Db, unlike};

const LIVE: &str = "firehose_live";
/// What the simulated PDS says the last commit is.
const PDS_REV: &str = "3migo7fijwi2k";

/// A PDS with some records, a database, and streams.
struct Zoo {
    world: World,
    redis: Redis,
    db: Db,
    records: Records,
}

impl Zoo {
    fn new(name: &str) -> Self {
        let (world, records) = (World::new(), some());
        world.publish(&records);
        Self { world, redis: Redis::start().unwrap(), db: Db::of(Generation::D, name), records }
    }

    /// With everything indexed and an account that is shown.
    fn indexed(name: &str) -> Self {
        let zoo = Self::new(name);
        apply(&zoo.db, creates(&zoo.records, OLD));
        zoo.actor("NULL");
        zoo.db.sql(&format!(
            r#"INSERT INTO actor_sync (did, "commitCid", "repoRev") VALUES ('{DID}', '{CID}', '{PDS_REV}')"#
        ));
        zoo
    }

    fn actor(&self, status: &str) {
        self.db.sql(&format!("DELETE FROM actor WHERE did = '{DID}'"));
        self.db.sql(&format!(
            r#"INSERT INTO actor (did, handle, "indexedAt", "upstreamStatus") VALUES ('{DID}', 'a.test', '{AT}', {status})"#
        ));
    }

    /// Code, and the verdict's state, sentence and command.
    fn inspect(&self, what: &str) -> (i32, String, String, String) {
        let before = rows(&self.db);
        let url = self.redis.url();
        let ran = self.world.run_with(self.db.url(), &[("REDIS_URL", &url)], &["inspect", "--json", what]);
        assert_eq!(unlike(&before, &rows(&self.db)), "", "looking changes nothing");
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        let text = |name: &str| said["verdict"][name].as_str().unwrap_or_default().to_owned();
        (ran.code.unwrap(), text("state"), text("says"), text("command"))
    }

    #[track_caller]
    fn record_is(&self, path: &str, state: &str, says: &str, command: &str) {
        self.is(&format!("at://{DID}/{path}"), state, says, command);
    }

    #[track_caller]
    fn is(&self, what: &str, state: &str, says: &str, command: &str) {
        let (code, found, said, next) = self.inspect(what);
        let expected = match state {
            "in_order" => 0,
            "unknown" => 1,
            _ => 3,
        };
        assert_eq!((code, found.as_str()), (expected, state), "{said} {next}");
        assert!(said.contains(says), "{says}: {said}");
        assert!(next.contains(command), "{command}: {next}");
    }

    fn sql(&self, statement: &str) {
        self.db.sql(statement);
    }
}

const POST: &str = "app.bsky.feed.post/a";

#[test]
fn records_that_are_where_they_should_be() {
    let zoo = Zoo::indexed("inspect_fine");
    zoo.record_is(POST, "in_order", "It is indexed: ", "");
    zoo.record_is("app.bsky.feed.post/none", "in_order", "The PDS has no such record; nor do the tables", "");
    zoo.record_is("com.example.thing/a", "in_order", "are not indexed in this database", "");
    // Of two follows of one account the first has the row.
    zoo.record_is(
        "app.bsky.graph.follow/c",
        "in_order",
        "says the same as at://did:plc:repo/app.bsky.graph.follow/a",
        "",
    );
    for (flag, says) in [
        ("violatesThreadGate", "the gate of its thread keeps"),
        ("violatesEmbeddingRules", "its quote is hidden"),
    ] {
        zoo.sql(&format!(r#"UPDATE post SET "{flag}" = true WHERE uri LIKE '%/c'"#));
        zoo.record_is("app.bsky.feed.post/c", "in_order", says, "");
        zoo.sql(&format!(r#"UPDATE post SET "{flag}" = NULL WHERE uri LIKE '%/c'"#));
    }
    zoo.sql(r#"UPDATE record SET "takedownRef" = 'x' WHERE uri LIKE '%post/a'"#);
    zoo.record_is(POST, "in_order", "taken down by moderation", "");
    zoo.sql(r#"UPDATE record SET "takedownRef" = NULL"#);
    zoo.actor("'suspended'");
    zoo.record_is(POST, "in_order", "its author is suspended", "");
}

#[test]
fn records_that_were_lost() {
    let zoo = Zoo::indexed("inspect_lost");
    let mend = "indexer index-repo did:plc:repo";
    zoo.sql(r#"DELETE FROM record WHERE uri LIKE '%post/c'; DELETE FROM post WHERE uri LIKE '%post/c'"#);
    zoo.record_is("app.bsky.feed.post/c", "amiss", "the tables do not, and nothing of it waits", mend);
    zoo.world.publish(&[post("a", "changed"), post("new", "again")].into());
    zoo.record_is(POST, "amiss", "another version than the PDS", mend);
    apply(&zoo.db, [event("create", OLD, "app.bsky.feed.post/new", Some(&post("new", "before").1))]);
    apply(&zoo.db, [event("delete", NEW, "app.bsky.feed.post/new", None)]);
    zoo.record_is("app.bsky.feed.post/new", "amiss", "know it as deleted", mend);
    zoo.world.directory.set_record(&format!("at://{DID}/app.bsky.feed.like/a"), None);
    zoo.record_is("app.bsky.feed.like/a", "amiss", "its deletion does not wait", mend);
    zoo.sql(r#"DELETE FROM "repost""#);
    zoo.record_is(
        "app.bsky.feed.repost/a",
        "amiss",
        "that in repost is missing",
        "indexer verify did:plc:repo --repair",
    );
    // An answer whose question never came.
    zoo.sql(r#"DELETE FROM post WHERE uri LIKE '%post/a'; UPDATE post SET "invalidReplyRoot" = true WHERE uri LIKE '%post/b'"#);
    zoo.record_is(
        "app.bsky.feed.post/b",
        "amiss",
        "which is not in the tables",
        "indexer inspect at://did:plc:repo/app.bsky.feed.post/a",
    );
    zoo.sql("DELETE FROM actor");
    zoo.record_is(
        "app.bsky.graph.list/a",
        "amiss",
        "no row in actor",
        "backfiller enqueue --priority did:plc:repo",
    );
    let invalid = record("app.bsky.feed.like/bad", json!({"subject": "nothing"}));
    zoo.world.publish(&[invalid].into());
    zoo.record_is("app.bsky.feed.like/bad", "in_order", "no AppView takes it", "");
}

#[test]
fn records_that_wait_or_were_given_up() {
    let zoo = Zoo::new("inspect_waits");
    let create = |path: &str| event("create", OLD, path, zoo.records.get(path));
    let filler: Vec<String> = (0..30).map(|at| event("delete", OLD, &format!("a.b.c/{at}"), None)).collect();
    add(&zoo.redis, LIVE, &filler);
    add(&zoo.redis, LIVE, &[create(POST)]);
    zoo.record_is(POST, "waits", "waits in firehose_live", "");
    let ids = read_and_vanish(&zoo.redis, LIVE, "gone", 100);
    zoo.record_is(POST, "waits", "is with gone", "");
    // As if that had been twenty minutes ago.
    let id = ids.last().unwrap();
    let claim = ["XCLAIM", LIVE, "firehose_group", "gone", "0", id, "IDLE", "1200000", "JUSTID"];
    zoo.redis.command(&claim).unwrap();
    zoo.record_is(POST, "amiss", "has been with gone for 20 min", "indexer doctor");

    let like = "app.bsky.feed.like/a";
    let letter = create(like);
    let fields = ["event", &letter, "reason", "refused_by_postgres", "error", "no space", "attempts", "5"];
    let mut xadd = vec!["XADD", "firehose_live_dlq", "7-0"];
    xadd.extend(fields);
    zoo.redis.command(&xadd).unwrap();
    zoo.record_is(
        like,
        "amiss",
        "(refused_by_postgres): no space",
        "dead-letters retry --stream firehose_live --id 7-0",
    );

    let repo = format!(r#"{{"did":"{DID}","host":"https://relay.example","rev":"{OLD}"}}"#);
    let list = "app.bsky.graph.list/a";
    zoo.redis.command(&["ZADD", "repo_backfill:delayed", "17", &format!("n|2|{repo}")]).unwrap();
    zoo.record_is(list, "waits", "was put off (repository, 2 tries)", "backfiller status");
    add_field(&zoo.redis, "repo_backfill", "repo", &[&repo]);
    zoo.record_is(list, "waits", "Its repository waits in repo_backfill", "backfiller status");
    add_field(&zoo.redis, "repo_backfill_dlq", "repo", &[&repo]);
    zoo.record_is(
        list,
        "amiss",
        "The fetch of its repository was given up",
        "backfiller dead-letters retry --did",
    );
}

#[test]
fn accounts() {
    let zoo = Zoo::indexed("inspect_accounts");
    zoo.is(DID, "in_order", "indexed up to its last commit", "indexer verify did:plc:repo");
    zoo.world.directory.set_handle("a.test", Some(DID));
    zoo.is("@a.test", "in_order", "indexed up to its last commit", "");
    // A handle that leads nowhere now, and stands in the tables.
    zoo.world.directory.set_handle("a.test", None);
    zoo.is("at://a.test", "in_order", "indexed up to its last commit", "");
    zoo.sql(&format!(r#"UPDATE actor_sync SET "repoRev" = '{OLD}'"#));
    zoo.is(DID, "amiss", "nothing of it waits", "backfiller enqueue --priority");
    zoo.sql(&format!(r#"UPDATE actor_sync SET "repoRev" = '{PDS_REV}'; UPDATE actor SET handle = NULL"#));
    zoo.is(DID, "amiss", "its handle leads nowhere", "");
    zoo.sql("DELETE FROM actor");
    zoo.is(DID, "amiss", "no row in actor, so none of its 10 records", "backfiller enqueue --priority");
    zoo.actor("'deactivated'");
    zoo.is(DID, "amiss", "active; the tables say deactivated", "");
    zoo.world.refuse(400, "RepoDeactivated");
    zoo.is(DID, "in_order", "It is deactivated, and the tables know", "");
    zoo.actor("NULL");
    zoo.is(DID, "amiss", "says it is deactivated; the tables say nothing of the kind", "");
    let account = json!({"type": "account", "seq": 5, "time": AT, "did": DID, "active": false, "status": "deactivated"});
    add(&zoo.redis, LIVE, &[account.to_string()]);
    zoo.is(DID, "waits", "Its account waits in firehose_live", "");
    zoo.world.refuse(400, "RepoNotFound");
    zoo.redis.command(&["DEL", LIVE]).unwrap();
    zoo.is(DID, "amiss", "does not have it any more, and the tables still do", "");
    zoo.is("did:plc:nobody", "unknown", "who hosts it cannot be told", "");
    assert_eq!(count(&zoo.db, "record"), 10);
}

/// What cannot be asked is said, and the rest is.
#[test]
fn parts_that_do_not_answer_are_facts_as_well() {
    let zoo = Zoo::new("inspect_parts");
    let run = |database: &str, redis: &str, more: &[&str]| {
        let what = format!("at://{DID}/{POST}");
        zoo.world.run_with(database, &[("REDIS_URL", redis)], &[&["inspect", what.as_str()], more].concat())
    };
    let ran = run("postgres://u:secret@127.0.0.1:1/x", &zoo.redis.url(), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(
        ran.out.contains("The tables cannot be read") && ran.out.contains("has the record"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("secret"), "{}", ran.out);
    let ran = run(zoo.db.url(), "redis://127.0.0.1:1", &[]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.out.contains("What waits in firehose_live is not known"), "{}", ran.out);
    zoo.world.directory.remove_document(DID);
    let ran = run(zoo.db.url(), &zoo.redis.url(), &[]);
    assert!(ran.out.contains("whether the PDS does cannot be told now"), "{}", ran.out);
    let ran = zoo.world.run_with(zoo.db.url(), &[("REDIS_URL", "redis://r")], &["inspect", "at://x"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("neither a DID nor a handle"), "{}", ran.err);
}

/// A long stream is looked at as far as was said, and that is told.
#[test]
fn a_search_has_an_end() {
    let zoo = Zoo::new("inspect_long");
    let filler: Vec<String> = (0..3000).map(|at| format!(r#"{{"type":"x","did":"did:plc:{at}"}}"#)).collect();
    add(&zoo.redis, LIVE, &filler);
    let url = zoo.redis.url();
    let what = format!("at://{DID}/{POST}");
    let ran =
        zoo.world.run_with(zoo.db.url(), &[("REDIS_URL", &url)], &["inspect", &what, "--limit", "1500"]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.out.contains("firehose_live 2000 of 3000 entries were looked at (--limit)"), "{}", ran.out);
}
