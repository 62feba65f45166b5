//! How the stages are joined, in the order of a repository's way: intake, dispatcher, worker, output, ledger.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rsky_common::admin::{Admin, Health, Readiness, Status, StreamNames};
use rsky_common::identity::{DidResolver, DocumentCache, ResolverConfig};
use rsky_common::net;
use rsky_common::postgres::PostgresServer;
use rsky_common::redis::page::Pages;
use rsky_common::redis::startup::{StartupError, check_eviction};
use rsky_common::redis::{
    Gate, GateConfig, LinkError, RedisFigures, RedisLink, RedisServer, StreamWriter, overview,
};
use rsky_common::repo::DiskBudget;
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::daemon::Context;
use rsky_common::runtime::memory::MemoryProbe;
use rsky_common::runtime::stages::Stages;
use rsky_common::wire::names;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::NAME;
use crate::board;
use crate::config::Config;
use crate::delayed::Delayed;
use crate::dispatch::Dispatcher;
use crate::download::host_key;
use crate::indexed::Indexed;
use crate::intake::{BLOCK, Intake, PAGE};
use crate::job::InFlight;
use crate::known::Known;
use crate::ledger::{Settings, Writing, ledger};
use crate::metrics::{Metrics, declared};
use crate::observed::Observed;
use crate::output::output;
use crate::reconcile::Reconciler;
use crate::remembered::Remembered;
use crate::report;
use crate::troubles::Troubles;
use crate::unread::Unread;
use crate::worker::Worker;

/// What Postgres is told about who connects.
const APPLICATION_NAME: &str = "rsky-backfiller";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Age at which a cached DID document is asked for again.
const DOCUMENT_AGE: Duration = Duration::from_secs(6 * 3600);
/// Time for TCP and TLS with a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the backfiller until told to stop.
///
/// # Errors
/// Something that waiting does not cure: a port in use, a refused password.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let mut pages = Admin::new(NAME, VERSION, Config::variables(), &context);
    let (health, status) = (pages.health.clone(), pages.status.clone());
    let registry = &mut pages.registry;
    let metrics = Metrics::register(registry);
    let gate = Gate::new(
        config.output.clone(),
        GateConfig {
            mark: config.mark,
            batch: config.batch_size,
            small_batch: (config.batch_size / 10).max(1),
            memory: config.memory_threshold,
        },
        Arc::new(MemoryProbe::detect()),
    );
    declared::GATES.register(registry, std::slice::from_ref(&gate));
    let output = gate.clone();
    declared::FORMER_OUTPUT.asked(registry, move || Some(output.status().length? as f64));
    let (figures, disk) = (RedisFigures::register(registry), DiskBudget::new(config.disk));
    let observed = Observed::new(&config.plc.as_ref().map(host_key).unwrap_or_default());
    observed.register(registry);
    observed.register_bounds(registry, &config, &disk, &figures);
    let bound = config.memory_bound();
    let mut stages = Stages::new(&context);
    pages.start(config.common.admin, &mut stages, context.stop.clone()).await?;
    tracing::info!(
        consumer = config.consumer,
        concurrency = config.concurrency,
        memory_per_repo = config.memory_per_repo,
        disk_mib = config.disk >> 20,
        "memory is bounded by {} MiB",
        bound >> 20
    );
    report::to_service(&context.service, &health, &metrics, observed.clone());
    let mut link = server.link("start-up", health.part("redis"), &context.stop);
    match check_eviction(&mut link, config.common.redis_allow_eviction).await {
        Ok(()) => {
            let seen = Seen { metrics: &metrics, observed: &observed, figures, disk, gate };
            spawn_stages(&config, &server, &health, &status, seen, &context, &mut stages)?;
            report::watched(&context.service, &health, &metrics);
            context.service.started();
        }
        Err(StartupError::Link(LinkError::Stopped)) => {}
        Err(error) => return Err(error.into()),
    }
    stages.join().await
}

/// What the stages leave for those who look.
struct Seen<'a> {
    metrics: &'a Arc<Metrics>,
    observed: &'a Observed,
    figures: RedisFigures,
    disk: DiskBudget,
    gate: Gate,
}

