//! docs/MIGRATING.md, backfiller: on what the TypeScript process and old rsky leave in Redis, and back.

use bytes::Bytes;
use rsky_testnet::servers::{Redis, Value};

use crate::hosts::{Host, Hosts, counts, did};
use crate::support::{Backfiller, left, length, queue, wait_until};
use crate::synthetic;

const GROUP: &str = "repo_backfill_group";

fn car(number: usize) -> Bytes {
    synthetic::car(&did(number), 3, 20, &synthetic::key(1)).into()
}

/// Reads a page as the TypeScript backfiller does: `0` for its own pending entries, `>` for new ones.
fn read(redis: &Redis, consumer: &str, from: &str, count: &str) -> Vec<(String, Vec<String>)> {
    let words = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", "repo_backfill", from];
    let reply = redis.command(&words).unwrap();
    let entries = reply.items().first().map(|stream| stream.items()[1].items().to_vec()).unwrap_or_default();
    let entry = |entry: &Value| {
        let fields = entry.items()[1].items().iter().map(|field| field.as_text().unwrap()).collect();
        (entry.items()[0].as_text().unwrap(), fields)
    };
    entries.iter().map(entry).collect()
}

/// The predecessor was stopped with repositories in work, some of them of accounts that it would have kept for ever, one
/// written in part, and entries in the form of old rsky. Under its name they are done at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_predecessor_left_pending_is_done_under_its_name() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let dids: Vec<String> = (0..20).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect();
    queue(&redis, &hosts.url(), &dids[..15]);
    for did in &dids[15..] {
        // Old rsky writes what is absent as null.
        let entry =
            format!(r#"{{"did":"{did}","host":"{}","rev":"3z","status":null,"active":true}}"#, hosts.url());
        redis.command(&["XADD", "repo_backfill", "*", "repo", &entry]).unwrap();
    }
    // An account without a document: it failed there each time, and stayed.
    queue(&redis, &hosts.url(), ["did:plc:nobodyknowsthisoneaaaaaaaa"]);
    redis.command(&["XGROUP", "CREATE", "repo_backfill", GROUP, "0"]).unwrap();
    assert_eq!(read(&redis, "typescript", ">", "12").len(), 12);
    let own = [("BACKFILLER_CONSUMER", "typescript"), ("BACKFILLER_CLAIM_IDLE_MS", "86400000")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("all are settled", || left(&redis) == 0);
    assert!(counts(&redis).len() == 20 && counts(&redis).values().all(|count| *count == (3, 1)));
    let pending = redis.command(&["XPENDING", "repo_backfill", GROUP]).unwrap();
    assert_eq!(pending.items()[0].as_int(), Some(0));
    assert_eq!(backfiller.terminate(), Some(0));
}

/// Back: a host hangs, and this backfiller is killed. What it had is pending under its name and as it was; the TypeScript
/// process of that name finds every repository that is left, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_backfiller_leaves_is_what_the_typescript_understands() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let dids: Vec<String> = (0..8).map(|number| hosts.add(number, Host::Hangs, 1)).collect();
    queue(&redis, &hosts.url(), &dids);
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("BACKFILLER_QUEUE", "10")]);
    wait_until("they are taken", || {
        redis
            .command(&["XPENDING", "repo_backfill", GROUP])
            .is_ok_and(|pending| pending.items()[0].as_int() == Some(8))
    });
    backfiller.kill();
    let mut found = read(&redis, "test", "0", "100");
    found.extend(read(&redis, "test", ">", "100"));
    assert_eq!((found.len(), length(&redis, "repo_backfill")), (8, 8));
    for ((_, fields), did) in found.iter().zip(&dids) {
        assert_eq!((fields.len(), fields[0].as_str()), (2, "repo"));
        assert!(fields[1].starts_with(&format!(r#"{{"did":"{did}","host":"#)), "{fields:?}");
    }
}
