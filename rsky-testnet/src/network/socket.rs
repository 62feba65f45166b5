//! One subscriber: the WebSocket upgrade by hand, and the loop that sends the script to it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::control::{Command, Control, Flow, Mode, Refusal};
use super::http::{self, Context as Server, Hangup};
use super::script::{Sent, Start};

/// What may wait in this process for a slow reader, besides one frame. Small, so that a client that stops reading is
/// felt after what the kernel buffers.
const WRITE_BUFFER: usize = 32 * 1024;
/// Frames sent between two looks at commands.
const BATCH: u64 = 32;
/// Messages of [`Control::send_message`] that may wait in a socket.
const URGENT: usize = 64;
/// How long a close handshake may take.
const CLOSING: Duration = Duration::from_secs(1);

/// Answers a subscription: refuses it as the control says, or upgrades and begins to send.
pub(super) fn subscribe(server: &Server, control: &Control, mut request: Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match control.admit(&query) {
        Some(Refusal::Hangup) => return Hangup::response(),
        Some(Refusal::Status(status)) => return http::error(status, "Refused", "refused by the test"),
        None => {}
    }
    let cursor = match http::parameter(&query, "cursor").map(|cursor| cursor.parse::<u64>()) {
        None => None,
        Some(Ok(cursor)) => Some(cursor),
        Some(Err(_)) => return http::error(400, "InvalidRequest", "cursor must be an integer"),
    };
    let Some(accept) = accept_key(request.headers()) else {
        return http::error(426, "UpgradeRequired", "this is a WebSocket endpoint");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    // Everything is settled before the client hears of its success: what a test does next reaches this socket.
    let subscription = Subscription::new(control, control.log().start(cursor, control.begins_at_end()));
    let token = server.token.clone();
    server.tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        serve(parts.io.into_inner(), parts.read_buf, subscription, token).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .expect("a response of constants and base64")
}

fn accept_key(headers: &HeaderMap) -> Option<String> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    upgrade.eq_ignore_ascii_case("websocket").then(|| derive_accept_key(key.as_bytes()))
}

/// A subscriber; counts as an open socket for as long as it lives.
struct Subscription {
    control: Control,
    start: Start,
    commands: broadcast::Receiver<Command>,
    mode: watch::Receiver<Mode>,
    growth: watch::Receiver<u64>,
}

