//! SIGKILL between two steps that follow each other at once: entries and the place in their source are one step, so nothing is lost
//! and no event is there twice, at whichever of them. A page of a listing may be written in parts, and begins again.

use std::collections::HashSet;
use std::num::NonZeroU32;

use rsky_testnet::network::{Network, RepoPage, RunningNetwork, Script};
use rsky_testnet::servers::Redis;
use rsky_testnet::wire::{Then, Wire};

use crate::support::{Ingester, get, like, range, repos, seqs, values, wait_until};

const FRAMES: u64 = 12_000;

/// Repositories of a page.
const PAGE: usize = 100;

/// How often something is said before the kill, in each life.
const KILLS: [usize; 5] = [1, 2, 3, 5, 2];

/// Kills the ingester whenever this is said to Redis for the nth time in its life; the last life is undisturbed.
fn kill_at(said: &'static [u8], then: Then, redis: &Redis, mode: &str, network: &RunningNetwork) -> Ingester {
    let (wire, url) = Wire::to(&redis.url());
    let hosts = network.url();
    let settings =
        [("INGESTER_RELAY_HOSTS", hosts.as_str()), ("INGESTER_MODE", mode), ("INGESTER_BATCH_SIZE", "50")];
    let mut ingester: Option<Ingester> = None;
    for nth in KILLS {
        wire.stop_at(said, nth, then);
        match &mut ingester {
            Some(ingester) => ingester.kill_and_restart(),
            None => ingester = Some(Ingester::start(&url, &settings)),
        }
        wire.wait_until_still();
        if let Some(ingester) = &mut ingester {
            ingester.kill();
        }
        wire.repair();
    }
    drop(ingester);
    Ingester::start(&redis.url(), &settings)
}

async fn reads_the_firehose(said: &'static [u8], then: Then) {
    let network = Network::builder().relay(Script::generated(1, FRAMES, like)).start().await.unwrap();
    network.relay().control().set_rate(NonZeroU32::new(20_000));
    let redis = Redis::start().unwrap();
    let mut ingester = kill_at(said, then, &redis, "firehose", &network);
    let key = format!("firehose_live:cursor:{}", network.addr());
    wait_until("the last event", || get(&redis, &key) == Some(FRAMES.to_string()));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

async fn lists(said: &'static [u8], then: Then) {
    let pages = RepoPage::split(repos(3_000), PAGE);
    let network = Network::builder().repo_pages(pages).page_size(PAGE).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = kill_at(said, then, &redis, "backfill", &network);
    let key = format!("repo_backfill:cursor:{}", network.addr());
    wait_until("the end of the listing", || get(&redis, &key).as_deref() == Some("!ingester-done"));
    let listed: Vec<String> = values(&redis, "repo_backfill", "repo")
        .iter()
        .map(|repo| serde_json::from_str::<serde_json::Value>(repo).unwrap())
        .map(|repo| repo["did"].as_str().unwrap().to_owned())
        .collect();
    let mut seen = HashSet::new();
    let first: Vec<&String> = listed.iter().filter(|did| seen.insert(*did)).collect();
    assert_eq!(first, network.list_repos().dids().iter().collect::<Vec<_>>());
    assert!(listed.len() <= first.len() + KILLS.len() * PAGE, "{} entries", listed.len());
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_was_not_heard() {
    reads_the_firehose(b"EXEC\r\n", Then::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_was_heard_and_its_answer_was_not() {
    reads_the_firehose(b"EXEC\r\n", Then::Unanswered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_was_not_heard() {
    lists(b"EXEC\r\n", Then::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_was_heard_and_its_answer_was_not() {
    lists(b"EXEC\r\n", Then::Unanswered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_was_asked_for_and_not_told() {
    reads_the_firehose(b":cursor:", Then::Unanswered).await;
}
