//! What the HTTP routes answer.

use rsky_testnet::network::corpus::{read_maybe_gz, recorded};
use rsky_testnet::network::{Failure, Network, RepoAnswer, RepoPage, RunningNetwork};
use serde_json::{Value, json};

use super::client::get;

async fn replay() -> RunningNetwork {
    Network::builder().corpus(recorded()).start().await.unwrap()
}

fn recording(name: &str) -> Vec<u8> {
    read_maybe_gz(&recorded().join(name)).unwrap().unwrap()
}

async fn walk(network: &RunningNetwork, limit: usize) -> Vec<Value> {
    let (mut repos, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/xrpc/com.atproto.sync.listRepos?limit={limit}{cursor}");
        let page = get(network, &path, None).await.json();
        let listed = page["repos"].as_array().unwrap();
        assert!(
            !listed.is_empty() && listed.len() <= limit.min(20),
            "limit {limit}: {} on a page",
            listed.len()
        );
        repos.extend_from_slice(listed);
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace(':', "%3A")),
            None => return repos,
        }
    }
}

#[tokio::test]
async fn list_repos_lists_every_repository_once_whatever_the_limit() {
    let network = replay().await;
    let mut expected: Vec<Value> = Vec::new();
    for name in ["listRepos.json", "listRepos-extra.json"] {
        let pages: Vec<RepoPage> = serde_json::from_slice(&recording(name)).unwrap();
        expected.extend(pages.into_iter().flat_map(|page| page.repos));
    }
    assert_eq!(expected.len(), 88);
    for limit in [1000, 20, 19, 7, 1] {
        assert_eq!(walk(&network, limit).await, expected, "limit {limit}");
    }
    network.list_repos().numeric_cursors(true);
    assert_eq!(walk(&network, 1000).await, expected);
}

#[tokio::test]
async fn the_recorded_cursors_are_at_the_recorded_borders() {
    let network = replay().await;
    let first = get(&network, "/xrpc/com.atproto.sync.listRepos", None).await.json();
    assert_eq!(first["cursor"], "1795478357275::did:plc:q7qa6d4keozwxa63astbavk5");
    assert_eq!(first["repos"].as_array().unwrap().len(), 20);
    let extra = "/xrpc/com.atproto.sync.listRepos?cursor=1795478367997::did:plc:byqszeuks645gzsnx6qetk2y";
    let last = get(&network, extra, None).await.json();
    assert_eq!((last["repos"].as_array().unwrap().len(), &last["cursor"]), (9, &Value::Null));
    assert_eq!(network.list_repos().queries().len(), 2);
}

#[tokio::test]
async fn list_repos_fails_where_it_is_told_to() {
    let network = replay().await;
    let path = "/xrpc/com.atproto.sync.listRepos?limit=10";
    network.list_repos().fail_at(5, Failure::Times(1));
    assert_eq!(get(&network, path, None).await.status, 500);
    assert_eq!(get(&network, path, None).await.status, 200);
    for nonsense in ["limit=0", "limit=1001", "limit=x", "cursor=nonsense"] {
        let answer = get(&network, &format!("/xrpc/com.atproto.sync.listRepos?{nonsense}"), None).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("InvalidRequest")), "{nonsense}");
    }
}

#[tokio::test]
async fn repositories_and_their_errors_are_as_recorded() {
    let network = replay().await;
    let did = "did:plc:2agxpq2g5bgjjlaynamsz7le";
    let car =
        get(&network, &format!("/xrpc/com.atproto.sync.getRepo?did={}", did.replace(':', "%3A")), None).await;
    assert_eq!(car.status, 200);
    assert!(car.head.contains("content-type: application/vnd.ipld.car"));
    assert!(!car.body.is_empty() && car.body == recording(&format!("repos/{did}.car")));
    let path = "/xrpc/com.atproto.sync.getRepo?did=did:plc:3k52lfe7zzntuyxefxpkscej";
    let error = get(&network, path, None).await;
    assert_eq!((error.status, &error.json()["error"]), (400, &json!("RepoDeactivated")));
    let absent = get(&network, "/xrpc/com.atproto.sync.getRepo?did=did:plc:nobody", None).await;
    assert_eq!((absent.status, &absent.json()["error"]), (400, &json!("RepoNotFound")));
    network.directory().set_repo("did:plc:nobody", RepoAnswer::Car("not a car".into()));
    assert_eq!(
        get(&network, "/xrpc/com.atproto.sync.getRepo?did=did:plc:nobody", None).await.body,
        b"not a car"
    );
}

