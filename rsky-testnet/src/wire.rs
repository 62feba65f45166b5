//! A wire between a daemon and a server that stands still at a named point: when a certain thing is said the n-th time, it either
//! does not arrive, or arrives and its answer does not. A daemon killed at that moment ends between two steps that follow each
//! other at once, which no random moment hits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::daemon::wait_until;

/// How often a connection without traffic looks whether it still counts.
const LOOK: Duration = Duration::from_millis(10);

/// What becomes of what is said at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It does not arrive, nor anything after it.
    Lost,
    /// It arrives; no answer comes from then on, and nothing more arrives.
    Unanswered,
}

#[derive(Debug)]
struct Point {
    said: &'static [u8],
    /// Times it may still be said.
    times: usize,
    then: Then,
}

#[derive(Debug, Default)]
struct State {
    point: Mutex<Option<Point>>,
    stands_still: AtomicBool,
    /// Connections of an earlier life are closed.
    life: AtomicU64,
    ended: AtomicBool,
}

/// See the module. Ends with this value.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    state: Arc<State>,
}

impl Wire {
    /// A wire to the server of a URL with an address of this machine (`…127.0.0.1:PORT…`), and the URL that leads over it.
    ///
    /// # Panics
    /// There is no such address in it, or no port to listen on.
    pub fn to(url: &str) -> (Self, String) {
        let (before, rest) = url.split_once("127.0.0.1:").expect("an address of this machine");
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (port, after) = rest.split_at(digits);
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port to listen on");
        let wire = Self { port: listener.local_addr().expect("an address").port(), state: Arc::default() };
        let state = Arc::clone(&wire.state);
        std::thread::spawn(move || accept(&listener, server, &state));
        let url = format!("{before}127.0.0.1:{}{after}", wire.port);
        (wire, url)
    }

    /// Stands still when a daemon says this the `nth` time from now on (1: the next time).
    pub fn stop_at(&self, said: &'static [u8], nth: usize, then: Then) {
        *self.state.point.lock().expect("state") = Some(Point { said, times: nth, then });
    }

    /// Waits until it stands still.
    ///
    /// # Panics
    /// It never does.
    pub fn wait_until_still(&self) {
        wait_until("the wire stands still", || self.state.stands_still.load(Ordering::SeqCst));
    }

    /// Cuts all connections; new ones are carried as usual.
    pub fn repair(&self) {
        *self.state.point.lock().expect("state") = None;
        self.state.life.fetch_add(1, Ordering::SeqCst);
        self.state.stands_still.store(false, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.life.fetch_add(1, Ordering::SeqCst);
        // The listener looks up from its waiting.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, state: &Arc<State>) {
    for client in listener.incoming() {
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(server) else { continue };
        let life = state.life.load(Ordering::SeqCst);
        let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
        for (from, to, asks) in [(from, to, true), (server, client, false)] {
            let state = Arc::clone(state);
            drop((from.set_nodelay(true), from.set_read_timeout(Some(LOOK))));
            std::thread::spawn(move || {
                carry(&from, &to, asks, &state, life);
                drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
            });
        }
    }
}

/// Carries bytes one way, until one end closes or the connection counts no more.
fn carry(mut from: &TcpStream, mut to: &TcpStream, asks: bool, state: &State, life: u64) {
    let mut bytes = vec![0; 64 << 10];
    // The end of what was carried before: what is looked for may be cut in two.
    let mut before: Vec<u8> = Vec::new();
    while state.life.load(Ordering::SeqCst) == life {
        if state.stands_still.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
            continue;
        }
        let read = match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        let piece = &bytes[..read];
        let lost = match asks.then(|| state.is_point(&mut before, piece)).flatten() {
            Some(Then::Lost) => true,
            Some(Then::Unanswered) => false,
            // What was on its way when the wire came to stand still stays there, also when it goes on with other connections.
            None => state.stands_still.load(Ordering::SeqCst) || state.life.load(Ordering::SeqCst) != life,
        };
        if !lost && to.write_all(piece).is_err() {
            return;
        }
    }
}

impl State {
    /// Whether the point is in this piece; then the wire stands still from now on.
    fn is_point(&self, before: &mut Vec<u8>, piece: &[u8]) -> Option<Then> {
        let mut point = self.point.lock().expect("state");
        let at = point.as_mut()?;
        before.extend_from_slice(piece);
        let said = before.windows(at.said.len()).filter(|window| *window == at.said).count();
        before.drain(..before.len().saturating_sub(at.said.len() - 1));
        if said < at.times {
            at.times -= said;
            return None;
        }
        let then = at.then;
        *point = None;
        self.stands_still.store(true, Ordering::SeqCst);
        Some(then)
    }
}
