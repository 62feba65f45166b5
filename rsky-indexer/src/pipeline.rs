//! How the stages are joined, in the order of an event's life: reader, dispatch, lane and
//! Postgres, acknowledgement.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::admin::{Admin, Health, Readiness, Status, StreamNames};
use rsky_common::clock::now_ms;
use rsky_common::postgres::{PostgresServer, refusal};
use rsky_common::redis::consumer::Consumer;
use rsky_common::redis::page::Pages;
use rsky_common::redis::startup::{StartupError, check_eviction};
use rsky_common::redis::{LinkError, RedisFigures, RedisLink, RedisServer, overview};
use rsky_common::runtime::backoff::Backoff;
use rsky_common::runtime::budget::ByteBudget;
use rsky_common::runtime::daemon::Context;
use rsky_common::runtime::memory_plan::Report;
use rsky_common::runtime::service::Service;
use rsky_common::runtime::stages::Stages;
use rsky_common::wire::names;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acks::{Acks, Source};
use crate::aside::Telling;
use crate::board;
use crate::config::{Config, Mode};
use crate::connections::Connections;
use crate::database::{self, Inspected};
use crate::dispatch::{Dispatch, Sizes, Ways};
use crate::engine::Statements;
use crate::hold::hold;
use crate::identity::{self, Deferral, Handover, Network};
use crate::isolate::Writer;
use crate::job::Job;
use crate::kind::{Events, Kind, Labels};
use crate::lane;
use crate::looker::Looker;
use crate::metrics::{ConsumerMetrics, Metrics, StreamLabels};
use crate::observed::Observed;
use crate::prepare::{TREES, prepare};
use crate::progress::{self, Progress};
use crate::reader::{BLOCK, COUNT, Feed, PAGE, Reader};
use crate::schema::SchemaError;
use crate::settle::settle;
use crate::supply::{Share, Supply};

/// The daemon's name, in logs and on the pages.
pub const NAME: &str = "indexer";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the parts end that say whether a lane gets on.
const COMMITS: &str = ": commits";

/// How long a lane may commit nothing before a restart is worth trying. Far more than makes it not ready: the statements of a
/// batch have a minute each, and on a slow Postgres a restart only means that they are done once more.
const STANDSTILL: Duration = Duration::from_secs(900);

/// Runs the indexer until told to stop.
///
/// # Errors
/// Something that waiting does not cure: a port in use, a schema that does not fit, a refused password.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let database = database::server(&config.database)?;
    let mut pages = Admin::new(NAME, VERSION, Config::variables(), &context);
    let (health, status) = (pages.health.clone(), pages.status.clone());
    let registry = &mut pages.registry;
    let metrics = Metrics::register(registry);
    let budget = ByteBudget::new(u64::try_from(config.memory).unwrap_or(u64::MAX));
    let observed = Observed::new(budget, RedisFigures::register(registry));
    let connections = Connections::new(database.clone(), config.connections);
    observed.register(registry, &connections, config.memory_plan.as_ref().map(Report::needed));
    let mut stages = Stages::new(&context);
    // Known before the first question: without parts the pages would call it ready. The last of them lasts until every
    // stage has a part of its own.
    drop((health.part("redis"), health.part("postgres")));
    let start = health.part("start");
    pages.start(config.common.admin, &mut stages, context.stop.clone()).await?;

    let stop = context.stop.clone();
    let (trees, service) = (ByteBudget::new(TREES), context.service.clone());
    let daemon = Daemon {
        trees,
        config,
        server,
        database,
        connections,
        health,
        status,
        metrics,
        observed,
        service,
        stop,
    };
    daemon.tell();
    if let Some(found) = daemon.ready_to_start().await? {
        daemon.spawn_stages(&mut stages, &found)?;
        start.ready();
        daemon.service.started();
    }
    stages.join().await
}

struct Daemon {
    config: Config,
    server: RedisServer,
    database: PostgresServer,
    connections: Connections,
    health: Health,
    status: Status,
    metrics: Arc<Metrics>,
    observed: Observed,
    /// Bytes of entries that are being taken apart.
    trees: ByteBudget,
    service: Service,
    stop: CancellationToken,
}

