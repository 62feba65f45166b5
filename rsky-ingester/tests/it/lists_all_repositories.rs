//! Listings arrive whole, past failing pages and crashes, and again when asked.

use rsky_testnet::network::{Failure, Network, RepoPage, RunningNetwork};
use rsky_testnet::servers::Redis;
use serde_json::json;

use crate::support::{Ingester, entries, get, length, repos, values, wait_until};

async fn host(count: u64, page: usize) -> RunningNetwork {
    Network::builder().repo_pages(RepoPage::split(repos(count), page)).page_size(page).start().await.unwrap()
}

fn start(redis: &Redis, network: &RunningNetwork, more: &[(&str, &str)]) -> Ingester {
    Ingester::of_relays("backfill", redis, &network.url(), more)
}

fn done(redis: &Redis, network: &RunningNetwork) -> bool {
    get(redis, &format!("repo_backfill:cursor:{}", network.addr())).as_deref() == Some("!ingester-done")
}

fn dids(redis: &Redis) -> Vec<String> {
    values(redis, "repo_backfill", "repo")
        .iter()
        .map(|repo| {
            let repo: serde_json::Value = serde_json::from_str(repo).unwrap();
            repo["did"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_listed_costs_only_itself() {
    let network = host(5_000, 1_000).await;
    network.list_repos().numeric_cursors(true);
    network.list_repos().fail_at(2_500, Failure::Always);
    network.list_repos().fail_at(700, Failure::Times(2));
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("the end of the listing", || done(&redis, &network));
    let mut expected = network.list_repos().dids();
    let missing = expected.remove(2_500);
    assert_eq!(dids(&redis), expected, "all but {missing}, once, in order");
    let letters = entries(&redis, "repo_backfill_dlq");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "unlistable_repo");
    ingester.wait_for("ingester_cursor_skips_total", "", 1.0);
    wait_until("it is counted", || ingester.metric("ingester_backfill_fetch_errors_total", "") >= Some(3.0));
    assert_eq!(ingester.terminate(), Some(0));
}

/// While everything fails, the ingester looks for a number that works; that one works when the host is back tells nothing
/// about those before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_down_for_a_while_costs_nothing() {
    let network = host(600, 100).await;
    network.list_repos().numeric_cursors(true);
    (300..600).for_each(|index| network.list_repos().fail_at(index, Failure::Always));
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("it looks further on", || {
        network.list_repos().queries().iter().any(|query| query.contains("cursor=305&"))
    });
    network.list_repos().heal();
    wait_until("the end of the listing", || done(&redis, &network));
    assert_eq!(dids(&redis), network.list_repos().dids());
    assert_eq!(length(&redis, "repo_backfill_dlq"), 0);
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn opaque_cursors_are_never_invented() {
    let network = host(300, 100).await;
    network.list_repos().fail_at(150, Failure::Always);
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("health says so", || ingester.get("/readyz").1.contains("allow no way around"));
    assert_eq!(dids(&redis), network.list_repos().dids()[..150], "everything before it");
    assert!(ingester.is_running());
    network.list_repos().heal();
    wait_until("the end of the listing", || done(&redis, &network));
    assert_eq!(dids(&redis), network.list_repos().dids());
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_holds_for_listings_too_and_kills_lose_nothing() {
    let network = host(3_000, 100).await;
    let redis = Redis::start().unwrap();
    let mut ingester =
        start(&redis, &network, &[("INGESTER_HIGH_WATER_MARK", "400"), ("INGESTER_BATCH_SIZE", "70")]);
    let mut seen: Vec<String> = Vec::new();
    let mut client = redis.client().unwrap();
    let mut rounds = 0;
    while !(done(&redis, &network) && length(&redis, "repo_backfill") == 0) {
        assert!(length(&redis, "repo_backfill") <= 400 + 100);
        let page = client.command(&["XRANGE", "repo_backfill", "-", "+", "COUNT", "90"]).unwrap();
        for entry in page.items() {
            let repo: serde_json::Value =
                serde_json::from_str(&entry.items()[1].items()[1].as_text().unwrap()).unwrap();
            seen.push(repo["did"].as_str().unwrap().to_owned());
            client.command(&["XDEL", "repo_backfill", &entry.items()[0].as_text().unwrap()]).unwrap();
        }
        rounds += 1;
        if rounds % 10 == 3 && rounds < 60 {
            ingester.kill_and_restart();
        }
    }
    let mut unique = std::collections::HashSet::new();
    seen.retain(|did| unique.insert(did.clone()));
    assert_eq!(seen, network.list_repos().dids());
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_listing_is_repeated_only_when_asked_and_queues_only_what_changed() {
    let network = host(250, 100).await;
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[("INGESTER_RELIST_INTERVAL", "200ms")]);
    wait_until("the first listing", || length(&redis, "repo_backfill") == 250);
    wait_until("more listings", || network.list_repos().queries().len() >= 12);
    assert_eq!(length(&redis, "repo_backfill"), 250, "nothing is queued twice");
    wait_until("counted", || {
        ingester.metric("ingester_backfill_repos_unchanged_total", "").unwrap() >= 500.0
    });
    assert_eq!(ingester.terminate(), Some(0));

    redis.command(&["SET", &format!("repo_backfill:cursor:{}", network.addr()), "!ingester-done"]).unwrap();
    let before = network.list_repos().queries().len();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("it knows that it is done", || ingester.metric("ingester_backfill_complete", "") == Some(1.0));
    assert_eq!(network.list_repos().queries().len(), before);
    assert!(ingester.is_running(), "a process with nothing left to do stays");
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_items_are_dead_lettered_alone() {
    let mut listed = repos(30);
    listed[10]["did"] = json!("nonsense");
    listed[20]["status"] = json!("s".repeat(300));
    // Nobody needs these.
    listed[21]["head"] = json!("");
    listed[21]["rev"] = json!("");
    let network = Network::builder().repo_pages(RepoPage::split(listed, 20)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, &[]);
    wait_until("the end of the listing", || done(&redis, &network));
    assert_eq!(length(&redis, "repo_backfill"), 28);
    assert_eq!(length(&redis, "repo_backfill_dlq"), 2);
    ingester.wait_for("ingester_rejected_total", "invalid_repo", 2.0);
    assert_eq!(ingester.terminate(), Some(0));
}
