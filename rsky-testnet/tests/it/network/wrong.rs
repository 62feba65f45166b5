//! Answers that go wrong on purpose.

use bytes::Bytes;
use rsky_testnet::network::frames::peek;
use rsky_testnet::network::world::{Party, Serving, Trouble, WorldNetwork, WorldOptions};
use rsky_testnet::network::{Network, RepoAnswer, Wrong};
use rsky_testnet::servers::free_port;

use super::client::{Answer, Subscriber, get};

#[tokio::test]
async fn an_answer_goes_wrong_in_every_way() {
    let answer = async |wrong: Wrong| -> Answer {
        let repo = RepoAnswer::Wrong(Bytes::from_static(b"{\"a\":1}"), wrong);
        let network = Network::builder().repo("did:plc:a", repo).start().await.unwrap();
        let answer = get(&network, "/xrpc/com.atproto.sync.getRepo?did=did:plc:a", None).await;
        network.stop().await.unwrap();
        answer
    };
    assert_eq!(answer(Wrong::Error).await.status, 500);
    let busy = answer(Wrong::Busy).await;
    assert_eq!(busy.status, 429);
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    let page = answer(Wrong::Page).await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("text/html") && page.text().contains("<!doctype html>"), "{}", page.head);
    let cut = answer(Wrong::Cut).await;
    assert!(cut.head.contains("content-length: 7"), "{}", cut.head);
    assert_eq!((cut.status, cut.body.as_slice()), (200, b"{\"a".as_slice()));
    assert_eq!(answer(Wrong::Trickle).await.body, b"{\"a\":1}");
    assert_eq!(answer(Wrong::Member("a", "another".into())).await.json()["a"], "another");
}

/// The same is asked again and again until it is right; what it was before is counted.
#[tokio::test]
async fn a_troubled_world_is_right_in_the_end() {
    let trouble = vec![Trouble::PlcOther, Trouble::WebPage, Trouble::HandleError, Trouble::ListRepeat];
    let web = vec![format!("127.0.0.1:{}", free_port().unwrap())];
    let options = WorldOptions {
        accounts: 20,
        history: 60,
        live: 1,
        trouble: trouble.clone(),
        web,
        ..WorldOptions::default()
    };
    let network = WorldNetwork::start(options, Serving::default()).await.unwrap();
    let relay = network.relays().first().unwrap();
    let (mut dids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(relay, &format!("/xrpc/com.atproto.sync.listRepos{cursor}"), None).await.json();
        let next = page["cursor"].as_str().map(|next| format!("?cursor={}", next.replace(':', "%3A")));
        if next.as_ref() == Some(&cursor) {
            continue;
        }
        let listed = page["repos"].as_array().unwrap().iter();
        dids.extend(listed.map(|repo| repo["did"].as_str().unwrap().to_owned()));
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert!(dids.len() > 5 && dids.first().unwrap().starts_with("did:web:127.0.0.1%3A"), "{dids:?}");
    for did in &dids {
        let mut asked = 0;
        let document = loop {
            let answer = if did.starts_with("did:web:") {
                get(network.hosts().last().unwrap(), "/.well-known/did.json", None).await
            } else {
                get(relay, &format!("/{did}"), None).await
            };
            asked += 1;
            match serde_json::from_slice::<serde_json::Value>(&answer.body) {
                Ok(document) if document["id"] == did.as_str() => break document,
                _ => assert!(asked < 3, "{did}: {}", answer.text()),
            }
        };
        let handle = document["alsoKnownAs"][0].as_str().unwrap().trim_start_matches("at://");
        let path = format!("/xrpc/com.atproto.identity.resolveHandle?handle={handle}");
        let mut asked = 0;
        while get(relay, &path, None).await.status == 500 {
            asked += 1;
            assert!(asked < 3, "{handle}");
        }
    }
    let happened: Vec<Trouble> = network.trouble().into_keys().collect();
    assert_eq!(happened, trouble);
    network.stop().await.unwrap();
}

/// Whoever reads it, and whenever: what goes wrong is a function of the options, as everything else.
#[tokio::test]
async fn a_troubled_stream_is_the_same_every_time() {
    let ends = [Trouble::Cut, Trouble::Reset, Trouble::Error, Trouble::Silence];
    let is_stream = |kind: &Trouble| {
        matches!(kind.party(), Party::Relay | Party::Resync | Party::Events) && !ends.contains(kind)
    };
    let trouble: Vec<Trouble> = Trouble::ALL.iter().copied().filter(is_stream).collect();
    let options = WorldOptions { accounts: 10, history: 60, live: 300, trouble, ..WorldOptions::default() };
    let read = async |network: &WorldNetwork| {
        let relay = network.relays().first().unwrap();
        let (mut subscriber, mut messages) = (Subscriber::relay(relay, "").await.unwrap(), Vec::new());
        loop {
            let message = subscriber.message().await.unwrap().unwrap();
            let is_last = peek(&message.clone().into_data()).seq == Some(network.last_seq());
            messages.push(message);
            if is_last {
                return messages;
            }
        }
    };
    let mut reads = Vec::new();
    for _ in 0..2 {
        let network = WorldNetwork::start(options.clone(), Serving::default()).await.unwrap();
        reads.extend([read(&network).await, read(&network).await]);
        network.stop().await.unwrap();
    }
    let [first, others @ ..] = reads.as_slice() else { panic!("four were read") };
    assert!(first.len() > 320, "{}", first.len());
    assert!(others.iter().all(|other| other == first));
}