impl Daemon {
    /// Waits for Redis and Postgres and looks at both; `None` when told to stop meanwhile.
    async fn ready_to_start(&self) -> anyhow::Result<Option<Inspected>> {
        let mut link = self.server.link("start-up", self.health.part("redis"), &self.stop);
        match check_eviction(&mut link, self.config.common.redis_allow_eviction).await {
            Ok(()) => {}
            Err(StartupError::Link(LinkError::Stopped)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        self.inspect(&self.health.part("postgres")).await
    }

    async fn inspect(&self, readiness: &Readiness) -> anyhow::Result<Option<Inspected>> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let outcome = async {
                let mut connection = self.database.connect().await?;
                database::inspect(&self.database, &mut connection).await
            };
            match outcome.await {
                Ok(found) => {
                    readiness.ready();
                    return Ok(Some(found));
                }
                Err(SchemaError::Differs(differences)) => {
                    anyhow::bail!(
                        "the database has the AppView's schema in no generation known here; nothing is changed. \
                         Check DATABASE_URL and DATABASE_SCHEMA. Differences:\n  {}",
                        differences.join("\n  ")
                    );
                }
                Err(SchemaError::Database(error)) => {
                    if let Some(advice) = refusal(&error) {
                        return Err(error).context(advice);
                    }
                    if backoff.attempts() == 0 {
                        warn!("Postgres cannot be used, waiting for it: {error}");
                    }
                    readiness.not_ready(error.to_string());
                }
            }
            if !backoff.wait(&self.stop).await {
                return Ok(None);
            }
        }
    }

    fn spawn_stages(&self, stages: &mut Stages, found: &Inspected) -> anyhow::Result<()> {
        let config = &self.config;
        let mut lanes: Vec<(Progress, Readiness)> = Vec::new();
        if config.mode != Mode::Label {
            let handover = self.spawn_handles(stages, found)?;
            let supply = Supply::default();
            let (pages, writing) =
                self.spawn_lanes::<Events>(stages, "event", config.lanes, handover.as_ref(), &supply, found);
            lanes.extend(writing);
            for stream in &config.streams {
                let source = self.source(stream, &config.group, &self.metrics.events);
                let feed = self.feed(pages.clone(), supply.share());
                self.spawn_reader::<Events>(stages, source, feed, handover.clone());
            }
        }
        if config.mode != Mode::Stream {
            let supply = Supply::default();
            let (pages, writing) = self.spawn_lanes::<Labels>(stages, "label", 1, None, &supply, found);
            lanes.extend(writing);
            let source = self.source(&config.label_stream, &config.label_group, &self.metrics.labels);
            let feed = self.feed(pages, supply.share());
            self.spawn_reader::<Labels>(stages, source, feed, None);
        }
        // Of a third of the age at which others take entries over: one time may fail.
        let link = self.server.link("hold entries", Readiness::unheard(), &self.stop);
        let acks = Acks::new(link, self.stop.clone());
        let every = config.claim_idle / 3;
        stages.spawn("hold entries", hold(self.observed.sources(), acks, every, self.stop.clone()));
        let link = self.server.link("status pages", self.health.part("redis status"), &self.stop);
        let (status, figures) = (self.status.clone(), self.observed.figures.clone());
        let watching = overview::watch(link, self.stream_names(), status, figures, Vec::new());
        stages.spawn("status pages", async move { Ok(watching.await?) });
        board::show(&self.status, &self.metrics, self.observed.clone());
        self.watched(lanes.iter().map(|(progress, _)| progress.clone()).collect());
        stages.spawn("watch over lanes", progress::watch(lanes, self.stop.clone()));
        let (observed, connections) = (self.observed.clone(), self.connections.clone());
        self.status.put("memory_plan", config.memory_plan.as_ref().map_or(json!(null), Report::json));
        let (lanes, batch) = (config.lanes, config.batch_size);
        self.status.source("indexer", move || {
            json!({
                "lanes": lanes,
                "batch_size": batch,
                "connections_in_use": connections.busy(),
                "entries_in_memory": observed.held.count(),
                "bytes_in_memory": observed.budget.bytes(),
                "bytes_in_memory_max": observed.budget.total(),
            })
        });
        info!(
            consumer = config.consumer,
            lanes,
            batch_size = batch,
            memory_bytes = self.observed.budget.total(),
            streams = config.streams.join(","),
            "indexing"
        );
        Ok(())
    }

