//! Which sources there are, and how their stages are joined.
//!
//! ```text
//! read (socket or page)  ─►  decode (CPU, ordered, in parallel)  ─►  write (gate, MULTI: XADD … SET cursor)
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::admin::{self, Admin, Health, Readiness, Status};
use rsky_common::redis::gate_metrics::GateMetrics;
use rsky_common::redis::startup::{StartupError, check_eviction};
use rsky_common::redis::{Gate, LinkError, RedisServer, StreamWriter, overview};
use rsky_common::runtime::memory::MemoryProbe;
use rsky_common::runtime::{ByteBudget, CancellationToken, Context, Stages};
use serde_json::json;

use crate::config::{Config, Mode};
use crate::decode::DecodePool;
use crate::duplicates::Duplicates;
use crate::host::Host;
use crate::listing::{Fetcher, Listing};
use crate::metrics::Metrics;
use crate::report;
use crate::sink::{Queue, Sink};
use crate::source::{Kind, Source};
use crate::subscription::Subscription;
use crate::{NAME, VERSION};

/// How long writers go on trying after the wish to stop, when Redis does not answer.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// What all sources share.
struct Shared {
    config: Config,
    server: RedisServer,
    stop: CancellationToken,
    /// Ends the writers, a little after `stop`.
    writers: CancellationToken,
    health: Health,
    status: Status,
    metrics: Metrics,
    budget: ByteBudget,
    pool: DecodePool,
    firehose: Gate,
    labels: Gate,
    repos: Gate,
    priority: Gate,
    duplicates: Option<Duplicates>,
}

/// Runs the daemon until it is stopped.
///
/// # Errors
/// What waiting does not cure: an admin port in use, a Redis that evicts, a refused password.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let (health, status) = (Health::new(), Status::new());
    let mut registry = admin::registry(NAME, VERSION);
    let metrics = Metrics::register(&mut registry);
    let probe = Arc::new(MemoryProbe::detect());
    let gate = |stream: &crate::config::Stream| {
        Gate::new(stream.name.as_str(), config.gate(stream), Arc::clone(&probe))
    };
    let shared = Shared {
        firehose: gate(&config.firehose),
        labels: gate(&config.labels),
        repos: gate(&config.repos),
        priority: gate(&config.priority),
        duplicates: (config.relays.len() > 1).then(Duplicates::new),
        budget: ByteBudget::new(config.queue_bytes),
        pool: DecodePool::new(config.collections.clone()),
        writers: CancellationToken::new(),
        stop: context.stop.clone(),
        health: health.clone(),
        status: status.clone(),
        server,
        metrics,
        config,
    };
    registry.register_collector(Box::new(GateMetrics::new(NAME, shared.gates())));
    shared.describe(&probe);
    let listener = Admin::bind(shared.config.common.admin).await?;
    let admin = Admin { name: NAME, version: VERSION, registry, health, status };
    let mut stages = Stages::new(&context);
    stages.spawn("admin pages", admin.serve(listener, shared.writers.clone()));
    let ended = run_sources(&shared, &context).await;
    // The admin pages tell about the drain and go last.
    shared.writers.cancel();
    if ended.is_err() {
        context.stop.cancel();
    }
    ended.and(stages.join().await)
}

async fn run_sources(shared: &Shared, context: &Context) -> anyhow::Result<()> {
    match shared.check_redis().await {
        Ok(()) => {}
        // Stopped while waiting for Redis.
        Err(StartupError::Link(LinkError::Stopped)) => return Ok(()),
        Err(error) => return Err(error).context("look at Redis"),
    }
    let mut stages = Stages::new(context);
    shared.spawn_sources(&mut stages);
    let writers_time = give_writers_time(shared.stop.clone(), shared.writers.clone());
    let mut sources = std::pin::pin!(stages.join());
    tokio::select! {
        ended = &mut sources => ended?,
        () = writers_time => sources.await?,
    }
    // In labeler mode without a labeler, or when every listing has ended, the process stays for its pages.
    shared.stop.cancelled().await;
    Ok(())
}

/// After the wish to stop, writers finish what they hold; when Redis does not take it in time, it is left: the cursor
/// has not passed it.
async fn give_writers_time(stop: CancellationToken, writers: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_WRITE).await;
    writers.cancel();
}

impl Shared {
    fn gates(&self) -> Vec<Gate> {
        [&self.firehose, &self.labels, &self.repos, &self.priority].into_iter().cloned().collect()
    }