fn spawn_stages(
    config: &Config,
    server: &RedisServer,
    health: &Health,
    status: &Status,
    Seen { metrics, observed, figures, disk, gate }: Seen<'_>,
    context: &Context,
    stages: &mut Stages,
) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    // What is in flight may be finished until shortly before the process would be abandoned.
    let finish = CancellationToken::new();
    stages.spawn("patience", finish_after(stop.clone(), finish.clone(), config.common.drain.mul_f64(0.7)));
    let link = |purpose: &'static str| server.link(purpose, health.part(purpose), &stop);
    let lasting = |purpose: &'static str| link(purpose).stopped_by(finish.clone());

    let consumers = config.consumers();
    let writer = lasting("output").telling(gate.clone());
    let writer = StreamWriter::new(writer, config.output.clone(), config.common.letters);
    let (output, output_task) =
        output(writer, gate.clone(), stop.clone(), config.batch_size, config.batch_bytes);
    stages.spawn("output", output_task.run());
    // Every job holds one of these.
    let places = config.places();
    let writing = |purpose| Writing { link: lasting(purpose), consumers: consumers.clone() };
    let settings = Settings {
        delayed: config.delayed_key(),
        letters: config.common.letters,
        jobs: places.iter().sum(),
        stop: stop.clone(),
    };
    let (ledger, sides) = ledger(settings, writing);
    stages.spawn("acknowledgements", sides.acknowledging.run());
    stages.spawn("delays", sides.putting_off.run());
    let [urgent, normal] = sides.burying;
    stages.spawn("dead letters of the priority stream", urgent.run());
    stages.spawn("dead letters", normal.run());
    let unread = Unread { live: names::FIREHOSE_LIVE.to_owned(), backfill: config.output.clone() };
    let delayed = Delayed {
        link: link("delayed"),
        key: config.delayed_key(),
        again: config.again_key(),
        unread: unread.clone(),
        streams: config.streams.clone(),
        length: observed.seen(),
        stop: stop.clone(),
    };
    stages.spawn("delayed", delayed.run());

    let remembered = Remembered::new(&config.output, config.unchanged_memory, &config.collections);
    let unheard = Readiness::unheard();
    let shared = config.shared_identity.then(|| server.link("identity cache", unheard, &stop));
    let database = config.database.as_ref().map(|settings| PostgresServer::new(settings, APPLICATION_NAME));
    let database = database.transpose()?;
    let indexed = database.clone().map(Indexed::new);
    let looks = server.link("what is unread", Readiness::unheard(), &finish);
    let unread = database.is_some().then(|| (unread, Mutex::new(looks)));
    let mut worker = worker(config, metrics, output, remembered.clone(), shared, database, &stop)?;
    worker.disk = disk;
    worker.unread = unread;
    let places = places.map(|places| Arc::new(Semaphore::new(places)));
    let (jobs, inbox) = mpsc::channel(64);
    let dispatcher = Dispatcher::new(
        Arc::new(worker),
        ledger.clone(),
        inbox,
        places.clone(),
        observed.clone(),
        Troubles::new(health, config.retry.0),
        finish.clone(),
    );
    stages.spawn("dispatcher", dispatcher.run());
    let intake = Intake {
        link: link("intake").blocking(BLOCK),
        pages: config.consumers().map(|consumer| Pages::new(consumer, PAGE)),
        consumers,
        places,
        jobs,
        ledger,
        in_flight: InFlight::default(),
        accounts: InFlight::default(),
        known: Known::new(remembered, indexed, config.skip_indexed, config.skip_unchanged),
        claim_idle: config.claim_idle,
        metrics: Arc::clone(metrics),
        stop: stop.clone(),
    };
    stages.spawn("intake", intake.run());

    let [priority, repos] = config.streams.clone();
    let watched = StreamNames { repos, priority, backfill: config.output.clone(), ..StreamNames::default() };
    let (redis_status, gates) = (link("redis status"), vec![gate.clone()]);
    let watching = overview::watch(redis_status, watched, status.clone(), figures, gates);
    stages.spawn("status pages", async move { Ok(watching.await?) });
    board::show(status, metrics, observed.clone(), gate.clone());
    report::on_pages(status, config, metrics, observed.clone(), gate);
    let link = server.link("report", Readiness::unheard(), &finish);
    stages
        .spawn("report", report::in_redis(link, config.clone(), Arc::clone(metrics), observed.clone(), stop));
    Ok(())
}

async fn finish_after(
    stop: CancellationToken,
    finish: CancellationToken,
    patience: Duration,
) -> anyhow::Result<()> {
    stop.cancelled().await;
    // Ended by the dispatcher's end as well, through the channels; this is only the latest.
    tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        finish.cancel();
    });
    Ok(())
}

fn worker(
    config: &Config,
    metrics: &Arc<Metrics>,
    output: crate::output::Output,
    remembered: Remembered,
    shared: Option<RedisLink>,
    database: Option<PostgresServer>,
    stop: &CancellationToken,
) -> anyhow::Result<Worker> {
    let user_agent = format!("rsky-backfiller/{VERSION}");
    // Few idle connections, and not for long: with thousands of hosts they would be most of the process' files.
    let client = config
        .outbound
        .client()
        .user_agent(&user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(5));
    let client = net::build(client)?;
    let plc = config.plc.clone().ok_or_else(|| anyhow::anyhow!("PLC_URL is missing"))?;
    let resolver = DidResolver::new(ResolverConfig {
        plc,
        timeout: config.did_timeout,
        outbound: config.outbound,
        user_agent,
    })?;
    Ok(Worker {
        config: config.clone(),
        client,
        resolver,
        documents: DocumentCache::new(config.did_cache, DOCUMENT_AGE),
        witness: std::sync::Mutex::default(),
        shared: shared.map(Mutex::new),
        output,
        reconciler: database.map(|database| Arc::new(Reconciler::new(database))),
        remembered,
        unread: None,
        metrics: Arc::clone(metrics),
        slow: AtomicUsize::new(0),
        slots: Arc::new(Semaphore::new(config.concurrency)),
        disk: DiskBudget::new(config.disk),
        waiting: AtomicUsize::new(0),
        stop: stop.clone(),
    })
}
