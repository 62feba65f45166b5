//! The beginning of a frame that is too large to be read, which tells its number.
//!
//! The WebSocket library gives up at the header of such a frame, and what it has buffered is gone. So a second connection is
//! made at the same cursor, upgraded by hand, and read frame by frame (RFC 6455, section 5.2) without keeping more than a
//! beginning. This happens once per frame that is too large.

use std::time::Duration;

use rsky_common::atproto::CollectionFilter;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::Subscription;
use crate::http;

/// Time for all of it.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of a frame after which its number is looked for, and at most.
const BEGINNINGS: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Messages that may come before it: notices without a number.
const MOST_MESSAGES: u32 = 1000;

/// What is known of a frame that is too large.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Its number.
    pub(super) seq: i64,
    /// Its first bytes.
    pub(super) bytes: Vec<u8>,
}

/// Reads the beginning of the first frame after `cursor` that is larger than allowed; `None`: it has none, or no number is
/// to be found.
pub(super) async fn measure(subscription: &Subscription, cursor: i64) -> Option<Beginning> {
    let measuring =
        async { tokio::time::timeout(TIME, Box::pin(connect_and_find(subscription, cursor))).await };
    let outcome = tokio::select! {
        () = subscription.stop.cancelled() => return None,
        outcome = measuring => outcome.unwrap_or_else(|_| Err(format!("not within {TIME:?}"))),
    };
    outcome.unwrap_or_else(|why| {
        let source = subscription.source.name();
        tracing::warn!(source, cursor, "the number of a frame that is too large cannot be read: {why}");
        None
    })
}

async fn connect_and_find(subscription: &Subscription, cursor: i64) -> Result<Option<Beginning>, String> {
    let source = &subscription.source;
    let answer = subscription
        .client
        .get(source.upgrade_url(cursor))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .send()
        .await
        .map_err(|error| http::describe(&error))?;
    if answer.status().as_u16() != 101 {
        return Err(format!("HTTP {}", answer.status()));
    }
    let mut socket = answer.upgrade().await.map_err(|error| http::describe(&error))?;
    let number = |bytes: &[u8]| source.convert(bytes, &CollectionFilter::all()).seq;
    find(&mut socket, subscription.config.max_frame, number).await.map_err(|error| error.to_string())
}

/// The header of one WebSocket frame.
struct Header {
    last: bool,
    opcode: u8,
    length: u64,
}

/// Passes over messages until one is larger than `max` bytes. `number` finds the number in a beginning.
async fn find(
    socket: &mut (impl AsyncRead + Unpin),
    max: usize,
    number: impl Fn(&[u8]) -> Option<i64>,
) -> std::io::Result<Option<Beginning>> {
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    let (mut messages, mut total, mut bytes) = (0_u32, 0_u64, Vec::new());
    while messages < MOST_MESSAGES {
        let header = header(socket).await?;
        match header.opcode {
            // A close frame: that was all.
            8 => return Ok(None),
            // Pings and pongs come between the frames of a message.
            9..=15 => {
                pass(socket, header.length).await?;
                continue;
            }
            0 => {}
            _ => (total, bytes) = (0, Vec::new()),
        }
        total = total.saturating_add(header.length);
        if total > max {
            return beginning(socket, header.length, bytes, number).await;
        }
        let [room, ..] = BEGINNINGS;
        let kept = keep(socket, header.length, room.saturating_sub(bytes.len()), &mut bytes).await?;
        pass(socket, header.length.saturating_sub(kept)).await?;
        messages = messages.saturating_add(u32::from(header.last));
    }
    Ok(None)
}

/// Reads on in a frame of which `length` bytes are left until its number is known.
async fn beginning(
    socket: &mut (impl AsyncRead + Unpin),
    length: u64,
    mut bytes: Vec<u8>,
    number: impl Fn(&[u8]) -> Option<i64>,
) -> std::io::Result<Option<Beginning>> {
    let mut left = length;
    for most in BEGINNINGS {
        let kept = keep(socket, left, most.saturating_sub(bytes.len()), &mut bytes).await?;
        left = left.saturating_sub(kept);
        if let Some(seq) = number(&bytes) {
            return Ok(Some(Beginning { seq, bytes }));
        }
    }
    Ok(None)
}

async fn header(socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Header> {
    let [first, second] = array(socket).await?;
    let length = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(array(socket).await?)),
        127 => u64::from_be_bytes(array(socket).await?),
        short => u64::from(short),
    };
    // Servers do not mask; one that does has four more bytes here, and its bytes tell nothing.
    if second & 0x80 != 0 {
        return Err(std::io::Error::other("masked frames from a server"));
    }
    Ok(Header { last: first & 0x80 != 0, opcode: first & 0x0f, length })
}

async fn array<const N: usize>(socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Appends at most `room` of `length` bytes; how many.
async fn keep(
    socket: &mut (impl AsyncRead + Unpin),
    length: u64,
    room: usize,
    bytes: &mut Vec<u8>,
) -> std::io::Result<u64> {
    let wanted = length.min(u64::try_from(room).unwrap_or(u64::MAX));
    let mut limited = (&mut *socket).take(wanted);
    limited.read_to_end(bytes).await?;
    if limited.limit() > 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(wanted)
}

async fn pass(socket: &mut (impl AsyncRead + Unpin), length: u64) -> std::io::Result<()> {
    let passed = tokio::io::copy(&mut (&mut *socket).take(length), &mut tokio::io::sink()).await?;
    if passed < length { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(u8::try_from(short).unwrap()),
            Ok(length) => {
                frame.push(126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    async fn found(bytes: Vec<u8>, max: usize) -> Option<(i64, usize)> {
        let number = |bytes: &[u8]| bytes.first().copied().filter(|byte| *byte != b'x').map(i64::from);
        let found = find(&mut bytes.as_slice(), max, number).await.unwrap();
        found.map(|found| (found.seq, found.bytes.len()))
    }

    #[tokio::test]
    async fn small_messages_and_pings_are_passed_over() {
        let large = [&[7_u8][..], &[0; 200_000]].concat();
        let script =
            [frame(0x82, b"small"), frame(0x89, b"ping"), frame(0x82, &[b'x'; 300]), frame(0x82, &large)];
        assert_eq!(found(script.concat(), 1000).await, Some((7, 64 << 10)));
    }

    #[tokio::test]
    async fn pieces_of_a_message_count_together() {
        let script =
            [frame(0x02, &[9; 600]), frame(0x8a, b""), frame(0x00, &[0; 300]), frame(0x80, &[0; 600])];
        assert_eq!(found(script.concat(), 1000).await, Some((9, 1500)));
    }

    #[tokio::test]
    async fn without_a_large_one_or_a_number_there_is_none() {
        assert_eq!(found([frame(0x82, b"small"), frame(0x88, b"")].concat(), 1000).await, None);
        assert_eq!(found(frame(0x82, &[b'x'; 2000]), 1000).await, None);
        let cut = frame(0x82, &[7; 2000])[..500].to_vec();
        assert!(find(&mut cut.as_slice(), 1000, |_| None).await.is_err());
    }
}