    async fn check_redis(&self) -> Result<(), StartupError> {
        let readiness = self.health.part("redis");
        let mut link = self.server.link("start-up", readiness, &self.stop);
        check_eviction(&mut link, self.config.common.redis_allow_eviction).await
    }

    fn describe(&self, probe: &Arc<MemoryProbe>) {
        let (gates, budget, probe) = (self.gates(), self.budget.clone(), Arc::clone(probe));
        self.status.source("gates", move || json!(gates.iter().map(Gate::status).collect::<Vec<_>>()));
        self.status.source("in_memory", move || {
            json!({ "frames": budget.items(), "used_bytes": budget.bytes(), "limit_bytes": budget.total() })
        });
        self.status.source("memory", move || {
            let usage = probe.read();
            json!({
                "of": probe.describe(),
                "used_bytes": usage.map(|usage| usage.used),
                "limit_bytes": usage.map(|usage| usage.limit),
            })
        });
    }

    fn spawn_sources(&self, stages: &mut Stages) {
        let config = &self.config;
        let reads = |mode| config.mode == Mode::All || config.mode == mode;
        if reads(Mode::Firehose) {
            config.relays.iter().zip(0..).for_each(|(host, number)| {
                self.spawn_subscription(
                    stages,
                    Source::new(Kind::Firehose, host.clone(), &config.firehose.name, number),
                );
            });
        }
        if reads(Mode::Labeler) {
            for host in &config.labelers {
                self.spawn_subscription(
                    stages,
                    Source::new(Kind::Labels, host.clone(), &config.labels.name, 0),
                );
            }
        }
        if reads(Mode::Backfill) {
            config.relays.iter().for_each(|host| self.spawn_listing(stages, host));
        }
        stages.spawn(
            "gauge of memory",
            report::watch_memory(self.budget.clone(), self.metrics.clone(), self.stop.clone()),
        );
        let streams = [&config.firehose, &config.labels, &config.repos, &config.priority];
        let streams = streams.into_iter().map(|stream| stream.name.clone()).collect();
        let link = self.server.link("pages", Readiness::unheard(), &self.stop);
        let watch = overview::watch(link, streams, self.status.clone());
        stages.spawn("pages", async move { watch.await.context("look at the streams") });
    }

    fn spawn_subscription(&self, stages: &mut Stages, source: Arc<Source>) {
        self.introduce(&source);
        let config = &self.config;
        let (queue, jobs) = Queue::new();
        let labels = source.kind == Kind::Labels;
        let mut socket = config.socket;
        if labels {
            socket.idle = config.labeler_idle;
        }
        let sink = Sink {
            source: Arc::clone(&source),
            jobs,
            writer: self.writer(&source),
            pool: self.pool.clone(),
            gate: if labels { self.labels.clone() } else { self.firehose.clone() },
            priority: config.resync.then(|| (config.priority.name.clone(), self.priority.clone())),
            duplicates: self.duplicates.clone(),
            limits: config.batch,
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        let subscription = Subscription {
            config: socket,
            queue,
            pool: self.pool.clone(),
            budget: self.budget.clone(),
            metrics: self.metrics.clone(),
            readiness: self.health.part(source.name()),
            stop: self.stop.clone(),
            source: Arc::clone(&source),
        };
        stages.spawn(format!("{}: read", source.name()), subscription.run());
        stages.spawn(format!("{}: write", source.name()), sink.run());
    }

    fn spawn_listing(&self, stages: &mut Stages, host: &Host) {
        let source = Source::new(Kind::Listing, host.clone(), &self.config.repos.name, 0);
        self.introduce(&source);
        let listing = Listing {
            fetcher: Fetcher::new(
                Arc::clone(&source),
                self.config.listing,
                self.metrics.clone(),
                self.health.part(source.name()),
                self.stop.clone(),
            ),
            writer: self.writer(&source),
            gate: self.repos.clone(),
            config: self.config.listing,
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            source: Arc::clone(&source),
        };
        stages.spawn(source.name(), listing.run());
    }

    fn writer(&self, source: &Source) -> StreamWriter {
        let part = self.health.part(format!("redis for {}", source.name()));
        let link = self.server.link(source.name(), part, &self.writers);
        StreamWriter::new(link, source.stream.as_str(), self.config.common.dlq_max_len)
    }

    fn introduce(&self, source: &Arc<Source>) {
        self.metrics.introduce(source);
        let shown = Arc::clone(source);
        self.status.source(format!("source: {}", source.name()), move || json!(shown.state()));
    }
}
