//! What subscribers are served: cursors, order, pace.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rsky_testnet::network::corpus::{Corpus, recorded};
use rsky_testnet::network::frames::{self, peek};
use rsky_testnet::network::{Network, RunningNetwork, Script};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::{LONG, SHORT, Subscriber, get};

async fn replay() -> RunningNetwork {
    Network::builder().corpus(recorded()).start().await.unwrap()
}

fn identities(seqs: std::ops::RangeInclusive<u64>) -> Script {
    Script::frames(seqs.map(|seq| frames::identity(seq, "did:plc:a", "2026-01-01T00:00:00.000Z", None)))
}

#[tokio::test]
async fn the_whole_recording_is_served_and_then_the_socket_idles() {
    let (network, corpus) = (replay().await, Corpus::read(&recorded()).unwrap());
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    assert_eq!(subscriber.frames(corpus.firehose.len()).await, corpus.firehose);
    subscriber.expect_silence().await;
    assert!(subscriber.ping(LONG).await);
    let relay = network.relay().control();
    assert_eq!((relay.frames_sent(), relay.connections(), relay.open_sockets()), (1804, 1, 1));
    assert_eq!((relay.pings_received(), relay.cursors()), (1, vec![None]));
    drop(subscriber);
    assert!(relay.wait_until(LONG, |relay| relay.open_sockets() == 0).await);
}

#[tokio::test]
async fn a_cursor_continues_after_it() {
    let network = replay().await;
    let mut subscriber = Subscriber::relay(&network, "?cursor=1752").await.unwrap();
    assert_eq!(
        subscriber.seqs(4).await,
        [Some(1753), None, Some(1755), Some(1756)],
        "#info stays in its place"
    );
    let mut at_end = Subscriber::relay(&network, "?cursor=1804").await.unwrap();
    at_end.expect_silence().await;
    let relay = network.relay().control();
    assert_eq!(relay.queries(), ["cursor=1752", "cursor=1804"]);
    assert_eq!(relay.cursors(), [Some("1752".to_owned()), Some("1804".to_owned())]);
}

#[tokio::test]
async fn a_cursor_from_the_future_is_an_error_frame_and_a_close() {
    let network = replay().await;
    let mut subscriber = Subscriber::relay(&network, "?cursor=1805").await.unwrap();
    let frame = subscriber.frame().await;
    assert_eq!(peek(&frame).op, Some(-1));
    assert!(frame.windows(12).any(|window| window == b"FutureCursor"));
    match subscriber.message().await {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(u16::from(close.code), 1008),
        other => panic!("a close frame was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn the_labeler_has_cursors_of_its_own() {
    let (network, corpus) = (replay().await, Corpus::read(&recorded()).unwrap());
    let mut all = Subscriber::labeler(&network, "?cursor=0").await.unwrap();
    assert_eq!(all.frames(corpus.labels.len()).await, corpus.labels);
    let mut rest = Subscriber::labeler(&network, "?cursor=38").await.unwrap();
    assert_eq!(rest.seqs(2).await, [Some(39), None]);
    rest.expect_silence().await;
    assert_eq!((network.labeler().control().connections(), network.relay().control().connections()), (2, 0));
}

#[tokio::test]
async fn from_the_end_only_new_frames_come() {
    let network = Network::builder().relay(identities(1..=3)).from_end(true).start().await.unwrap();
    let mut live = Subscriber::relay(&network, "").await.unwrap();
    live.expect_silence().await;
    let pushed = frames::unknown(9, "#future");
    network.relay().control().push(pushed.clone());
    assert_eq!(live.frame().await, pushed);
    let mut resumed = Subscriber::relay(&network, "?cursor=2").await.unwrap();
    assert_eq!(resumed.seqs(2).await, [Some(3), Some(9)]);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_stops_the_sender() {
    let frame = Bytes::from(vec![0xf6; 4_500]);
    let script = Script::endless(1, move |_| frame.clone());
    let network = Network::builder().relay(script).send_buffer(64 * 1024).start().await.unwrap();
    let relay = network.relay().control();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    let mut plateau = relay.frames_sent();
    let mut quiet = 0;
    let until = Instant::now() + LONG;
    while quiet < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = relay.frames_sent();
        quiet = if sent == plateau && sent > 0 { quiet + 1 } else { 0 };
        plateau = sent;
        assert!(Instant::now() < until, "it sends on: {sent}");
    }
    assert!(plateau * 4_500 < 16 << 20, "{plateau} frames are more than kernels buffer");
    subscriber.frames(plateau as usize + 100).await;
    assert!(relay.frames_sent() >= plateau + 100, "it continues when the subscriber reads");
}

#[tokio::test]
async fn commands_reach_a_socket_whose_peer_does_not_read() {
    let frame = Bytes::from(vec![0xf6; 100_000]);
    let network = Network::builder().relay(Script::endless(1, move |_| frame.clone())).start().await.unwrap();
    let relay = network.relay().control();
    let _unread = Subscriber::relay(&network, "").await.unwrap();
    assert!(relay.wait_until(LONG, |relay| relay.frames_sent() > 2).await);
    relay.reset_all();
    assert!(relay.wait_until(LONG, |relay| relay.open_sockets() == 0).await);
}

#[tokio::test]
async fn a_rate_spreads_the_frames() {
    let rate = NonZeroU32::new(200);
    let network = Network::builder().relay(identities(1..=1000)).rate(rate).start().await.unwrap();
    let mut subscriber = Subscriber::relay(&network, "").await.unwrap();
    let begin = Instant::now();
    subscriber.frames(100).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(450), "100 frames at 200 a second took {took:?}");
    assert!(network.relay().control().frames_sent() < 400);
    network.relay().control().set_rate(None);
    assert_eq!(subscriber.seqs(900).await.last(), Some(&Some(1000)));
}

#[tokio::test]
async fn nonsense_is_refused_before_the_upgrade() {
    let network = replay().await;
    match Subscriber::relay(&network, "?cursor=x").await {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 400),
        other => panic!("a 400 was expected, not {:?}", other.map(|_| ())),
    }
    assert_eq!(get(&network, "/xrpc/com.atproto.sync.subscribeRepos", None).await.status, 426);
}

#[tokio::test]
async fn stopping_and_dropping_end_every_socket() {
    for drops in [false, true] {
        let network = replay().await;
        let (addr, mut subscriber) =
            (network.addr(), Subscriber::relay(&network, "?cursor=1804").await.unwrap());
        if drops {
            drop(network);
        } else {
            network.stop().await.unwrap();
        }
        assert!(!matches!(subscriber.message().await, Some(Ok(_))));
        tokio::time::sleep(SHORT).await;
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    }
}
