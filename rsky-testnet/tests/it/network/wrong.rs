//! Answers that go wrong on purpose.

use bytes::Bytes;
use rsky_testnet::network::{Network, RepoAnswer, Wrong};

use super::client::{Answer, get};

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
