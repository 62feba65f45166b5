//! Which sources there are, and how their stages are joined.
//!
//! ```text
//! read (socket or page)  ─►  decode (CPU, ordered, in parallel)  ─►  write (gate, MULTI: XADD … SET cursor)
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::admin::{Admin, Health, Readiness, Status, StreamNames};
use rsky_common::redis::startup::{StartupError, check_eviction};
use rsky_common::redis::{CursorWriter, Gate, LinkError, RedisFigures, RedisServer, StreamWriter, overview};
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::memory::MemoryProbe;
use rsky_common::runtime::memory_plan::Report;
use rsky_common::runtime::{CancellationToken, Context, Service, Stages, Standstill};
use serde_json::json;

use crate::budgets::Budgets;
use crate::config::{Config, Mode};
use crate::decode::DecodePool;
use crate::duplicates::Duplicates;
use crate::host::Host;
use crate::listing::{Fetcher, Listing};
use crate::metrics::{Metrics, declared, register_lengths};
use crate::resyncs::Resyncs;
use crate::sink::{Queue, Sink};
use crate::source::{Kind, Source};
use crate::source_metrics::SourceMetrics;
use crate::subscription::Subscription;
use crate::{NAME, VERSION};
use crate::{board, http, report, variables};

/// How long writers go on trying after the wish to stop, when Redis does not answer.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// How long nothing of what is in memory may be written without a reason to wait; a transaction has far less time.
const STANDSTILL: Duration = Duration::from_secs(120);

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
    figures: RedisFigures,
    budgets: Budgets,
    sources: SourceMetrics,
    pool: DecodePool,
    firehose: Gate,
    labels: Gate,
    repos: Gate,
    priority: Gate,
    duplicates: Option<Duplicates>,
    resyncs: Option<Resyncs>,
    client: reqwest::Client,
}

/// Runs the daemon until it is stopped.
///
/// # Errors
/// What waiting does not cure: an admin port in use, a Redis that evicts, a refused password.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let mut pages = Admin::new(NAME, VERSION, variables::all(), &context);
    let registry = &mut pages.registry;
    let metrics = Metrics::register(registry);
    let probe = Arc::new(MemoryProbe::detect());
    let gate = |stream: &crate::config::Stream| {
        Gate::new(stream.name.as_str(), config.gate(stream), Arc::clone(&probe))
    };
    let priority = gate(&config.priority);
    let resyncs = || Resyncs::new(&config.priority.name, priority.clone(), metrics.clone());
    let budgets = Budgets::new(
        config.queue_bytes,
        !config.relays.is_empty() && config.reads(Mode::Firehose),
        !config.labelers.is_empty() && config.reads(Mode::Labeler),
    );
    let shared = Shared {
        client: http::client()?,
        resyncs: config.resync.then(resyncs),
        firehose: gate(&config.firehose),
        labels: gate(&config.labels),
        repos: gate(&config.repos),
        priority,
        duplicates: (config.relays.len() > 1).then(Duplicates::new),
        sources: SourceMetrics::new(budgets.clone()),
        budgets,
        pool: DecodePool::new(config.collections.clone(), config.decoders),
        writers: CancellationToken::new(),
        stop: context.stop.clone(),
        health: pages.health.clone(),
        status: pages.status.clone(),
        server,
        metrics,
        figures: RedisFigures::register(registry),
        config,
    };
    declared::GATES.register(registry, &shared.gates());
    register_lengths(registry, &shared.figures, &shared.config);
    shared.describe(&probe);
    let bound = shared.config.memory_bound();
    shared.sources.register(registry, bound);
    tracing::info!(queue_bytes = shared.config.queue_bytes, "memory is bounded by {} MiB", bound >> 20);
    let mut stages = Stages::new(&context);
    pages.start(shared.config.common.admin, &mut stages, shared.writers.clone()).await?;
    let ended = run_sources(&shared, &context).await;
    // The admin pages tell about the drain and go last.
    shared.writers.cancel();
    if ended.is_err() {
        context.stop.cancel();
    }
    ended.and(stages.join().await)
}

