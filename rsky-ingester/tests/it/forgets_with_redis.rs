//! A Redis that comes back with an older state is read up to date again, from where it is.

use rsky_testnet::network::{Failure, Network, RepoPage, RunningNetwork, Script};
use rsky_testnet::servers::Redis;

use crate::support::{
    Ingester, entries, first_occurrences, length, like, range, repos, seqs, values, wait_until,
};

/// From now on a kill takes the server back to this moment.
fn snapshot(redis: &Redis) {
    redis.command(&["SAVE"]).unwrap();
}

fn start(redis: &Redis, network: &RunningNetwork, mode: &str) -> Ingester {
    Ingester::of_relays(mode, redis, &network.url(), &[])
}

fn cursor(redis: &Redis, stream: &str, network: &RunningNetwork) -> Option<String> {
    // The server may be about to start.
    let answer = redis.command(&["GET", &format!("{stream}:cursor:{}", network.addr())]);
    answer.ok().and_then(|value| value.as_text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_relay_is_read_again_from_where_redis_is() {
    let network = Network::builder().relay(Script::generated(1, 500, like)).start().await.unwrap();
    let mut redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, "firehose");
    wait_until("the first half", || cursor(&redis, "firehose_live", &network).as_deref() == Some("500"));
    snapshot(&redis);
    (501..=1000).for_each(|seq| network.relay().control().push(like(seq)));
    wait_until("the second half", || cursor(&redis, "firehose_live", &network).as_deref() == Some("1000"));
    redis.kill().unwrap();
    redis.restart().unwrap();
    // Nothing comes from the relay meanwhile.
    wait_until("all of it again", || cursor(&redis, "firehose_live", &network).as_deref() == Some("1000"));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 1000));
    assert!(ingester.log().contains("reading again from there"), "{}", ingester.log());
    ingester.wait_for("ingester_cursor_changes_total", "back", 1.0);
    assert_eq!(network.relay().control().cursors().last().unwrap().as_deref(), Some("500"));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_relay_leaves_no_hole_however_often_redis_goes_back() {
    const FRAMES: u64 = 6_000;
    let network = Network::builder().relay(Script::generated(1, FRAMES, like)).start().await.unwrap();
    network.relay().control().set_rate(std::num::NonZeroU32::new(2_000));
    let mut redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, "firehose");
    for goal in [500, 1_500, 3_000] {
        wait_until("events arrive", || length(&redis, "firehose_live") >= goal);
        snapshot(&redis);
        wait_until("more arrive", || length(&redis, "firehose_live") >= goal + 300);
        redis.kill().unwrap();
        redis.restart().unwrap();
    }
    let last = FRAMES.to_string();
    wait_until("the last event", || cursor(&redis, "firehose_live", &network) == Some(last.clone()));
    assert_eq!(first_occurrences(&seqs(&redis, "firehose_live")), range(1, FRAMES));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_has_lost_everything_is_filled_from_where_this_process_began() {
    let network = Network::builder().relay(Script::generated(1, 300, like)).start().await.unwrap();
    let mut redis = Redis::start().unwrap();
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "100"]).unwrap();
    let mut ingester = start(&redis, &network, "firehose");
    wait_until("the last event", || cursor(&redis, "firehose_live", &network).as_deref() == Some("300"));
    redis.kill().unwrap();
    redis.restart().unwrap();
    wait_until("all of it again", || cursor(&redis, "firehose_live", &network).as_deref() == Some("300"));
    assert_eq!(seqs(&redis, "firehose_live"), range(101, 300));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_brought_that_is_gone_is_written_again_from_another() {
    let first = Network::builder().relay(Script::generated(1, 300, like)).start().await.unwrap();
    let second = Network::builder().relay(Script::generated(1, 1, like)).start().await.unwrap();
    let mut redis = Redis::start().unwrap();
    let hosts = format!("{},{}", first.url(), second.url());
    let mut ingester = Ingester::of_relays("firehose", &redis, &hosts, &[]);
    wait_until("all of the first", || cursor(&redis, "firehose_live", &first).as_deref() == Some("300"));
    (2..=300).for_each(|seq| second.relay().control().push(like(seq)));
    let done = |redis: &Redis| cursor(redis, "firehose_live", &second).as_deref() == Some("300");
    wait_until("all of the second", || done(&redis));
    drop(first);
    redis.kill().unwrap();
    redis.restart().unwrap();
    wait_until("all of the second again", || done(&redis));
    assert_eq!(seqs(&redis, "firehose_live"), range(1, 300));
    assert_eq!(ingester.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_set_the_cursor_back() {
    let network = Network::builder().relay(Script::generated(1, 20, like)).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, "firehose");
    wait_until("the last event", || length(&redis, "firehose_live") == 20);
    redis.command(&["SET", &format!("firehose_live:cursor:{}", network.addr()), "15"]).unwrap();
    wait_until("the last ones again", || length(&redis, "firehose_live") == 25);
    assert_eq!(cursor(&redis, "firehose_live", &network).as_deref(), Some("20"));
    assert!(ingester.log().contains("set it back"), "{}", ingester.log());
    assert_eq!(ingester.terminate(), Some(0));
}

async fn host(count: u64, page: usize) -> RunningNetwork {
    Network::builder().repo_pages(RepoPage::split(repos(count), page)).page_size(page).start().await.unwrap()
}

fn done(redis: &Redis, network: &RunningNetwork) -> bool {
    cursor(redis, "repo_backfill", network).as_deref() == Some("!ingester-done")
}

fn dids(redis: &Redis) -> Vec<String> {
    let repos = values(redis, "repo_backfill", "repo");
    let did = |repo: &String| {
        let repo: serde_json::Value = serde_json::from_str(repo).unwrap();
        repo["did"].as_str().unwrap().to_owned()
    };
    repos.iter().map(did).collect()
}

fn sorted(mut dids: Vec<String>) -> Vec<String> {
    dids.sort();
    dids.dedup();
    dids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_ends_with_all_repositories_although_redis_went_back_before_and_after_the_end() {
    let network = host(1_000, 100).await;
    let list = network.list_repos();
    // It waits in two places, which is when the server is taken back.
    list.fail_at(450, Failure::Always);
    let mut redis = Redis::start().unwrap();
    let mut ingester = start(&redis, &network, "backfill");
    wait_until("the first place", || ingester.get("/readyz").1.contains("allow no way around"));
    let listed = length(&redis, "repo_backfill");
    assert!((400..=450).contains(&listed), "{listed}");
    snapshot(&redis);
    list.heal();
    list.fail_at(850, Failure::Always);
    wait_until("the second place", || length(&redis, "repo_backfill") >= 800);
    redis.kill().unwrap();
    redis.restart().unwrap();
    list.heal();
    wait_until("the end", || done(&redis, &network));
    assert_eq!(sorted(dids(&redis)), sorted(list.dids()), "{}", ingester.log());
    // The end itself is forgotten.
    redis.kill().unwrap();
    redis.restart().unwrap();
    assert_eq!(length(&redis, "repo_backfill"), listed);
    wait_until("the end again", || done(&redis, &network));
    assert_eq!(sorted(dids(&redis)), sorted(list.dids()), "{}", ingester.log());
    assert!(ingester.log().contains("listing again from there"), "{}", ingester.log());
    assert_eq!(ingester.terminate(), Some(0));
}

/// A page that needs several transactions has its cursor in the last; a server that lost the first of them has the cursor
/// it had before.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_parts_is_written_again_when_the_server_between_them_is_another() {
    let network = host(300, 300).await;
    let mut redis = Redis::start().unwrap();
    let settings = [
        ("INGESTER_RELAY_HOSTS", network.url()),
        ("INGESTER_MODE", "backfill".to_owned()),
        ("INGESTER_BATCH_SIZE", "100".to_owned()),
        ("INGESTER_HIGH_WATER_MARK", "100".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    snapshot(&redis);
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("the first part", || length(&redis, "repo_backfill") == 100);
    redis.kill().unwrap();
    redis.restart().unwrap();
    let mut seen = Vec::new();
    while !done(&redis, &network) {
        wait_until("a part", || length(&redis, "repo_backfill") > 0);
        seen.extend(dids(&redis));
        redis.command(&["DEL", "repo_backfill"]).unwrap();
    }
    seen.extend(dids(&redis));
    assert_eq!(sorted(seen), sorted(network.list_repos().dids()));
    assert_eq!(entries(&redis, "repo_backfill_dlq").len(), 0);
    assert_eq!(ingester.terminate(), Some(0));
}
