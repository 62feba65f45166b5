//! A WebSocket subscriber and a small HTTP client.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rsky_testnet::network::RunningNetwork;
use rsky_testnet::network::frames::peek;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Enough to see that nothing comes.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

pub(crate) struct Subscriber(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Subscriber {
    pub(crate) async fn relay(network: &RunningNetwork, query: &str) -> Result<Self, Error> {
        Self::connect(network, "com.atproto.sync.subscribeRepos", query).await
    }

    pub(crate) async fn labeler(network: &RunningNetwork, query: &str) -> Result<Self, Error> {
        Self::connect(network, "com.atproto.label.subscribeLabels", query).await
    }

    async fn connect(network: &RunningNetwork, method: &str, query: &str) -> Result<Self, Error> {
        let url = format!("ws://{}/xrpc/{method}{query}", network.addr());
        let (socket, _) = timeout(LONG, connect_async(url)).await.expect("the handshake takes too long")?;
        Ok(Self(socket))
    }

    /// The next message that is not a ping or pong.
    pub(crate) async fn message(&mut self) -> Option<Result<Message, Error>> {
        loop {
            match timeout(LONG, self.0.next()).await.expect("nothing comes") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Bytes {
        match self.message().await {
            Some(Ok(Message::Binary(frame))) => frame,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    pub(crate) async fn frames(&mut self, count: usize) -> Vec<Bytes> {
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push(self.frame().await);
        }
        frames
    }

    pub(crate) async fn seqs(&mut self, count: usize) -> Vec<Option<u64>> {
        self.frames(count).await.iter().map(|frame| peek(frame).seq).collect()
    }

    /// Asserts that nothing comes for a short time.
    pub(crate) async fn expect_silence(&mut self) {
        if let Ok(message) = timeout(SHORT, self.0.next()).await {
            panic!("nothing was expected, not {message:?}");
        }
    }

    /// Waits for a ping and lets it be answered.
    pub(crate) async fn expect_ping(&mut self) {
        let message = timeout(LONG, self.0.next()).await.expect("nothing comes");
        assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
        self.0.flush().await.unwrap();
    }

    /// Whether a ping is answered within `time`; drops what comes before the pong.
    pub(crate) async fn ping(&mut self, time: Duration) -> bool {
        self.0.send(Message::Ping(Bytes::from_static(b"x"))).await.expect("send a ping");
        let pong = async {
            while let Some(message) = self.0.next().await {
                if matches!(message, Ok(Message::Pong(_))) {
                    return true;
                }
            }
            false
        };
        timeout(time, pong).await.unwrap_or(false)
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a text body")
    }
}

/// GET of a path, with the address as host or another one.
pub(crate) async fn get(network: &RunningNetwork, path: &str, host: Option<&str>) -> Answer {
    let addr = network.addr().to_string();
    let host = host.unwrap_or(&addr);
    let mut stream = TcpStream::connect(network.addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let body = answer.split_off(head + 4);
    let head = String::from_utf8(answer).unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head: head.to_lowercase(), body }
}
