//! A Redis that comes back with an older state has lost parts of repositories: they are fetched and written again, whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, did};
use crate::support::{Backfiller, left, length, queue, wait_until};
use crate::synthetic;

/// From now on a kill takes the server back to this moment.
fn snapshot(redis: &Redis) {
    redis.command(&["SAVE"]).unwrap();
}

fn take_back(redis: &mut Redis) {
    redis.kill().unwrap();
    redis.restart().unwrap();
}

/// What an indexer has read: the records of each account, and whether its `repo` event came.
#[derive(Default)]
struct Read(BTreeMap<String, (BTreeSet<String>, bool)>);

impl Read {
    /// Takes everything out of the output stream. The server may be about to start.
    fn take(&mut self, redis: &Redis) {
        const TAKE: &str = "local all = redis.call('XRANGE', 'firehose_backfill', '-', '+') \
            redis.call('DEL', 'firehose_backfill') \
            local events = {} for at, entry in ipairs(all) do events[at] = entry[2][2] end return events";
        let Ok(events) = redis.command(&["EVAL", TAKE, "0"]) else { return };
        for event in events.items() {
            let event: serde_json::Value = serde_json::from_str(&event.as_text().unwrap()).unwrap();
            let (records, ended) = self.0.entry(event["did"].as_str().unwrap().to_owned()).or_default();
            match event["rkey"].as_str() {
                Some(rkey) => drop(records.insert(rkey.to_owned())),
                None => *ended = true,
            }
        }
    }
}

/// A repository is written in several transactions. A server that lost the first of them may not get the last ones only:
/// with them the account counts as queued, and no listing would bring it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_in_parts_is_written_again_when_the_server_between_them_is_another() {
    const RECORDS: usize = 400;
    let hosts = Hosts::start().await;
    let mut redis = Redis::start().unwrap();
    let car = Bytes::from(synthetic::car(&did(1), RECORDS, 50, &synthetic::key(1)));
    let account = hosts.add(1, Host::Car(car), 1);
    queue(&redis, &hosts.url(), [&account]);
    snapshot(&redis);
    let own = [("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "50"), ("BACKFILLER_BATCH_SIZE", "50")];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("the mark is reached", || length(&redis, "firehose_backfill") >= 50);
    take_back(&mut redis);
    let mut read = Read::default();
    wait_until("it is done with", || {
        read.take(&redis);
        let answer = redis.command(&["XLEN", "repo_backfill"]);
        answer.is_ok_and(|left| left.as_int() == Some(0))
    });
    read.take(&redis);
    let (records, ended) = &read.0[&account];
    assert_eq!((records.len(), *ended), (RECORDS, true), "{}", backfiller.log());
    backfiller.assert_class("queued", 1.0);
    assert_eq!(backfiller.terminate(), Some(0));
}

/// The same at any moment, for many: of each that is done with, everything is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_redis_forgets_nothing_counts_as_queued_that_is_not_there() {
    const REPOSITORIES: usize = 90;
    let hosts = Hosts::start().await;
    let mut redis = Redis::start().unwrap();
    let key = synthetic::key(1);
    let repos: Vec<(String, usize)> = (0..REPOSITORIES)
        .map(|number| {
            let records = number * 37 % 600;
            let car = Bytes::from(synthetic::car(&did(number), records, 50, &key));
            (hosts.add(number, Host::Car(car), 1), records)
        })
        .collect();
    queue(&redis, &hosts.url(), repos.iter().map(|(did, _)| did));
    let own = [
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000000"),
        ("BACKFILLER_BATCH_SIZE", "20"),
        ("BACKFILLER_CONCURRENCY", "3"),
    ];
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    for round in 1..8 {
        wait_until("some are written", || {
            length(&redis, "firehose_backfill") >= round * 2_000 || left(&redis) == 0
        });
        snapshot(&redis);
        let reached = length(&redis, "firehose_backfill");
        wait_until("more are written", || {
            length(&redis, "firehose_backfill") >= reached + 500 || left(&redis) == 0
        });
        take_back(&mut redis);
    }
    wait_until("all are settled", || left(&redis) == 0);
    let mut read = Read::default();
    read.take(&redis);
    for (did, expected) in &repos {
        let (records, ended) = read.0.get(did).unwrap_or_else(|| panic!("nothing of {did}"));
        assert_eq!((records.len(), *ended), (*expected, true), "{did}");
    }
    assert_eq!(backfiller.terminate(), Some(0));
}