#[tokio::test]
async fn documents_name_this_server_as_pds_and_are_otherwise_as_recorded() {
    let network = replay().await;
    let dids = network.directory().dids();
    assert_eq!(dids.len(), 98);
    let mut rewritten = 0;
    for did in &dids {
        let answer = get(&network, &format!("/{did}"), None).await;
        let mut expected: Value = serde_json::from_slice(&recording(&format!("plc/{did}.json"))).unwrap();
        for service in expected["service"].as_array_mut().into_iter().flatten() {
            if service["id"] == "#atproto_pds" {
                service["serviceEndpoint"] = json!(network.url());
                rewritten += 1;
            }
        }
        assert_eq!((answer.status, answer.json()), (200, expected), "{did}");
    }
    assert_eq!(rewritten, 97);
    let unknown = get(&network, "/did:plc:nobody", None).await;
    assert_eq!(
        (unknown.status, &unknown.json()["message"]),
        (404, &json!("DID not registered: did:plc:nobody"))
    );
    let directory = network.directory();
    assert_eq!((directory.lookups("did:plc:nobody"), directory.total_lookups()), (1, 99));
    directory.fail_with(Some(503));
    assert_eq!(get(&network, &format!("/{}", dids[0]), None).await.status, 503);
}

#[tokio::test]
async fn handles_resolve_as_written() {
    let network = replay().await;
    let path = |handle: &str| format!("/xrpc/com.atproto.identity.resolveHandle?handle={handle}");
    for (handle, did) in [
        ("alice.test", "did:plc:xtfykkvewibed52ao2qgu2b4"),
        ("Contested.Test", "did:plc:extrcaaaaaaaaaaaaaaaaaaa"),
        ("contested.test", "did:plc:extrdaaaaaaaaaaaaaaaaaaa"),
    ] {
        assert_eq!(get(&network, &path(handle), None).await.json(), json!({ "did": did }));
        assert_eq!(get(&network, "/.well-known/atproto-did", Some(handle)).await.text(), did);
        assert_eq!(
            get(&network, "/.well-known/atproto-did", Some(&format!("{handle}:80"))).await.text(),
            did
        );
    }
    let unknown = get(&network, &path("nobody.test"), None).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(unknown.json(), json!({"error": "InvalidRequest", "message": "Unable to resolve handle"}));
    assert_eq!(get(&network, "/.well-known/atproto-did", Some("nobody.test")).await.status, 404);
}

#[tokio::test]
async fn did_web_documents_are_found_by_host() {
    let network = replay().await;
    assert_eq!(get(&network, "/.well-known/did.json", None).await.status, 404);
    network.directory().set_document(json!({"id": "did:web:example.test%3A99"}));
    let document = get(&network, "/.well-known/did.json", Some("example.test:99")).await;
    assert_eq!(document.json()["id"], "did:web:example.test%3A99");
}

#[tokio::test]
async fn a_network_of_nothing_lists_nothing() {
    let network = Network::builder().start().await.unwrap();
    assert_eq!(get(&network, "/xrpc/com.atproto.sync.listRepos", None).await.json(), json!({"repos": []}));
    assert_eq!(get(&network, "/xrpc/com.example.unknown", None).await.status, 404);
    assert!(network.list_repos().is_empty());
}