impl Subscription {
    fn new(control: &Control, start: Start) -> Self {
        control.counters().open.fetch_add(1, Ordering::SeqCst);
        let (commands, mode, growth) = (control.commands(), control.mode(), control.log().growth());
        Self { control: control.clone(), start, commands, mode, growth }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.control.counters().open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(io: TcpStream, early: Bytes, mut subscription: Subscription, token: CancellationToken) {
    let Subscription { control, start, commands, mode, growth } = &mut subscription;
    let control: &Control = control;
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 16 * 1024;
    config.write_buffer_size = WRITE_BUFFER;
    let ws = WebSocketStream::from_partially_read(io, early.to_vec(), Role::Server, Some(config)).await;
    let mut urgent = VecDeque::new();
    let position = match *start {
        Start::At(position) => position,
        Start::Outdated(position) => {
            let message = "Requested cursor exceeded limit. Possibly missing events";
            urgent.push_back(Message::Binary(super::frames::info("OutdatedCursor", message)));
            position
        }
        Start::Future => return future_cursor(ws).await,
    };
    let mut socket = Socket { ws, control, position, urgent, unflushed: false, pace: Pace::new(), end: None };
    let cancelled = token.cancelled();
    tokio::pin!(cancelled);
    loop {
        let now = *mode.borrow_and_update();
        growth.mark_unchanged();
        let budget = socket.pace.budget(now);
        let waiting = now.flow == Flow::Sending && budget == 0;
        let (at_end, next) = (socket.position >= control.log().length(), socket.pace.next);
        tokio::select! {
            biased;
            () = &mut cancelled => return,
            command = commands.recv(), if socket.urgent.len() < URGENT => match command {
                Ok(Command::Send(message)) => socket.urgent.push_back(message),
                Ok(Command::Reset) => return reset(&socket.ws),
                Ok(Command::Close { code, reason }) => return close(socket.ws, code, reason).await,
                Err(_lagged) => {}
            },
            changed = mode.changed() => if changed.is_err() { return },
            ended = poll_fn(|cx| socket.poll(cx, now.flow, budget)) => if ended.is_err() {
                if let Some(end) = socket.end {
                    end_with(socket.ws, end).await;
                }
                return;
            },
            changed = growth.changed(), if at_end => if changed.is_err() { return },
            () = sleep_until(next), if waiting && !at_end => {},
        }
    }
}

/// Ends a connection as the script says, after what was sent before.
async fn end_with(mut ws: WebSocketStream<TcpStream>, end: Sent) {
    // Whoever does not read is gone before the end, which is all the same.
    drop(timeout(CLOSING, ws.flush()).await);
    match end {
        Sent::Last(_, code) => close(ws, code, String::new()).await,
        Sent::Cut(frame, bytes) => {
            let message = message_of(&frame);
            let part = message.get(..bytes).unwrap_or(&message);
            drop(timeout(CLOSING, ws.get_mut().write_all(part)).await);
        }
        _ => reset(&ws),
    }
}

/// The bytes of a binary message, as a server sends it.
fn message_of(frame: &[u8]) -> Vec<u8> {
    let mut message = vec![0x82];
    match frame.len() {
        length @ ..126 => message.push(length as u8),
        length @ ..0x1_0000 => {
            message.push(126);
            message.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            message.push(127);
            message.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    message.extend_from_slice(frame);
    message
}

/// Says `FutureCursor` and closes, as a relay does.
async fn future_cursor(mut ws: WebSocketStream<TcpStream>) {
    let frame = super::frames::error_with_message("FutureCursor", "Cursor in the future.");
    if let Ok(Ok(())) = timeout(CLOSING, ws.send(Message::Binary(frame))).await {
        close(ws, 1008, "FutureCursor".to_owned()).await;
    }
}

/// Sends a close frame and waits for the answer, but not for ever.
async fn close(mut ws: WebSocketStream<TcpStream>, code: u16, reason: String) {
    let closing = async {
        ws.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await?;
        while let Some(message) = ws.next().await {
            message?;
        }
        Ok::<(), Error>(())
    };
    // However it ends, the socket is dropped next.
    drop(timeout(CLOSING, closing).await);
}

fn reset(ws: &WebSocketStream<TcpStream>) {
    if let Err(error) = ws.get_ref().set_zero_linger() {
        tracing::warn!(%error, "no TCP reset, a plain close instead");
    }
}

struct Socket<'a> {
    ws: WebSocketStream<TcpStream>,
    control: &'a Control,
    position: u64,
    urgent: VecDeque<Message>,
    unflushed: bool,
    pace: Pace,
    /// What the script ends the connection with.
    end: Option<Sent>,
}

impl Socket<'_> {
    /// Reads what came and sends what may be sent. Ready with `Ok` after progress, with `Err` at the end of the socket.
    fn poll(&mut self, cx: &mut Context<'_>, flow: Flow, budget: u64) -> Poll<Result<(), Ended>> {
        if flow == Flow::Silent {
            return Poll::Pending;
        }
        match self.ws.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(message))) => {
                self.note(&message);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(_) => return Poll::Ready(Err(Ended)),
            Poll::Pending => {}
        }
        let budget = if flow == Flow::Sending { budget } else { 0 };
        let sent = self.send(cx, budget)?;
        if sent {
            return Poll::Ready(Ok(()));
        }
        if self.unflushed && self.ws.poll_flush_unpin(cx)?.is_ready() {
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Sends until the budget is used, the script ends or the socket takes no more; says whether anything was sent.
    fn send(&mut self, cx: &mut Context<'_>, budget: u64) -> Result<bool, Ended> {
        let mut sent = false;
        let mut frames = 0;
        while self.ws.poll_ready_unpin(cx)?.is_ready() {
            let message = if let Some(message) = self.urgent.pop_front() {
                message
            } else if frames < budget
                && let Some(next) = self.control.log().get(self.position)
            {
                self.position += 1;
                sent = true;
                match next {
                    Sent::Frame(frame) => {
                        frames += 1;
                        Message::Binary(frame)
                    }
                    Sent::Text(text) => Message::text(text),
                    Sent::Nothing => continue,
                    Sent::Silence(time) => {
                        self.pace.be_silent(time);
                        break;
                    }
                    Sent::Last(frame, code) => {
                        self.end = Some(Sent::Last(frame.clone(), code));
                        Message::Binary(frame)
                    }
                    end @ (Sent::Cut(..) | Sent::Reset) => {
                        self.end = Some(end);
                        break;
                    }
                }
            } else {
                break;
            };
            self.ws.start_send_unpin(message)?;
            self.unflushed = true;
            sent = true;
            if self.end.is_some() {
                break;
            }
        }
        if frames > 0 {
            self.control.counters().frames_sent.fetch_add(frames, Ordering::SeqCst);
            self.control.log().note_sent(self.position);
            self.pace.spent(frames);
        }
        if self.end.is_some() {
            return Err(Ended);
        }
        Ok(sent)
    }

    fn note(&self, message: &Message) {
        let counters = self.control.counters();
        match message {
            Message::Ping(_) => drop(counters.pings.fetch_add(1, Ordering::SeqCst)),
            Message::Pong(_) => drop(counters.pongs.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

/// The socket is over.
struct Ended;

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        tracing::debug!(%error, "a subscriber is gone");
        Self
    }
}

impl From<Infallible> for Ended {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Spreads frames over time.
struct Pace {
    mode: Mode,
    since: Instant,
    spent: u64,
    /// When the next frame is due.
    next: Instant,
    /// Until when nothing is.
    silent: Option<Instant>,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { mode: Mode::default(), since: now, spent: 0, next: now, silent: None }
    }

    /// Frames that may be sent now.
    fn budget(&mut self, mode: Mode) -> u64 {
        if let Some(until) = self.silent {
            if Instant::now() < until {
                self.next = until;
                return 0;
            }
            *self = Self { mode: self.mode, ..Self::new() };
        }
        if mode != self.mode {
            *self = Self { mode, ..Self::new() };
        }
        let Some(rate) = mode.rate else { return BATCH };
        let rate = f64::from(rate.get());
        let due = (self.since.elapsed().as_secs_f64() * rate) as u64 + 1;
        let owed = due.saturating_sub(self.spent);
        // What a tenth of a second did not need is not owed: after an idle time there is no burst.
        let owed = if owed > (rate / 10.0) as u64 + BATCH {
            *self = Self { mode, ..Self::new() };
            1
        } else {
            owed
        };
        self.next = self.since + Duration::from_secs_f64(self.spent as f64 / rate);
        owed.min(BATCH)
    }

    /// Nothing is due for so long.
    fn be_silent(&mut self, time: Duration) {
        self.silent = Some(Instant::now() + time);
    }

    fn spent(&mut self, frames: u64) {
        self.spent += frames;
    }
}
