//! The one port everything is served on.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::{Feed, lock};
use super::directory::Directory;
use super::http::{self, Context, Hangup};
use super::list_repos::ListRepos;

/// Connections the kernel may hold for us.
const BACKLOG: u32 = 1024;
/// How long the tasks of a stopped network may take to end.
const STOPPING: Duration = Duration::from_secs(5);
/// Wait after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A network that runs until it is stopped or dropped.
pub struct RunningNetwork {
    addr: SocketAddr,
    send_buffer: Option<u32>,
    context: Context,
    router: Router,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    token: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What a network is made of.
pub(super) struct Parts {
    pub(super) relay: Feed,
    pub(super) labeler: Feed,
    pub(super) list_repos: ListRepos,
    pub(super) directory: Directory,
}

impl RunningNetwork {
    pub(super) fn new(
        parts: Parts,
        addr: SocketAddr,
        name: Option<&str>,
        send_buffer: Option<u32>,
    ) -> Result<Self> {
        let listener = listen(addr, send_buffer)?;
        let addr = listener.local_addr()?;
        let context = Context {
            relay: parts.relay.control(),
            labeler: parts.labeler.control(),
            list_repos: parts.list_repos,
            directory: parts.directory,
            url: name
                .map_or_else(|| format!("http://{addr}"), |name| format!("http://{name}:{}", addr.port())),
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let router = http::router(context.clone());
        let network = Self { addr, send_buffer, context, router, listening: Mutex::new(None) };
        network.accept_from(listener);
        Ok(network)
    }

    /// Where it listens: one port for everything.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or with the name by which others reach it.
    pub fn url(&self) -> String {
        self.context.url.clone()
    }

    /// The relay's subscribeRepos.
    pub fn relay(&self) -> Feed {
        Feed(self.context.relay.clone())
    }

    /// The labeler's subscribeLabels.
    pub fn labeler(&self) -> Feed {
        Feed(self.context.labeler.clone())
    }

    /// The relay's listRepos.
    pub fn list_repos(&self) -> ListRepos {
        self.context.list_repos.clone()
    }

    /// DID documents, handles and repositories.
    pub fn directory(&self) -> Directory {
        self.context.directory.clone()
    }

    /// Closes the port: new connections are refused by the kernel, open ones stay.
    pub async fn stop_listening(&self) {
        let listening = lock(&self.listening).take();
        if let Some(Listening { token, task }) = listening {
            token.cancel();
            // A task that panicked has closed the port as well.
            drop(task.await);
        }
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// When it is taken meanwhile.
    pub async fn listen_again(&self) -> Result<()> {
        self.stop_listening().await;
        self.accept_from(listen(self.addr, self.send_buffer)?);
        Ok(())
    }

    /// Ends it: closes the port and every connection, and waits until they are gone.
    ///
    /// # Errors
    /// When that takes more than five seconds.
    pub async fn stop(self) -> Result<()> {
        self.stop_listening().await;
        self.context.token.cancel();
        self.context.tasks.close();
        tokio::time::timeout(STOPPING, self.context.tasks.wait()).await.context("stop the network")
    }

    fn accept_from(&self, listener: TcpListener) {
        let token = self.context.token.child_token();
        let task = tokio::spawn(accept(listener, self.router.clone(), self.context.clone(), token.clone()));
        *lock(&self.listening) = Some(Listening { token, task });
    }
}

impl Drop for RunningNetwork {
    fn drop(&mut self) {
        self.context.token.cancel();
    }
}

fn listen(addr: SocketAddr, send_buffer: Option<u32>) -> Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer {
        // Accepted connections inherit it.
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(addr).with_context(|| format!("bind {addr}"))?;
    socket.listen(BACKLOG).with_context(|| format!("listen on {addr}"))
}

async fn accept(listener: TcpListener, router: Router, context: Context, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, token) = (router.clone(), context.token.clone());
                context.tasks.spawn(async move {
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = connection(stream, router) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up by the test")
    }
}

impl std::error::Error for HungUp {}

async fn connection(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = hyper_util::service::TowerToHyperService::new(router.clone());
        async move {
            let Ok(response): Result<Response<Body>, _> =
                hyper::service::Service::call(&answer, request.map(Body::new)).await;
            if response.extensions().get::<Hangup>().is_some() { Err(HungUp) } else { Ok(response) }
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "a connection ended");
    }
}