async fn run_sources(shared: &Shared, context: &Context) -> anyhow::Result<()> {
    shared.tell(&context.service);
    match shared.check_redis().await {
        Ok(()) => {}
        // Stopped while waiting for Redis.
        Err(StartupError::Link(LinkError::Stopped)) => return Ok(()),
        Err(error) => return Err(error).context("look at Redis"),
    }
    let mut stages = Stages::new(context);
    shared.spawn_sources(&mut stages);
    context.service.started();
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
        let (budgets, sources) = (self.budgets.clone(), self.sources.clone());
        board::show(&self.status, self.gates(), budgets.clone(), &sources, Arc::clone(probe));
        let probe = Arc::clone(probe);
        self.status.put("memory_plan", self.config.memory_plan.as_ref().map_or(json!(null), Report::json));
        self.status.source("in_memory", move || {
            json!({ "frames": sources.frames(), "used_bytes": budgets.bytes(), "limit_bytes": budgets.total() })
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

    /// What is in memory is written by and by, unless a gate is shut or Redis has to be waited for.
    fn tell(&self, service: &Service) {
        let (gates, sources, health) = (self.gates(), self.sources.clone(), self.health.clone());
        let still = Standstill::new(STANDSTILL);
        service.vitals().watch("writing", move |now| {
            let waits = gates.iter().any(|gate| gate.shut().is_some())
                || health.reasons().iter().any(|(part, _)| part.starts_with("redis"));
            let figure = (sources.frames() > 0 && !waits).then(|| sources.times_done());
            let elapsed = still.look(figure, now)?;
            Some(format!("nothing of what is in memory was written for {} s", elapsed.as_secs()))
        });
        let (gates, budgets, sources) = (self.gates(), self.budgets.clone(), self.sources.clone());
        service.says(self.health.clone(), move || {
            let shut: Vec<String> = gates
                .iter()
                .filter(|gate| gate.shut().is_some())
                .map(|gate| format!("; nothing may be written to {}", gate.stream()))
                .collect();
            format!("{} frames, {} KiB in memory{}", sources.frames(), budgets.bytes() >> 10, shut.concat())
        });
    }

    fn spawn_sources(&self, stages: &mut Stages) {
        let config = &self.config;
        let reads = |mode| config.reads(mode);
        if reads(Mode::Firehose) {
            self.spawn_resyncs(stages);
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
            "log of memory",
            report::watch_memory(self.budgets.clone(), self.sources.clone(), self.stop.clone()),
        );
        let names = StreamNames {
            live: config.firehose.name.clone(),
            labels: config.labels.name.clone(),
            repos: config.repos.name.clone(),
            priority: config.priority.name.clone(),
            ..StreamNames::default()
        };
        let link = self.server.link("pages", Readiness::unheard(), &self.stop);
        let watch = overview::watch(link, names, self.status.clone(), self.figures.clone(), self.gates());
        stages.spawn("pages", async move { watch.await.context("look at the streams") });
    }

    fn spawn_subscription(&self, stages: &mut Stages, source: Arc<Source>) {
        self.introduce(&source);
        let aged = Arc::clone(&source);
        self.health.ask(format!("age of {}", source.name()), move || aged.too_old());
        let config = &self.config;
        let (queue, jobs) = Queue::new();
        let labels = source.kind == Kind::Labels;
        let mut socket = config.socket;
        if labels {
            socket.idle = config.labeler_idle;
        }
        let gate = if labels { &self.labels } else { &self.firehose };
        let budget = self.budgets.of_another(source.kind);
        let sink = Sink {
            source: Arc::clone(&source),
            jobs,
            writer: self.writer(&source, gate),
            pool: self.pool.clone(),
            budget: budget.clone(),
            gate: gate.clone(),
            resyncs: self.resyncs.clone(),
            duplicates: self.duplicates.clone(),
            limits: config.batch,
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        let subscription = Subscription {
            config: socket,
            queue,
            pool: self.pool.clone(),
            budget,
            metrics: self.metrics.clone(),
            client: self.client.clone(),
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
                self.client.clone(),
                self.config.listing,
                self.metrics.clone(),
                self.health.part(source.name()),
                self.stop.clone(),
            ),
            writer: self.writer(&source, &self.repos),
            gate: self.repos.clone(),
            config: self.config.listing,
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            source: Arc::clone(&source),
        };
        stages.spawn(source.name(), listing.run());
    }

    fn writer(&self, source: &Source, gate: &Gate) -> CursorWriter {
        let part = self.health.part(format!("redis for {}", source.name()));
        let link = self.server.link(source.name(), part, &self.writers).telling(gate.clone());
        let keys = source.cursor_keys();
        let also = keys.also();
        CursorWriter::new(link, source.stream.as_str(), self.config.common.letters, keys.key, also)
    }

    fn spawn_resyncs(&self, stages: &mut Stages) {
        let Some(resyncs) = &self.resyncs else { return };
        let part = self.health.part("redis for repositories to fetch first");
        let link = self.server.link("repositories to fetch first", part.clone(), &self.writers);
        part.ready();
        let (stream, letters) = (self.config.priority.name.as_str(), self.config.common.letters);
        let writer = StreamWriter::new(link.telling(self.priority.clone()), stream, letters);
        stages.spawn("repositories to fetch first", resyncs.clone().run(writer, self.stop.clone()));
    }

    fn introduce(&self, source: &Arc<Source>) {
        self.metrics.introduce(source);
        self.sources.add(source);
        let shown = Arc::clone(source);
        self.status.source(format!("source: {}", source.name()), move || json!(shown.state()));
    }
}
