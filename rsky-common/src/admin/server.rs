//! The admin port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Health, Status, metrics::registry, page};
use crate::runtime::memory::resident_bytes;
use crate::runtime::vitals::Vitals;
use crate::runtime::{Context, Stages};

/// What the admin port serves.
#[derive(Debug)]
pub struct Admin {
    /// The daemon's name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Every metric, registered.
    pub registry: Registry,
    /// Readiness of the parts.
    pub health: Health,
    /// Sections of `/status` and `/`.
    pub status: Status,
    /// Whether the work moves.
    pub vitals: Vitals,
}

struct Shared {
    admin: Admin,
    started: Instant,
}

impl Admin {
    /// The pages of a daemon whose parts and sections are still to come.
    pub fn new(name: &'static str, version: &'static str, context: &Context) -> Self {
        let (health, vitals) = (Health::new(), context.service.vitals().clone());
        Self {
            name,
            version,
            registry: registry(name, version, &health),
            health,
            status: Status::new(),
            vitals,
        }
    }

    /// Binds the port, so that one in use stops the start rather than a task later, and serves as a stage until `stop`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(
        self,
        address: SocketAddr,
        stages: &mut Stages,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = Self::bind(address).await?;
        stages.spawn("admin pages", self.serve(listener, stop));
        Ok(())
    }

    async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("bind METRICS_HOST:METRICS_PORT {address}"))?;
        tracing::info!("admin pages on http://{}", listener.local_addr()?);
        Ok(listener)
    }

    async fn serve(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let shared = Arc::new(Shared { admin: self, started: Instant::now() });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/", get(front))
            .with_state(shared);
        // Open scrapes are not waited for: the future is dropped with their connections.
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            served = axum::serve(listener, router) => served.context("serve the admin pages"),
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut text = String::new();
    match prometheus_text::encode(&mut text, &shared.admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether a restart would help: not while somebody else is waited for.
async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    told(shared.admin.vitals.standing_still(Instant::now()), "ok\n")
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    told(shared.admin.health.reasons(), "ready\n")
}

fn told(reasons: Vec<(String, String)>, fine: &'static str) -> Response {
    if reasons.is_empty() {
        return fine.into_response();
    }
    let mut text = String::new();
    for (part, reason) in reasons {
        text.push_str(&format!("{part}: {reason}\n"));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.status().to_string()).into_response()
}

async fn front(State(shared): State<Arc<Shared>>) -> Html<String> {
    Html(page::render(shared.admin.name, &shared.status()))
}

impl Shared {
    fn status(&self) -> Value {
        let reasons = self.admin.health.reasons();
        let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut status = serde_json::Map::new();
        status.insert("daemon".to_owned(), json!(self.admin.name));
        status.insert("version".to_owned(), json!(self.admin.version));
        status.insert("uptime_seconds".to_owned(), json!(self.started.elapsed().as_secs()));
        status.insert("resident_memory_bytes".to_owned(), json!(resident_bytes(&own)));
        status.insert("ready".to_owned(), json!(reasons.is_empty()));
        let reasons: serde_json::Map<_, _> =
            reasons.into_iter().map(|(part, why)| (part, json!(why))).collect();
        status.insert("not_ready".to_owned(), reasons.into());
        status.extend(self.admin.status.read());
        Value::Object(status)
    }
}
