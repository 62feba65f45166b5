//! The bad peer.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use rsky_testnet::network::{Network, Refusal, RunningNetwork, Script, frames};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::{LONG, SHORT, Subscriber};

async fn numbered(count: u64) -> RunningNetwork {
    let script = Script::frames((1..=count).map(|seq| frames::unknown(seq, "#test")));
    Network::builder().relay(script).start().await.unwrap()
}

#[tokio::test]
async fn a_clean_close_has_a_close_frame() {
    let network = numbered(1).await;
    let relay = network.relay().control();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    subscriber.frames(1).await;
    relay.close_all(1000, "bye");
    match subscriber.message().await {
        Some(Ok(Message::Close(Some(close)))) => {
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1000, "bye"));
        }
        other => panic!("a close frame was expected, not {other:?}"),
    }
    assert!(subscriber.message().await.is_none());
    assert!(relay.wait_until(LONG, |relay| relay.open_sockets() == 0).await);
    Subscriber::relay(&network, "?cursor=1").await.unwrap().expect_silence().await;
    assert_eq!(relay.connections(), 2, "the close was for the sockets of then");
}

#[tokio::test]
async fn a_reset_is_a_tcp_reset() {
    let network = numbered(1).await;
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    subscriber.frames(1).await;
    network.relay().control().reset_all();
    match subscriber.message().await {
        Some(Err(Error::Io(error))) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("a reset was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_stalled_peer_still_answers_pings() {
    let network = numbered(3).await;
    let relay = network.relay().control();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    subscriber.frames(3).await;
    relay.stall();
    relay.push(frames::unknown(4, "#test"));
    subscriber.expect_silence().await;
    assert!(subscriber.ping(LONG).await);
    assert_eq!(relay.frames_sent(), 3);
    relay.resume();
    assert_eq!(subscriber.seqs(1).await, [Some(4)]);
}

#[tokio::test]
async fn a_silent_peer_answers_nothing() {
    let network = numbered(1).await;
    let relay = network.relay().control();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    subscriber.frames(1).await;
    relay.go_silent();
    tokio::time::sleep(SHORT).await;
    assert!(!subscriber.ping(SHORT * 2).await);
    relay.resume();
    assert!(subscriber.ping(LONG).await);
}

#[tokio::test]
async fn anything_can_be_sent_past_the_script() {
    let network = numbered(1).await;
    let relay = network.relay().control();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    subscriber.frames(1).await;
    for frame in [frames::error("ConsumerTooSlow"), Bytes::from_static(b"\xff\xff"), Bytes::new()] {
        relay.send_now(frame.clone());
        assert_eq!(subscriber.frame().await, frame);
    }
    relay.send_message(Message::text("text"));
    assert_eq!(subscriber.message().await.unwrap().unwrap(), Message::text("text"));
    assert_eq!(relay.frames_sent(), 1, "only the script counts");
    relay.send_message(Message::Ping(Bytes::new()));
    subscriber.expect_ping().await;
    assert!(relay.wait_until(LONG, |relay| relay.pongs_received() == 1).await);
}

#[tokio::test]
async fn subscriptions_are_refused_as_told() {
    let network = numbered(1).await;
    let relay = network.relay().control();
    relay.refuse(Refusal::Status(503), None);
    match Subscriber::relay(&network, "").await {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 503),
        other => panic!("a 503 was expected, not {:?}", other.map(|_| ())),
    }
    relay.refuse(Refusal::Hangup, None);
    assert!(matches!(Subscriber::relay(&network, "").await, Err(Error::Io(_) | Error::Protocol(_))));
    relay.accept();
    Subscriber::relay(&network, "").await.unwrap().frames(1).await;
    relay.refuse(Refusal::Hangup, Some(Duration::from_millis(100)));
    assert!(Subscriber::relay(&network, "").await.is_err());
    tokio::time::sleep(Duration::from_millis(110)).await;
    Subscriber::relay(&network, "").await.unwrap().frames(1).await;
    assert_eq!(relay.connections(), 5);
}

#[tokio::test]
async fn a_closed_port_refuses_and_comes_back() {
    let network = numbered(1).await;
    let mut open = Subscriber::relay(&network, "").await.unwrap();
    open.frames(1).await;
    network.stop_listening().await;
    match Subscriber::relay(&network, "").await {
        Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        other => panic!("a refusal was expected, not {:?}", other.map(|_| ())),
    }
    assert!(open.ping(LONG).await, "what is open stays open");
    network.listen_again().await.unwrap();
    Subscriber::relay(&network, "").await.unwrap().frames(1).await;
}

#[tokio::test]
async fn commands_reach_a_socket_from_its_first_moment() {
    let network = Network::builder().from_end(true).start().await.unwrap();
    let relay = network.relay().control();
    for seq in 1..=50 {
        let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
        relay.push(frames::unknown(seq, "#test"));
        assert_eq!(subscriber.seqs(1).await, [Some(seq)]);
        let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
        relay.close_all(1000, "");
        assert!(matches!(subscriber.message().await, Some(Ok(Message::Close(_)))));
    }
}