    /// The streams as they are configured: the first event stream is that of live events.
    fn stream_names(&self) -> StreamNames {
        let mut names = StreamNames { labels: self.config.label_stream.clone(), ..StreamNames::default() };
        if let [live, others @ ..] = self.config.streams.as_slice() {
            names.live.clone_from(live);
            if let [backfill, ..] = others {
                names.backfill.clone_from(backfill);
            }
        }
        names
    }

    /// A lane that commits nothing for [`STANDSTILL`] stands still, unless readiness names another reason: rows held by
    /// others, Postgres, Redis.
    fn watched(&self, lanes: Vec<Progress>) {
        let health = self.health.clone();
        self.service.vitals().watch("lanes", move |now| {
            let elapsed = lanes.iter().filter_map(|lane| lane.stuck_for(now)).max()?;
            let is_own = |(part, _): &(String, String)| part.ends_with(COMMITS);
            let still = elapsed >= STANDSTILL && health.reasons().iter().all(is_own);
            still.then(|| format!("one has committed nothing for {} s", elapsed.as_secs()))
        });
    }

    fn tell(&self) {
        let observed = self.observed.clone();
        self.service.says(self.health.clone(), move || {
            let (entries, bytes) = (observed.held.count(), observed.budget.bytes());
            format!("{entries} entries, {} KiB between Redis and Postgres", bytes >> 10)
        });
    }

    /// Starts the work beside the lanes; `None` where it is switched off.
    fn spawn_handles(&self, stages: &mut Stages, found: &Inspected) -> anyhow::Result<Option<Handover>> {
        let config = &self.config;
        let Some(plc) = config.plc.clone().filter(|_| config.handle_concurrency > 0) else {
            warn!("handles are not resolved (INDEXER_HANDLE_CONCURRENCY=0)");
            return Ok(None);
        };
        let (handover, tasks) = Handover::new(config.handle_queue, self.metrics.handle_deferred.clone());
        self.observed.add_handover(&handover);
        // Redis and Postgres count for readiness. The directory and the shared cache do not: the rest goes on without.
        let link = self.link_that_drains("handles");
        let (writer, remover) = (self.writer("handles", found), self.writer("deleted accounts", found));
        let parts = identity::Parts {
            tasks,
            acks: Acks::new(link, self.stop.clone()),
            ahead: self.server.link("what is left of streams", Readiness::unheard(), &self.stop),
            follow: (self.server.link("deletions", Readiness::unheard(), &self.stop), config.streams.clone()),
            cache: self.server.link("shared cache", Readiness::unheard(), &self.stop),
            network: Network {
                plc,
                handle_resolver: config.handle_resolver.clone(),
                outbound: config.outbound,
                user_agent: format!("rsky-indexer/{VERSION}"),
            },
            limits: identity::Limits {
                concurrency: config.handle_concurrency,
                max_attempts: config.max_attempts,
                identity_interval: config.identity_interval,
            },
            status: self.status.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
        };
        stages.spawn("handles", identity::Stage::new(parts, writer, remover)?.run());
        Ok(Some(handover))
    }

    /// A link for acknowledgements, which go on while the process stops; the drain deadline is the end of them.
    fn link_that_drains(&self, name: &str) -> RedisLink {
        self.server.link(name, self.health.part(name), &self.stop).stopped_by(CancellationToken::new())
    }

    fn statements(&self, found: &Inspected) -> Statements {
        found
            .statements()
            .with_notifications(self.config.notifications)
            .with_phases(self.metrics.phases.clone())
    }

    fn writer(&self, name: &str, found: &Inspected) -> Writer {
        let writer = Writer::new(
            self.connections.clone(),
            self.statements(found),
            self.config.max_attempts,
            self.health.part(format!("{name}: postgres")),
            self.stop.clone(),
            Arc::clone(&self.metrics),
        );
        self.observed.add_lane(name, writer.progress());
        writer
    }

