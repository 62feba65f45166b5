//! Opening a WebSocket.

use rsky_common::runtime::CancellationToken;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::CONNECT_TIMEOUT;
use crate::VERSION;

/// A WebSocket, with or without TLS.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens one; `None`: we stop.
pub(crate) async fn open(
    url: &str,
    max_frame: usize,
    stop: &CancellationToken,
) -> Option<Result<Socket, String>> {
    tokio::select! {
        () = stop.cancelled() => None,
        opened = tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(connect(url, max_frame))) => {
            Some(opened.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_TIMEOUT:?}"))))
        }
    }
}

async fn connect(url: &str, max_frame: usize) -> Result<Socket, String> {
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let agent =
        HeaderValue::from_str(&format!("rsky-ingester/{VERSION}")).map_err(|error| error.to_string())?;
    request.headers_mut().insert(USER_AGENT, agent);
    let config = WebSocketConfig::default().max_message_size(Some(max_frame)).max_frame_size(Some(max_frame));
    let nodelay = true;
    match connect_async_with_config(request, Some(config), nodelay).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(error.to_string()),
    }
}
