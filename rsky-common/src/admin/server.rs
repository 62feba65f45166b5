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
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::metrics::registry;
use super::samples::{EVERY, Samples};
use super::view::View;
use super::visitors::Door;
use super::{Health, Status, page};
use crate::config::{Environment, Shown, Variable, shown};
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
    /// The settings, without anything secret.
    pub settings: Vec<Shown>,
}

struct Shared {
    admin: Admin,
    started: Instant,
}

impl Admin {
    /// The pages of a daemon whose parts and sections are still to come.
    ///
    /// `variables` are the settings that are shown, as the process's environment has them.
    pub fn new<'v>(
        name: &'static str,
        version: &'static str,
        variables: impl IntoIterator<Item = &'v Variable>,
        context: &Context,
    ) -> Self {
        let (health, vitals) = (Health::new(), context.service.vitals().clone());
        let settings = shown(variables, &Environment::of_process());
        Self {
            name,
            version,
            registry: registry(name, version, &health),
            health,
            status: Status::new(),
            vitals,
            settings,
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

    /// Serves until `stop`, and takes samples for the plots meanwhile.
    async fn serve(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let samples = self.status.samples.clone();
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
            () = take_samples(samples) => Ok(()),
            served = axum::serve(Door::new(listener), router) => served.context("serve the admin pages"),
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
    ([(header::CONTENT_TYPE, "application/json")], shared.view().json().to_string()).into_response()
}

async fn front(State(shared): State<Arc<Shared>>) -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, page::policy()), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(page::render(&shared.view()))).into_response()
}

/// Without end. A sample is read from memory; one that comes late is taken late, and leaves a gap.
async fn take_samples(samples: Samples) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        samples.take(Instant::now());
    }
}

impl Shared {
    fn view(&self) -> View {
        let (admin, status) = (&self.admin, &self.admin.status);
        let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let view = View {
            name: admin.name,
            version: admin.version,
            uptime_seconds: self.started.elapsed().as_secs(),
            resident_bytes: resident_bytes(&own),
            not_ready: admin.health.reasons(),
            standing_still: admin.vitals.standing_still(Instant::now()),
            board: status.read_board(),
            names: status.names(),
            seen: status.last_seen().map(|seen| seen.facts),
            histories: status.samples.read(),
            settings: admin.settings.clone(),
            sections: status.read(),
            now_ms: 0,
        };
        view.bounded()
    }
}
