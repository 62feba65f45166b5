//! What others hold, have cached or have indexed is taken into account.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rsky_testnet::servers::{Cluster, Database, Generation, Redis};

use crate::hosts::{Host, Hosts, counts, did};
use crate::support::{Backfiller, dead, left, length, queue, wait_until};
use crate::synthetic;

fn car(number: usize) -> Bytes {
    synthetic::car(&did(number), 3, 20, &synthetic::key(1)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_dead_backfiller_are_taken_over() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let dids: Vec<String> = (0..30).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    queue(&redis, &hosts.url(), &dids);
    redis.command(&["XGROUP", "CREATE", "repo_backfill", "repo_backfill_group", "0"]).unwrap();
    let read = |count: &str| {
        let group = ["XREADGROUP", "GROUP", "repo_backfill_group", "dead", "COUNT", count];
        let stream = ["STREAMS", "repo_backfill", ">"];
        redis.command(&[&group[..], &stream[..]].concat()).unwrap();
    };
    read("20");
    let own = [("BACKFILLER_CLAIM_IDLE_MS", "1000")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all are queued", || left(&redis) == 0);
    assert!(counts(&redis).len() == 30 && counts(&redis).values().all(|count| *count == (3, 1)));
    assert_eq!(backfiller.metric("backfiller_claimed_total", ""), Some(20.0));
    let pending = redis.command(&["XPENDING", "repo_backfill", "repo_backfill_group"]).unwrap();
    assert_eq!(pending.items()[0].as_int(), Some(0));
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_shared_in_redis() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    // The directory has another key for the first, so its repository passes only by the shared document.
    let cached = hosts.add(1, Host::Car(car(1)), 2);
    let fresh = hosts.add(2, Host::Car(car(2)), 1);
    let pds = hosts.own_pds(1);
    let document = synthetic::document(&cached, &synthetic::key(1), &pds);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let value = format!(r#"{{"doc":{document},"updatedAt":{now}}}"#);
    redis.command(&["SET", &format!("identity:{cached}"), &value]).unwrap();
    queue(&redis, &hosts.url(), [&cached, &fresh]);
    let own = [("BACKFILLER_IDENTITY_CACHE", "redis")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("both are queued", || left(&redis) == 0);
    assert_eq!((counts(&redis).len(), dead(&redis).len()), (2, 0));
    backfiller.assert_class("bad_signature", 0.0);
    let key = format!("identity:{fresh}");
    let stored = redis.command(&["GET", &key]).unwrap().as_text().unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["doc"]["id"], fresh.as_str());
    let lives = redis.command(&["PTTL", &key]).unwrap().as_int().unwrap();
    assert!((600_000_000..=604_800_000).contains(&lives), "{lives}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_actor_sync_has_is_passed_over_if_it_was_queued_whole_before() {
    for generation in [Generation::D, Generation::B, Generation::U] {
        println!("generation {generation:?}");
        passes_over_by(&Cluster::shared().unwrap().create_database_of(generation, "backfiller").unwrap())
            .await;
    }
}

async fn passes_over_by(database: &Database) {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let dids: Vec<String> = (0..5).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    let all = [0, 1, 2, 3, 4].map(|number| dids[number].as_str());
    let [queued, behind, empty, never, _unknown] = all;
    let own = [("DATABASE_URL", database.url.as_str())];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    queue(&redis, &hosts.url(), [queued, behind, empty]);
    wait_until("three are queued", || left(&redis) == 0);
    // Live commits moved on: of one as far as it is listed, of another less far, of one nobody knows how far, and of one
    // whose history is missing.
    let (listed, before) = ("3zzzzzzzzzzzz", "3zzzzzzzzzzzy");
    for (did, rev) in [(queued, Some(listed)), (behind, Some(before)), (empty, None), (never, Some(listed))] {
        let rev = rev.map_or("NULL".to_owned(), |rev| format!("'{rev}'"));
        let row =
            format!(r#"INSERT INTO actor_sync (did, "commitCid", "repoRev") VALUES ('{did}', 'c', {rev})"#);
        database.sql(&row).unwrap();
    }
    queue(&redis, &hosts.url(), &dids);
    wait_until("all are settled", || left(&redis) == 0);
    let requests = |did: &str| hosts.requests(did);
    assert_eq!(all.map(requests), [1, 2, 2, 1, 1]);
    backfiller.assert_class("unchanged", 1.0);
    // Lost commits are not seen in actor_sync.
    let entry = format!(r#"{{"did":"{queued}","host":"{}","rev":"{listed}"}}"#, hosts.url());
    redis.command(&["XADD", "repo_backfill_priority", "*", "repo", &entry]).unwrap();
    wait_until("it is fetched", || left(&redis) == 0);
    assert_eq!(requests(queued), 2);
    assert_eq!(backfiller.terminate(), Some(0));

    // The operator says that the database is complete.
    redis.command(&["FLUSHALL"]).unwrap();
    let own = [("DATABASE_URL", database.url.as_str()), ("BACKFILLER_SKIP_INDEXED", "true")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    queue(&redis, &hosts.url(), &dids);
    wait_until("all are settled", || left(&redis) == 0);
    assert_eq!(all.map(requests), [2, 3, 3, 1, 2]);
    backfiller.assert_class("unchanged", 2.0);
    assert_eq!(backfiller.terminate(), Some(0));

    // A database without the table hides nothing.
    redis.command(&["FLUSHALL"]).unwrap();
    database.sql("DROP TABLE actor_sync").unwrap();
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    queue(&redis, &hosts.url(), &dids);
    wait_until("all are settled", || left(&redis) == 0);
    assert_eq!(all.map(requests), [3, 4, 4, 2, 3]);
    assert!(backfiller.log().contains("actor_sync cannot be read"), "{}", backfiller.log());
    assert_eq!(length(&redis, "repo_backfill_dlq"), 0);
}
