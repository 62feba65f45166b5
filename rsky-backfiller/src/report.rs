//! What a backfiller tells about itself: on its pages, and in Redis for `backfiller status`, which sees all of them.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use rsky_common::admin::{Health, Status};
use rsky_common::clock::now_ms;
use rsky_common::redis::{Gate, LinkError, RedisLink};
use rsky_common::runtime::Planned as _;
use rsky_common::runtime::backoff::sleep_or_stop;
use rsky_common::runtime::memory_plan::Report;
use rsky_common::runtime::{Service, Standstill};
use rsky_common::wire::names;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::observed::Observed;

/// Time between two reports in Redis.
const EVERY: Duration = Duration::from_secs(3);
/// How long the dispatcher, which looks around every second, may do nothing without a reason.
const STANDSTILL: Duration = Duration::from_secs(120);

/// The key of the reports: a hash by consumer name.
pub fn key(config: &Config) -> String {
    let [_, stream] = &config.streams;
    names::reports_key(stream)
}

/// Facts about this process, from memory.
fn facts(config: &Config, metrics: &Metrics, observed: &Observed) -> Map<String, serde_json::Value> {
    let hosts: Map<String, serde_json::Value> =
        observed.hosts().into_iter().map(|(state, count)| (state.name().to_owned(), json!(count))).collect();
    let facts = [
        ("concurrency", json!(config.concurrency)),
        ("memory_bound_bytes", json!(config.memory_bound())),
        ("hosts", hosts.into()),
        ("repositories_running", json!(observed.running())),
        ("repositories_waiting", json!(observed.waiting())),
        ("repositories_delayed", json!(observed.delayed())),
        ("repositories_processed", json!(metrics.processed.get())),
        ("repositories_dead", json!(metrics.dead.get())),
        ("records_queued", json!(metrics.records.get())),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Puts the facts on the pages.
pub fn on_pages(status: &Status, config: &Config, metrics: &Arc<Metrics>, observed: Observed, gate: Gate) {
    let (config, metrics) = (config.clone(), Arc::clone(metrics));
    status.put("memory_plan", config.memory.as_ref().map_or(json!(null), Report::json));
    status.source("backfiller", move || {
        let mut facts = facts(&config, &metrics, &observed);
        facts.insert("consumer".to_owned(), json!(config.consumer));
        facts.insert("output".to_owned(), json!(gate.status()));
        facts.into()
    });
}

/// Watches over the dispatcher: every repository has time limits of its own, and it waits for nobody unless readiness says
/// for whom.
pub fn watched(service: &Service, health: &Health, metrics: &Arc<Metrics>) {
    let (rounds, healthy, still) = (metrics.rounds.clone(), health.clone(), Standstill::new(STANDSTILL));
    service.vitals().watch("dispatcher", move |now| {
        let figure = healthy.reasons().is_empty().then(|| rounds.count());
        still.look(figure, now).map(|elapsed| format!("has done nothing for {} s", elapsed.as_secs()))
    });
}

/// Tells the service manager how it stands.
pub fn to_service(service: &Service, health: &Health, metrics: &Arc<Metrics>, observed: Observed) {
    let metrics = Arc::clone(metrics);
    service.says(health.clone(), move || {
        let (running, waiting) = (observed.running(), observed.waiting());
        let done = metrics.processed.get();
        format!("{running} repositories in work, {waiting} waiting, {done} done")
    });
}

/// Puts the facts into Redis now and then, until told to stop. A report that fails is missing, no more.
///
/// # Errors
/// None; the signature is that of a stage.
pub async fn in_redis(
    mut link: RedisLink,
    config: Config,
    metrics: Arc<Metrics>,
    observed: Observed,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let mut report = facts(&config, &metrics, &observed);
        report.insert("at".to_owned(), json!(now_ms()));
        let mut command = redis::cmd("HSET");
        command.arg(key(&config)).arg(&config.consumer).arg(serde_json::Value::Object(report).to_string());
        match link.query::<Value>(&command).await {
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => tracing::debug!("report: {error}"),
            Ok(_) => link.succeeded(),
        }
        if !sleep_or_stop(EVERY, &stop).await {
            let mut command = redis::cmd("HDEL");
            command.arg(key(&config)).arg(&config.consumer);
            if let Err(error) = link.query::<Value>(&command).await {
                tracing::debug!("report: {error}");
            }
            return Ok(());
        }
    }
}