    fn source(&self, stream: &str, group: &str, metrics: &ConsumerMetrics) -> Arc<Source> {
        let consumer = Consumer {
            stream: stream.to_owned(),
            group: group.to_owned(),
            name: self.config.consumer.clone(),
        };
        let labels = StreamLabels {
            stream: consumer.stream.clone(),
            group: consumer.group.clone(),
            consumer: consumer.name.clone(),
        };
        self.metrics.touch(&labels);
        let source = Arc::new(Source {
            consumer,
            field: names::FIELD_EVENT,
            metrics: metrics.of_stream(&labels),
            labels,
            letters: self.config.common.letters,
            in_flight: Mutex::default(),
            // What came before is not known to this process.
            read_until_ms: AtomicU64::new(now_ms()),
            deferral: Deferral::default(),
        });
        self.observed.add(&source);
        source
    }

    fn feed(&self, pages: mpsc::Sender<Vec<Job>>, share: Share) -> Feed {
        Feed { pages, share, budget: self.observed.budget.clone(), held: self.observed.held.clone() }
    }

    /// Starts everything between the readers of one kind of stream and the end of its entries; returns the way in, and what
    /// tells whether the lanes get on.
    fn spawn_lanes<K: Kind>(
        &self,
        stages: &mut Stages,
        kind: &str,
        count: usize,
        handover: Option<&Handover>,
        supply: &Supply,
        found: &Inspected,
    ) -> (mpsc::Sender<Vec<Job>>, Vec<(Progress, Readiness)>) {
        let sizes = Sizes::of(self.config.batch_size, count);
        let pages_of_a_batch = (self.config.batch_size / COUNT).max(2);
        // Pages of one read each: the next batch is read and prepared while others are written.
        let (sender, pages) = mpsc::channel(pages_of_a_batch);
        // As many again may wait until what is before them has been asked about: one question for all of them.
        let (to_dispatch, prepared) = mpsc::channel(pages_of_a_batch);
        stages.spawn(
            format!("{kind}s: prepare"),
            prepare::<K>(pages, found.schema.lexicons(), self.trees.clone(), to_dispatch),
        );
        let (to_settle, settled) = mpsc::channel(1);
        let acks = Acks::new(self.link_that_drains(&format!("{kind}s")), self.stop.clone());
        stages.spawn(
            format!("{kind}s: settle"),
            settle(settled, acks, handover.cloned(), Arc::clone(&self.metrics)),
        );
        let (to_dispatch, done) = mpsc::channel(count);
        let mut lanes = Vec::with_capacity(count);
        let mut writing = Vec::with_capacity(count);
        for number in 0..count {
            // One batch, for a lane that is idle.
            let (lane, batches) = mpsc::channel(1);
            lanes.push(lane);
            let name = format!("{kind} lane {number}");
            let (writer, metrics) = (self.writer(&name, found), Arc::clone(&self.metrics));
            writing.push((writer.progress(), self.health.part(format!("{name}{COMMITS}"))));
            stages.spawn(name, lane::write::<K>(number, batches, writer, to_dispatch.clone(), metrics));
        }
        let looker = Looker::new(
            self.connections.clone(),
            self.statements(found),
            self.config.max_attempts,
            self.health.part(format!("{kind}s, what is stored: postgres")),
            Arc::clone(&self.metrics),
        );
        let telling = Telling::new(
            self.health.part(format!("{kind}s, rows held by others")),
            self.observed.set_aside(),
            &self.status,
            &format!("{kind}s set aside"),
        );
        let ways = Ways { pages: prepared, lanes, done, settle: to_settle };
        let budget = self.observed.budget.clone();
        let dispatch =
            Dispatch::<K>::new(ways, sizes, looker, supply.clone(), budget, telling, self.stop.clone());
        stages.spawn(format!("{kind}s: dispatch"), dispatch.run());
        (sender, writing)
    }

    fn spawn_reader<K: Kind>(
        &self,
        stages: &mut Stages,
        source: Arc<Source>,
        feed: Feed,
        handover: Option<Handover>,
    ) {
        let name = format!("reader of {}", source.consumer.stream);
        let link = self.server.link(name.clone(), self.health.part(name.clone()), &self.stop).blocking(BLOCK);
        let reader = Reader {
            pages: Pages::new(source.consumer.clone(), PAGE),
            source,
            link,
            feed,
            claim_idle: self.config.claim_idle,
            handover,
            stop: self.stop.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        stages.spawn(name, reader.run::<K>());
    }
}
